"""Reading files: CSV as people export it and Parquet, as exact text; lines that cannot be read are kept aside."""

import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import MissingVariable, TableFile
from dunning_pipeline.resources.files import FileSourceReader
from dunning_pipeline.resources.staging import stage
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.tables import CUSTOMERS, INVOICES

Row = dict[str, str | None]
Unreadable = list[tuple[str, int, str]]
Read = Callable[..., tuple[list[Row], Unreadable]]


@pytest.fixture
def reader(tmp_path: Path) -> FileSourceReader:
    return reader_at(tmp_path)


def reader_at(folder: Path, seconds: float = 3600) -> FileSourceReader:
    """A reader so many seconds from now."""
    later = datetime.now(UTC) + timedelta(seconds=seconds)
    return FileSourceReader("exports", folder, {"FOLDER": "out", "EMPTY": ""}, lambda: later)


@pytest.fixture
def read(reader: FileSourceReader, tmp_path: Path) -> Read:
    def rows(path: str = "invoices.csv", **options: Any) -> tuple[list[Row], Unreadable]:
        unreadable = reader.read(TableFile(path=path, **options), tmp_path / "raw").unreadable
        lines = [json.loads(row) for row in unreadable["row"].to_pylist()]
        found = [
            (Path(line["file"]).name, line["line"], reason)
            for line, reason in zip(lines, unreadable["reason"].to_pylist(), strict=True)
        ]
        table = pq.read_table(tmp_path / "raw")
        assert set(table.schema.types) == {pa.string()}
        return table.to_pylist(), found

    return rows


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    def text(content: str | bytes, name: str = "invoices.csv") -> None:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    return text


Write = Callable[..., None]
TWO: list[Row] = [{"id": "001", "total": "10.50"}, {"id": "002", "total": "9007199254740993.01"}]


@pytest.mark.parametrize(
    "content",
    [
        "id,total\n001,10.50\n002,9007199254740993.01\n",
        "id,total\r\n001,10.50\r\n002,9007199254740993.01\r\n",
        "id,total\n001,10.50\n002,9007199254740993.01",
        '"id","total"\r\n"001","10.50"\r\n"002","9007199254740993.01"\r\n',
        "id;total\n001;10.50\n002;9007199254740993.01\n",
        "id\ttotal\n001\t10.50\n002\t9007199254740993.01\n",
        "\ufeffid,total\n001,10.50\n002,9007199254740993.01\n\n",
    ],
)
def test_csv_is_read_as_it_is_exported_and_values_stay_text(write: Write, read: Read, content: str) -> None:
    write(content)
    assert read() == (TWO, [])


def test_quoted_values_keep_delimiters_quotes_and_line_ends(write: Write, read: Read) -> None:
    write('id,name\r\n1,"Smith, ""Bob""\r\n& Sons"\r\n2,plain\r\n')
    assert read()[0] == [{"id": "1", "name": 'Smith, "Bob"\r\n& Sons'}, {"id": "2", "name": "plain"}]


def test_quotes_are_known_even_where_they_come_late(write: Write, read: Read) -> None:
    write("id,name\n" + "1,x\n" * 30_000 + '2,"y"\n3,"a,b"\n')
    rows, unreadable = read()
    assert (rows[-2:], unreadable) == ([{"id": "2", "name": "y"}, {"id": "3", "name": "a,b"}], [])


def test_empty_values_are_empty_and_words_for_nothing_are_words(write: Write, read: Read) -> None:
    write("id,a,b\n1,,NULL\n2,NA,none\n")
    assert read()[0] == [{"id": "1", "a": None, "b": "NULL"}, {"id": "2", "a": "NA", "b": "none"}]


def test_a_delimiter_can_be_given(write: Write, read: Read) -> None:
    write("id|total\n1|1,5\n")
    assert read(delimiter="|")[0] == [{"id": "1", "total": "1,5"}]


def test_several_files_are_read_as_one_table_by_name(write: Write, read: Read) -> None:
    write("id,total\n1,10\n", "out/a.csv")
    write("total,id\n20,2\n", "out/b.csv")
    write("id,due\n3,2026-01-31\n", "out/c.csv")
    write("never read", "out/notes.txt")
    rows, unreadable = read("out/*.csv")
    assert rows == [
        {"id": "1", "total": "10", "due": None},
        {"id": "2", "total": "20", "due": None},
        {"id": "3", "total": None, "due": "2026-01-31"},
    ]
    assert unreadable == []


