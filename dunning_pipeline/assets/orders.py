"""`dunning/order_series`: the reminders that edited orders get, decided at the moment of the run. It sends nothing."""

import dagster as dg
from dagster import ResourceParam

from dunning_pipeline.assets.metadata import Metadata, column_schema, counts, preview
from dunning_pipeline.assets.reminders import publish
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.ordering import OrdersNow, decide_orders_now, keep_decided
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS, ORDER_SERIES, ORDERS

ORDER_SERIES_KEY = asset_key(ORDER_SERIES)


@dg.asset(
    key=ORDER_SERIES_KEY,
    group_name="dunning",
    description=f"{ORDER_SERIES.meaning} With the decision about each order in dunning.order_decisions. Events are "
    "sent by the job order_reminders, which a sensor starts.",
    kinds={"duckdb", "pandas"},
    deps=[asset_key(ORDERS), asset_key(ORDER_EDITS)],
    metadata={"dagster/column_schema": column_schema(ORDER_SERIES)},
)
def order_series(
    context: dg.AssetExecutionContext, warehouse: ResourceParam[Warehouse], settings: ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Decides all edited orders by what was pulled last."""
    warehouse.longest_hold()
    now = decide_orders_now(warehouse, settings, live=settings.policy.sending.live)
    keep_decided(warehouse, now, context.run.run_id)
    held = warehouse.longest_hold()
    publish(context, warehouse)
    return dg.MaterializeResult(metadata={**series_figures(now), "longest_lock_seconds": held})


def series_figures(now: OrdersNow) -> Metadata:
    """What was decided, in figures."""
    decisions, series = now.decided.decisions, now.decided.series
    outcome = decisions["reason"].astype("str").fillna("remind")
    return {
        "dagster/row_count": len(series),
        "edited_orders": len(decisions),
        "by_reason": counts(outcome),
        "by_state": counts(series["state"]),
        "due": len(now.due),
        "preview": preview(series.drop(columns="order_key")),
    }
