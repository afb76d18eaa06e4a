"""`make bench`: prints each figure beside its bound. Options: `python -m benchmarks --help`."""

import argparse
import platform
import tempfile
from pathlib import Path

from benchmarks.daily_decision import in_own_process
from benchmarks.ledger import write_ledger

MOST_SECONDS = 3.0
MOST_GB = 1.5


def main() -> None:
    """Generates the ledger, measures, prints."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--invoices", type=int, default=1_000_000, help="size of the ledger (1,000,000)")
    options.add_argument("--runs", type=int, default=5, help="interleaved runs, of which the median counts (5)")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warehouse.duckdb"
        write_ledger(path, chosen.invoices)
        figures = in_own_process(path, chosen.runs)
    print(f"Python {platform.python_version()} on {platform.machine()}, {chosen.invoices:,} invoices")
    print(
        f"  decisions of a day, from tables to written rows   {figures['decision']:6.2f} s   (at most {MOST_SECONDS:g})"
    )
    print(f"  the carrying invoice alone, in plain DuckDB SQL   {figures['sql_carrying_only']:6.2f} s")
    print(f"  peak memory of the process                        {figures['peak_gb']:6.2f} GB  (at most {MOST_GB:g})")
    print(f"Medians of {chosen.runs} interleaved runs after a warm-up, imports not counted; the carrying invoices of")
    print("both were compared first.")


if __name__ == "__main__":
    main()