def test_folders_are_searched_and_names_with_quotes_are_fine(write: Write, read: Read) -> None:
    write("id\n1\n", "out/it's.csv")
    assert read("**/it's.csv")[0] == [{"id": "1"}]


def test_a_variable_may_stand_in_the_path(write: Write, read: Read) -> None:
    write("id\n1\n", "out/a.csv")
    assert read("${FOLDER}/a.csv")[0] == [{"id": "1"}]


def test_a_variable_that_is_not_set_is_named(reader: FileSourceReader) -> None:
    with pytest.raises(MissingVariable, match="EMPTY"):
        reader.columns(TableFile(path="${EMPTY}/a.csv"))


def test_lines_that_cannot_be_read_are_kept_and_the_others_read(write: Write, read: Read) -> None:
    write("id,total\n1,2,3\n2,20\n3\n" + "4,40\n" * 30_000 + '5,"open\n')
    rows, unreadable = read()
    assert [row["id"] for row in rows] == ["2", *["4"] * 30_000]
    assert unreadable == [
        ("invoices.csv", 2, "the line cannot be read: TOO MANY COLUMNS"),
        ("invoices.csv", 4, "the line cannot be read: MISSING COLUMNS"),
        ("invoices.csv", 30_005, "the line cannot be read: UNQUOTED VALUE"),
    ]


def test_the_text_of_a_line_that_cannot_be_read_is_kept(write: Write, reader: FileSourceReader, tmp_path: Path) -> None:
    write("id,total\r\n1,2,3\r\n2,20\r\n")
    (row,) = reader.read(TableFile(path="invoices.csv"), tmp_path / "raw").unreadable["row"].to_pylist()
    assert json.loads(row) == {"file": str(tmp_path / "invoices.csv"), "line": 2, "text": "1,2,3"}


def test_lines_of_every_file_that_cannot_be_read_are_kept(write: Write, read: Read) -> None:
    write("id,total\n1,2,3\n2,20\n", "a.csv")
    write("id,total\n3,30\n4\n", "b.csv")
    rows, unreadable = read("?.csv")
    assert [row["id"] for row in rows] == ["2", "3"]
    assert [(file, line) for file, line, _ in unreadable] == [("a.csv", 2), ("b.csv", 3)]


def test_every_line_that_cannot_be_read_is_counted_however_many(write: Write, read: Read) -> None:
    write("id,total\n" + "1,2\n" * 1_000 + "1,2,3\n" * 1_500)
    rows, unreadable = read()
    assert (len(rows), len(unreadable)) == (1_000, 1_500)


def test_bytes_that_are_no_utf8_make_one_line_unreadable(write: Write, read: Read) -> None:
    write(b"id,name\n1,M\xfcller\n2,Smith\n")
    assert read() == (
        [{"id": "2", "name": "Smith"}],
        [("invoices.csv", 2, "the line cannot be read: INVALID ENCODING")],
    )


def test_a_file_of_headers_alone_has_columns_and_no_rows(write: Write, reader: FileSourceReader, read: Read) -> None:
    write("id,total\n")
    assert reader.columns(TableFile(path="invoices.csv")) == ("id", "total")
    assert read() == ([], [])


def test_parquet_values_of_every_type_become_exact_text(read: Read, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([9_007_199_254_740_993, None]),
            "total": pa.array([Decimal("10.50"), Decimal("-0.01")], pa.decimal128(18, 2)),
            "day": pa.array([date(2026, 1, 31), None]),
            "code": pa.array(["007", None]),
            "kept": pa.array([True, False]),
            "noisy": pa.array([0.1 + 0.2, 1e16]),
        }
    )
    pq.write_table(table, tmp_path / "invoices.parquet")
    rows, unreadable = read("invoices.parquet")
    assert rows[0] == {
        "id": "9007199254740993",
        "total": "10.50",
        "day": "2026-01-31",
        "code": "007",
        "kept": "true",
        "noisy": "0.30000000000000004",
    }
    assert rows[1] | {"id": None, "total": "-0.01", "day": None, "kept": "false"} == rows[1]
    assert unreadable == []


