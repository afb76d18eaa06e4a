"""Reading a database: every value arrives as exact text, and what goes wrong is a sentence without the password."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import TableQuery
from dunning_pipeline.resources.sql_source import BATCH_ROWS, SqlSourceReader

Row = dict[str, str | None]
Read = Callable[[TableQuery], list[Row]]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "billing.db", isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def reader(tmp_path: Path) -> SqlSourceReader:
    return reader_of(f"sqlite:///{tmp_path / 'billing.db'}")


@pytest.fixture
def read(reader: SqlSourceReader, tmp_path: Path) -> Read:
    def rows(query: TableQuery) -> list[Row]:
        unreadable = reader.read(query, tmp_path / "raw.parquet").unreadable
        table = pq.read_table(tmp_path / "raw.parquet")
        assert (unreadable.num_rows, set(table.schema.types)) == (0, {pa.string()})
        return list(table.to_pylist())

    return rows


def reader_of(url: str) -> SqlSourceReader:
    return SqlSourceReader("billing", SecretStr(url))


def query(sql: str) -> TableQuery:
    return TableQuery(query=sql)


def problem(reader: SqlSourceReader, sql: str = "select 1 as one") -> str:
    with pytest.raises(SourceError) as caught:
        reader.columns(query(sql))
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_numbers_arrive_as_exact_text(database: sqlite3.Connection, read: Read) -> None:
    database.execute("create table amounts (n numeric, i integer, f real)")
    database.execute("insert into amounts values (12345678901234.56, 9007199254740993, 0.1 + 0.2)")
    assert read(TableQuery(table="amounts")) == [
        {"n": "12345678901234.56", "i": "9007199254740993", "f": "0.30000000000000004"}
    ]


def test_ids_keep_leading_zeros(read: Read) -> None:
    assert read(query("select '000123' as invoice_id")) == [{"invoice_id": "000123"}]


def test_empty_values_stay_empty_beside_others(read: Read) -> None:
    rows = read(query("select null as a, '' as b, null as c union all select 7, 'x', null"))
    assert rows == [{"a": None, "b": "", "c": None}, {"a": "7", "b": "x", "c": None}]


def test_values_of_several_kinds_in_one_column_are_each_written_exactly(read: Read) -> None:
    rows = read(
        query("select 9007199254740993 as x union all select 0.5 union all select 'a' union all select x'4142'")
    )
    assert sorted(str(row["x"]) for row in rows) == ["0.5", "9007199254740993", "AB", "a"]


def test_lists_and_objects_arrive_as_json(database: sqlite3.Connection, tmp_path: Path) -> None:
    sqlite3.register_converter("tag_list", json.loads)
    database.execute("create table customers (tags tag_list)")
    database.execute("""insert into customers values ('["key-account", "é"]'), ('{"a": 1}')""")
    reader = reader_of(f"sqlite:///{tmp_path / 'billing.db'}?detect_types={sqlite3.PARSE_DECLTYPES}")
    reader.read(TableQuery(table="customers"), tmp_path / "raw.parquet")
    assert pq.read_table(tmp_path / "raw.parquet")["tags"].to_pylist() == ['["key-account", "é"]', '{"a": 1}']


@pytest.mark.parametrize("text", ["10:30:00", ":name", "a::date", r"C:\x", r"\:z", "100 %", "%(x)s", "?"])
def test_colons_and_other_signs_are_part_of_the_query(read: Read, text: str) -> None:
    assert read(query(f"select '{text}' as x")) == [{"x": text}]


@pytest.mark.parametrize("name", ["invoices", "main.invoices"])
def test_a_table_or_view_can_be_named_instead_of_a_query(database: sqlite3.Connection, read: Read, name: str) -> None:
    database.execute("create table invoices (invoice_id text, total numeric)")
    database.execute("insert into invoices values ('F1', 10.5)")
    assert read(TableQuery(table=name)) == [{"invoice_id": "F1", "total": "10.5"}]


def test_a_name_that_is_a_word_of_sql_is_a_table_too(database: sqlite3.Connection, read: Read) -> None:
    database.execute('create table "order" ("group" text)')
    assert read(TableQuery(table="order")) == []


def test_a_table_without_rows_still_has_its_columns(database: sqlite3.Connection, reader: SqlSourceReader) -> None:
    database.execute("create table invoices (invoice_id text, total numeric)")
    assert reader.columns(TableQuery(table="invoices")) == ("invoice_id", "total")


def test_rows_of_many_batches_all_arrive_in_as_many_row_groups(read: Read, tmp_path: Path) -> None:
    count = 2 * BATCH_ROWS + 1
    series = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) select i from n"
    rows = read(query(series))
    assert [rows[0], rows[-1], len(rows)] == [{"i": "1"}, {"i": str(count)}, count]
    assert pq.ParquetFile(tmp_path / "raw.parquet").num_row_groups == 3


def test_a_column_that_comes_twice_is_refused(reader: SqlSourceReader) -> None:
    assert problem(reader, "select 1 as id, 2 as id") == "source billing: the query yields column 'id' twice"


def test_a_missing_table_is_named(reader: SqlSourceReader) -> None:
    with pytest.raises(SourceError, match=r"^source billing: no such table: invoices$"):
        reader.columns(TableQuery(table="invoices"))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select nope from sqlite_master", "no such column: nope"),
        ("select from where", 'near "from": syntax error'),
    ],
)
def test_wrong_sql_is_answered_in_the_databases_words(reader: SqlSourceReader, sql: str, words: str) -> None:
    assert problem(reader, sql) == f"source billing: {words}"


def test_an_error_in_the_middle_of_the_rows_is_a_sentence(reader: SqlSourceReader, tmp_path: Path) -> None:
    failing = query("select 1 as x union all select abs(-9223372036854775808)")
    with pytest.raises(SourceError, match=r"^source billing: integer overflow$"):
        reader.read(failing, tmp_path / "raw.parquet")


def test_an_unreachable_database_is_told(tmp_path: Path) -> None:
    reader = reader_of(f"sqlite:///{tmp_path / 'nowhere' / 'billing.db'}")
    assert problem(reader) == "source billing: unable to open database file"


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database" * 100)
    reader = reader_of(f"sqlite:///{tmp_path / 'notes.db'}")
    assert problem(reader, "select * from sqlite_master") == "source billing: file is not a database"


def test_a_missing_driver_is_told_with_its_name() -> None:
    # Nobody will install this driver for tests: it is SQLAlchemy's for a database that SQLite stands in for.
    reader = reader_of("oracle+cx_oracle://reader:s3cret@localhost/billing")
    assert problem(reader) == "source billing: its database driver is not installed: pip install cx_Oracle"


@pytest.mark.parametrize(
    "url",
    [
        "nonsense s3cret",
        "unknown://reader:s3cret@localhost/billing",
        "sqlite://reader:s3cret@localhost/billing.db",
        "oracle+cx_oracle://reader:s3cret@localhost/billing",
        "sqlite://reader:s3%2Fcret@localhost/s3/cret.db",
    ],
)
def test_the_password_is_never_told(url: str) -> None:
    words = problem(reader_of(url))
    assert not any(secret in words for secret in ("s3cret", "s3/cret", "s3%2Fcret"))
    assert "s3cret" not in repr(reader_of(url))


def test_a_text_that_is_no_address_is_answered_with_an_example() -> None:
    assert problem(reader_of("billing")) == (
        "source billing: the URL is not a SQLAlchemy URL such as postgresql+psycopg://user:password@host/database"
    )
