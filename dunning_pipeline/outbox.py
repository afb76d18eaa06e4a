"""The outbox in the warehouse: batches with frozen bodies, and what came of each attempt to send them.

Only short transactions against the warehouse; the sending itself is in sending.py. Nothing here updates or deletes
a reminder or an attempt (RULES 9.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import pandas as pd

from dunning_pipeline import sql
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
            reminders: reminder_id, customer_id, carrying_invoice_id, order_id, workflow, action, occurrence, body.
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
            _store_policy(connection, policy, now)

    def start_sending(self, batch_id: str) -> str:
        """Notes that a batch is being sent, if it is the newest live one; returns the id of the newest either way.

        Looking and noting are one transaction, so that a batch frozen meanwhile is never overlooked.
        """
        with self.warehouse.transaction() as connection:
            newest = fetch(connection, _NEWEST_LIVE, {"stream": self.stream})
            found = str(newest["batch_id"].iloc[0])
            if found == batch_id:
                _set_state(connection, batch_id, "sending")
        return found

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

    def record_attempts(self, reminders: pd.DataFrame, at: datetime, contact_on: date) -> None:
        """Writes `attempting` for each reminder, before the request that carries it leaves."""
        self._append(reminders, [Result("attempting")] * len(reminders), at, contact_on)

    def record_results(
        self, reminders: pd.DataFrame, results: Sequence[Result], at: datetime, contact_on: date
    ) -> None:
        """Writes what came of each reminder's attempt, right after the answer."""
        self._append(reminders, results, at, contact_on)

    def set_state(self, batch_id: str, state: str) -> None:
        """Notes how far a batch is."""
        with self.warehouse.transaction() as connection:
            _set_state(connection, batch_id, state)

    def _append(self, reminders: pd.DataFrame, results: Sequence[Result], at: datetime, contact_on: date) -> None:
        outcomes = pd.DataFrame(results, index=reminders.index).astype({"http_status": "Int64"})
        history = reminders.join(outcomes).assign(
            attempt=reminders["attempts"] + 1, attempted_at=at, contact_on=pd.Timestamp(contact_on)
        )
        self.warehouse.append(SENT_HISTORY, history)


def _set_state(connection: duckdb.DuckDBPyConnection, batch_id: str, state: str) -> None:
    connection.execute("update dunning.batches set state = ? where batch_id = ?", [state, batch_id])


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


def _store_policy(connection: duckdb.DuckDBPyConnection, policy: Policy, now: datetime) -> None:
    known = fetch(connection, "select 1 from dunning.policies where policy_hash = $hash", {"hash": policy.hash})
    if known.empty:
        row = pd.DataFrame({"policy_hash": [policy.hash], "text": [policy.text], "first_used_at": [now]})
        append(connection, POLICIES, declared_rows(POLICIES, row))


def _batch_of(rows: pd.DataFrame) -> Batch | None:
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Batch(row["batch_id"], row["stream"], row["as_of"].date(), int(row["size"]), bool(row["live"]), row["state"])