def test_parquet_files_with_other_columns_are_read_by_name(read: Read, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "total": [10]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"total": [20], "id": [2], "due": ["x"]}), tmp_path / "b.parquet")
    rows, _ = read("*.parquet")
    assert [(row["id"], row["total"], row["due"]) for row in rows] == [("1", "10", None), ("2", "20", "x")]


def test_parquet_of_typed_columns_reaches_the_table(reader: FileSourceReader, tmp_path: Path) -> None:
    columns = {
        "invoice_id": pa.array([7]),
        "customer_id": pa.array(["C1"]),
        "issued_on": pa.array([date(2026, 1, 1)]),
        "currency": pa.array(["EUR"]),
        "total": pa.array([Decimal("10.50")], pa.decimal128(18, 4)),
    }
    pq.write_table(pa.table(columns), tmp_path / "invoices.parquet")
    mapping = TableFile(path="invoices.parquet")
    unreadable = reader.read(mapping, tmp_path / "raw.parquet").unreadable
    staged = stage("exports", INVOICES, mapping, tmp_path / "raw.parquet", unreadable, "Europe/Paris")
    (row,) = pq.read_table(staged.rows).to_pylist()
    assert (row["invoice_id"], row["issued_on"], row["total_minor"]) == ("7", date(2026, 1, 1), 1_050)


@pytest.mark.parametrize(("form", "day"), [("%m/%d/%Y", "1/31/2026"), ("%d-%b-%y", "31-Jan-26"), (None, "2026-01-31")])
def test_dates_of_a_file_are_read_by_the_form_the_mapping_gives(
    write: Write, reader: FileSourceReader, tmp_path: Path, form: str | None, day: str
) -> None:
    write(f"invoice_id,customer_id,issued_on,currency,total\r\n1,C1,{day},EUR,1\r\n")
    mapping = TableFile(path="invoices.csv", date_format=form)
    unreadable = reader.read(mapping, tmp_path / "raw.parquet").unreadable
    staged = stage("exports", INVOICES, mapping, tmp_path / "raw.parquet", unreadable, "Europe/Paris")
    assert pq.read_table(staged.rows)["issued_on"].to_pylist() == [date(2026, 1, 31)]


def test_unreadable_lines_count_as_pulled(write: Write, reader: FileSourceReader, tmp_path: Path) -> None:
    write("customer_id,name\nC1,Ann\nC2,Bob,extra\n,Nobody\n")
    mapping = TableFile(path="invoices.csv")
    unreadable = reader.read(mapping, tmp_path / "raw.parquet").unreadable
    staged = stage("exports", CUSTOMERS, mapping, tmp_path / "raw.parquet", unreadable, "Europe/Paris")
    assert (staged.pulled, pq.read_table(staged.rows)["customer_id"].to_pylist()) == (3, ["C1"])
    assert staged.rejected["reason"].to_pylist() == [
        "the line cannot be read: TOO MANY COLUMNS",
        "customer_id is empty",
    ]


@pytest.mark.parametrize("path", ["invoices.csv", "out/*.csv", "**/*.parquet"])
def test_a_missing_file_is_told_with_its_whole_path(reader: FileSourceReader, tmp_path: Path, path: str) -> None:
    with pytest.raises(SourceError) as caught:
        reader.columns(TableFile(path=path))
    assert str(caught.value) == f"source exports: no file matches {tmp_path / path}"


def test_a_file_that_is_no_parquet_is_told_in_a_sentence(write: Write, reader: FileSourceReader) -> None:
    write("id\n1\n", "a.parquet")
    with pytest.raises(SourceError, match=r"^source exports: .*a\.parquet: .*Parquet") as caught:
        reader.columns(TableFile(path="a.parquet"))
    assert "\n" not in str(caught.value)


def test_an_absolute_path_is_taken_as_it_is(write: Write, read: Read, tmp_path: Path) -> None:
    write("id\n1\n", "a.csv")
    assert read(str(tmp_path / "a.csv"))[0] == [{"id": "1"}]


def test_compressed_files_are_read(read: Read, write: Write) -> None:
    write(gzip.compress(b"id,total\n001,10.50\n002,9007199254740993.01\n"), "invoices.csv.gz")
    assert read("invoices.csv.gz") == (TWO, [])


