"""`dunning/reminders`: today's batch with its frozen bodies. Any other day is only decided, never made into a batch."""

from collections.abc import Set

import dagster as dg
import duckdb
import pandas as pd
from dagster import ResourceParam

from dunning_pipeline import sql
from dunning_pipeline.assets.customers import fetch_customers
from dunning_pipeline.assets.metadata import column_schema, counts, preview
from dunning_pipeline.assets.receivables import fetch_days
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.errors import DunningError, WarehouseError
from dunning_pipeline.outbox import Batch, Outbox
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.decisions import STREAM, usable_identifiers
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.owed import chaseable_invoices
from dunning_pipeline.rules.reminders import reminder_events
from dunning_pipeline.runs import batch_is_live
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import (
    BALANCES,
    CUSTOMERS,
    DECISIONS,
    INVOICES,
    OPEN_INVOICES,
    REMINDERS,
    SENT_HISTORY,
    Table,
)


def build_reminders_asset(partitions: dg.PartitionsDefinition, upstream: Set[dg.AssetKey]) -> dg.AssetsDefinition:
    """The asset that freezes today's batch. Its `batch_id` is the id of the run.

    Args:
        partitions: the days.
        upstream: every other asset of the daily run, all of which a live batch needs.
    """

    @dg.asset(
        key=asset_key(REMINDERS),
        group_name="dunning",
        description=f"{REMINDERS.meaning} Made for today only: no other day is ever sent.",
        kinds={"duckdb", "pandas"},
        deps=[asset_key(table) for table in (DECISIONS, OPEN_INVOICES, CUSTOMERS, INVOICES)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={"dagster/column_schema": column_schema(REMINDERS)},
    )
    def reminders(
        context: dg.AssetExecutionContext,
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        days, today = Days.of(context), settings.today()
        if days != Days(today, today):
            note = f"no batch is made of {days}: only today ({today}) is ever sent"
            return dg.MaterializeResult(metadata={"dagster/row_count": 0, "note": note})
        warehouse.longest_hold()
        live = batch_is_live(settings.policy, context.run, {asset_key(REMINDERS), *upstream})
        decisions, frozen = build_reminders(warehouse, settings, days, context.run.run_id if live else None)
        batch = Batch(
            context.run.run_id, STREAM, today, size=len(frozen), live=live, state="planned" if live else "dry_run"
        )
        Outbox(warehouse, STREAM).freeze(batch, frozen, decisions, settings.policy, settings.clock())
        held = warehouse.longest_hold()
        publish(context, warehouse)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": len(frozen),
                "batch_id": context.run.run_id,
                "live": live,
                "by_action": counts(frozen["action"]),
                "preview": preview(frozen.drop(columns=["body", "order_id"])),
                "longest_lock_seconds": held,
            }
        )

    return reminders


def publish(context: dg.AssetExecutionContext | dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """Renews the copy for readers. That it cannot be written must not undo what was decided or sent."""
    try:
        warehouse.publish()
    except (OSError, WarehouseError, duckdb.Error) as error:
        context.log.error(f"the published copy of the warehouse could not be written: {error}")


def build_reminders(
    warehouse: Warehouse, settings: Settings, days: Days, run_id: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The decisions of a day, and its reminders with the exact event of each (RULES 7).

    Raises:
        DunningError: some of the rows were derived by another run than `run_id` (None: any run's will do).
    """
    window = {"first": days.first, "last": days.last}
    with warehouse.transaction() as connection:
        decisions = _with_ids(connection, DECISIONS, days)
        open_invoices = _with_ids(connection, OPEN_INVOICES, days)
        balances = fetch_days(connection, BALANCES, days)
        customers = fetch_customers(connection, settings.policy, decisions["customer_key"])
        pay_urls = fetch(connection, sql.load("pay_urls"), window)
    if run_id is not None:
        _require_own_rows(run_id, decisions, open_invoices, balances)
    remind = decisions[decisions["decision"] == "remind"]
    listed = chaseable_invoices(open_invoices, balances).merge(pay_urls, on="invoice_key", validate="1:1")
    bodies = reminder_events(
        remind, listed, _people(customers, settings.policy), settings.policy, days.first, settings.clock()
    )
    columns = ["reminder_id", "customer_id", "level", "carrying_invoice_id", "workflow", "action", "occurrence"]
    order_id = pd.Series(None, remind.index, dtype="str")
    return decisions, remind[columns].assign(order_id=order_id, body=bodies)


def _with_ids(connection: duckdb.DuckDBPyConnection, table: Table, days: Days) -> pd.DataFrame:
    query = f"select * from {table.qualified} where as_of between $first and $last"
    frame = fetch(connection, query, {"first": days.first, "last": days.last})
    return frame.astype({"currency": CURRENCY}) if "currency" in frame else frame


def _require_own_rows(run_id: str, *frames: pd.DataFrame) -> None:
    others = pd.concat([frame["run_id"] for frame in frames])
    others = others[others != run_id]
    if len(others):
        raise DunningError(
            f"run {others.iloc[0]} derived the same day while this run did; run daily_dunning for today again"
        )


def _people(customers: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    return customers[["customer_key", "name", "language"]].join(usable_identifiers(customers, policy))


def sent_history_spec() -> dg.AssetSpec:
    """`dunning/sent_history` is drawn, but no materialisation or backfill can send: only the send jobs write it."""
    return dg.AssetSpec(
        asset_key(SENT_HISTORY),
        group_name="dunning",
        description=f"{SENT_HISTORY.meaning} Written by the job send_reminders, which a sensor starts.",
        kinds={"duckdb"},
        deps=[asset_key(REMINDERS)],
        metadata={"dagster/column_schema": column_schema(SENT_HISTORY)},
    )
