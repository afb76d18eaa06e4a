"""`make bench`: measures against peers in the same run and prints each figure beside its bound."""

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from benchmarks import backfill, daily_decision, edited_orders, orders, pulling, replays, sending, shops
from benchmarks.ledger import AS_OF, write_ledger
from benchmarks.table import ORDER_HEADINGS, SENDING_HEADINGS, Line, table

QUICK, FULL = (100_000, 1_000_000), (100_000, 1_000_000, 10_000_000)
WARM_UP = 5_000
PARTS = ("daily", "replays", "pulling", "sending")


def main() -> None:
    """Generates the ledgers, measures, prints."""
    chosen = _options().parse_args()
    if chosen.part == "shopify":
        _print_shops(shops.measure(chosen.orders))
        return
    if chosen.part == "orders":
        # Ended like this it would leave dagster dev behind, which is a session of its own.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
        _print_orders(edited_orders.measure(chosen.orders, chosen.runs), chosen.runs)
        _print_edits(orders.measure(chosen.edits, max(chosen.invoices or [0]), chosen.seed))
        return
    sizes = chosen.invoices or (FULL if chosen.full else QUICK)
    parts = [chosen.part] if chosen.part else PARTS
    if "backfill" in parts:
        _print_backfill(chosen.folder, chosen.runs)
        return
    lines: list[Line] = []
    replayed: list[Line] = []
    pulled: list[Line] = []
    sent: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        if {"daily", "replays"} & {*parts}:
            every = generated(chosen.folder or Path(temporary), {WARM_UP, *sizes})
            ledgers, warm_up = {size: every[size] for size in sizes}, every[WARM_UP]
            lines = daily_decision.measure(ledgers, warm_up, chosen.runs) if "daily" in parts else []
            replayed = replays.measure(ledgers, warm_up, chosen.runs) if "replays" in parts else []
        if "pulling" in parts:
            pulled = pulling.measure(sizes, WARM_UP, Path(temporary), chosen.runs)
    if "sending" in parts:
        sent = sending.measure(chosen.reminders, minutes=chosen.minutes)
    print(_machine())
    if lines:
        _print_daily(lines, chosen.runs)
    if replayed:
        _print_replays(replayed, chosen.runs)
    if pulled:
        _print_pulling(pulled, chosen.runs)
    if sent:
        _print_sending(sent)


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


def _print_backfill(folder: Path | None, runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        lines = backfill.measure(generated(folder or Path(temporary), {backfill.SIZE})[backfill.SIZE], runs)
    print(_machine())
    print(
        f"A backfill of the {backfill.DAYS} days up to {AS_OF} in one Dagster run. Medians of {runs} interleaved runs,"
    )
    print("each in a process and with a Dagster instance of its own.")
    print(table(lines))


def _print_shops(lines: Sequence[Line]) -> None:
    print(_machine())
    print(f"A first pull from the sandbox's shop at {shops.RATE:,.0f} points a second, over HTTP on this machine.")
    print(table(lines))


def _print_orders(lines: Sequence[Line], runs: int) -> None:
    print(_machine())
    print("A tick over edited orders with live series, from the DuckDB file to what is kept of it. Medians of")
    print(f"{runs} interleaved runs, each in a process of its own after a small warm-up.")
    print(table(lines, ORDER_HEADINGS))


def _print_edits(lines: Sequence[Line]) -> None:
    print("\nFrom edits at random moments in the sandbox's shop to their events in the sandbox's Klaviyo account, with")
    print("dagster dev and the order sensor running.")
    print(table(lines, ORDER_HEADINGS))


def _print_pulling(lines: Sequence[Line], runs: int) -> None:
    print(f"Invoices pulled from PostgreSQL, medians of {runs} interleaved runs as above. CPU seconds are those of the")
    print("process that pulls, without the server's. Rows and sums of money were compared first.")
    print(table(lines))


def _print_sending(lines: Sequence[Line]) -> None:
    print("Sending: single runs, each in a process of its own, the sandbox in another. CPU seconds are those of the")
    print("process; the figure of a line is per reminder, per second, or a share of the limit.")
    print(table(lines, SENDING_HEADINGS))


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--invoices", type=int, nargs="+", help=f"sizes of ledgers {QUICK}; of orders: beside (0)")
    options.add_argument(
        "--part",
        choices=[*PARTS, "backfill", "shopify", "orders"],
        help="only this; backfill (a year in one run), shopify (a first pull of a shop) and orders (reminding of edits)"
        " are measured only so",
    )
    options.add_argument("--orders", type=int, default=shops.ORDERS, help=f"orders, of the shop ({shops.ORDERS:,})")
    options.add_argument("--edits", type=int, default=orders.EDITS, help=f"with dagster dev running ({orders.EDITS})")
    options.add_argument("--seed", type=int, default=1, help="of the moments of edits (1)")
    options.add_argument("--reminders", type=int, default=sending.SIZE, help=f"frozen at once ({sending.SIZE:,})")
    options.add_argument("--minutes", type=float, default=sending.MINUTES, help="of sending at Klaviyo's limits (3)")
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