def test_a_compressed_file_that_breaks_off_is_told_and_not_half_read(read: Read, write: Write) -> None:
    packed = gzip.compress(b"id,total\n" + b"".join(b"%d,1.00\n" % number for number in range(5000)))
    write(packed[: len(packed) // 2], "invoices.csv.gz")
    with pytest.raises(SourceError, match=r"^source exports: .*ended before the end-of-stream marker"):
        read("invoices.csv.gz")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_text_of_another_encoding_is_read_by_it(read: Read, write: Write, encoding: str) -> None:
    write("id,name\n1,Köhler & Söhne\n".encode(encoding))
    assert read(encoding=encoding) == ([{"id": "1", "name": "Köhler & Söhne"}], [])


def test_text_that_is_not_of_the_encoding_is_told(read: Read, write: Write) -> None:
    write("id,name\n1,Köhler\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"^source exports: .*ascii"):
        read(encoding="ascii")


def test_a_line_that_cannot_be_read_is_told_by_the_name_of_the_compressed_file(read: Read, write: Write) -> None:
    write(gzip.compress(b"id,total\n001,10.50\n002\n003,1.00,2\n"), "invoices.csv.gz")
    _, unreadable = read("invoices.csv.gz")
    assert {name for name, *_ in unreadable} == {"invoices.csv.gz"}


def test_a_file_without_an_end_of_line_is_taken_as_half_a_copy_while_it_is_young(tmp_path: Path, write: Write) -> None:
    write("id,total\n001,10.5")
    with pytest.raises(SourceError, match="its last line has no end: it may be half a copy"):
        reader_at(tmp_path, 59).read(TableFile(path="invoices.csv"), tmp_path / "raw")
    assert reader_at(tmp_path, 61).read(TableFile(path="invoices.csv"), tmp_path / "raw").unreadable.num_rows == 0


def test_half_a_parquet_file_is_told(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"id": ["1"] * 1000}), tmp_path / "invoices.parquet")
    whole = (tmp_path / "invoices.parquet").read_bytes()
    (tmp_path / "invoices.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"^source exports: "):
        read("invoices.parquet")


def test_a_file_that_changes_while_it_is_read_is_read_again_another_time(tmp_path: Path, write: Write) -> None:
    write("id\n1\n")

    def change() -> datetime:
        """The reader asks what time it is in the middle."""
        write("id\n1\n2\n")
        return datetime.now(UTC)

    with pytest.raises(SourceError, match="changed while it was read; try again"):
        FileSourceReader("exports", tmp_path, clock=change).read(TableFile(path="invoices.csv"), tmp_path / "raw")


def test_a_file_that_is_gone_since_it_was_listed_is_told_in_a_sentence(tmp_path: Path, write: Write) -> None:
    write("id\n1\n")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError, match=r"^source exports: .*gone\.csv"):
        FileSourceReader("exports", tmp_path).version(TableFile(path="*.csv"))


def test_new_files_are_read_once_and_changed_ones_again(tmp_path: Path, reader: FileSourceReader, write: Write) -> None:
    file = TableFile(path="*.csv", only_new=True)

    def pull(since: Watermark | None) -> tuple[list[str], Watermark | None]:
        read = reader.read(file, tmp_path / "raw", since and Watermark.parse(str(since)))
        return sorted(pq.read_table(tmp_path / "raw")["id"].to_pylist()), read.watermark

    write("id\n1\n", "a.csv")
    ids, since = pull(None)
    assert ids == ["1"]
    write("id\n2\n", "b.csv")
    os.utime(tmp_path / "b.csv", (1_000_000_000, 1_000_000_000))
    ids, since = pull(since)
    assert ids == ["2"]
    assert pull(since) == ([], since)
    write("id\n1\n3\n", "a.csv")
    assert pull(since)[0] == ["1", "3"]


def test_new_files_are_no_complete_list() -> None:
    assert TableFile(path="*.csv").lists_all
    assert not TableFile(path="*.csv", only_new=True).lists_all
    assert not TableFile(path="*.csv", complete=False).lists_all


def test_a_pull_is_as_old_as_its_newest_file(tmp_path: Path, reader: FileSourceReader, write: Write) -> None:
    for name, moment in (("a.csv", 1_000_000_000), ("b.csv", 1_700_000_000)):
        write("id\n1\n", name)
        os.utime(tmp_path / name, (moment, moment))
    read = reader.read(TableFile(path="*.csv"), tmp_path / "raw")
    assert read.newest == datetime.fromtimestamp(1_700_000_000, UTC)
