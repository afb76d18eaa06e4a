"""Pulling invoices from PostgreSQL beside what else reads one into DuckDB, and pulling only those that changed.

Made in a database of its own on the server of DUNNING_TEST_POSTGRES_URL. Seconds say little on a machine that is shared
or has the server beside it: processor time is what this process and its children took, the server's not included.
"""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import sqlalchemy as sa
from adbc_driver_postgresql import dbapi
from pydantic import SecretStr

from benchmarks import sql
from benchmarks.measuring import Contender, Figures, interleaved
from benchmarks.table import Line
from dunning_pipeline.policy import TableQuery, parse_policy
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.postgres_arrow import DRIVER
from dunning_pipeline.resources.sql_source import SqlSourceReader
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, stage
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import INVOICES

SERVER = "DUNNING_TEST_POSTGRES_URL"
CHANGED = 10_000
LARGEST_COMPARED = 1_000_000
"""Beyond so many invoices only what must not take more memory for more rows is measured."""

LEAST_RATIO, MOST_OF_BARE, MOST_SECONDS_CHANGED, MOST_GB_STREAMED = 3.0, 1.3, 2.0, 1.0

ARROW = Contender("read by ADBC into staging", "benchmarks.pulling:by_arrow")
PLAIN = Contender("read by SQLAlchemy into staging", "benchmarks.pulling:by_rows")
BARE = Contender("ADBC to Arrow to DuckDB, bare", "benchmarks.pulling:bare")
PANDAS = Contender("pandas.read_sql to DuckDB", "benchmarks.pulling:by_pandas")
STREAMED = Contender("read by ADBC, typed, checked, deduplicated", "benchmarks.pulling:streamed")
WHOLE = Contender("pulled into the warehouse, all", "benchmarks.pulling:whole", "benchmarks.pulling:prepare_whole")
WHOLE_BY_ROWS = Contender(
    "pulled by SQLAlchemy into the warehouse, all",
    "benchmarks.pulling:whole_by_rows",
    "benchmarks.pulling:prepare_whole",
)
CHANGES = Contender(
    f"pulled into the warehouse, {CHANGED:,} changed",
    "benchmarks.pulling:changes",
    "benchmarks.pulling:prepare_changes",
)

POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
sources:
  billing:
    kind: sql
    url: "${BILLING}"
    tables: {invoices: {table: invoices, watermark: updated_at}, payments: payments}
"""


def measure(sizes: Sequence[int], warm_up: int, folder: Path, runs: int) -> list[Line]:
    """Lines for each number of invoices; none, with a word why, where there is no server to measure on."""
    if SERVER not in os.environ:
        print(f"{SERVER} is not set: pulling is not measured")
        return []
    with databases(os.environ[SERVER], folder, [warm_up, *sizes]) as paths:
        measured = {size: interleaved(_contenders(size), paths[size], paths[warm_up], runs) for size in sorted(sizes)}
    return [line for size, figures in measured.items() for line in _lines(size, figures)]


def _contenders(size: int) -> list[Contender]:
    everything = [ARROW, PLAIN, BARE, PANDAS, STREAMED, WHOLE, WHOLE_BY_ROWS, CHANGES]
    return everything if size <= LARGEST_COMPARED else [STREAMED, WHOLE]


@contextmanager
def databases(address: str, folder: Path, sizes: Sequence[int]) -> Iterator[Mapping[int, Path]]:
    """For each size a file with the address of a database on a server that holds so many invoices; gone afterwards."""
    server = sa.make_url(address)
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    names = {size: f"dunning_bench_{uuid.uuid4().hex[:8]}" for size in dict.fromkeys(sizes)}
    paths = {}
    try:
        for size, name in names.items():
            with engine.connect() as connection:
                connection.execute(sa.text(f"create database {name}"))
            paths[size] = folder / "pulling" / f"{size}" / "address"
            paths[size].parent.mkdir(parents=True, exist_ok=True)
            paths[size].write_text(server.set(database=name).render_as_string(hide_password=False))
            with sa.create_engine(_address(paths[size]), poolclass=sa.NullPool).begin() as connection:
                connection.execute(sa.text(sql.load("billed_invoices")), {"invoices": size})
                connection.execute(sa.text("create index on invoices (updated_at)"))
        yield paths
    finally:
        for name in names.values():
            with engine.connect() as connection:
                connection.execute(sa.text(f"drop database if exists {name} with (force)"))


def _address(path: Path) -> str:
    return path.read_text()


def _lines(size: int, figures: Mapping[Contender, Figures]) -> Iterator[Line]:
    _compare(size, figures)
    if ARROW not in figures:
        yield from _bounded_lines(size, figures)
        return
    cpu = {contender: found.cpu_seconds for contender, found in figures.items()}
    yield _line(size, ARROW, figures)
    yield _line(size, PLAIN, figures, f"{cpu[PLAIN] / cpu[ARROW]:.1f} x", f"at least {LEAST_RATIO:g} times ADBC's CPU")
    yield _line(size, BARE, figures, f"{cpu[ARROW] / cpu[BARE]:.2f}", f"ADBC's CPU at most {MOST_OF_BARE:g} of it")
    yield _line(size, PANDAS, figures, f"{cpu[PANDAS] / cpu[ARROW]:.1f} x")
    yield from _bounded_lines(size, figures)
    yield _line(size, WHOLE_BY_ROWS, figures, f"{cpu[WHOLE_BY_ROWS] / cpu[WHOLE]:.1f} x")
    yield _line(size, CHANGES, figures, bound=f"at most {MOST_SECONDS_CHANGED:g} s")


def _bounded_lines(size: int, figures: Mapping[Contender, Figures]) -> Iterator[Line]:
    """What takes no more memory for more rows."""
    for contender in (STREAMED, WHOLE):
        yield _line(size, contender, figures, bound=f"at most {MOST_GB_STREAMED:g} GB")


def _line(
    size: int, contender: Contender, figures: Mapping[Contender, Figures], ratio: str = "", bound: str = ""
) -> Line:
    found = figures[contender]
    return Line(f"{size:,}", contender.label, found.seconds, found.peak_gb, ratio, bound, found.cpu_seconds)


def _compare(size: int, figures: Mapping[Contender, Figures]) -> None:
    """Raises AssertionError unless all that read everything have the same rows and the same sum of money."""
    for contender in figures.keys() - {CHANGES}:
        (row,) = figures[contender].frame().to_dict("records")
        assert row == expected(size), f"{contender.label}: {row}, not {expected(size)}"


def expected(size: int) -> dict[str, int]:
    """How many rows there are, and the sum of their money."""
    return {"invoices": size, "cents": sum(100 + number % 100_000 for number in range(1, size + 1))}


def by_arrow(path: Path) -> pd.DataFrame:
    """Into staging as PostgreSQL is read where ADBC's driver is installed."""
    return _read(path, arrow=True)


