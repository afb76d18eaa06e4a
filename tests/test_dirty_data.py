"""Data as it really comes: each oddity has an outcome that can be told, and nothing is changed in silence."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import MovingClock, decided, pull_tables, settings_at

from dunning_pipeline import doubts, tables
from dunning_pipeline.errors import SourceError
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.loading import Loaded
from dunning_pipeline.resources.sql_source import BATCH_ROWS
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.sql import literal

MONDAY = date(2026, 11, 16)

POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, exchange_rates: {USD: 0.92}, first_day: "2010-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
%s
sources:
  books:
    kind: %s
    tables: {customers: customers%s, invoices: %s, payments: payments%s}
"""
CUSTOMERS = "customer_id,name,email\n0017,Harbour,a@harbour.test\n"
INVOICES = "invoice_id,customer_id,issued_on,due_on,currency,total\n"
PAYMENTS_HEADER = "payment_id,customer_id,invoice_id,currency,amount,paid_on\n"


class Books:
    """A pipeline over CSV files, or over tables of SQLite, that a test fills."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.policy = self.from_files()
        self.write(customers=CUSTOMERS, payments=PAYMENTS_HEADER)

    def from_files(self, invoices: str = "invoices.csv", extra: str = "quality: {max_rejected: 1}") -> str:
        return POLICY % (extra, "files", ".csv", invoices, ".csv")

    def from_database(self, invoices: str = "invoices", extra: str = "quality: {max_rejected: 1}") -> str:
        kind = f"sql\n    url: sqlite:///{self.home / 'books.db'}"
        return POLICY % (extra, kind, "", invoices, "")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.home / f"{name}.csv").write_bytes(text.encode())

    def run(self, script: str) -> None:
        with closing(sqlite3.connect(self.home / "books.db")) as connection:
            connection.executescript(script)

    @property
    def settings(self) -> Settings:
        clock = MovingClock()
        clock.move_to(MONDAY)
        return settings_at(self.home, self.policy, clock)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home / "warehouse.duckdb")

    def pull(self, *invoices: str) -> Mapping[str, Loaded]:
        """Pulls after writing these lines as the file of invoices."""
        if invoices:
            self.write(invoices=INVOICES + "".join(f"{line}\n" for line in invoices))
        return pull_tables(self.settings)

    def decide(self) -> pd.DataFrame:
        return decided(self.settings, MONDAY)

    def rows(self, query: str) -> list[list[Any]]:
        frame = self.warehouse.fetch(query)
        return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()

    def invoices(self, columns: str = "invoice_id, total_minor") -> list[list[Any]]:
        return self.rows(f"select {columns} from source.invoices order by invoice_id")

    def reasons(self) -> list[str]:
        return [reason for (reason,) in self.rows("select reason from source.rejected_rows order by 1")]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def test_leading_zeros_stay(books: Books) -> None:
    books.pull("0009231909,0017,2026-10-01,2026-10-31,EUR,10.00")
    assert books.invoices("invoice_id, customer_id") == [["0009231909", "0017"]]
    books.decide()
    assert books.rows("select customer_id, carrying_invoice_id from dunning.decisions") == [["0017", "0009231909"]]


@pytest.mark.parametrize("number", [9007199254740993, 123456789012345678901234567890])
@pytest.mark.parametrize("kind", ["csv", "parquet", "sql"])
def test_ids_beyond_what_a_float_can_hold_stay(books: Books, number: int, kind: str) -> None:
    row = f"{number},0017,2026-10-01,2026-10-31,EUR,10.00"
    books.write(invoices=INVOICES + row + "\n")
    if kind == "parquet":
        values = dict(zip(INVOICES.strip().split(","), ([value] for value in row.split(",")), strict=True))
        whole = pa.int64() if number < 2**63 else pa.decimal128(38, 0)
        pq.write_table(pa.table({**values, "invoice_id": pa.array([number], whole)}), books.home / "invoices.parquet")
        books.policy = books.from_files("invoices.parquet")
    if kind == "sql":
        stored = "integer" if number < 2**63 else "text"
        books.run(
            "create table customers (customer_id, name, email); create table payments (payment_id, customer_id,"
            " invoice_id, currency, amount, paid_on); create table invoices"
            f" (invoice_id {stored}, customer_id text, issued_on, due_on, currency, total text);"
            f" insert into invoices values ({number if stored == 'integer' else literal(number)},"
            " '0017', '2026-10-01', '2026-10-31', 'EUR', '10.00')"
        )
        books.policy = books.from_database()
    pull_tables(books.settings)
    assert books.invoices("invoice_id") == [[str(number)]]


def test_ids_that_come_as_floats_stay_as_they_are_and_what_does_not_match_them_is_told(books: Books) -> None:
    books.write(
        payments=PAYMENTS_HEADER + "1,0017,2960623488.0,EUR,4.00,2026-11-01\n2,0017,2960623488,EUR,1.00,2026-11-01\n"
    )
    books.pull("2960623488.0,0017,2026-10-01,2026-10-31,EUR,10.00")
    books.decide()
    assert books.rows("select invoice_id, open_minor from dunning.open_invoices") == [["2960623488.0", 600]]
    (doubt,) = doubts.about_invoices(books.warehouse.fetch, tables.PAYMENTS)
    assert doubt.sentence.startswith("1 payments are of invoices that no source has (2)")


def test_dates_of_other_forms_are_read_by_their_format(books: Books) -> None:
    books.policy = books.from_files('{path: invoices.csv, date_format: "%m/%d/%Y", date_formats: {due_on: "%d-%b-%y"}}')
    books.pull("F1,0017,1/2/2013,26-Apr-11,EUR,10.00", "F2,0017,12/31/2012,1-Jan-13,EUR,10.00")
    assert books.invoices("invoice_id, strftime(issued_on, '%Y-%m-%d'), strftime(due_on, '%Y-%m-%d')") == [
        ["F1", "2013-01-02", "2011-04-26"],
        ["F2", "2012-12-31", "2013-01-01"],
    ]


@pytest.mark.parametrize("written", ["1/2/2013", "26-Apr-11", "2013-02-30", "0000-00-00", "41284"])
def test_dates_of_other_forms_are_rejected_without_a_format_rather_than_guessed(books: Books, written: str) -> None:
    books.pull(f"F1,0017,{written},2013-03-01,EUR,10.00")
    assert books.invoices() == []
    assert books.reasons() == [f"issued_on '{written}' is no date of the form 2026-11-22"]


def test_lines_that_end_as_in_windows_leave_nothing_behind(books: Books) -> None:
    books.write(customers=CUSTOMERS.replace("\n", "\r\n"), payments=PAYMENTS_HEADER.replace("\n", "\r\n"))
    books.write(invoices=(INVOICES + "F1,0017,2026-10-01,2026-10-31,EUR,10.00\n").replace("\n", "\r\n"))
    pull_tables(books.settings)
    assert books.invoices() == [["F1", 1000]]
    assert books.rows("select email from source.customers") == [["a@harbour.test"]]


def test_binary_noise_is_rounded_and_counted_and_a_wrong_fraction_rejected(books: Books) -> None:
    books.run(
        "create table customers (customer_id, name, email); create table payments (payment_id, customer_id,"
        " invoice_id, currency, amount, paid_on);"
        " create table invoices (invoice_id, customer_id, issued_on, due_on, currency, total real);"
        " insert into invoices values ('F1', '0017', '2026-10-01', null, 'EUR', 0.1 + 0.2),"
        " ('F2', '0017', '2026-10-01', null, 'EUR', 1234567.89), ('F3', '0017', '2026-10-01', null, 'EUR', 0.305)"
    )
    books.policy = books.from_database()
    pull_tables(books.settings)
    assert books.invoices() == [["F1", 30], ["F2", 123456789]]
    assert books.reasons() == ["total '0.305' has more than the 2 decimals of EUR"]


def test_dust_is_owed_until_the_policy_tolerates_it(books: Books) -> None:
    books.write(payments=PAYMENTS_HEADER + "1,0017,F1,EUR,99.99,2026-11-01\n")
    books.pull("F1,0017,2026-10-01,2026-10-31,EUR,100.00")
    assert books.decide()["decision"].tolist() == ["remind"]
    assert books.rows("select open_minor from dunning.open_invoices") == [[1]]
    books.policy = books.from_files(extra='receivables: {tolerance: {EUR: "0.01"}}')
    assert books.decide().empty


def test_rows_that_come_twice_count_once_and_are_counted(books: Books) -> None:
    row = "F1,0017,2026-10-01,2026-10-31,EUR,10.00"
    (staged,) = staged_invoices(books, row, row, "F2" + row[2:])
    assert staged == (3, 1)
    assert books.invoices() == [["F1", 1000], ["F2", 1000]]


def staged_invoices(books: Books, *lines: str) -> list[tuple[int, int]]:
    """How many rows a pull of invoices saw, and how many of them gave way to others."""
    books.write(invoices=INVOICES + "".join(f"{line}\n" for line in lines))
    staged, _ = pull(books.settings, books.warehouse, tables.INVOICES, "run")
    return [(part.pulled, part.duplicates) for part in staged]


def test_of_rows_with_one_id_the_newest_wins_and_one_without_a_time_is_never_it(books: Books) -> None:
    header = INVOICES.replace("total", "total,updated_at")
    start = "F1,0017,2026-10-01,2026-10-31,EUR"
    lines = [f"{start},2.00,2026-11-02 10:00:00", f"{start},3.00,", f"{start},1.00,2026-11-01 10:00:00"]
    books.write(invoices=header + "\n".join(lines) + "\n")
    pull_tables(books.settings)
    assert books.invoices() == [["F1", 200]]


def test_an_invoice_that_is_due_before_it_was_issued_is_due_then(books: Books) -> None:
    books.pull("F1,0017,2026-11-10,2026-10-01,EUR,10.00", "F2,0017,2026-10-01,2026-10-31,EUR,10.00")
    books.decide()
    assert books.reasons() == []
    carrying = "select carrying_invoice_id, strftime(trigger_on, '%Y-%m-%d') from dunning.decisions"
    assert books.rows(carrying) == [["F1", "2026-10-02"]]


def test_for_a_missing_due_date_stands_the_date_of_issue(books: Books) -> None:
    books.pull("F1,0017,2026-10-05,,EUR,10.00", "F2,0017,2026-10-01,2026-10-06,EUR,10.00")
    books.decide()
    assert books.invoices("due_on")[0] == [None]
    carrying = "select carrying_invoice_id, strftime(trigger_on, '%Y-%m-%d') from dunning.decisions"
    assert books.rows(carrying) == [["F1", "2026-10-06"]]


def test_of_several_names_of_a_customer_number_the_last_counts(books: Books) -> None:
    books.write(customers=CUSTOMERS + "0017,Harbour Ltd,b@harbour.test\n")
    books.pull("F1,0017,2026-10-01,2026-10-31,EUR,10.00")
    assert books.rows("select name, email from source.customers") == [["Harbour Ltd", "b@harbour.test"]]


def test_customers_of_one_name_with_several_numbers_stay_apart(books: Books) -> None:
    books.write(customers=CUSTOMERS + "0018,Harbour,a@harbour.test\n")
    books.pull("F1,0017,2026-10-01,2026-10-31,EUR,10.00", "F2,0018,2026-10-02,2026-10-31,EUR,20.00")
    assert books.decide()[["customer_id", "carrying_invoice_id"]].to_numpy().tolist() == [
        ["0017", "F1"],
        ["0018", "F2"],
    ]


def test_a_customer_with_thousands_of_open_invoices_has_one_decision_over_all_of_them(books: Books) -> None:
    many = [f"F{at:04d},0017,2026-10-01,2026-10-{1 + at % 28:02d},EUR,1.01" for at in range(2459)]
    books.pull(*many)
    decisions = books.decide()
    assert decisions[["decision", "carrying_invoice_id"]].to_numpy().tolist() == [["remind", "F0000"]]
    total = "select count(*), sum(open_minor)::bigint from dunning.open_invoices"
    assert books.rows(total) == [[2459, 2459 * 101]]


def test_of_thirty_invoices_due_on_the_same_earliest_day_the_highest_total_carries_then_the_lowest_id(
    books: Books,
) -> None:
    tied = [f"F{at:02d},0017,2026-10-01,2026-10-31,EUR,{100 if at in (7, 23) else at}.00" for at in range(1, 31)]
    books.pull(*reversed(tied), "F99,0017,2026-10-01,2026-11-01,EUR,5000.00")
    assert books.decide()["carrying_invoice_id"].tolist() == ["F07"]


def test_two_currencies_are_never_added(books: Books) -> None:
    books.pull("F1,0017,2026-10-01,2026-10-31,EUR,10.00", "F2,0017,2026-10-01,2026-10-30,USD,20.00")
    books.decide()
    assert books.rows("select currency, open_minor from dunning.open_invoices order by 1") == [
        ["EUR", 1000],
        ["USD", 2000],
    ]
    assert books.rows("select carrying_invoice_id from dunning.decisions") == [["F2"]]


def test_a_payment_in_another_currency_than_its_invoice_is_rejected(books: Books) -> None:
    books.write(payments=PAYMENTS_HEADER + "1,0017,F1,USD,10.00,2026-11-01\n")
    books.pull("F1,0017,2026-10-01,2026-10-31,EUR,10.00")
    assert books.reasons() == ["a payment in USD for invoice 'F1', which is in EUR"]


DATABASE = """
create table customers (customer_id text, name text, email text);
create table payments (payment_id text, customer_id text, invoice_id text, currency text, amount text, paid_on text);
create table invoices (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text,
    voided_on text, updated_at text);
