"""One tick of the order side over many edited orders with live series: from the DuckDB file to what is kept.

Every order was told of once. At the first of two moments nothing is due; half a minute later one order in a hundred is.
"""

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import sql
from benchmarks.measuring import Contender, interleaved
from benchmarks.table import Line
from dunning_pipeline.order_run import freeze_due
from dunning_pipeline.ordering import OrdersNow, decide_orders_now, keep_decided
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import (
    BATCHES,
    ORDER_EDITS,
    ORDER_KEYS,
    ORDER_OBSERVATIONS,
    ORDERS,
    SENT_HISTORY,
    WATERMARKS,
)

ORDERS_EDITED, WARM_UP = 100_000, 2_000
ONE_IN = 100
"""Of so many orders one is due at the second moment."""
MOST_SECONDS, MOST_GB = 1.0, 0.5
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
TABLES = (ORDERS, ORDER_KEYS, ORDER_EDITS, ORDER_OBSERVATIONS, SENT_HISTORY, BATCHES, WATERMARKS)

NOTHING_DUE = Contender("decided and kept, nothing due", "benchmarks.edited_orders:nothing_due")
SOME_DUE = Contender(
    f"decided and kept, 1 in {ONE_IN} due", "benchmarks.edited_orders:some_due", "benchmarks.edited_orders:copied"
)
FROZEN = Contender(
    f"decided, kept and frozen, 1 in {ONE_IN} due", "benchmarks.edited_orders:frozen", "benchmarks.edited_orders:copied"
)

_POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
order_reminders: {start_at: "2026-01-01T00:00:00Z"}
sending: {live: true}
sources:
  shop: {kind: shopify, shop: acme.myshopify.com, token: "${TOKEN}", edited_by_apps: {customer_portal: [Cleverific]}}
"""


def measure(orders: int = ORDERS_EDITED, runs: int = 5) -> list[Line]:
    """A line for each of the ticks, over so many edited orders."""
    with tempfile.TemporaryDirectory(prefix="orders-") as folder:
        path, warm_up = (Path(folder) / f"{size}" / "warehouse.duckdb" for size in (orders, WARM_UP))
        write_edited(path, orders)
        write_edited(warm_up, WARM_UP)
        measured = interleaved([NOTHING_DUE, SOME_DUE, FROZEN], path, warm_up, runs)
    bounds = {NOTHING_DUE: f"at most {MOST_SECONDS:g} s, {MOST_GB:g} GB"}
    return [
        Line(
            f"{orders:,}",
            contender.label,
            figures.seconds,
            figures.peak_gb,
            bound=bounds.get(contender, ""),
            cpu_seconds=figures.cpu_seconds,
        )
        for contender, figures in measured.items()
    ]


def write_edited(path: Path, orders: int) -> Warehouse:
    """A warehouse with so many edited orders, each told of once, and what an earlier tick decided about them."""
    warehouse = Warehouse(path)
    with warehouse.transaction() as connection:
        connection.execute(f"set variable now = timestamptz '{NOW.isoformat()}'")
        connection.execute(f"create temp table numbers as {sql.load('edited_numbers').format(orders=orders)}")
        for table in TABLES:
            connection.execute(f"insert into {table.qualified} by name {sql.load(f'edited_{table.name}')}")
    _kept(warehouse, NOW)
    return warehouse


def nothing_due(path: Path) -> None:
    """A tick at which nothing is due."""
    if len(_kept(Warehouse(path), NOW + timedelta(seconds=10)).due):
        raise RuntimeError("an event is due, which should be none")


def some_due(path: Path) -> None:
    """A tick at which one order in a hundred is due."""
    _require_due(_kept(Warehouse(_copy(path)), NOW + timedelta(minutes=1)))


def frozen(path: Path) -> None:
    """Such a tick, with its events built and frozen."""
    warehouse, at = Warehouse(_copy(path)), NOW + timedelta(minutes=1)
    now = _kept(warehouse, at)
    _require_due(now)
    freeze_due(_settings(path, at), warehouse, "benchmark", now, live=True)


def copied(path: Path) -> None:
    """A copy of the file to write into, as it was before any tick."""
    shutil.copyfile(path, _copy(path))


def _copy(path: Path) -> Path:
    return path.with_name("written.duckdb")


def _kept(warehouse: Warehouse, at: datetime) -> OrdersNow:
    now = decide_orders_now(warehouse, _settings(warehouse.path, at), live=True)
    keep_decided(warehouse, now, "benchmark")
    return now


def _require_due(now: OrdersNow) -> None:
    if len(now.due) != len(now.decided.decisions) // ONE_IN:
        raise RuntimeError(f"{len(now.due)} events are due, which should be 1 in {ONE_IN}")


def _settings(path: Path, at: datetime) -> Settings:
    return Settings(parse_policy(_POLICY), path.with_name("dunning.yaml"), path.parent, lambda: at, {})
