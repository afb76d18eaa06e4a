"""The outbox in the warehouse: batches with frozen bodies, and what came of each attempt to send them.

Only short transactions against the warehouse; the sending itself is in sending.py. Nothing here updates or deletes
a reminder or an attempt (RULES 9.5).
"""

from dataclasses import asdict, dataclass
from datetime import date, datetime

import duckdb
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.errors import SendingRefused
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse, append, declared_rows, fetch
from dunning_pipeline.tables import BATCH_DECISIONS, BATCHES, POLICIES, REMINDERS, SENT_HISTORY

_NEWEST_LIVE = """
    select batch_id, stream, as_of, size, live, state
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
        """Stores a batch with its bodies and, when live, the decisions as they were made, all or nothing.

        A live batch supersedes the older ones of its stream that were not sent to the end (RULES 9.1).

        Args:
            batch: the batch; `batch_id` is the Dagster run.
            reminders: reminder_id, customer_id, level, carrying_invoice_id, order_id, workflow, action, occurrence,
                body.
            decisions: the rows of `dunning.decisions` that the batch was made from.
            policy: the policy that decided.
            now: the instant of freezing.
        """
        common = {"stream": batch.stream, "batch_id": batch.batch_id}
        frozen = reminders.assign(
            **common, as_of=pd.Timestamp(batch.as_of), metric=policy.klaviyo.metric, planned_at=now
        )
        kept = decisions.assign(batch_id=batch.batch_id) if batch.live else decisions.assign(batch_id="").iloc[:0]
        rows = [
            (REMINDERS, declared_rows(REMINDERS, frozen)),
            (BATCH_DECISIONS, declared_rows(BATCH_DECISIONS, kept)),
            (BATCHES, declared_rows(BATCHES, _batch_row(batch, policy, now))),
        ]
        with self.warehouse.transaction() as connection:
            if batch.live:
                connection.execute(
                    "update dunning.batches set state = 'superseded'"
                    " where stream = ? and live and state in ('planned', 'sending')",
                    [batch.stream],
                )
            for table, arrow in rows:
                append(connection, table, arrow)
            store_policy(connection, policy, now)

    def newest_live(self) -> Batch | None:
        """The newest live batch: the only one that may be sent (RULES 9.1)."""
        return _batch_of(self.warehouse.fetch(_NEWEST_LIVE, {"stream": self.stream}))

    def batch(self, batch_id: str) -> Batch | None:
        """The batch with this id."""
        rows = self.warehouse.fetch(
            "select batch_id, stream, as_of, size, live, state from dunning.batches"
            " where batch_id = $batch_id and stream = $stream",
            {"batch_id": batch_id, "stream": self.stream},
        )
        return _batch_of(rows)

    def to_send(self, batch_id: str) -> pd.DataFrame:
        """Reminders of the batch that have no final outcome, with the body to send.

        A reminder tried before on the same day keeps the body of that first attempt (RULES 9.3).

        Returns:
            The identity columns of `dunning.reminders`, `body`, and `attempts` (how often it was tried so far).
        """
        return self.warehouse.fetch(sql.load("to_send"), {"batch_id": batch_id})

    def begin_attempts(
        self, batch_id: str, reminders: pd.DataFrame, at: datetime, contact_on: date, most_about_invoices: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Writes `attempting` for each reminder, before the request that carries it leaves.

        In the same transaction the batch is looked at once more, and a reminder is dropped if another one of the
        day went, or may have gone, to its customer (at the invoice level: about its invoice) meanwhile, or if
        `most_about_invoices` to the customer have (RULES 5.4).

        Returns:
            The reminders that may leave, and those that were dropped.

        Raises:
            SendingRefused: a newer live batch superseded this one (RULES 9.1).
        """
        with self.warehouse.transaction() as connection:
            newest = _batch_of(fetch(connection, _NEWEST_LIVE, {"stream": self.stream}))
            if newest is None or newest.batch_id != batch_id:
                by = newest.batch_id if newest else "nothing"
                raise SendingRefused(f"batch {batch_id} was superseded by {by}, which is newer")
            connection.execute("update dunning.batches set state = 'sending' where batch_id = ?", [batch_id])
            today = fetch(connection, sql.load("reminded_today"), {"stream": self.stream, "day": contact_on})
            second = _reminded_otherwise(reminders, today, most_about_invoices)
            going = reminders[~second]
            dropped = Result("dropped", error_detail="another reminder of today was accepted, or may have been")
            for rows, result in ((going, Result("attempting")), (reminders[second], dropped)):
                if len(rows):
                    append(connection, SENT_HISTORY, _history(rows, result, at, contact_on))
        return going, reminders[second]

    def record_results(self, reminders: pd.DataFrame, result: Result, at: datetime, contact_on: date) -> None:
        """Writes what came of the reminders' attempts, right after the answer."""
        rows = _history(reminders, result, at, contact_on)
        with self.warehouse.transaction() as connection:
            append(connection, SENT_HISTORY, rows)

    def finish(self, batch_id: str) -> None:
        """Notes that nothing of a batch is left to send."""
        with self.warehouse.transaction() as connection:
            connection.execute(
                "update dunning.batches set state = 'sent'"
                " where batch_id = ? and live and state in ('planned', 'sending')",
                [batch_id],
            )


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
    pairs = reminders[[key, "reminder_id"]].merge(today[[key, "reminder_id"]], on=key, suffixes=("", "_of_today"))
    pairs = pairs[pairs["reminder_id"] != pairs["reminder_id_of_today"]]
    return reminders["reminder_id"].isin(pairs["reminder_id"])


def _history(reminders: pd.DataFrame, result: Result, at: datetime, contact_on: date) -> pa.Table:
    rows = reminders.assign(**asdict(result), attempt=reminders["attempts"] + 1, attempted_at=at)
    rows = rows.assign(contact_on=pd.Timestamp(contact_on))
    return declared_rows(SENT_HISTORY, rows)


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
    return Batch(row["batch_id"], row["stream"], row["as_of"].date(), int(row["size"]), bool(row["live"]), row["state"])
