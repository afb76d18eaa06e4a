"""Edited orders in the warehouse: decided at an instant, kept, and made into the pieces of a batch (RULES 8).

The rules are in rules/order_*.py, pulling in pulling.py and pulling_shops.py, sending in sending.py.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.outbox import PIECE_ROWS
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.order_facts import fetch_changes, fetch_order_facts, fetch_told
from dunning_pipeline.resources.warehouse import Warehouse, append, append_keyed, declared_rows, fetch
from dunning_pipeline.rules.order_decisions import OrdersDecided, decide_orders
from dunning_pipeline.rules.order_events import order_events
from dunning_pipeline.rules.order_series import STREAM
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_DECISIONS, ORDER_SERIES, STREAM_STARTS


@dataclass(frozen=True)
class OrdersNow:
    """All edited orders, and what was decided about them at the instant `at`.

    `later` are keys of orders whose events are due and go with another run.
    """

    at: datetime
    orders: pd.DataFrame
    decided: OrdersDecided
    later: frozenset[int] = frozenset()

    @property
    def due(self) -> pd.DataFrame:
        """The decisions to send an event."""
        decisions = self.decided.decisions
        return decisions[(decisions["decision"] == "remind") & ~decisions["order_key"].isin(self.later)]


def decide_orders_now(warehouse: Warehouse, settings: Settings, *, live: bool) -> OrdersNow:
    """Decides every edited order at this instant; keeps nothing but when the stream was first run so.

    `live`: as if what is decided were sent, so that edits count since sending was first switched on.
    """
    now = settings.clock()
    with warehouse.transaction() as connection:
        start = _start(connection, settings.policy, now, live=live)
        facts = fetch_order_facts(connection, settings.policy, now)
    warehouse.give_memory_back()
    return OrdersNow(now, facts.orders, decide_orders(facts, settings.policy, start, now))


def known_start(connection: duckdb.DuckDBPyConnection, policy: Policy, *, live: bool) -> datetime | None:
    """From when on edits count (RULES 8.1), for runs that are live or not; None before the first of them."""
    if policy.order_reminders.start_at is not None:
        return policy.order_reminders.start_at
    starts = fetch(connection, sql.load("stream_starts"), {"stream": STREAM}).set_index("live")["started_at"]
    if len(starts) and (True in starts or not live):
        started: pd.Timestamp = starts.loc[max(starts.index)]
        return started.to_pydatetime()
    return None


def _start(connection: duckdb.DuckDBPyConnection, policy: Policy, now: datetime, *, live: bool) -> datetime:
    """From when on edits count (RULES 8.1): as the policy says, else since the stream was first run live, maybe now.

    Before it ever was, since its first dry run, so that a dry run shows what would be sent. A warehouse that was
    restored knows from its history that events were sent before.
    """
    known = known_start(connection, policy, live=live)
    if known is not None:
        return known
    # Shops tell when an edit was made in whole seconds, so one of this very second would seem to be earlier.
    second = now.replace(microsecond=0)
    row = {"stream": STREAM, "live": live, "started_at": second}
    append(connection, STREAM_STARTS, pa.Table.from_pylist([row], STREAM_STARTS.arrow_schema))
    return second


def keep_decided(warehouse: Warehouse, now: OrdersNow, run_id: str) -> None:
    """Writes the series that changed, and the decisions that are not the same as each order's latest one."""
    series = declared_rows(ORDER_SERIES.keyed, now.decided.series.assign(run_id=run_id))
    decisions = declared_rows(ORDER_DECISIONS.keyed, now.decided.decisions.assign(run_id=run_id))
    with warehouse.transaction() as connection:
        connection.register("decided_series", series)
        connection.execute(sql.load("changed_series"))
        connection.execute(sql.load("remove_changed_series"))
        append_keyed(connection, ORDER_SERIES, connection.sql("from changed_series").to_arrow_table())
        connection.unregister("decided_series")
        connection.register("decided_orders_now", decisions)
        changed = connection.sql(sql.load("changed_order_decisions")).to_arrow_table()
        append_keyed(connection, ORDER_DECISIONS, changed)
        connection.unregister("decided_orders_now")


def order_pieces(
    warehouse: Warehouse, settings: Settings, now: OrdersNow, only: Collection[str] | None = None
) -> Iterator[pd.DataFrame]:
    """The events that are due, with the exact body of each, as the outbox freezes them; some at a time, at least once.

    Args:
        warehouse: where the changes of edits are.
        settings: the policy.
        now: what was decided.
        only: ids of the orders that are wanted; all of them by default.
    """
    due = now.due.merge(now.orders[["order_key", "order_id"]], on="order_key", validate="1:1")
    due = due if only is None else due[due["order_id"].isin(only)]
    for start in range(0, max(len(due), 1), PIECE_ROWS):
        yield _piece(warehouse, settings, now, due.iloc[start : start + PIECE_ROWS].reset_index(drop=True))


def _piece(warehouse: Warehouse, settings: Settings, now: OrdersNow, due: pd.DataFrame) -> pd.DataFrame:
    orders = now.orders[now.orders["order_key"].isin(due["order_key"])]
    edits = now.decided.edits[now.decided.edits["order_key"].isin(due["order_key"])]
    currency = edits[["order_key"]].merge(orders[["order_key", "currency"]], on="order_key", validate="m:1")
    with warehouse.transaction() as connection:
        orders = fetch_told(connection, orders)
        changes = fetch_changes(connection, edits, currency["currency"])
    due = due.merge(orders[["order_key", "customer_id"]], on="order_key", validate="1:1")
    events = order_events(due, orders, edits, changes, settings.policy, now.at)
    none = pd.Series(None, due.index, dtype="str")
    empty = dict.fromkeys(("level", "carrying_invoice_id", "workflow", "action"), none)
    keys = dict.fromkeys(("customer_key", "invoice_key"), pd.Series(pd.NA, due.index, dtype="Int64"))
    columns = ["reminder_id", "customer_id", "order_id", "first_edit_id", "occurrence"]
    return due[columns].assign(**empty, **keys, body=events["body"], refusal=events["refusal"])
