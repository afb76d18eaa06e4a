"""PostgreSQL through ADBC: the same rows as through SQLAlchemy, to the last digit, and as safe."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from databases import database
from pydantic import SecretStr
from support import MovingClock

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import TableQuery
from dunning_pipeline.resources import postgres_arrow
from dunning_pipeline.resources.sql_source import ATTEMPTS, ConnectionLost, SqlSourceReader
from dunning_pipeline.resources.staging import texts_of
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.sql import literal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

VALUES = {
    "bool": ["true", "false"],
    "smallint": ["-32768", "7"],
    "integer": ["2147483647"],
    "bigint": ["9007199254740993", "-9223372036854775808"],
    "real": ["0.1", "-1.5", "3.4e38", "16777216", "1e-7"],
    "double precision": ["0.30000000000000004", "2960623488", "1e300", "1e16", "1e-5", "'NaN'", "'-Infinity'"],
    "numeric": ["0.00", "12345678901234567890.123456789", "1e-10", "1e30", "-0.50", "'NaN'"],
    "numeric(12, 2)": ["100", "-0.01", "0.5"],
    "text": ["''", "'00123'", "' a b '", "'é😀'", "E'two\\nlines'", "'[1]'", "'null'"],
    "varchar(9)": ["'0001'"],
    "char(4)": ["'ab'"],
    "name": ["'dunning'"],
    "date": ["'2026-02-28'", "'1900-01-01'"],
    "timestamp": ["'2026-01-02 03:04:05'", "'2026-01-02 03:04:05.120'", "'2026-01-02 03:04:05.000001'", "'1969-12-31'"],
    "timestamptz": ["'2026-01-02 03:04:05+02'", "'2026-07-01 23:30:00.5-05'", "'1969-12-31 23:59:59.5+00'"],
    "json": ["'{\"a\":  [1.50, null]}'", "'\"text\"'", "'null'", "'7'", "'1.50'", "'true'"],
    "jsonb": ['\'{"b": "é", "a": 12345678901234567890}\'', "'[]'"],
    "uuid": ["'00000000-0000-4000-8000-0123456789ab'"],
    "state": ["'open'", "'paid'"],
    "positive": ["1.50"],
}
"""Literals by the type that they are of; an empty value comes with each."""

BY_OTHER_MEANS = {
    "text[]": ["'{key-account,\"a b\"}'"],
    "integer[]": ["'{{1,2},{3,4}}'"],
    "bytea": ["'abc'"],
    "interval": ["'1 day 2 hours'"],
    "time": ["'10:30'"],
    "money": ["12.5"],
    '"char"': ["'a'"],
    "inet": ["'127.0.0.1'"],
}
"""Types that ADBC gives differently, so that the whole statement is read by SQLAlchemy."""


class Reading:
    """One database, read with and without ADBC."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.run("create type state as enum ('open', 'paid')", "create domain positive as numeric check (value > 0)")

    def run(self, *statements: str) -> None:
        with sa.create_engine(self.url, poolclass=sa.NullPool).begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def reader(self, *, arrow: bool, timeout: timedelta = timedelta(minutes=1)) -> SqlSourceReader:
        url, clock = SecretStr(self.url), MovingClock(NOW)
        return SqlSourceReader("billing", url, "UTC", timeout, clock, sleep=lambda _: None, arrow=arrow)

    def read(self, query: TableQuery, *, arrow: bool, since: Watermark | None = None) -> tuple[pa.Table, object]:
        """The rows as the text that staging reads, and the watermark."""
        target = self.folder / f"{arrow}.parquet"
        watermark = self.reader(arrow=arrow).read(query, target, since).watermark
        columns = texts_of(pq.read_schema(target))
        return duckdb.sql(f"select {columns} from read_parquet({literal(target)})").to_arrow_table(), watermark

    def both(self, query: TableQuery, since: Watermark | None = None) -> pa.Table:
        """What both ways of reading agree on."""
        arrow, plain = (self.read(query, arrow=arrow, since=since) for arrow in (True, False))
        assert arrow[0].to_pylist() == plain[0].to_pylist()
        assert arrow[1] == plain[1]
        assert arrow[0].schema == plain[0].schema
        return arrow[0]

    def by_arrow(self) -> bool:
        """Whether the last reading with ADBC was done by it: the other way writes nothing but text."""
        return (
            pq.ParquetFile(self.folder / "True.parquet").metadata.row_group(0).column(0).compression == "UNCOMPRESSED"
        )


@pytest.fixture(params=["UTC", "America/New_York"])
def reading(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reading]:
    """In a database whose sessions are in one zone or another."""
    pytest.importorskip(postgres_arrow.DRIVER, reason="the extra [postgres] is not installed")
    with database("postgresql", tmp_path) as url:
        reading = Reading(url, tmp_path)
        reading.run(f"alter database {sa.make_url(url).database} set time zone '{request.param}'")
        yield reading


def listed(kind: str, literals: list[str]) -> TableQuery:
    rows = " union all ".join(f"select ({value})::{kind} as x" for value in [*literals, "null"])
    return TableQuery(query=rows)


def test_values_of_every_type_are_the_same_text(reading: Reading) -> None:
    for kind, literals in VALUES.items():
        rows = reading.both(listed(kind, literals))
        assert rows.num_rows == len(literals) + 1, kind
        assert reading.by_arrow(), kind


