"""`source/<table>`: one asset per source table, pulled from every source of the policy that feeds it."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
from dagster import ResourceParam

from dunning_pipeline.assets.metadata import PREVIEW_ROWS, column_schema, counts, preview
from dunning_pipeline.checks import INVOICES_KNOWN, check_doubts, doubt_spec
from dunning_pipeline.doubts import about_invoices
from dunning_pipeline.policy import Mapping as TableMapping
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.loading import CHECKED_AGAINST_INVOICES, Loader
from dunning_pipeline.resources.readers import pulled_sources, reader_of
from dunning_pipeline.resources.staging import Staged, stage
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import INVOICES, SOURCE_TABLES, Table

GROUP = "source"
STALE_SECONDS = 24 * 60 * 60


def build_source_assets(policy: Policy | None) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """An asset for each source table that the policy feeds; the others are drawn, but nothing pulls them."""
    fed = {name for source in pulled_sources(policy).values() for name in source.tables} if policy else set()
    return [_pulled_asset(table) if table.name in fed else _unfed(table) for table in SOURCE_TABLES]


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


def _pulled_asset(table: Table) -> dg.AssetsDefinition:
    names_invoices = table in CHECKED_AGAINST_INVOICES

    @dg.asset(
        key=asset_key(table),
        group_name=GROUP,
        description=f"{table.meaning} Pulled from the sources of the policy.",
        kinds={"duckdb"},
        deps=[asset_key(INVOICES)] if names_invoices else [],
        check_specs=[doubt_spec(asset_key(table), INVOICES_KNOWN)] if names_invoices else [],
        metadata={"dagster/column_schema": column_schema(table)},
    )
    def pull(
        context: dg.AssetExecutionContext,
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        with staging_folder(settings.home, context.run.run_id, table) as folder:
            staged = pull_table(settings, table, folder)
            warehouse.longest_hold()
            loader = Loader(warehouse, table, context.run.run_id, settings.clock(), list(settings.policy.sources))
            loaded = loader.load(staged, settings.policy.quality.max_rejected)
        with warehouse.transaction() as connection:
            total = fetch(connection, f"select count(*) as n from {table.qualified}")["n"].iloc[0]
            rows = fetch(connection, f"select * from {table.qualified} limit {PREVIEW_ROWS}")
            reasons = 'select reason from source.rejected_rows where "table" = $name'
            rejected = fetch(connection, reasons, {"name": table.name})
        unknown = about_invoices(warehouse.fetch, table) if names_invoices else []
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": int(total),
                "pulled": sum(part.pulled for part in staged),
                "written": loaded.written,
                "duplicates": sum(part.duplicates for part in staged),
                "rounded": sum(part.rounded for part in staged),
                "rejected": loaded.rejected,
                "rejected_by_reason": counts(rejected["reason"]),
                **({"of_unknown_invoices": sum(doubt.count for doubt in unknown)} if names_invoices else {}),
                "preview": preview(rows),
                "longest_lock_seconds": warehouse.longest_hold(),
            },
            check_results=[check_doubts(asset_key(table), INVOICES_KNOWN, unknown)] if names_invoices else [],
        )

    return pull


def pull_table(settings: Settings, table: Table, folder: Path) -> Sequence[Staged]:
    """Reads `table` from every source that feeds it into typed files under `folder`.

    Raises:
        SourceError: a source cannot be read as the policy says. Nothing has been written to the warehouse.
    """
    staged = []
    for name, source in pulled_sources(settings.policy).items():
        tables: dict[str, TableMapping] = {str(fed): mapping for fed, mapping in source.tables.items()}
        if table.name in tables:
            raw = folder / f"{name}.parquet"
            unreadable = reader_of(name, source, settings).read(tables[table.name], raw)
            time_zone = source.time_zone or settings.policy.organisation.time_zone
            staged.append(stage(name, table, tables[table.name], raw, unreadable, time_zone))
    return staged


@contextmanager
def staging_folder(home: Path, run_id: str, table: Table) -> Iterator[Path]:
    """An empty folder for one step, gone at its end; so is, after a day, what killed runs left behind."""
    staging = home / "staging"
    for stale in staging.glob("*"):
        if stale.stat().st_mtime < time.time() - STALE_SECONDS:
            shutil.rmtree(stale, ignore_errors=True)
    folder = staging / run_id / table.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
