"""The outbox in the warehouse: batches with frozen bodies, and what came of each attempt to send them.

Only short transactions against the warehouse; the sending itself is in sending.py. Nothing here updates or deletes
a reminder of a batch or an attempt (RULES 9.5).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from functools import partial

import duckdb
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.errors import SendingRefused, WarehouseError
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.changes import latest_change_since, note_change
from dunning_pipeline.resources.warehouse import (
    ROWS_TOGETHER,
    Warehouse,
    append,
    declared_columns,
    declared_rows,
    fetch,
)
from dunning_pipeline.rules.decisions import STREAM
from dunning_pipeline.tables import BATCH_DECISIONS, BATCHES, POLICIES, REMINDERS, SENT_HISTORY, Table

Piece = tuple[pd.DataFrame, pd.DataFrame]
"""Reminders with their bodies, and the decisions they were made from."""

PIECE_ROWS = ROWS_TOGETHER
"""Customers whose reminders are made and frozen at once: what bounds memory, and how long the lock is held."""

REFUSED = "too_large"
"""The error code of reminders that are rejected here, because Klaviyo would not take them."""

LAST_PLACE = 2**62
"""Behind every row of a table."""

_NEWEST_LIVE = """
    select batch_id, stream, as_of, size, live, state, policy_hash
    from dunning.batches
    where stream = $stream and live
    order by created_at desc, rowid desc
    limit 1
"""


@dataclass(frozen=True)
class Batch:
    """One row of `dunning.batches`."""

    batch_id: str
    stream: str
    as_of: date
    size: int
    live: bool
    state: str
    policy_hash: str | None = field(default=None, compare=False)


class OutOfDate(SendingRefused):
    """Something was pulled or recorded that the decisions of a batch do not know (RULES 9.4)."""


@dataclass(frozen=True)
class Result:
    """What came of an attempt: an outcome of `dunning.sent_history` with Klaviyo's words."""

    outcome: str
    http_status: int | None = None
    error_code: str | None = None
    error_detail: str | None = None