def test_types_that_come_differently_are_read_the_plain_way(reading: Reading) -> None:
    for kind, literals in BY_OTHER_MEANS.items():
        assert reading.both(listed(kind, literals)).num_rows == len(literals) + 1, kind
        assert not reading.by_arrow(), kind


def test_columns_that_are_all_empty_and_tables_without_rows_are_the_same(reading: Reading) -> None:
    assert reading.both(TableQuery(query="select null as a, null::numeric as b, null::date as c")).num_rows == 1
    reading.run("create table invoices (id bigint, total numeric(12, 2), at timestamptz, data jsonb, paid boolean)")
    assert reading.both(TableQuery(table="invoices")).num_rows == 0
    assert reading.both(TableQuery(table="public.invoices", watermark="at")).column_names[-1] == "paid"


@pytest.mark.parametrize("text", ["10:30:00", ":name", "a::date", r"C:\x", "100 %", "%(x)s", "$1", "?"])
def test_colons_and_other_signs_are_part_of_the_query(reading: Reading, text: str) -> None:
    assert reading.both(TableQuery(query=f"select '{text}' as x"))["x"].to_pylist() == [text]


@pytest.mark.parametrize(
    ("kind", "values", "since"),
    [
        ("timestamp", ["'2026-11-22 09:00:00.5'", "'2026-11-22 10:00'", "null"], datetime(2026, 11, 22, 10, 59)),
        (
            "timestamptz",
            ["'2026-11-22 09:00+01'", "'2026-11-22 10:00+00'", "null"],
            NOW - timedelta(hours=1, minutes=1),
        ),
        ("date", ["'2026-11-20'", "'2026-11-22'", "null"], date(2026, 11, 22)),
        ("bigint", ["1", "9007199254740993", "null"], 9007199254740993),
        ("numeric", ["1.5", "12345678901234567890.5", "null"], Decimal("2.5")),
        ("text", ["'a''b'", "'Z'", "null"], "a'b"),
    ],
)
def test_watermarks_of_every_kind_are_the_same(
    reading: Reading, kind: str, values: list[str], since: datetime | date | Decimal | int | str
) -> None:
    rows = " union all ".join(f"select {at} as id, ({value})::{kind} as at" for at, value in enumerate(values))
    query = TableQuery(query=rows, watermark="at")
    assert reading.both(query).num_rows == 3
    assert reading.both(query, Watermark(since)).num_rows == 2
    assert reading.by_arrow()


def test_a_watermark_that_does_not_order_exactly_is_refused(reading: Reading) -> None:
    with pytest.raises(SourceError, match=r"the watermark yields 0\.5; allowed is what orders exactly"):
        reading.read(TableQuery(query="select 1 as id, 0.5::float8 as at", watermark="at"), arrow=True)


def test_a_column_that_comes_twice_is_refused(reading: Reading) -> None:
    with pytest.raises(SourceError, match=r"^source billing: the query yields column 'id' twice$"):
        reading.read(TableQuery(query="select 1 as id, 2 as id"), arrow=True)


def test_wrong_sql_is_answered_in_one_line_of_the_databases_words(reading: Reading) -> None:
    with pytest.raises(SourceError, match=r'^source billing: .*relation "nope" does not exist') as caught:
        reading.read(TableQuery(table="nope"), arrow=True)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ConnectionLost)


def test_nothing_can_be_written(reading: Reading) -> None:
    reading.run("create sequence numbers")
    with pytest.raises(SourceError, match="read-only transaction"):
        reading.read(TableQuery(query="select nextval('numbers') as id"), arrow=True)


def test_a_statement_that_takes_too_long_is_given_up_in_the_middle_of_the_rows(reading: Reading) -> None:
    slow = TableQuery(query="select i, pg_sleep(0.001)::text as x from generate_series(1, 60000) as i")
    with pytest.raises(SourceError, match="statement timeout") as caught:
        reading.reader(arrow=True, timeout=timedelta(milliseconds=300)).read(slow, reading.folder / "slow.parquet")
    assert not isinstance(caught.value, ConnectionLost)


def test_a_broken_connection_is_made_again(reading: Reading) -> None:
    suicide = TableQuery(
        query="select i, pg_terminate_backend(pg_backend_pid())::text as x from generate_series(1, 9) as i"
    )
    waited: list[float] = []
    reader = SqlSourceReader("billing", SecretStr(reading.url), sleep=waited.append)
    with pytest.raises(ConnectionLost):
        reader.read(suicide, reading.folder / "broken.parquet")
    assert len(waited) == ATTEMPTS - 1


def test_a_file_that_cannot_be_written_is_no_fault_of_the_database(reading: Reading) -> None:
    with pytest.raises(FileNotFoundError):
        reading.reader(arrow=True).read(TableQuery(query="select 1 as x"), reading.folder / "nowhere" / "x.parquet")


def test_the_password_is_never_told(reading: Reading) -> None:
    url = sa.make_url(reading.url).set(password="s3cret-and-wrong", username="nobody-known")
    reader = SqlSourceReader("billing", SecretStr(url.render_as_string(hide_password=False)), sleep=lambda _: None)
    with pytest.raises(SourceError) as caught:
        reader.read(TableQuery(query="select 1 as x"), reading.folder / "never.parquet")
    assert "s3cret" not in str(caught.value)
