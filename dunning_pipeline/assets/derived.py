"""What the derived assets have in common: a function of stored inputs and days, whose tables replace those days."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import dagster as dg
import pandas as pd
from dagster import ResourceParam

from dunning_pipeline.assets.metadata import PREVIEW_ROWS, Metadata, column_schema, preview
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

    `derive` reads what it needs from the warehouse in short transactions and returns the rows of all `tables`, by key,
    for all days of the window. It decides nothing itself: that is the rules' part. `describe` and `check` look at what
    was written.
    """

    tables: tuple[Table, ...]
    deps: tuple[Table, ...]
    derive: Callable[[Warehouse, Policy, Days], Frames]
    describe: Callable[[Warehouse, Days], Metadata] = lambda *_: {}
    checks: tuple[dg.AssetCheckSpec, ...] = ()
    check: Callable[[Warehouse, Settings, Days], list[dg.AssetCheckResult]] = lambda *_: []


def derived_asset(derivation: Derivation, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """The asset of a derivation: derive, check, replace the window, describe."""
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
        derive_and_replace(derivation, warehouse, settings.policy, days, context.run.run_id)
        held = warehouse.longest_hold()
        rows_of_day = _rows_of_days(warehouse, main, days)
        _add_figures_per_day(context, asset_key(main), rows_of_day, days)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": int(rows_of_day.sum()),
                "preview": preview(_first_rows(warehouse, main, days)),
                **derivation.describe(warehouse, days),
                "longest_lock_seconds": held,
            },
            check_results=derivation.check(warehouse, settings, days),
        )

    return derive


ROWS_AT_A_TIME = 10_000_000
"""Invoices times days derived in one go, so that a long backfill needs no more memory and holds the lock no longer."""


def derive_and_replace(derivation: Derivation, warehouse: Warehouse, policy: Policy, days: Days, run_id: str) -> None:
    """Derives the days, checks every row, and replaces the days in all tables, some days at a time, these at once.

    Raises:
        InvalidRows: a derived row breaks the declaration of its table; nothing of its days is written.
    """
    invoices = int(warehouse.fetch("select count(*) as n from source.invoices")["n"].iloc[0])
    for some in days.chunks(max(1, ROWS_AT_A_TIME // max(1, invoices))):
        frames = derivation.derive(warehouse, policy, some)
        rows = {
            table: declared_rows(table.keyed, frames[table.name].assign(run_id=run_id)) for table in derivation.tables
        }
        with warehouse.transaction() as connection:
            for table in derivation.tables:
                replace_days(connection, table, rows[table], some.first, some.last)


def counted(warehouse: Warehouse, table: Table, column: str, days: Days) -> dict[str, int]:
    """How often each value of a column (an SQL expression) occurs on the days, the most frequent first."""
    query = f"""
        select {column} as value, count(*) as n from {table.qualified}
        where as_of between $first and $last group by value order by n desc, value
    """
    rows = warehouse.fetch(query, {"first": days.first, "last": days.last})
    return dict(zip(rows["value"], rows["n"].astype(int), strict=True))


def _first_rows(warehouse: Warehouse, table: Table, days: Days) -> pd.DataFrame:
    query = f"select * from {table.qualified} where as_of between $first and $last limit {PREVIEW_ROWS}"
    return warehouse.fetch(query, {"first": days.first, "last": days.last})


def _rows_of_days(warehouse: Warehouse, table: Table, days: Days) -> "pd.Series[int]":
    query = f"select as_of, count(*) as n from {table.qualified} where as_of between $first and $last group by as_of"
    return warehouse.fetch(query, {"first": days.first, "last": days.last}).set_index("as_of")["n"]


def _add_figures_per_day(
    context: dg.AssetExecutionContext, key: dg.AssetKey, rows_of_day: "pd.Series[int]", days: Days
) -> None:
    """A run over many days has one result; each day's own row count is added to its partition."""
    if len(days) == 1:
        return
    for day in days:
        rows = int(rows_of_day.get(pd.Timestamp(day), 0))
        context.add_asset_metadata({"rows_of_day": rows}, asset_key=key, partition_key=day.isoformat())
