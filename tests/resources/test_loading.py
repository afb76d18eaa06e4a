"""Loading: staged rows reach the source tables by key, whole or not at all, and what is refused can be looked at."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dunning_pipeline.errors import OutOfMemory, TooManyRejectedRows
from dunning_pipeline.policy import Mapping
from dunning_pipeline.resources import loading
from dunning_pipeline.resources.loading import Loaded, Loader, Pulled
from dunning_pipeline.resources.progress import Progress, fetch_progress
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Staged, stage
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    CONTACTS,
    CUSTOMERS,
    INVOICES,
    PAUSES,
    PAYMENTS,
    PROMISES,
    Table,
)

Row = dict[str, str | None]

PULLED_AT = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


class Pull:
    """Pulls rows of text into the warehouse, as a source named `billing` unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warehouse = Warehouse(folder / "warehouse.duckdb")
        self.sources = ["billing", "shop"]
        self.today = PULLED_AT.date()

    def staged(self, table: Table, rows: Sequence[Row], source: str = "billing") -> Staged:
        raw = self.folder / f"{source}.parquet"
        names = list(dict.fromkeys(name for row in rows for name in row))
        pq.write_table(pa.Table.from_pylist(list(rows), pa.schema([(name, pa.string()) for name in names])), raw)
        return stage(source, table, Mapping(), raw, REJECTS_SCHEMA.empty_table(), "Europe/Paris")

    def __call__(
        self, table: Table, *rows: Row, source: str = "billing", max_rejected: float = 1.0, run_id: str = "run-1"
    ) -> Loaded:
        return self.load(table, self.staged(table, rows, source), max_rejected=max_rejected, run_id=run_id)

    def load(self, table: Table, *parts: Staged, max_rejected: float = 1.0, run_id: str = "run-1") -> Loaded:
        return self._loader(table, run_id).load([self._pulled(part) for part in parts], max_rejected)

    def listed(self, *rows: Row, source: str = "billing") -> Loaded:
        """Pulls all invoices of a source that tells no payments."""
        part = self._pulled(self.staged(INVOICES, rows, source))
        return self._loader(INVOICES).load([replace(part, complete=True, observes=True)], max_rejected=1.0)

    def _pulled(self, part: Staged) -> Pulled:
        self.progress = Progress("hash", part.found, Watermark(PULLED_AT))
        return Pulled(part, self.progress, PULLED_AT)

    def _loader(self, table: Table, run_id: str = "run-1") -> Loader:
        return Loader(self.warehouse, table, run_id, PULLED_AT, self.today, self.sources)

    def rows(self, table: Table, columns: str = "*") -> list[dict[Any, Any]]:
        frame = self.warehouse.fetch(f"select {columns} from {table.qualified} order by {table.key[0]}")
        return frame.astype(object).where(frame.notna(), None).to_dict("records")

    def rejected(self) -> pd.DataFrame:
        return self.warehouse.fetch('select * from source.rejected_rows order by "table", source, reason')


@pytest.fixture
def pull(tmp_path: Path) -> Pull:
    return Pull(tmp_path)


def invoice(invoice_id: str, **changes: str | None) -> Row:
    row: Row = {"customer_id": "C1", "issued_on": "2026-01-01", "currency": "EUR", "total": "100.00"}
    return {"invoice_id": invoice_id, **row, **changes}


def payment(payment_id: str, invoice_id: str | None, **changes: str | None) -> Row:
    row: Row = {"customer_id": "C1", "currency": "EUR", "amount": "40.00", "paid_on": "2026-02-01"}
    return {"payment_id": payment_id, "invoice_id": invoice_id, **row, **changes}


def customer(customer_id: str, **changes: str | None) -> Row:
    return {"customer_id": customer_id, **changes}


