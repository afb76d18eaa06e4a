"""What people record by hand: pauses, promises, assignments and contacts (`source = manual`), and retries.

History here is append-only (RULES 9.5): ending a pause or withdrawing a promise appends a row with the same id, and the
readers in sql/ take the earliest end. Nothing is printed, and what a row does to a decision is up to the rules.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import Literal

import duckdb
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy import UNASSIGNED, Action, Level, Policy, Workflow
from dunning_pipeline.resources.changes import note_change
from dunning_pipeline.resources.staging import FIRST_YEAR, LAST_YEAR
from dunning_pipeline.resources.warehouse import Warehouse, append, fetch
from dunning_pipeline.rules.holds import active_pauses
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    CONTACTS,
    CUSTOMER_KEYS,
    INVOICES,
    MANUAL,
    PAUSES,
    PROMISES,
    RETRIES,
    Table,
)

SHOWN_IDS = 3

Row = Mapping[str, object]


@dataclass(frozen=True)
class Target:
    """What a pause is about: a customer, an invoice or, without an id, the organisation. `str()` names it."""

    scope: Literal["organisation", "customer", "invoice"]
    id: str | None = None

    def __str__(self) -> str:
        return f"{self.scope} {self.id}" if self.id else f"the {self.scope}"


@dataclass(frozen=True)
class Resumed:
    """Ids of the pauses that were ended, and the source of each that only its source can end."""

    ended: tuple[str, ...]
    left: Mapping[str, str]


@dataclass(frozen=True)
class Recorder:
    """Appends rows that count from `today` on; past days are decided as they were.

    Every method checks and writes in one transaction and raises DunningError, with nothing written, when an id is
    unknown, or a date is out of range or makes the row meaningless. `random` yields a new text with each call; it is
    part of the ids.
    """

    warehouse: Warehouse
    policy: Policy
    today: date
    random: Callable[[], str]

    def pause(self, target: Target, paused_from: date, paused_until: date | None = None) -> str:
        """Records a pause from its first day to the day before `paused_until` (RULES 6.1); returns its id."""
        _refuse_far(paused_from, paused_until)
        self._refuse_empty(paused_from, paused_until)
        columns = {"scope": target.scope, "paused_from": paused_from, "paused_until": paused_until}
        with self.warehouse.transaction() as connection:
            return self._append(connection, PAUSES, {**_named(connection, target), **columns})

    def resume(self, target: Target, *, planned: bool = False) -> Resumed:
        """Ends the pauses of exactly `target` that are in force, from today on; with `planned` later ones too.

        Raises:
            DunningError: there is none, or all of them come from a source of the policy, which alone can end them.
        """
        with self.warehouse.transaction() as connection:
            found = self._pauses_to_end(connection, target, planned=planned)
            pulled = found["source"].isin(list(self.policy.sources))
            left = dict(zip(found.loc[pulled, "pause_id"], found.loc[pulled, "source"], strict=True))
            ended = tuple(found.loc[~pulled, "pause_id"])
            if not ended:
                raise DunningError(self._nothing_to_resume(target, left))
            self._append_version(connection, PAUSES, ended, "paused_until")
            return Resumed(ended, left)

    def assign(
        self,
        customer_id: str,
        workflow: str,
        assigned_from: date,
        assigned_until: date | None = None,
        invoice_id: str | None = None,
    ) -> str:
        """Assigns a customer, or one invoice, to a workflow of the policy or to `unassigned` (RULES 2.4, 3.1).

        Returns:
            The id of the row.

        Raises:
            DunningError: also when the workflow is carried by the other of customer and invoice, or when another
                assignment would win on the first day that this one is for.
        """
        _refuse_far(assigned_from, assigned_until)
        self._refuse_empty(assigned_from, assigned_until)
        if workflow != UNASSIGNED:
            self._refuse_other_level(self._workflow(workflow), "invoice" if invoice_id else "customer")
        columns = {"workflow": workflow, "assigned_from": assigned_from, "assigned_until": assigned_until}
        with self.warehouse.transaction() as connection:
            row = {**_customer_with_invoice(connection, customer_id, invoice_id), **columns}
            row_id = self._next_id(connection, ASSIGNMENTS)
            self._refuse_overruled(connection, customer_id, invoice_id, assigned_from, row_id)
            return self._append(connection, ASSIGNMENTS, row, row_id)

    def promise(self, customer_id: str, pay_by: date, invoice_id: str | None = None, *, pauses: bool = True) -> str:
        """Records a promise, made today, to pay an invoice or everything up to `pay_by` (RULES 6.2)."""
        _refuse_far(pay_by)
        if pay_by < self.today:
            raise DunningError(f"the last day to pay, {pay_by}, has passed; allowed: today ({self.today}) or later")
        columns = {"promised_on": self.today, "pay_by": pay_by, "pauses": pauses}
        with self.warehouse.transaction() as connection:
            who = _customer_with_invoice(connection, customer_id, invoice_id)
            return self._append(connection, PROMISES, {**who, **columns})

    def withdraw(self, promise_id: str) -> str:
        """Withdraws a promise from today on; returns the id of the customer who made it.

        Raises:
            DunningError: the promise is unknown, withdrawn already, or comes from a source of the policy.
        """
        with self.warehouse.transaction() as connection:
            query = f"""
                select customer_id, source, min(withdrawn_on) as withdrawn_on
                from {PROMISES.qualified} where promise_id = $id group by all
            """
            promise = _only(connection, query, PROMISES, promise_id)
            if promise["source"] in self.policy.sources:
                raise DunningError(f"promise {promise_id} comes from the source {promise['source']}; withdraw it there")
            if promise["withdrawn_on"]:
                raise DunningError(f"promise {promise_id} was withdrawn on {promise['withdrawn_on']} already")
            self._append_version(connection, PROMISES, (promise_id,), "withdrawn_on")
            return str(promise["customer_id"])

    def contact(
        self,
        customer_id: str,
        contacted_on: date,
        *,
        invoice_id: str | None = None,
        workflow: str | None = None,
        action: str | None = None,
        channel: str | None = None,
    ) -> str:
        """Records a contact (RULES 5.2); one that names invoice, workflow and action executes that action.

        Raises:
            DunningError: also when only some of the three are named where an action is meant.
        """
        _refuse_far(contacted_on)
        if contacted_on > self.today:
            raise DunningError(
                f"the day of the contact, {contacted_on}, is yet to come; allowed: today ({self.today}) or earlier"
            )
        if workflow or action:
            self._refuse_unnamed_action(invoice_id, workflow, action)
        columns = {"contacted_on": contacted_on, "workflow": workflow, "action": action, "channel": channel}
        with self.warehouse.transaction() as connection:
            who = _customer_with_invoice(connection, customer_id, invoice_id)
            return self._append(connection, CONTACTS, {**who, **columns})

    def retry(self, reminder_id: str, now: datetime) -> str:
        """Lets a reminder that Klaviyo rejected be decided again (RULES 6.5); returns what it no longer holds.

        Raises:
            DunningError: the reminder is unknown, or no rejection of it stands.
        """
        with self.warehouse.transaction() as connection:
            outcomes = (
                "select outcome, stream, customer_id, order_id from dunning.sent_history where reminder_id = $id"
                " order by attempted_at"
            )
            history = fetch(connection, outcomes, {"id": reminder_id})
            if history.empty:
                raise DunningError(
                    f"there is no reminder '{reminder_id}' in the sent history; `select reminder_id, customer_id, "
                    "error_detail from dunning.sent_history where outcome = 'rejected'` lists the rejected ones"
                )
            latest = history.iloc[-1]
            rejected = fetch(connection, sql.load("rejections"), {"stream": latest["stream"]})
            if reminder_id not in set(rejected["reminder_id"]):
                raise DunningError(
                    f"reminder {reminder_id} is not held by a rejection; its latest outcome is {latest['outcome']}"
                )
            row = pa.Table.from_pylist([{"reminder_id": reminder_id, "retried_at": now}], schema=RETRIES.arrow_schema)
            append(connection, RETRIES, row)
            of_order = latest["stream"] == "order"
            return f"the event about order {latest['order_id']}" if of_order else f"customer {latest['customer_id']}"

    def _next_id(self, connection: duckdb.DuckDBPyConnection, table: Table) -> str:
        """The id of the next row. Ids ascend: of several assignments the highest id wins (RULES 3.1)."""
        count = f"select count(*) as n from {table.qualified} where source = $source"
        place = int(fetch(connection, count, {"source": MANUAL})["n"].iloc[0]) + 1
        return f"{MANUAL}-{place:06}-{self.random()}"

    def _append(self, connection: duckdb.DuckDBPyConnection, table: Table, row: Row, row_id: str | None = None) -> str:
        """Appends a row known from today on; returns its id."""
        row_id = row_id or self._next_id(connection, table)
        complete = {**row, table.key[0]: row_id, "recorded_on": self.today, "source": MANUAL}
        append(connection, table, pa.Table.from_pylist([complete], schema=table.arrow_schema))
        note_change(connection, table.qualified)
        return row_id

    def _append_version(
        self, connection: duckdb.DuckDBPyConnection, table: Table, ids: tuple[str, ...], end: str
    ) -> None:
        """Appends a row for each id that differs from the earlier ones by its `end`, which is today."""
        connection.execute(
            f"""
            insert into {table.qualified} by name
            select distinct * replace ($today as {end}, $today as recorded_on)
            from {table.qualified} where list_contains($ids, {table.key[0]})
            """,
            {"today": self.today, "ids": list(ids)},
        )
        note_change(connection, table.qualified)

    def _pauses_to_end(self, connection: duckdb.DuckDBPyConnection, target: Target, *, planned: bool) -> pd.DataFrame:
        named = _named(connection, target)
        pauses = fetch(connection, sql.load("pauses"), {"last": self.today})
        begun = active_pauses(pauses, self.today)
        later = pauses[pauses["paused_from"] > pd.Timestamp(self.today)] if planned else pauses.iloc[:0]
        later = later[~(later["paused_until"] <= pd.Timestamp(self.today))]
        found = pd.concat([begun, later])
        found = found[found["scope"] == target.scope]
        key = f"{target.scope}_key"
        return found[found[key] == named[key]] if key in named else found

    def _nothing_to_resume(self, target: Target, left: Mapping[str, str]) -> str:
        if left:
            where = ", ".join(f"{pause_id} of the source {source}" for pause_id, source in left.items())
            return f"{target} is held by the pause {where}; end it there"
        if target.scope == "organisation" and self.policy.organisation.paused:
            return "the organisation is paused by the policy: set organisation.paused to false there"
        return f"no pause of {target} is in force on {self.today}"

    def _refuse_empty(self, first: date, end: date | None) -> None:
        """Refuses a period that holds no day, or none from today on."""
        if end is None:
            return
        if end <= first:
            raise DunningError(f"the end {end} is not later than the first day {first}")
        if end <= self.today:
            raise DunningError(f"the end {end} has come already; allowed: later than today ({self.today})")

    def _refuse_other_level(self, workflow: Workflow, level: Level) -> None:
        if workflow.carried_by != level:
            fitting = [one for one in self.policy.workflows if one.carried_by == level]
            raise DunningError(
                f"workflow {workflow.name} is carried by {workflow.carried_by}, so no {level} can be assigned to it; "
                f"allowed: {_listed(fitting)}"
            )

    def _refuse_overruled(
        self,
        connection: duckdb.DuckDBPyConnection,
        customer_id: str,
        invoice_id: str | None,
        assigned_from: date,
        row_id: str,
    ) -> None:
        """Refuses an assignment over which another wins on the first day that it is for (RULES 3.1)."""
        winner = connection.execute(
            f"select assignment_id, source, workflow, assigned_from from {ASSIGNMENTS.qualified}"
            " where customer_id = $id and invoice_id is not distinct from $invoice and recorded_on <= $today"
            " and assigned_from <= $day and (assigned_until is null or assigned_until > $day)"
            " and (assigned_from > $first or assigned_from = $first and assignment_id > $row)"
            " order by assigned_from desc, assignment_id desc limit 1",
            {
                **{"id": customer_id, "invoice": invoice_id, "today": self.today, "first": assigned_from},
                **{"day": max(assigned_from, self.today), "row": row_id},
            },
        ).fetchone()
        if winner:
            raise DunningError(_overruled(_named_for(customer_id, invoice_id), assigned_from, row_id, *winner))

    def _workflow(self, name: str) -> Workflow:
        workflow = self.policy.workflow(name)
        if workflow is None:
            raise DunningError(f"the policy has no workflow '{name}'; allowed: {_listed(self.policy.workflows)}")
        return workflow

    def _refuse_unnamed_action(self, invoice_id: str | None, workflow: str | None, action: str | None) -> None:
        if not (invoice_id and workflow and action):
            raise DunningError("a contact executes an action only if it names invoice, workflow and action")
        chosen = self._workflow(workflow)
        if action not in chosen.action_names:
            raise DunningError(f"workflow {workflow} has no action '{action}'; allowed: {_listed(chosen.actions)}")


def _refuse_far(*days: date | None) -> None:
    """Refuses days that no source may yield either: most likely a slip in the year."""
    for day in days:
        if day and not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise DunningError(f"{day} is not allowed: a day of the years {FIRST_YEAR} to {LAST_YEAR}")


def _listed(named: Sequence[Workflow] | Sequence[Action]) -> str:
    return ", ".join(one.name for one in named) or "none"


def _named_for(customer_id: str, invoice_id: str | None) -> str:
    return f"invoice {invoice_id}" if invoice_id else f"customer {customer_id}"


def _overruled(
    who: str, assigned_from: date, row_id: str, winner_id: str, source: str, workflow: str, begins: date
) -> str:
    """The sentence that another assignment of `who` wins over one from a day on, and from when it would not."""
    its_id_wins = winner_id > row_id
    how = f"begins on {begins}" + (" too and has the higher id" if begins == assigned_from else "")
    allowed = begins + timedelta(days=1) if its_id_wins else begins
    of = "" if source == MANUAL else f" of the source {source}"
    return (
        f"assignment {winner_id}{of} puts {who} under {workflow} and {how}, so it wins over one from {assigned_from}; "
        f"allowed: from {allowed} or later"
    )


def _named(connection: duckdb.DuckDBPyConnection, target: Target) -> dict[str, object]:
    """The id and key columns of what a pause is about."""
    if target.id is None:
        return {}
    return known_customer(connection, target.id) if target.scope == "customer" else _invoice(connection, target.id)


def known_customer(connection: duckdb.DuckDBPyConnection, customer_id: str) -> dict[str, object]:
    """Id and key of a customer. Raises DunningError, with ids that are like it, where nobody has the id."""
    query = f"select customer_id, customer_key from {CUSTOMER_KEYS.qualified} where customer_id = $id"
    return _only(connection, query, CUSTOMER_KEYS, customer_id)


def _invoice(connection: duckdb.DuckDBPyConnection, invoice_id: str) -> dict[str, object]:
    columns = "customer_id, customer_key, invoice_id, invoice_key"
    return _only(connection, f"select {columns} from {INVOICES.qualified} where invoice_id = $id", INVOICES, invoice_id)


def _customer_with_invoice(
    connection: duckdb.DuckDBPyConnection, customer_id: str, invoice_id: str | None
) -> dict[str, object]:
    customer = known_customer(connection, customer_id)
    if invoice_id is None:
        return customer
    invoice = _invoice(connection, invoice_id)
    if invoice["customer_id"] != customer_id:
        raise DunningError(f"invoice {invoice_id} is not of customer {customer_id}, but of {invoice['customer_id']}")
    return invoice


def _only(connection: duckdb.DuckDBPyConnection, query: str, table: Table, row_id: str) -> dict[str, object]:
    rows = connection.sql(query, params={"id": row_id}).to_arrow_table().to_pylist()
    if not rows:
        raise _unknown(connection, table, row_id)
    return dict(rows[0])


def _unknown(connection: duckdb.DuckDBPyConnection, table: Table, row_id: str) -> DunningError:
    """The error that says that no row has an id, with those that look like it."""
    (key,) = table.key
    nearest = f"select distinct {key} as id from {table.qualified} order by levenshtein({key}, $id), {key} limit 20"
    known = fetch(connection, nearest, {"id": row_id})["id"].tolist()
    what = key.removesuffix("_id")
    if not known:
        return DunningError(f"there is no {what} '{row_id}': none is known yet")
    similar = get_close_matches(row_id, known, n=SHOWN_IDS)
    hint = f"similar: {', '.join(similar)}" if similar else f"no {what} has a similar id"
    return DunningError(f"there is no {what} '{row_id}'; {hint}")
