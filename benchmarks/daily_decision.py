"""The daily decision beside its peers, from the warehouse's file to rows in memory."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pandas as pd

from benchmarks.measuring import Contender, Figures, exponent, interleaved
from benchmarks.pipeline import MEMORY_LIMIT_GB
from benchmarks.table import Line

SUBSET = "RULES 1.1 to 1.3, 2.1, 4.1 to 4.3, 5.1 to 5.3; one currency, one workflow"
"""What the contenders decide whose outputs are compared."""

OURS = Contender("pipeline, subset of the rules", "benchmarks.pipeline:subset")
BY_IDS = Contender("DuckDB, one query joined by ids", "benchmarks.peers:query_by_ids")
BY_KEYS = Contender("DuckDB, one query joined by integer keys", "benchmarks.peers:query_by_keys")
LOOP = Contender("one query per customer (SQLite)", "benchmarks.peers:loop", "benchmarks.peers:prepare_loop")
ALL_RULES = Contender("pipeline, all rules", "benchmarks.pipeline:all_rules")
LIMITED = Contender(f"pipeline, all rules, limited to {MEMORY_LIMIT_GB:g} GB", "benchmarks.pipeline:limited")
WRITTEN = Contender(
    "daily assets, derived, checked and written", "benchmarks.pipeline:written", "benchmarks.pipeline:prepare_written"
)

LEAST_RATIO, MOST_GB, MOST_SLOWDOWN = 2.0, 2.5, 1.5
WRITTEN_SIZE, MOST_SECONDS_WRITTEN, MOST_GB_WRITTEN = 1_000_000, 3.0, 1.5
LOOP_SIZE = 100_000
"""Invoices of 10,000 customers."""

COMPARED = [
    "customer_id", "carrying_invoice_id", "action", "action_position", "trigger_on", "last_contact_on", "next_due_on",
    "outcome",
]  # fmt: skip

Measured = Mapping[Contender, Figures]


def measure(ledgers: Mapping[int, Path], warm_up: Path, runs: int) -> list[Line]:
    """Lines for each size; outputs are compared before there is a line about a ratio.

    Args:
        ledgers: by number of invoices.
        warm_up: a small ledger.
        runs: interleaved runs of each contender, of which the median counts.
    """
    measured: dict[int, Measured] = {}
    for size, ledger in sorted(ledgers.items()):
        measured[size] = interleaved(_contenders(size, max(ledgers)), ledger, warm_up, runs)
        compare(measured[size])
    lines = [line for size, figures in measured.items() for line in _lines(size, figures, size == max(ledgers))]
    return [*lines, *_growth(measured)]


def _contenders(size: int, largest: int) -> list[Contender]:
    chosen = [OURS, BY_IDS, BY_KEYS, ALL_RULES]
    if size == largest:
        chosen.append(LIMITED)
    if size == LOOP_SIZE:
        chosen.append(LOOP)
    if size == WRITTEN_SIZE:
        chosen.append(WRITTEN)
    return chosen


def compare(figures: Measured) -> None:
    """Raises AssertionError where contenders that decide the same do not."""
    expected = decided(figures[OURS].frame())
    for contender in {BY_IDS, BY_KEYS, LOOP} & figures.keys():
        pd.testing.assert_frame_equal(decided(figures[contender].frame()), expected)
    if LIMITED in figures:
        pd.testing.assert_frame_equal(*(_in_order(figures[one].frame()) for one in (LIMITED, ALL_RULES)))


def decided(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in one order and in common types."""
    dates = {name: "datetime64[s]" for name in COMPARED if name.endswith("_on")}
    texts = {"action": "str", "outcome": "str"}
    rows = rows[COMPARED].astype({**dates, **texts, "action_position": "Int64"})
    return rows.sort_values("customer_id", ignore_index=True)


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Decisions by key, texts as texts."""
    texts = {name: "str" for name, dtype in rows.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}
    return rows.astype(texts).sort_values(["customer_key", "level", "invoice_key"], ignore_index=True)


def _lines(size: int, figures: Measured, largest: bool) -> list[Line]:
    ours = figures[OURS]
    lines = [_line(size, OURS, ours, bound=f"at most {MOST_GB:g} GB" if largest else "")]
    for peer in (BY_IDS, BY_KEYS, LOOP):
        if peer in figures:
            bound = f"at least {LEAST_RATIO:g} times ours" if largest and peer is BY_IDS else ""
            lines.append(_line(size, peer, figures[peer], _times(figures[peer], ours), bound))
    lines.append(_line(size, ALL_RULES, figures[ALL_RULES], _times(figures[ALL_RULES], ours)))
    if LIMITED in figures:
        slowdown = f"{_times(figures[LIMITED], figures[ALL_RULES])} all"
        bound = f"at most {MEMORY_LIMIT_GB:g} GB and {MOST_SLOWDOWN:g} times all rules"
        lines.append(_line(size, LIMITED, figures[LIMITED], slowdown, bound))
    if WRITTEN in figures:
        bound = f"at most {MOST_SECONDS_WRITTEN:g} s and {MOST_GB_WRITTEN:g} GB"
        lines.append(_line(size, WRITTEN, figures[WRITTEN], bound=bound))
    return lines


def _line(size: int, contender: Contender, figures: Figures, ratio: str = "", bound: str = "") -> Line:
    return Line(f"{size:,}", contender.label, figures.seconds, figures.peak_gb, ratio, bound)


def _times(figures: Figures, ours: Figures) -> str:
    return f"{figures.seconds / ours.seconds:.2f} x"


def _growth(measured: Mapping[int, Measured]) -> list[Line]:
    """Between each two sizes the power by which our cost grew."""
    return [
        Line(
            f"{small:,} to {large:,}",
            f"{contender.label}: exponent of growth",
            ratio=f"{_exponent(measured, contender, small, large):.2f}",
            bound="about 1",
        )
        for contender in (OURS, ALL_RULES)
        for small, large in pairwise(sorted(measured))
    ]


def _exponent(measured: Mapping[int, Measured], contender: Contender, small: int, large: int) -> float:
    return exponent(measured[small][contender].seconds, measured[large][contender].seconds, large / small)