"""
CHANGES = "{table: invoices, watermark: updated_at}"


def test_rows_without_a_time_of_change_are_pulled_every_time(books: Books) -> None:
    books.policy = books.from_database(CHANGES)
    start = "'0017', '2026-10-01', '2026-10-31', 'EUR'"
    books.run(
        f"{DATABASE}; insert into invoices values ('F1', {start}, '1.00', null, null),"
        f" ('F2', {start}, '2.00', null, '2026-11-01 00:00:00'), ('F3', {start}, '3.00', null, '2026-11-15 00:00:00')"
    )
    assert pull_tables(books.settings)["invoices"].written == 3
    books.run("update invoices set total = '9.00' where invoice_id = 'F1'")
    assert pull_tables(books.settings)["invoices"].written == 2
    assert books.invoices() == [["F1", 900], ["F2", 200], ["F3", 300]]


def test_a_column_that_is_empty_for_a_whole_batch_is_read_in_the_next(books: Books) -> None:
    books.policy = books.from_database()
    books.run(
        f"{DATABASE}; with recursive n(i) as (select 1 union all select i + 1 from n where i <= {BATCH_ROWS})"
        " insert into invoices select 'F' || i, '0017', '2026-10-01', null, 'EUR', '1.00',"
        f" case when i > {BATCH_ROWS} then '2026-11-01' end, null from n"
    )
    pull_tables(books.settings)
    voided = "select count(*), count(voided_on), count(due_on) from source.invoices"
    assert books.rows(voided) == [[BATCH_ROWS + 1, 1, 0]]


@pytest.mark.parametrize("invoices", ["invoices", CHANGES])
def test_an_empty_table_is_pulled_and_nobody_is_reminded(books: Books, invoices: str) -> None:
    books.policy = books.from_database(invoices)
    books.run(DATABASE)
    assert pull_tables(books.settings)["invoices"] == Loaded(written=0, rejected=0)
    assert books.decide().empty


def test_a_file_of_nothing_but_its_header_is_an_empty_table(books: Books) -> None:
    books.write(invoices=INVOICES)
    assert books.pull()["invoices"] == Loaded(written=0, rejected=0)


def test_a_file_of_nothing_is_told(books: Books) -> None:
    books.write(invoices="")
    with pytest.raises(SourceError, match=r"source books: .*invoices\.csv is empty: .* header"):
        books.pull()


def test_a_table_that_was_emptied_takes_nothing_for_paid(books: Books) -> None:
    books.policy = books.from_database()
    books.run(
        f"{DATABASE}; insert into customers values ('0017', 'Harbour', 'a@harbour.test');"
        " insert into invoices values ('F1', '0017', '2026-10-01', '2026-10-31', 'EUR', '1.00', null, null)"
    )
    pull_tables(books.settings)
    books.run("delete from invoices")
    assert pull_tables(books.settings)["invoices"].vanished == 1
    assert books.decide()["reason"].tolist() == ["source_unclear"]
    assert books.invoices("invoice_id, total_minor") == [["F1", 100]]
