"""A backfill of a year in one Dagster run, beside the same run over assets that do nothing.

What Dagster takes for its own events, one per partition and asset, is measured in the same session and taken off; the
rest is the pipeline's: deriving, checking and writing each day's rows, and each day's figures.
"""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from benchmarks.ledger import AS_OF
from benchmarks.measuring import Contender, Figures, interleaved
from benchmarks.policy import policy
from benchmarks.table import Line
from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derived_asset
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.partitions import daily_partitions
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings

SIZE, DAYS = 100_000, 365
MOST_SECONDS_ABOVE = 20.0

OURS = Contender(f"{DAYS} days in one run", "benchmarks.backfill:derive", "benchmarks.backfill:prepare")
EMPTY = Contender("Dagster's own: assets that do nothing", "benchmarks.backfill:do_nothing")


def measure(ledger: Path, runs: int) -> list[Line]:
    """Our run, Dagster's own, and what lies between them."""
    figures = interleaved([OURS, EMPTY], ledger, None, runs)
    lines = [_line(contender, figures[contender]) for contender in (OURS, EMPTY)]
    above = Line(
        f"{SIZE:,}",
        "ours above Dagster's own",
        figures[OURS].seconds - figures[EMPTY].seconds,
        cpu_seconds=figures[OURS].cpu_seconds - figures[EMPTY].cpu_seconds,
        bound=f"at most {MOST_SECONDS_ABOVE:g} s",
    )
    return [*lines, above]


def _line(contender: Contender, figures: Figures) -> Line:
    return Line(f"{SIZE:,}", contender.label, figures.seconds, figures.peak_gb, cpu_seconds=figures.cpu_seconds)


def prepare(ledger: Path) -> None:
    """A copy to write into."""
    (ledger.parent / "backfilled").mkdir(exist_ok=True)
    shutil.copyfile(ledger, _home(ledger) / ledger.name)


def derive(ledger: Path) -> None:
    """Every derived table for each day of the year, as a backfill launched in Dagster's UI derives it."""
    partitions = daily_partitions(policy())
    assets = [derived_asset(derivation, partitions) for derivation in DERIVATIONS]
    settings = Settings(policy(), _home(ledger) / "dunning.yaml", _home(ledger), _noon, {})
    _run(assets, {"settings": settings, "warehouse": Warehouse(settings.warehouse_path)})


def do_nothing(_: Path) -> None:
    """As many events of assets by the same names."""
    partitions, keys = daily_partitions(policy()), [asset_key(derivation.tables[0]) for derivation in DERIVATIONS]
    _run([_empty(key, deps, partitions) for key, deps in zip(keys, [[], keys[:1], keys[:2]], strict=True)], {})


def _empty(key: dg.AssetKey, deps: Sequence[dg.AssetKey], partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(key=key, deps=deps, partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
    def nothing() -> None: ...

    return nothing


def _run(assets: Sequence[dg.AssetsDefinition], resources: dict[str, object]) -> None:
    """One run of the year's partitions of all assets, on an instance in files as users have it."""
    days = {"start": AS_OF - timedelta(days=DAYS - 1), "end": AS_OF}
    tags = {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in days.items()}
    job = dg.define_asset_job("backfill", selection=[*assets])
    definitions = dg.Definitions(assets=assets, jobs=[job], resources=resources, executor=dg.in_process_executor)
    with TemporaryDirectory(prefix="benchmark-") as folder, dg.DagsterInstance.local_temp(folder) as instance:
        result = definitions.resolve_job_def("backfill").execute_in_process(instance=instance, tags=tags)
        made = [event for event in result.all_events if event.is_step_materialization]
        if len(made) != DAYS * len(assets):
            raise RuntimeError(f"the run made {len(made)} events instead of {DAYS} for each of {len(assets)} assets")


def _home(ledger: Path) -> Path:
    return ledger.parent / "backfilled"


def _noon() -> datetime:
    return datetime.combine(AS_OF, time(12), UTC)
