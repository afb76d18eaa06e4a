"""The pipeline's side: the daily decision from the warehouse's file, by the functions that the assets use."""

import shutil
from pathlib import Path

import pandas as pd

from benchmarks.ledger import AS_OF
from benchmarks.policy import policy
from benchmarks.subset import decide_subset
from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.day import decide_days
from dunning_pipeline.partitions import Days
from dunning_pipeline.resources.warehouse import Warehouse

MEMORY_LIMIT_GB = 2.0
DAYS = Days(AS_OF, AS_OF)


def subset(ledger: Path) -> pd.DataFrame:
    """The named subset of the rules, to rows in memory."""
    return decide_subset(Warehouse(ledger), policy(), AS_OF)


def all_rules(ledger: Path) -> pd.DataFrame:
    """All rules, to rows in memory."""
    return decide_days(Warehouse(ledger), policy(), DAYS)


def limited(ledger: Path) -> pd.DataFrame:
    """All rules under a memory limit."""
    return decide_days(Warehouse(ledger, memory_limit=int(MEMORY_LIMIT_GB * 1024**3)), policy(), DAYS)


def prepare_written(ledger: Path) -> None:
    """A copy of the ledger to write into."""
    if not _copy(ledger).exists():
        shutil.copyfile(ledger, _copy(ledger))


def written(ledger: Path) -> None:
    """All rules, from tables to checked and written tables, as the daily job does it asset by asset."""
    warehouse = Warehouse(_copy(ledger))
    for derivation in DERIVATIONS:
        derive_and_replace(derivation, warehouse, policy(), DAYS, run_id="benchmark")


def _copy(ledger: Path) -> Path:
    return ledger.with_name("written.duckdb")