@dataclass(frozen=True)
class Outbox:
    """The batches of one stream (`invoice` or `order`) in `warehouse`."""

    warehouse: Warehouse
    stream: str

    def freeze(
        self, batch: Batch, reminders: pd.DataFrame, decisions: pd.DataFrame, policy: Policy, now: datetime
    ) -> None:
        """Stores a batch in one piece; see `freeze_pieces`."""
        self.freeze_pieces(batch, [(reminders, decisions)], policy, now)

    def freeze_pieces(self, batch: Batch, pieces: Iterable[Piece], policy: Policy, now: datetime) -> Batch:
        """Stores a batch with its bodies and, when live, the decisions as they were made, all or nothing.

        Each piece is a short transaction of its own, and the batch is the last one: without it its reminders are no
        batch, nobody sends them, and the next freezing removes what one that was killed left behind. Reminders with a
        `refusal` are kept and, when live, recorded as rejected (RULES 6.5): Klaviyo would not take them. A live batch
        supersedes the older ones of its stream that were not sent to the end (RULES 9.1).

        Args:
            batch: the batch; `batch_id` is the Dagster run, `size` that of its pieces, whatever it says.
            pieces: at least one: reminders (reminder_id, customer_id, customer_key, level,
                carrying_invoice_id, invoice_key, order_id, first_edit_id, workflow, action, occurrence, body, perhaps
                refusal) and the rows of `dunning.decisions` they were made from, if they were.
            policy: the policy that decided.
            now: the instant of freezing.

        Returns:
            The batch with its size.

        Raises:
            InvalidRows: a row breaks the declaration of its table.
            WarehouseError: the file cannot be written, or another run is freezing.
        """
        with self.warehouse.only_one(f"freezing {self.stream} reminders"):
            self._remove_broken_off()
            try:
                size, refused = self._add_pieces(batch, pieces, policy, now)
                return self._complete(replace(batch, size=size), refused, policy, now)
            except BaseException:
                with suppress(WarehouseError):
                    self._remove_broken_off()
                raise

    def _add_pieces(
        self, batch: Batch, pieces: Iterable[Piece], policy: Policy, now: datetime
    ) -> tuple[int, pd.DataFrame]:
        """Adds the rows of all pieces; returns how many reminders these are, and those that Klaviyo would not take."""
        size, refused = 0, []
        for piece in pieces:
            size += len(piece[0])
            refused.append(_refused(batch, piece[0]))
            rows = _frozen_rows(batch, *piece, policy, now)
            self.warehouse.frugally(partial(_append_all, rows))
            # While the next piece is made, this one need not stay in memory.
            del piece, rows
            for pool in (pa.default_memory_pool(), pa.system_memory_pool()):
                pool.release_unused()
        return size, pd.concat(refused)

    def _complete(self, batch: Batch, refused: pd.DataFrame, policy: Policy, now: datetime) -> Batch:
        """Adds the batch itself, whose reminders are there."""
        with self.warehouse.transaction() as connection:
            today = now.astimezone(policy.organisation.zone).date()
            if len(refused):
                _reject(connection, refused, now, today)
            if batch.live:
                superseded = {"stream": batch.stream, "by": batch.batch_id, "at": now}
                connection.execute(sql.load("supersede"), {**superseded, "today": today})
                connection.execute(
                    "update dunning.batches set state = 'superseded'"
                    " where stream = ? and live and state in ('planned', 'sending')",
                    [batch.stream],
                )
            append(connection, BATCHES, declared_rows(BATCHES, _batch_row(batch, policy, now)))
            store_policy(connection, policy, now)
        return batch

    def _remove_broken_off(self) -> None:
        """Removes what belongs to no batch: pieces of a freezing that was killed. Only one freezes a stream at a time.

        Decisions are kept of the invoice side only.
        """
        known = "batch_id not in (select batch_id from dunning.batches)"
        orphans = {REMINDERS: f"{known} and stream = '{self.stream}'"}
        if self.stream == STREAM:
            orphans[BATCH_DECISIONS] = known
        with self.warehouse.transaction() as connection:
            for table, broken_off in orphans.items():
                found = f"from {table.qualified} where {broken_off}"
                if not fetch(connection, f"select 1 {found} limit 1").empty:
                    connection.execute(f"delete {found}")

    def newest_live(self) -> Batch | None:
        """The newest live batch: the only one that may be sent (RULES 9.1)."""
        return _batch_of(self.warehouse.fetch(_NEWEST_LIVE, {"stream": self.stream}))

    def batch(self, batch_id: str) -> Batch | None:
        """The batch with this id."""
        rows = self.warehouse.fetch(
            "select batch_id, stream, as_of, size, live, state, policy_hash from dunning.batches"
            " where batch_id = $batch_id and stream = $stream",
            {"batch_id": batch_id, "stream": self.stream},
        )
        return _batch_of(rows)

    def to_send(self, batch_id: str, among: "pd.Series[str] | None" = None) -> pd.DataFrame:
        """Reminders of the batch that have no final outcome, with the body to send.

        A reminder tried before on the same day keeps the body of that first attempt (RULES 9.3).

        Args:
            batch_id: the batch.
            among: some that stand together in `ids_to_send`, so that bodies can be read in pieces; None: all.

        Returns:
            The identity columns of `dunning.reminders`, `place`, `body`, `own_body` (the batch's own where
            `body` is an earlier one), and `attempts` (how often it was tried so far).
        """

        def read(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
            first, last = (0, LAST_PLACE) if among is None else _places(connection, batch_id, among)
            return fetch(connection, sql.load("to_send"), {"batch_id": batch_id, "first": first, "last": last})

        return self.warehouse.frugally(read)

    def ids_to_send(self, batch_id: str) -> "pd.Series[str]":
        """The reminder_id of each row that `to_send` returns, in the order in which the rows lie."""
        everywhere = {"batch_id": batch_id, "first": 0, "last": LAST_PLACE}
        query = f"select reminder_id from ({sql.load('to_send')}) order by place"
        return self.warehouse.frugally(lambda connection: fetch(connection, query, everywhere)["reminder_id"])

    def sent_days(self, before: date) -> pd.DataFrame:
        """The latest ten days before a day on which the stream sent something, newest first.

        Returns:
            as_of, size (reminders of the day's largest batch), days (calendar days since the one before).
        """
        return self.warehouse.fetch(sql.load("sent_days"), {"stream": self.stream, "as_of": before})

    def open_attempts(self, day: date) -> pd.DataFrame:
        """Attempts of a day of which nobody knows what came, whatever batch made them (RULES 9.3).

        Returns:
            The identity columns of `dunning.reminders`, metric, planned_at (the time of the event), attempt,
            attempted_at, contact_on.
        """
        rows = self.warehouse.fetch(sql.load("open_attempts"), {"stream": self.stream, "day": day})
        return rows.assign(contact_on=pd.Timestamp(day))

    def record_found(self, attempts: pd.DataFrame, result: Result) -> None:
        """Writes what turned out about open attempts, dated like them; `attempts` are rows of `open_attempts`."""
        if len(attempts):
            self.warehouse.append(SENT_HISTORY, attempts.assign(**asdict(result)))

    def reject(self, reminders: pd.DataFrame, result: Result, at: datetime, contact_on: date) -> None:
        """Rejects reminders that are not worth a request, as Klaviyo would: with an attempt each."""
        attempt = _history(reminders, Result("attempting"), at, contact_on)
        outcome = _history(reminders, result, at, contact_on)
        with self.warehouse.transaction() as connection:
            append(connection, SENT_HISTORY, attempt)
            append(connection, SENT_HISTORY, outcome)

    def begin_attempts(
        self,
        batch_id: str,
        reminders: pd.DataFrame,
        at: datetime,
        contact_on: date,
        most_about_invoices: int,
        changed: "pd.Series[str] | None" = None,
        known_until: int | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Writes `attempting` for each reminder, before the request that carries it leaves.

        In the same transaction the batch is looked at once more, and a reminder is dropped if another one of the
        day went, or may have gone, to its customer (at the invoice level: about its invoice) meanwhile, or if
        `most_about_invoices` to the customer have (RULES 5.4).

        Args:
            batch_id: the batch.
            reminders: rows of `to_send`.
            at: the instant of the attempt.
            contact_on: its day in the organisation's time zone.
            most_about_invoices: reminders about single invoices that a customer may get on a day.
            changed: what has changed since the decision, for each reminder that is dropped for it (RULES 9.4).
            known_until: the latest change (`dunning.changes`) that `changed` accounts for; 0: the decision itself;
                None: later ones do not matter.

        Returns:
            The reminders that may leave, and those that were dropped.

        Raises:
            OutOfDate: something was pulled or recorded after `known_until`; nothing was written.
            SendingRefused: a newer live batch superseded this one (RULES 9.1).
        """
        with self.warehouse.transaction() as connection:
            newest = _batch_of(fetch(connection, _NEWEST_LIVE, {"stream": self.stream}))
            if newest is None or newest.batch_id != batch_id:
                by = newest.batch_id if newest else "nothing"
                raise SendingRefused(f"batch {batch_id} was superseded by {by}, which is newer")
            if known_until is not None and latest_change_since(connection, batch_id, self.stream) > known_until:
                raise OutOfDate(f"something was pulled or recorded since batch {batch_id} was decided")
            if newest.state != "sending":
                connection.execute("update dunning.batches set state = 'sending' where batch_id = ?", [batch_id])
            today = self._reminded_today(connection, reminders, contact_on)
            why = _why_dropped(reminders, today, most_about_invoices, changed)
            going, dropped = reminders[why.isna()], reminders[why.notna()]
            if len(going):
                append(connection, SENT_HISTORY, _history(going, Result("attempting"), at, contact_on))
            if len(dropped):
                append(connection, SENT_HISTORY, _history(dropped, Result("dropped"), at, contact_on, why[why.notna()]))
        return going, dropped

    def _reminded_today(
        self, connection: duckdb.DuckDBPyConnection, reminders: pd.DataFrame, day: date
    ) -> pd.DataFrame:
        """What the customers of the reminders got on the day, or may have got, and what there was about their
        invoices."""
        connection.register("leaving", reminders[["customer_id", "carrying_invoice_id"]])
        today = fetch(connection, sql.load("reminded_today"), {"stream": self.stream, "day": day})
        connection.unregister("leaving")
        return today

    def record_results(self, reminders: pd.DataFrame, result: Result, at: datetime, contact_on: date) -> None:
        """Writes what came of the reminders' attempts, right after the answer."""
        rows = _history(reminders, result, at, contact_on)
        with self.warehouse.transaction() as connection:
            append(connection, SENT_HISTORY, rows)
            if self.stream != STREAM and result.outcome == "accepted":
                # Events about orders defer reminders of the invoice side (RULES 5.4).
                note_change(connection, SENT_HISTORY.qualified)

    def finish(self, batch_id: str) -> None:
        """Notes that nothing of a batch is left to send."""
        with self.warehouse.transaction() as connection:
            connection.execute(
                "update dunning.batches set state = 'sent'"
                " where batch_id = ? and live and state in ('planned', 'sending')",
                [batch_id],
            )


def _append_all(rows: Iterable[tuple[Table, pa.Table]], connection: duckdb.DuckDBPyConnection) -> None:
    for table, arrow in rows:
        append(connection, table, arrow)


def outbox_of(batch_id: str | None, warehouse: Warehouse) -> Outbox:
    """The outbox of a batch's stream; or with one that is not known, that of the invoice side."""
    if batch_id is None:
        return Outbox(warehouse, STREAM)
    query = "select stream from dunning.batches where batch_id = $batch_id"
    found = warehouse.fetch(query, {"batch_id": batch_id})
    return Outbox(warehouse, STREAM if found.empty else str(found["stream"].iloc[0]))


def _places(connection: duckdb.DuckDBPyConnection, batch_id: str, ids: "pd.Series[str]") -> tuple[int, int]:
    """Between which places the reminders lie in this transaction: DuckDB moves rows up when others were removed."""
    connection.register("wanted", ids.to_frame("reminder_id"))
    places = fetch(
        connection,
        "select coalesce(min(r.rowid), 0) as first, coalesce(max(r.rowid), -1) as last"
        " from dunning.reminders as r semi join wanted using (reminder_id) where r.batch_id = $batch_id",
        {"batch_id": batch_id},
    )
    connection.unregister("wanted")
    return int(places["first"].iloc[0]), int(places["last"].iloc[0])


def _frozen_rows(
    batch: Batch, reminders: pd.DataFrame, decisions: pd.DataFrame, policy: Policy, now: datetime
) -> list[tuple[Table, pa.Table]]:
    frozen = reminders.assign(
        stream=batch.stream,
        batch_id=batch.batch_id,
        as_of=pd.Timestamp(batch.as_of),
        metric=_metric(batch.stream, policy),
        planned_at=now,
    )
    kept = decisions.assign(batch_id=batch.batch_id) if batch.live else decisions.assign(batch_id="").iloc[:0]
    return [
        (REMINDERS, declared_rows(REMINDERS, frozen)),
        (BATCH_DECISIONS, declared_rows(BATCH_DECISIONS, kept)),
    ]


def _metric(stream: str, policy: Policy) -> str:
    return policy.klaviyo.metric if stream == STREAM else policy.order_reminders.metric


def _refused(batch: Batch, reminders: pd.DataFrame) -> pd.DataFrame:
    """The reminders of a live batch that Klaviyo would not take."""
    if not batch.live or "refusal" not in reminders:
        return reminders.iloc[:0]
    refused = reminders[reminders["refusal"].notna()].drop(columns="body")
    return refused.assign(stream=batch.stream, batch_id=batch.batch_id)


def _reject(connection: duckdb.DuckDBPyConnection, refused: pd.DataFrame, at: datetime, contact_on: date) -> None:
    """Rejects reminders as Klaviyo would, with an attempt each."""
    connection.register("refused", refused[["reminder_id"]])
    tried = fetch(
        connection,
        "select reminder_id, max(attempt) as attempts from dunning.sent_history semi join refused using (reminder_id)"
        " group by reminder_id",
    )
    connection.unregister("refused")
    attempts = refused["reminder_id"].map(tried.set_index("reminder_id")["attempts"]).fillna(0).astype("int64")
    tried_now = refused.assign(attempts=attempts)
    append(connection, SENT_HISTORY, _history(tried_now, Result("attempting"), at, contact_on))
    for reason, rows in tried_now.groupby("refusal"):
        append(connection, SENT_HISTORY, _history(rows, Result("rejected", None, REFUSED, str(reason)), at, contact_on))


def _reminded_otherwise(reminders: pd.DataFrame, today: pd.DataFrame, most_about_invoices: int) -> "pd.Series[bool]":
    """Whether reminders of today that are not this one leave no room for it."""
    about_customer, about_invoice = reminders["level"] == "customer", reminders["level"] == "invoice"
    to_customers = today[today["level"] == "customer"]
    same_customer = _another(reminders, to_customers, "customer_id")
    same_invoice = _another(reminders, today, "carrying_invoice_id")
    about_invoices = today.loc[today["level"] == "invoice"].drop_duplicates("reminder_id")
    known = reminders["reminder_id"].isin(about_invoices["reminder_id"])
    used = about_invoices.groupby("customer_id").size().reindex(reminders["customer_id"], fill_value=0).to_numpy()
    place = reminders[about_invoice & ~known].groupby("customer_id").cumcount().reindex(reminders.index, fill_value=0)
    full = ~known & (used + place >= most_about_invoices)
    return (about_customer & same_customer) | (about_invoice & (same_invoice | full))


def _another(reminders: pd.DataFrame, today: pd.DataFrame, key: str) -> "pd.Series[bool]":
    """Whether a reminder of today has the same key and is another one."""
    if today.empty:
        return pd.Series(False, reminders.index)
    pairs = reminders[[key, "reminder_id"]].merge(
        today[[key, "reminder_id"]], on=key, suffixes=("", "_of_today"), validate="m:m"
    )
    pairs = pairs[pairs["reminder_id"] != pairs["reminder_id_of_today"]]
    return reminders["reminder_id"].isin(pairs["reminder_id"])


def _why_dropped(
    reminders: pd.DataFrame, today: pd.DataFrame, most_about_invoices: int, changed: "pd.Series[str] | None"
) -> "pd.Series[str]":
    """Why a reminder must not leave any more, in a sentence; empty where it may."""
    why = pd.Series(None, reminders.index, dtype="str")
    if changed is not None:
        why = why.fillna("changed since it was decided: " + changed)
    # What was dropped takes no room from other reminders of its customer.
    left = reminders[why.isna()]
    second = _reminded_otherwise(left, today, most_about_invoices)
    why.loc[left.index[second]] = "another reminder of today was accepted, or may have been"
    return why


def _history(
    reminders: pd.DataFrame, result: Result, at: datetime, contact_on: date, detail: "pd.Series[str] | None" = None
) -> pa.Table:
    """Rows of the history with one outcome; `detail` gives each its own words."""
    same = {**asdict(result), "attempted_at": at, "contact_on": contact_on}
    identity = {name: reminders[name] for name in SENT_HISTORY.column_names if name in reminders}
    own = {"attempt": reminders["attempts"] + 1} | ({} if detail is None else {"error_detail": detail})
    return declared_columns(SENT_HISTORY, {**same, **identity, **own}, len(reminders))


def _batch_row(batch: Batch, policy: Policy, now: datetime) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "batch_id": [batch.batch_id],
            "stream": batch.stream,
            "as_of": pd.Timestamp(batch.as_of),
            "run_id": batch.batch_id,
            "size": batch.size,
            "live": batch.live,
            "state": batch.state,
            "policy_hash": policy.hash,
            "created_at": now,
        }
    )


def store_policy(connection: duckdb.DuckDBPyConnection, policy: Policy, now: datetime) -> None:
    """Keeps the text of a policy under its hash, inside an open transaction."""
    known = fetch(connection, "select 1 from dunning.policies where policy_hash = $hash", {"hash": policy.hash})
    if known.empty:
        row = pd.DataFrame({"policy_hash": [policy.hash], "text": [policy.text], "first_used_at": [now]})
        append(connection, POLICIES, declared_rows(POLICIES, row))


def _batch_of(rows: pd.DataFrame) -> Batch | None:
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Batch(
        row["batch_id"],
        row["stream"],
        row["as_of"].date(),
        int(row["size"]),
        bool(row["live"]),
        row["state"],
        row["policy_hash"],
    )
