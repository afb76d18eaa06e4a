"""What the derived assets have in common: a function of stored inputs and days, whose tables replace those days."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import dagster as dg
import pandas as pd
from dagster import ResourceParam

from dunning_pipeline.assets.metadata import Metadata, column_schema, preview
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse, declared_rows, replace_days
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import Table

GROUP = "dunning"

Frames = Mapping[str, pd.DataFrame]
"""Rows of each table of a derivation, by the table's name."""


@dataclass(frozen=True)
class Derivation:
    """How `dunning/<tables[0].name>` is derived: from which assets, by which function, into which tables.

    `derive` reads what it needs from the warehouse in short transactions and returns the rows of all `tables` for
    all days of the window. It decides nothing itself: that is the rules' part.
    """

    tables: tuple[Table, ...]
    deps: tuple[Table, ...]
    derive: Callable[[Warehouse, Policy, Days], Frames]
    describe: Callable[[pd.DataFrame], Metadata] = lambda _: {}
    checks: tuple[dg.AssetCheckSpec, ...] = ()
    check: Callable[[Frames], list[dg.AssetCheckResult]] = lambda _: []


def derived_asset(derivation: Derivation, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """The asset of a derivation: derive, check, replace the window at once, describe."""
    main = derivation.tables[0]

    @dg.asset(
        key=asset_key(main),
        group_name=GROUP,
        description=main.meaning,
        kinds={"duckdb", "pandas"},
        deps=[asset_key(table) for table in derivation.deps],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=derivation.checks,
        metadata={"dagster/column_schema": column_schema(main)},
    )
    def derive(
        context: dg.AssetExecutionContext,
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        days = Days.of(context)
        warehouse.longest_hold()
        frames = derive_and_replace(derivation, warehouse, settings.policy, days, context.run.run_id)
        frame = frames[main.name]
        _add_figures_per_day(context, asset_key(main), frame, days)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": len(frame),
                "preview": preview(frame),
                **derivation.describe(frame),
                "longest_lock_seconds": warehouse.longest_hold(),
            },
            check_results=derivation.check(frames),
        )

    return derive


def derive_and_replace(derivation: Derivation, warehouse: Warehouse, policy: Policy, days: Days, run_id: str) -> Frames:
    """Derives the window, checks every row, and replaces the window in all tables in one transaction.

    Raises:
        InvalidRows: a derived row breaks the declaration of its table; nothing is written.
    """
    frames = derivation.derive(warehouse, policy, days)
    rows = {table: declared_rows(table, frames[table.name].assign(run_id=run_id)) for table in derivation.tables}
    with warehouse.transaction() as connection:
        for table in derivation.tables:
            replace_days(connection, table, rows[table], days.first, days.last)
    return frames


def _add_figures_per_day(context: dg.AssetExecutionContext, key: dg.AssetKey, frame: pd.DataFrame, days: Days) -> None:
    """A run over many days has one result; each day's own row count is added to its partition."""
    if len(days) == 1:
        return
    rows_of_day = frame["as_of"].dt.date.value_counts()
    for day in days:
        context.add_asset_metadata(
            {"rows_of_day": int(rows_of_day.get(day, 0))}, asset_key=key, partition_key=day.isoformat()
        )
