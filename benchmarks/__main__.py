"""`make bench`: measures against peers in the same run and prints each figure beside its bound."""

import argparse
import os
import platform
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from benchmarks import daily_decision, replays
from benchmarks.ledger import AS_OF, write_ledger
from benchmarks.table import Line, table

QUICK, FULL = (100_000, 1_000_000), (100_000, 1_000_000, 10_000_000)
WARM_UP = 5_000


def main() -> None:
    """Generates the ledgers, measures, prints."""
    chosen = _options().parse_args()
    sizes = chosen.invoices or (FULL if chosen.full else QUICK)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        every = generated(chosen.folder or Path(temporary), {WARM_UP, *sizes})
        ledgers, warm_up = {size: every[size] for size in sizes}, every[WARM_UP]
        lines = daily_decision.measure(ledgers, warm_up, chosen.runs) if chosen.part != "replays" else []
        replayed = replays.measure(ledgers, warm_up, chosen.runs) if chosen.part != "daily" else []
    print(_machine())
    if lines:
        _print_daily(lines, chosen.runs)
    if replayed:
        _print_replays(replayed, chosen.runs)


def _print_daily(lines: Sequence[Line], runs: int) -> None:
    print(f"Daily decision of {AS_OF}, from the DuckDB file to rows in memory. Medians of {runs} interleaved runs,")
    print("each in a process of its own after a small warm-up; the peak is the highest of the process. Outputs of the")
    print(f"subset ({daily_decision.SUBSET}) were compared first.")
    print(table(lines))


def _print_replays(lines: Sequence[Line], runs: int) -> None:
    print(
        f"Replays of {replays.YEAR} days up to {AS_OF}, from the DuckDB file to written reminders. Medians as above of"
    )
    print(
        f"{runs} runs. The peer decides day after day, and each day's reminders are contacts of the next; the reminders"
    )
    print(f"of the same subset were compared first ({replays.SOME} days of them where that is said).")
    print(table(lines))


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--invoices", type=int, nargs="+", help=f"sizes of ledgers {QUICK}")
    options.add_argument("--part", choices=["daily", "replays"], help="only the daily decision, or only replays")
    options.add_argument("--full", action="store_true", help=f"the sizes {FULL}: about a quarter of an hour")
    options.add_argument("--runs", type=int, default=5, help="interleaved runs, of which the median counts (5)")
    options.add_argument("--folder", type=Path, help="where ledgers are kept for another time; else they are removed")
    return options


def generated(folder: Path, sizes: Collection[int]) -> dict[int, Path]:
    """The ledger of each size; one that the folder has already is taken as it is."""
    paths = {size: folder / f"{size}" / "warehouse.duckdb" for size in sorted(sizes)}
    for size, path in paths.items():
        if not path.exists():
            partial = path.with_name("partial.duckdb")
            partial.unlink(missing_ok=True)
            write_ledger(partial, size)
            partial.rename(path)
    return paths


def _machine() -> str:
    """Processor, memory and versions."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{_processor()}, {os.cpu_count()} CPUs, {gigabytes:.0f} GB; {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, "
        f"pandas {pd.__version__}, numpy {np.__version__}"
    )


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor() or "processor unknown")


if __name__ == "__main__":
    main()
