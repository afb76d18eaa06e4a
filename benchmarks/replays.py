"""Replays of a policy beside deciding day after day in DuckDB SQL, from the warehouse's file to written reminders.

The peer runs the query of the daily decision for each day and adds what is due to the history that the next day reads.
Outputs of the same named subset of the rules are compared before a ratio is printed.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pandas as pd

from benchmarks import sql
from benchmarks.ledger import AS_OF
from benchmarks.measuring import Contender, Figures, interleaved
from benchmarks.peers import query_parameters, register_lookups
from benchmarks.policy import policy
from benchmarks.table import Line
from dunning_pipeline.partitions import Days
from dunning_pipeline.replay import read_records, run_replay, write_replay
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.calendar_queue import replay
from dunning_pipeline.rules.receivables import NO_KEY

YEAR, SOME = 365, 20
MEASURED_IN_FULL = 100_000
"""Up to so many invoices the peer decides every day of the year; beyond that SOME days, which are extrapolated."""

LARGEST, LEAST_RATIO = 1_000_000, 30.0

ALL_RULES = Contender(f"replay of {YEAR} days, all rules", "benchmarks.replays:all_rules", "benchmarks.replays:copy")
SUBSET = Contender(f"replay of {YEAR} days, subset", "benchmarks.replays:subset", "benchmarks.replays:copy")
SUBSET_OF_SOME = Contender(f"replay of {SOME} days, subset", "benchmarks.replays:some", "benchmarks.replays:copy")
BY_SQL = Contender(f"DuckDB, {YEAR} days one by one", "benchmarks.replays:by_sql", "benchmarks.replays:copy")
SOME_BY_SQL = Contender(f"DuckDB, {SOME} days one by one", "benchmarks.replays:some_by_sql", "benchmarks.replays:copy")


def measure(ledgers: Mapping[int, Path], warm_up: Path, runs: int) -> list[Line]:
    """Lines for each size; `ledgers` by number of invoices."""
    fitting = [(size, ledger) for size, ledger in sorted(ledgers.items()) if size <= LARGEST]
    return [line for size, ledger in fitting for line in _lines(size, ledger, warm_up, runs)]


def _lines(size: int, ledger: Path, warm_up: Path, runs: int) -> list[Line]:
    in_full = size <= MEASURED_IN_FULL
    ours, peer = (SUBSET, BY_SQL) if in_full else (SUBSET_OF_SOME, SOME_BY_SQL)
    figures = interleaved([*dict.fromkeys([ALL_RULES, SUBSET, ours, peer])], ledger, warm_up, runs)
    pd.testing.assert_frame_equal(_in_order(figures[ours].frame()), _in_order(figures[peer].frame()))
    seconds = figures[peer].seconds * (1 if in_full else YEAR / SOME)
    how = peer.label if in_full else f"{peer.label}, extrapolated to {YEAR}"
    ratio = f"{seconds / figures[SUBSET].seconds:.0f} x"
    bound = f"at least {LEAST_RATIO:g} times ours" if size == LARGEST else ""
    return [
        _line(size, SUBSET, figures[SUBSET]),
        Line(f"{size:,}", how, seconds, figures[peer].peak_gb, ratio, bound),
        _line(size, ALL_RULES, figures[ALL_RULES]),
    ]


def _line(size: int, contender: Contender, figures: Figures) -> Line:
    return Line(f"{size:,}", contender.label, figures.seconds, figures.peak_gb)


def _in_order(reminders: pd.DataFrame) -> pd.DataFrame:
    return reminders.sort_values(["remind_on", "customer_id"], ignore_index=True).astype({"remind_on": "datetime64[s]"})


def copy(ledger: Path) -> None:
    """A copy to write into."""
    shutil.copyfile(ledger, _copy(ledger))


def _copy(ledger: Path) -> Path:
    return ledger.with_name("replayed.duckdb")


def all_rules(ledger: Path) -> None:
    """The replay as the command makes it."""
    run_replay(Warehouse(_copy(ledger)), policy(), _last(YEAR), [*policy().sources], system_clock())


def subset(ledger: Path) -> pd.DataFrame:
    """The replay without pauses, promises, assignments and unapplied payments, which the peer does not know."""
    return _subset(ledger, _last(YEAR))


def some(ledger: Path) -> pd.DataFrame:
    """`subset` of the days that the peer decides of a large ledger."""
    return _subset(ledger, _last(SOME))


def _subset(ledger: Path, days: Days) -> pd.DataFrame:
    warehouse = Warehouse(_copy(ledger))
    records = read_records(warehouse, policy(), days, [*policy().sources])
    left_out = {name: getattr(records, name).iloc[:0] for name in ("pauses", "promises", "assignments")}
    applied = records.payments[records.payments["invoice_key"] != NO_KEY]
    replayed = replay(replace(records, payments=applied, **left_out), policy(), days.first, days.last)
    write_replay(warehouse, "subset", replayed, policy(), days, system_clock())
    columns = "remind_on, customer_id, carrying_invoice_id, action"
    return warehouse.fetch(f"select {columns} from dunning.replay_reminders where replay_id = 'subset'")


def by_sql(ledger: Path) -> pd.DataFrame:
    """Every day of the year decided by the query of the daily decision."""
    return _by_sql(ledger, _last(YEAR))


def some_by_sql(ledger: Path) -> pd.DataFrame:
    """`by_sql` of some days."""
    return _by_sql(ledger, _last(SOME))


def _by_sql(ledger: Path, days: Days) -> pd.DataFrame:
    query = sql.load("daily_decision").format(invoice="invoice_key", customer="customer_key")
    with duckdb.connect(_copy(ledger)) as connection:
        register_lookups(connection)
        connection.execute("delete from dunning.sent_history where contact_on >= ?", [days.first])
        for day in days:
            connection.execute(sql.load("replayed_day").format(query=query), query_parameters(day))
        sent = "select contact_on as remind_on, customer_id, carrying_invoice_id, action from dunning.sent_history"
        rows = connection.sql(f"{sent} where contact_on >= ?", params=[days.first]).to_arrow_table()
        return rows.to_pandas(date_as_object=False)


def _last(days: int) -> Days:
    return Days(AS_OF - timedelta(days=days - 1), AS_OF)
