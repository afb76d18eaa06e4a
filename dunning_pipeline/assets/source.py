"""`source/<table>`: one asset per source table, pulled from every source of the policy that feeds it.

Orders and their edits are pulled by one step, because shops yield them together.
"""

from collections.abc import Iterator
from dataclasses import asdict

import dagster as dg
from dagster import ResourceParam

from dunning_pipeline.assets.metadata import PREVIEW_ROWS, Metadata, column_schema, counts, preview
from dunning_pipeline.checks import INVOICES_KNOWN, check_doubts, check_rejected, doubt_spec, rejected_spec
from dunning_pipeline.doubts import about_invoices, about_other_currencies
from dunning_pipeline.errors import TooManyRejectedRows
from dunning_pipeline.policy import Policy
from dunning_pipeline.pulling import pull
from dunning_pipeline.pulling_orders import PulledOrders, counted, pull_orders
from dunning_pipeline.pulling_shops import TableCounts
from dunning_pipeline.resources.loading import CHECKED_AGAINST_INVOICES, OF_ORDERS, Loaded
from dunning_pipeline.resources.readers import fed_tables
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import INVOICES, ORDER_EDITS, ORDERS, PAYMENTS, SOURCE_TABLES, Table

GROUP = "source"


def build_source_assets(policy: Policy | None) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """An asset for each source table that the policy feeds; the others are drawn, but nothing pulls them."""
    fed = fed_tables(policy) if policy else set()
    by_orders = {table.name for table in OF_ORDERS}
    alone = [
        _pulled_asset(table) if table.name in fed else _unfed(table)
        for table in SOURCE_TABLES
        if not (table.name in by_orders and fed & by_orders)
    ]
    return [*alone, *([_orders_asset()] if fed & by_orders else [])]


def _unfed(table: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        asset_key(table),
        group_name=GROUP,
        description=f"{table.meaning} No source of the policy feeds it.",
        kinds={"duckdb"},
        metadata={"dagster/column_schema": column_schema(table)},
    )


def asset_key(table: Table) -> dg.AssetKey:
    """`source/customers`, `dunning/decisions`."""
    return dg.AssetKey([table.schema, table.name])


OF_ORDERS_KEYS = frozenset(asset_key(table) for table in OF_ORDERS)
"""Orders have nothing to do with the day's invoices: a shop that is down must not keep anybody from being reminded."""


class PullConfig(dg.Config):
    """`full`: pull everything again, whatever was pulled before, and take columns that are gone as meant so."""

    full: bool = False


def full_pull(policy: Policy) -> dict[str, object]:
    """Run config of a daily run that pulls everything again."""
    pulled = fed_tables(policy) - {table.name for table in OF_ORDERS}
    return {"ops": {f"source__{name}": {"config": {"full": True}} for name in sorted(pulled)}}


def _of_invoices(loaded: Loaded) -> dict[str, int]:
    return {"looked_up": loaded.looked_up, "vanished": loaded.vanished, "observed_payments": loaded.observed}


def _pulled_asset(table: Table) -> dg.AssetsDefinition:
    names_invoices = table in CHECKED_AGAINST_INVOICES
    asset = asset_key(table)

    @dg.asset(
        key=asset,
        group_name=GROUP,
        description=f"{table.meaning} Pulled from the sources of the policy.",
        kinds={"duckdb"},
        deps=[asset_key(INVOICES)] if names_invoices else [],
        check_specs=[rejected_spec(asset), *([doubt_spec(asset, INVOICES_KNOWN)] if names_invoices else [])],
        metadata={"dagster/column_schema": column_schema(table)},
    )
    def pull_source(
        context: dg.AssetExecutionContext,
        config: PullConfig,
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        warehouse.longest_hold()
        try:
            staged, loaded = pull(settings, warehouse, table, context.run.run_id, full=config.full)
        except TooManyRejectedRows as error:
            yield check_rejected(asset, error)
            raise
        yield check_rejected(asset)
        figures = _figures(warehouse, table, counted(staged, loaded))
        unknown = about_invoices(warehouse.fetch, table) if names_invoices else []
        misfits = about_other_currencies(warehouse.fetch) if table is PAYMENTS else []
        yield dg.MaterializeResult(
            metadata={
                **figures,
                "rounded": sum(part.rounded for part in staged),
                "left_out": loaded.left_out,
                **(_of_invoices(loaded) if table is INVOICES else {}),
                **({"taken_back": loaded.taken_back} if table is PAYMENTS else {}),
                **({"of_unknown_invoices": sum(doubt.count for doubt in unknown)} if names_invoices else {}),
                "longest_lock_seconds": warehouse.longest_hold(),
            },
            check_results=[check_doubts(asset, INVOICES_KNOWN, unknown + misfits)] if names_invoices else [],
        )

    return pull_source


def _orders_asset() -> dg.AssetsDefinition:
    keys = [asset_key(table) for table in OF_ORDERS]

    @dg.multi_asset(
        name=f"source__{ORDERS.name}",
        specs=[
            dg.AssetSpec(
                asset_key(table),
                group_name=GROUP,
                description=f"{table.meaning} Pulled from the sources of the policy.",
                kinds={"duckdb"},
                metadata={"dagster/column_schema": column_schema(table)},
            )
            for table in OF_ORDERS
        ],
        check_specs=[rejected_spec(key) for key in keys],
    )
    def pull_orders_and_edits(
        context: dg.AssetExecutionContext,
        config: PullConfig,
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        warehouse.longest_hold()
        pulled = pull_orders(settings, warehouse, context.run.run_id, full=config.full)
        held = warehouse.longest_hold()
        for table, counts_of in ((ORDER_EDITS, pulled.edits), (ORDERS, pulled.orders)):
            lost = [error for error in pulled.failed.values() if isinstance(error, TooManyRejectedRows)]
            yield check_rejected(asset_key(table), next(iter(lost), None))
            yield dg.MaterializeResult(
                asset_key(table),
                metadata={**_figures(warehouse, table, counts_of), "longest_lock_seconds": held},
            )
        warn_of_unmapped(context, pulled)
        for error in pulled.failed.values():
            raise error

    return pull_orders_and_edits


def warn_of_unmapped(context: dg.AssetExecutionContext | dg.OpExecutionContext, pulled: PulledOrders) -> None:
    """Names the apps without a party in the log of the run (RULES 8.1)."""
    if pulled.unmapped:
        seen = ", ".join(f"{title or 'none'} ({count})" for title, count in pulled.unmapped.most_common(10))
        context.log.warning(f"edits by apps that edited_by_apps does not name count as other: {seen}")


def _figures(warehouse: Warehouse, table: Table, pulled: TableCounts) -> Metadata:
    """What was pulled, and what the table holds now."""
    with warehouse.transaction() as connection:
        total = fetch(connection, f"select count(*) as n from {table.qualified}")["n"].iloc[0]
        rows = fetch(connection, f"select * from {table.qualified} limit {PREVIEW_ROWS}")
        reasons = 'select reason from source.rejected_rows where "table" = $name'
        rejected = fetch(connection, reasons, {"name": table.name})
    return {
        "dagster/row_count": int(total),
        **asdict(pulled),
        "rejected_by_reason": counts(rejected["reason"]),
        "preview": preview(rows),
    }