def test_a_row_is_changed_by_its_key_and_the_others_stay(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"), invoice("F2"))
    assert pull(INVOICES, invoice("F2", total="50.00"), invoice("F3")) == Loaded(written=2, rejected=0)
    assert pull.rows(INVOICES, "invoice_id, total_minor, source") == [
        {"invoice_id": "F1", "total_minor": 10_000, "source": "billing"},
        {"invoice_id": "F2", "total_minor": 5_000, "source": "billing"},
        {"invoice_id": "F3", "total_minor": 10_000, "source": "billing"},
    ]


@pytest.mark.parametrize("table", [INVOICES, PAYMENTS], ids=["by integer key", "by id"])
def test_rows_that_are_merged_some_at_a_time_are_the_same_as_at_once(
    pull: Pull, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: Table
) -> None:
    (tmp_path / "at once").mkdir()
    at_once, of = Pull(tmp_path / "at once"), {INVOICES: invoice, PAYMENTS: partial(payment, invoice_id=None)}[table]
    kept = [of(f"F{number}") for number in range(3)]
    changed = [of(f"F{number}", customer_id="C2") for number in range(3, 6)]
    new = [of(f"G{number}") for number in range(4)]
    for one, together in ((pull, 2), (at_once, 1_000)):
        monkeypatch.setattr("dunning_pipeline.resources.loading.ROWS_MERGED", together)
        one(table, *kept, *(row | {"customer_id": "C1"} for row in changed))
        assert one(table, *kept, *changed, *new) == Loaded(written=10, rejected=0)
    columns = f"{table.key[0]}, customer_id, customer_key"
    assert pull.rows(table, columns) == at_once.rows(table, columns)
    assert [row["customer_id"] for row in pull.rows(table)] == [*3 * ["C1"], *3 * ["C2"], *4 * ["C1"]]


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Answers a query at the end of each load from now on, before anything is committed."""
    note = loading.note_change

    def asked(query: str) -> list[Any]:
        answers: list[Any] = []

        def noted(connection: duckdb.DuckDBPyConnection, *about: str) -> None:
            answers.extend(*connection.execute(query).fetchall())
            note(connection, *about)

        monkeypatch.setattr(loading, "note_change", noted)
        return answers

    return asked


def test_loading_takes_little_memory_and_gives_the_others_theirs_back(
    pull: Pull, at_the_end: Callable[[str], list[Any]]
) -> None:
    limit = "select current_setting('memory_limit')"
    before, during = pull.warehouse.fetch(limit).iloc[0, 0], at_the_end(limit)
    pull(INVOICES, invoice("F1"))
    assert (during, pull.warehouse.fetch(limit).iloc[0, 0]) == (["512.0 MiB"], before)


def test_what_does_not_fit_into_little_memory_is_loaded_with_more(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    frugal, failed = Warehouse.frugal_transaction, []

    @contextmanager
    def tiny(warehouse: Warehouse, _: int) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with frugal(warehouse, 2 * 1024**2) as connection:
                yield connection
        except OutOfMemory as error:
            failed.append(str(error))
            raise

    monkeypatch.setattr(Warehouse, "frugal_transaction", tiny)
    wide = [invoice(f"F{number}", pay_url=f"https://pay.test/{number:0200d}") for number in range(20_000)]
    assert pull(INVOICES, *wide) == Loaded(written=20_000, rejected=0)
    assert "look for a full disk, or give it more memory" in failed[0]
    assert pull.warehouse.fetch("select count(distinct pay_url) from source.invoices").iloc[0, 0] == 20_000


def test_rows_that_are_the_same_already_are_not_written_again(
    pull: Pull, at_the_end: Callable[[str], list[Any]]
) -> None:
    rows = [customer(f"C{number}", segment="small") for number in range(3_000)]
    pull(CUSTOMERS, *rows)
    updated = at_the_end("select bool_or(has_updates) from pragma_storage_info('source.customers')")
    pull(CUSTOMERS, *rows)
    pull(CUSTOMERS, *rows[:-1], customer("C2999", segment="large"))
    assert updated == [False, True]


def test_a_custom_column_alone_that_changed_is_written(pull: Pull) -> None:
    pull(CUSTOMERS, customer("C1", segment="small"), customer("C2", segment="small"))
    pull(CUSTOMERS, customer("C1", segment="large"), customer("C2", segment=None))
    assert [row["segment"] for row in pull.rows(CUSTOMERS)] == ["large", None]


def test_a_row_that_another_source_yields_as_it_was_is_of_that_one_from_then_on(pull: Pull) -> None:
    pull(CUSTOMERS, customer("C1"), source="old")
    pull(CUSTOMERS, customer("C1"), source="shop")
    assert [row["source"] for row in pull.rows(CUSTOMERS)] == ["shop"]


def test_a_column_may_have_the_name_that_the_database_gives_its_rows(pull: Pull) -> None:
    pull(CUSTOMERS, *(customer(f"C{number}", rowid=f"{number}{number}") for number in range(3)))
    assert [row["rowid"] for row in pull.rows(CUSTOMERS)] == ["00", "11", "22"]


def test_a_value_that_was_taken_back_is_empty_again(pull: Pull) -> None:
    pull(INVOICES, invoice("F1", disputed_on="2026-02-01"))
    pull(INVOICES, invoice("F1", disputed_on=None))
    assert pull.rows(INVOICES, "invoice_id, disputed_on") == [{"invoice_id": "F1", "disputed_on": None}]


def test_an_invoice_that_shows_up_again_is_no_longer_missing(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"))
    with pull.warehouse.transaction() as connection:
        connection.execute("update source.invoices set missing_since = date '2026-02-01'")
    pull(INVOICES, invoice("F1"))
    assert pull.rows(INVOICES, "invoice_id, missing_since") == [{"invoice_id": "F1", "missing_since": None}]


def test_an_invoice_that_a_complete_list_no_longer_has_is_missing_from_that_day_on(pull: Pull) -> None:
    pull.listed(invoice("A"), invoice("B"))
    pull.today = date(2026, 11, 24)
    assert pull.listed(invoice("A")).vanished == 1
    pull.today = date(2026, 11, 25)
    assert pull.listed(invoice("A")).vanished == 0
    missing = [row["missing_since"] for row in pull.rows(INVOICES)]
    assert missing == [None, pd.Timestamp(2026, 11, 24)]


def test_an_invoice_that_is_listed_but_cannot_be_read_has_not_vanished(pull: Pull) -> None:
    pull.listed(invoice("A"), invoice("B"))
    assert pull.listed(invoice("A"), invoice("B", total="?"), {**invoice("C"), "invoice_id": None}).vanished == 0


def test_a_list_of_one_source_says_nothing_about_another(pull: Pull) -> None:
    pull.listed(invoice("A"))
    pull.listed(invoice("B"), source="shop")
    assert [row["missing_since"] for row in pull.rows(INVOICES)] == [None, None]


def test_what_a_pull_of_changes_does_not_yield_has_not_vanished(pull: Pull) -> None:
    pull.listed(invoice("A"), invoice("B"))
    assert pull(INVOICES, invoice("A")).vanished == 0


def test_what_is_no_longer_outstanding_is_a_payment_of_the_day_on_which_that_is_seen(pull: Pull) -> None:
    pull.today = date(2026, 11, 23)
    pull.listed(invoice("A", outstanding="100.00"), invoice("B", outstanding="70.00"), invoice("C"))
    pull.today = date(2026, 11, 24)
    assert pull.listed(invoice("A", outstanding="25.50"), invoice("B", outstanding="70.00"), invoice("C")).observed == 1
    columns = "payment_id, invoice_id, kind, currency, amount_minor, paid_on, recorded_on, source"
    assert [tuple(row.values()) for row in pull.rows(PAYMENTS, columns)] == [
        ("observed:A:1", "A", "payment", "EUR", 7450, *[pd.Timestamp(2026, 11, 24)] * 2, "billing"),
        ("observed:B:1", "B", "payment", "EUR", 3000, *[pd.Timestamp(2026, 11, 23)] * 2, "billing"),
    ]


def test_what_is_outstanding_again_was_taken_back(pull: Pull) -> None:
    pull.listed(invoice("A", outstanding="0"))
    pull.listed(invoice("A", outstanding="100.00"))
    assert [(row["kind"], row["amount_minor"]) for row in pull.rows(PAYMENTS)] == [
        ("payment", 10000),
        ("chargeback", -10000),
    ]


def test_a_pull_that_changes_nothing_observes_nothing(pull: Pull) -> None:
    pull.listed(invoice("A", outstanding="40.00"))
    assert pull.listed(invoice("A", outstanding="40.00")).observed == 0


def test_a_source_that_tells_payments_observes_none(pull: Pull) -> None:
    assert pull(INVOICES, invoice("A", outstanding="40.00")).observed == 0
    assert pull.rows(PAYMENTS) == []


def test_how_far_a_pull_came_is_kept_with_its_rows(pull: Pull) -> None:
    pull(INVOICES, invoice("A"))
    with pull.warehouse.transaction() as connection:
        assert fetch_progress(connection, "billing", "invoices") == pull.progress
        assert fetch_progress(connection, "billing", "payments") is None


def test_a_pull_that_takes_nothing_over_comes_nowhere(pull: Pull) -> None:
    with pytest.raises(TooManyRejectedRows):
        pull(INVOICES, invoice("A", total="?"), max_rejected=0)
    with pull.warehouse.transaction() as connection:
        assert fetch_progress(connection, "billing", "invoices") is None


def test_money_beyond_what_floats_can_hold_stays_exact(pull: Pull) -> None:
    pull(INVOICES, invoice("F1", total="90071992547409.93"), invoice("F2", total="-0.01"))
    assert [row["total_minor"] for row in pull.rows(INVOICES)] == [2**53 + 1, -1]


def test_integer_keys_are_given_once_and_are_the_same_everywhere(pull: Pull) -> None:
    pull(CUSTOMERS, {"customer_id": "C2"}, {"customer_id": "C1"})
    pull(INVOICES, invoice("F1"), invoice("F2", customer_id="C2"), invoice("F3", customer_id="C3"))
    pull(PAYMENTS, payment("P1", "F2"), payment("P2", None))
    pull(PAUSES, {"pause_id": "H1", "scope": "organisation", "paused_from": "2026-01-01"})
    customers = {row["customer_id"]: row["customer_key"] for row in pull.rows(CUSTOMERS)}
    invoices = pull.rows(INVOICES, "invoice_id, invoice_key, customer_id, customer_key")
    payments = pull.rows(PAYMENTS, "payment_id, customer_key, invoice_key")
    assert {row["customer_id"]: row["customer_key"] for row in invoices} | customers == {
        "C1": customers["C1"],
        "C2": customers["C2"],
        "C3": 3,
    }
    assert sorted(customers.values()) == [1, 2]
    assert sorted(row["invoice_key"] for row in invoices) == [1, 2, 3]
    assert payments == [
        {"payment_id": "P1", "customer_key": customers["C1"], "invoice_key": invoices[1]["invoice_key"]},
        {"payment_id": "P2", "customer_key": customers["C1"], "invoice_key": None},
    ]
    assert pull.rows(PAUSES, "pause_id, customer_key") == [{"pause_id": "H1", "customer_key": None}]


def test_integer_keys_stay_the_same_over_runs(pull: Pull) -> None:
    pull(INVOICES, *[invoice(f"F{number}", customer_id=f"C{number}") for number in range(50)])
    first = pull.rows(INVOICES, "invoice_id, invoice_key, customer_key")
    pull(INVOICES, *[invoice(f"F{number}", customer_id=f"C{number}") for number in reversed(range(60))])
    assert pull.rows(INVOICES, "invoice_id, invoice_key, customer_key") != first
    again = {row["invoice_id"]: row for row in pull.rows(INVOICES, "invoice_id, invoice_key, customer_key")}
    assert [again[row["invoice_id"]] for row in first] == first
    assert len({row["invoice_key"] for row in again.values()}) == 60


def test_custom_columns_of_customers_are_added_and_kept_as_text(pull: Pull) -> None:
    pull(CUSTOMERS, {"customer_id": "C1", "name": "Ann"})
    pull(CUSTOMERS, {"customer_id": "C2", "segment": "0042", "credit limit": "10.0"})
    pull(CUSTOMERS, {"customer_id": "C3", "segment": "1"})
    rows = pull.rows(CUSTOMERS, 'customer_id, name, segment, "credit limit"')
    assert rows == [
        {"customer_id": "C1", "name": "Ann", "segment": None, "credit limit": None},
        {"customer_id": "C2", "name": None, "segment": "0042", "credit limit": "10.0"},
        {"customer_id": "C3", "name": None, "segment": "1", "credit limit": None},
    ]


@pytest.mark.parametrize("together", [True, False])
def test_an_id_of_two_sources_is_refused_naming_both(pull: Pull, together: bool) -> None:
    if together:
        shop = pull.staged(INVOICES, [invoice("F1", total="1.00"), invoice("F2")], "shop")
        loaded = pull.load(INVOICES, pull.staged(INVOICES, [invoice("F1")]), shop)
    else:
        pull(INVOICES, invoice("F1"))
        loaded = pull(INVOICES, invoice("F1", total="1.00"), invoice("F2"), source="shop")
    assert (loaded.written, loaded.rejected) == (2 if together else 1, 1)
    assert pull.rows(INVOICES, "invoice_id, source, total_minor") == [
        {"invoice_id": "F1", "source": "billing", "total_minor": 10_000},
        {"invoice_id": "F2", "source": "shop", "total_minor": 10_000},
    ]
    (refused,) = pull.rejected().to_dict("records")
    assert (refused["source"], refused["table"]) == ("shop", "invoices")
    assert refused["reason"] == "invoice_id 'F1' comes from source 'billing' too; an id can only come from one source"
    assert json.loads(refused["row"])["invoice_id"] == "F1"


def test_a_payment_in_another_currency_than_its_invoice_is_rejected(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"))
    payments = [
        payment("P1", "F1"),
        payment("P2", "F1", currency="USD"),
        payment("P3", "F9", currency="USD"),
        payment("P4", None, currency="USD"),
    ]
    assert pull(PAYMENTS, *payments) == Loaded(written=3, rejected=1)
    assert [row["payment_id"] for row in pull.rows(PAYMENTS)] == ["P1", "P3", "P4"]
    (refused,) = pull.rejected().to_dict("records")
    assert refused["reason"] == "a payment in USD for invoice 'F1', which is in EUR"
    assert json.loads(refused["row"])["payment_id"] == "P2"


ABOUT_INVOICES: dict[Table, Row] = {
    PROMISES: {"promised_on": "2026-02-01", "pay_by": "2026-02-10"},
    ASSIGNMENTS: {"workflow": "gentle", "assigned_from": "2026-02-01"},
    CONTACTS: {"contacted_on": "2026-02-01"},
}


@pytest.mark.parametrize("table", ABOUT_INVOICES, ids=lambda table: table.name)
def test_a_row_about_an_invoice_of_another_customer_is_rejected_naming_both(pull: Pull, table: Table) -> None:
    pull(INVOICES, invoice("F1"), invoice("F2", customer_id="C2"))
    (key,) = table.key
    named = {"R1": "F1", "R2": "F2", "R3": "unknown", "R4": None}
    rows: list[Row] = [
        {key: row_id, "customer_id": "C1", "invoice_id": invoice_id, **ABOUT_INVOICES[table]}
        for row_id, invoice_id in named.items()
    ]
    assert pull(table, *rows) == Loaded(written=3, rejected=1)
    assert [row[key] for row in pull.rows(table)] == ["R1", "R3", "R4"]
    (refused,) = pull.rejected().to_dict("records")
    assert refused["reason"] == "invoice 'F2' is not of customer 'C1', but of 'C2'"
    assert json.loads(refused["row"])[key] == "R2"


def test_a_payment_may_be_for_an_invoice_of_another_customer(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"))
    assert pull(PAYMENTS, payment("P1", "F1", customer_id="C2")) == Loaded(written=1, rejected=0)


def test_a_row_refused_for_two_reasons_is_one_rejected_row(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"))
    pull(PAYMENTS, payment("P1", "F1"))
    assert pull(PAYMENTS, payment("P1", "F1", currency="USD"), source="shop") == Loaded(written=0, rejected=1)
    (reason,) = pull.rejected()["reason"]
    assert set(reason.split("; ")) == {
        "payment_id 'P1' comes from source 'billing' too",
        "an id can only come from one source",
        "a payment in USD for invoice 'F1', which is in EUR",
    }


def test_rejected_rows_tell_where_they_came_from(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"), invoice("F2", total="12.345"), run_id="run-7")
    (row,) = pull.rejected().to_dict("records")
    assert (row["source"], row["table"], row["run_id"]) == ("billing", "invoices", "run-7")
    assert row["pulled_at"] == pd.Timestamp(PULLED_AT)
    assert row["reason"] == "total '12.345' has more than the 2 decimals of EUR"


def test_rejected_rows_are_those_of_the_newest_pull_of_each_source_and_table(pull: Pull) -> None:
    pull(INVOICES, invoice("F1", total="x"), invoice("F2", total="y"))
    pull(INVOICES, invoice("S1", total="z"), source="shop")
    pull(PAYMENTS, payment("P1", None, amount="w"))
    pull(INVOICES, invoice("F1"), invoice("F2", total="v"))
    assert pull.rejected()["reason"].tolist() == [
        f"{name} is no amount" for name in ("total 'v'", "total 'z'", "amount 'w'")
    ]
    pull(INVOICES, invoice("F1"), invoice("F2"))
    assert pull.rejected()["source"].tolist() == ["shop", "billing"]


def test_a_share_of_exactly_what_is_allowed_may_be_rejected(pull: Pull) -> None:
    rows = [invoice(f"F{number}", total="x" if number == 0 else "1.00") for number in range(100)]
    assert pull(INVOICES, *rows, max_rejected=0.01) == Loaded(written=99, rejected=1)


def test_more_rejected_rows_than_allowed_take_nothing_over_but_can_be_looked_at(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"), invoice("F5", total="old"))
    bad = [invoice(f"F{number}", total=f"x{number}") for number in range(2, 6)]
    with pytest.raises(TooManyRejectedRows) as caught:
        pull(INVOICES, invoice("F1", total="50.00"), *bad, max_rejected=0.5, run_id="run-2")
    assert str(caught.value) == (
        "source.invoices: 4 of 5 rows were rejected, more than quality.max_rejected (0.5) allows, so none was taken "
        "over; look at source.rejected_rows. The first: total 'x2' is no amount; total 'x3' is no amount; "
        "total 'x4' is no amount"
    )
    assert pull.rows(INVOICES, "invoice_id, total_minor") == [{"invoice_id": "F1", "total_minor": 10_000}]
    assert pull.rejected()["reason"].tolist() == [f"total 'x{number}' is no amount" for number in range(2, 6)]
    assert set(pull.rejected()["run_id"]) == {"run-2"}


def test_the_share_counts_over_all_sources_and_what_the_warehouse_refuses(pull: Pull) -> None:
    shop = pull.staged(INVOICES, [invoice("F1"), invoice("S1", total="x")], "shop")
    with pytest.raises(TooManyRejectedRows, match="2 of 4 rows"):
        pull.load(INVOICES, pull.staged(INVOICES, [invoice("F1"), invoice("F2")]), shop, max_rejected=0.49)
    assert pull.rows(INVOICES) == []
    assert pull.rejected()["source"].tolist() == ["shop", "shop"]


def test_not_even_one_rejected_row_is_taken_where_none_is_allowed(pull: Pull) -> None:
    with pytest.raises(TooManyRejectedRows, match=r"quality\.max_rejected \(0\)"):
        pull(INVOICES, invoice("F1"), invoice("F2", total="x"), max_rejected=0)


def test_an_empty_pull_changes_nothing(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"))
    assert pull.load(INVOICES, max_rejected=0) == Loaded(written=0, rejected=0)
    empty = pull.staged(INVOICES, [invoice("F2")])
    pq.write_table(pq.read_table(empty.rows).slice(0, 0), empty.rows)
    assert pull.load(INVOICES, replace(empty, pulled=0), max_rejected=0) == Loaded(written=0, rejected=0)
    assert [row["invoice_id"] for row in pull.rows(INVOICES)] == ["F1"]


def test_duplicates_of_a_pull_are_not_counted_as_written(pull: Pull) -> None:
    assert pull(INVOICES, invoice("F1"), invoice("F1"), invoice("F2")) == Loaded(written=2, rejected=0)


def test_a_row_of_a_departed_source_is_taken_over_by_the_one_that_yields_its_id_now(pull: Pull) -> None:
    pull(INVOICES, invoice("F1"), invoice("F2"), source="old")
    assert pull(INVOICES, invoice("F1", total="1.00")) == Loaded(written=1, rejected=0)
    assert pull.rows(INVOICES, "invoice_id, source, total_minor") == [
        {"invoice_id": "F1", "source": "billing", "total_minor": 100},
        {"invoice_id": "F2", "source": "old", "total_minor": 10_000},
    ]


def test_an_id_recorded_by_hand_is_refused_to_every_source(pull: Pull) -> None:
    pull(PAUSES, {"pause_id": "H1", "scope": "organisation", "paused_from": "2026-01-01"}, source="manual")
    again = {"pause_id": "H1", "scope": "organisation", "paused_from": "2026-02-01"}
    assert pull(PAUSES, again) == Loaded(written=0, rejected=1)
    assert pull.rejected()["reason"].tolist() == [
        "pause_id 'H1' comes from source 'manual' too; an id can only come from one source"
    ]