def by_rows(path: Path) -> pd.DataFrame:
    """Into staging as every other database is read."""
    return _read(path, arrow=False)


def _read(path: Path, *, arrow: bool) -> pd.DataFrame:
    target = path.with_name(f"{'arrow' if arrow else 'rows'}.parquet")
    SqlSourceReader("billing", SecretStr(_address(path)), arrow=arrow).read(TableQuery(table="invoices"), target)
    with duckdb.connect() as connection:
        return _summary(connection, f"read_parquet('{target}')", "total::decimal(12, 2) * 100")


def bare(path: Path) -> pd.DataFrame:
    """The least that there is to do: Arrow batches into a table, as they come."""
    address = sa.make_url(_address(path)).set(drivername="postgresql").render_as_string(hide_password=False)
    with (
        _fresh(path, "bare.duckdb") as warehouse,
        closing(dbapi.connect(address)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        cursor.execute("select * from invoices")
        warehouse.register("batches", cursor.fetch_record_batch())
        warehouse.execute("create table invoices as select * from batches")
        return _summary(warehouse, "invoices", "total::decimal(12, 2) * 100")


def by_pandas(path: Path) -> pd.DataFrame:
    """As a notebook does it: a frame of all rows, then a table of the frame."""
    frame = pd.read_sql("select * from invoices", sa.create_engine(_address(path)))
    with _fresh(path, "pandas.duckdb") as warehouse:
        warehouse.register("frame", frame)
        warehouse.execute("create table invoices as select * from frame")
        return _summary(warehouse, "invoices", "round(total * 100)")


@contextmanager
def _fresh(path: Path, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
    file = path.with_name(name)
    file.unlink(missing_ok=True)
    with duckdb.connect(file) as connection:
        yield connection


def streamed(path: Path) -> pd.DataFrame:
    """Read and staged, which is done before the warehouse is touched and must take no more memory for more rows."""
    target, query = path.with_name("streamed.parquet"), TableQuery(table="invoices")
    SqlSourceReader("billing", SecretStr(_address(path))).read(query, target)
    staged = stage("billing", INVOICES, query, target, REJECTS_SCHEMA.empty_table(), "Europe/Paris")
    with duckdb.connect() as connection:
        return _summary(connection, f"read_parquet('{staged.rows}')", "total_minor")


def prepare_whole(path: Path) -> None:
    """No warehouse yet."""
    shutil.rmtree(_home(path), ignore_errors=True)


def whole(path: Path) -> pd.DataFrame:
    """The first pull."""
    return _pull(path, _home(path))


def whole_by_rows(path: Path) -> pd.DataFrame:
    """The first pull, as of every other database: as if ADBC's driver were not installed."""
    installed = sys.modules[DRIVER]
    sys.modules[DRIVER] = None  # type: ignore[assignment] # Python looks for it no further
    try:
        return _pull(path, _home(path))
    finally:
        sys.modules[DRIVER] = installed


def prepare_changes(path: Path) -> None:
    """A warehouse that has everything, and invoices that changed since."""
    home = _home(path, "changed")
    if not home.exists():
        _pull(path, home)
    with sa.create_engine(_address(path), poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.text(sql.load("change_invoices")), {"changed": CHANGED})


def changes(path: Path) -> pd.DataFrame:
    """Any later pull."""
    return _pull(path, _home(path, "changed"))


def _pull(path: Path, home: Path) -> pd.DataFrame:
    home.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        loaded=parse_policy(POLICY),
        policy_file=home / "dunning.yaml",
        home=home,
        clock=lambda: datetime.now(UTC),
        environment={"BILLING": _address(path)},
    )
    warehouse = Warehouse(home / "warehouse.duckdb")
    pull(settings, warehouse, INVOICES, "benchmark")
    return warehouse.fetch("select count(*) as invoices, sum(total_minor)::bigint as cents from source.invoices")


def _home(path: Path, name: str = "whole") -> Path:
    return path.with_name(name)


def _summary(connection: duckdb.DuckDBPyConnection, relation: str, cents: str) -> pd.DataFrame:
    query = f"select count(*) as invoices, sum({cents})::bigint as cents from {relation}"
    frame: pd.DataFrame = connection.sql(query).df()
    return frame
