"""Staging: text of a source to typed rows, each key once, and every reason for which a row is turned down."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import Mapping
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Staged, raw_columns_problem, stage
from dunning_pipeline.tables import CUSTOMERS, INVOICES, PAUSES, PAYMENTS, PROMISES, Kind, Table

Row = dict[str, str | None]

INVOICE: Row = {
    "invoice_id": "F1",
    "customer_id": "C1",
    "issued_on": "2026-01-01",
    "due_on": "2026-01-31",
    "currency": "EUR",
    "total": "100.00",
}
PAYMENT: Row = {
    "payment_id": "P1",
    "customer_id": "C1",
    "invoice_id": "F1",
    "currency": "EUR",
    "amount": "40.00",
    "paid_on": "2026-02-01",
}
PAUSE: Row = {
    "pause_id": "H1",
    "scope": "customer",
    "customer_id": "C1",
    "invoice_id": None,
    "paused_from": "2026-01-10",
    "paused_until": None,
}
PROMISE: Row = {
    "promise_id": "V1",
    "customer_id": "C1",
    "promised_on": "2026-01-10",
    "pay_by": "2026-01-20",
    "pauses": None,
}


class Stage:
    """Stages rows of text as if the source `billing` had yielded them."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder / "billing.parquet"

    def __call__(
        self,
        table: Table,
        *rows: Row,
        unreadable: pa.Table | None = None,
        time_zone: str = "Europe/Paris",
        **mapping: Any,
    ) -> Staged:
        names = list(dict.fromkeys(name for row in rows for name in row))
        schema = pa.schema([(name, pa.string()) for name in names])
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), self.raw)
        rejects = REJECTS_SCHEMA.empty_table() if unreadable is None else unreadable
        return stage("billing", table, Mapping(**mapping), self.raw, rejects, time_zone)


@pytest.fixture
def staged(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def kept(result: Staged) -> list[dict[str, Any]]:
    return list(pq.read_table(result.rows).to_pylist())


def only(result: Staged) -> dict[str, Any]:
    (row,) = kept(result)
    return row


def reasons(result: Staged) -> list[str]:
    return list(result.rejected["reason"].to_pylist())


def test_every_column_comes_out_in_its_declared_type(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE)
    schema = pq.read_schema(result.rows)
    types = {
        Kind.TEXT: pa.string(),
        Kind.DATE: pa.date32(),
        Kind.MONEY: pa.int64(),
        Kind.INSTANT: pa.timestamp("us", tz="UTC"),
    }
    assert {column.name: schema.field(column.name).type for column in INVOICES.incoming} == {
        column.name: types[column.kind] for column in INVOICES.incoming
    }
    assert only(result) | {"total_minor": 10_000, "issued_on": date(2026, 1, 1)} == only(result)


def test_ids_keep_leading_zeros_and_lose_only_surrounding_blanks(staged: Stage) -> None:
    row = only(staged(INVOICES, INVOICE | {"invoice_id": " 000123 ", "customer_id": "007"}))
    assert (row["invoice_id"], row["customer_id"]) == ("000123", "007")


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("100", "EUR", 10_000),
        ("100.5", "EUR", 10_050),
        ("-0.01", "EUR", -1),
        ("0.10", "USD", 10),
        ("12.300", "EUR", 1_230),
        ("1e2", "EUR", 10_000),
        ("1234", "JPY", 1_234),
        ("1.234", "KWD", 1_234),
        ("90071992547409.93", "EUR", 2**53 + 1),
        ("92233720368547.59", "EUR", 9_223_372_036_854_759),
    ],
)
def test_amounts_become_exact_minor_units(staged: Stage, text: str, currency: str, minor: int) -> None:
    result = staged(INVOICES, INVOICE | {"total": text, "currency": currency})
    assert (reasons(result), only(result)["total_minor"], result.rounded) == ([], minor, 0)


def test_binary_noise_is_rounded_and_counted(staged: Stage) -> None:
    noisy = INVOICE | {"total": repr(0.1 + 0.2)}
    result = staged(INVOICES, noisy, INVOICE | {"invoice_id": "F2"})
    assert kept(result)[0]["total_minor"] + kept(result)[1]["total_minor"] == 30 + 10_000
    assert result.rounded == 1


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("1234,56", 123_456),
        ("1.234,56", 123_456),
        ("-1.234.567,5", -123_456_750),
        ("1 234,56", 123_456),
        ("1\u00a0234,56", 123_456),
        ("1'234,56", 123_456),
        ("1234", 123_400),
        ("0,05", 5),
    ],
)
def test_amounts_with_a_decimal_comma_are_read_where_the_mapping_says_so(staged: Stage, text: str, minor: int) -> None:
    result = staged(INVOICES, INVOICE | {"total": text}, decimal_comma=True)
    assert (reasons(result), only(result)["total_minor"]) == ([], minor)


@pytest.mark.parametrize("text", ["1234.56", "1.23,4", "1,234.56", "1,2,3", ",5", "12.34", "abc"])
def test_an_amount_that_is_written_otherwise_is_rejected_and_never_guessed(staged: Stage, text: str) -> None:
    result = staged(INVOICES, INVOICE | {"total": text}, decimal_comma=True)
    assert reasons(result) == [f"total '{text}' is no amount"]


def test_without_it_a_comma_is_no_amount(staged: Stage) -> None:
    assert reasons(staged(INVOICES, INVOICE | {"total": "1.234,56"})) == ["total '1.234,56' is no amount"]


@pytest.mark.parametrize(("text", "minor"), [("12345", 12_345), ("-1", -1), (str(2**53 + 1), 2**53 + 1)])
def test_amounts_in_minor_units_are_taken_as_they_are(staged: Stage, text: str, minor: int) -> None:
    result = staged(INVOICES, INVOICE | {"total": text}, minor_units=True)
    assert (reasons(result), only(result)["total_minor"]) == ([], minor)


def test_a_fraction_of_a_minor_unit_is_rejected(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE | {"total": "100.50"}, minor_units=True)
    assert reasons(result) == ["total '100.50' is no whole number of minor units"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"invoice_id": None}, "invoice_id is empty"),
        ({"invoice_id": "  "}, "invoice_id is empty"),
        ({"customer_id": ""}, "customer_id is empty"),
        ({"currency": None}, "currency is empty"),
        ({"currency": "EURO"}, "currency 'EURO' is no ISO 4217 currency"),
        ({"currency": "XAU"}, "currency 'XAU' is no ISO 4217 currency"),
        ({"issued_on": None}, "issued_on is empty"),
        ({"issued_on": "2026-02-30"}, "issued_on '2026-02-30' is no date of the form 2026-11-22"),
        ({"due_on": "soon"}, "due_on 'soon' is no date of the form 2026-11-22"),
        ({"due_on": "31.01.2026"}, "due_on '31.01.2026' is no date of the form 2026-11-22"),
        ({"updated_at": "noon"}, "updated_at 'noon' is no time of the form 2026-11-22T09:00:00+00:00"),
        ({"total": None}, "total is empty"),
        ({"total": "12.345"}, "total '12.345' has more than the 2 decimals of EUR"),
        ({"total": "12.5", "currency": "JPY"}, "total '12.5' has more than the 0 decimals of JPY"),
        ({"total": "1.2345", "currency": "KWD"}, "total '1.2345' has more than the 3 decimals of KWD"),
        ({"total": "a lot"}, "total 'a lot' is no amount"),
        ({"total": "1,234.50"}, "total '1,234.50' is no amount"),
        ({"total": "NaN"}, "total 'NaN' is no amount"),
        ({"status": "paid"}, "status 'paid' is not allowed; allowed: draft, open, void, written_off"),
    ],
)
def test_an_invoice_that_cannot_be_read_is_rejected_with_its_reason(staged: Stage, change: Row, reason: str) -> None:
    result = staged(INVOICES, INVOICE | {"invoice_id": "F0"}, INVOICE | change)
    assert reasons(result) == [reason]
    assert only(result)["invoice_id"] == "F0"
    assert result.pulled == 2


def test_a_rejected_row_is_kept_as_it_came(staged: Stage) -> None:
    came = INVOICE | {"total": "12.345", "note": "by hand", "due_on": None}
    result = staged(INVOICES, came)
    assert json.loads(result.rejected["row"].to_pylist()[0]) == came


def test_all_reasons_of_a_row_are_told_together(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE | {"invoice_id": None, "issued_on": "yesterday"})
    assert reasons(result) == ["invoice_id is empty; issued_on 'yesterday' is no date of the form 2026-11-22"]


def test_an_amount_without_a_known_currency_is_blamed_on_the_currency_alone(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE | {"currency": "ZZZ", "total": "12.345"})
    assert reasons(result) == ["currency 'ZZZ' is no ISO 4217 currency"]


def test_an_amount_that_no_column_could_hold_is_rejected(staged: Stage) -> None:
    assert len(reasons(staged(INVOICES, INVOICE | {"total": "9" * 30}))) == 1


def test_quotes_in_a_bad_value_do_no_harm(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE | {"status": "it's"})
    assert reasons(result) == ["status 'it's' is not allowed; allowed: draft, open, void, written_off"]


@pytest.mark.parametrize("kind", ["refund", "chargeback"])
def test_refunds_and_chargebacks_must_be_negative(staged: Stage, kind: str) -> None:
    positive = PAYMENT | {"kind": kind}
    result = staged(PAYMENTS, positive, positive | {"payment_id": "P2", "amount": "-40.00"})
    assert reasons(result) == ["refunds and chargebacks are negative"]
    assert (only(result)["payment_id"], only(result)["amount_minor"]) == ("P2", -4_000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"customer_id": None}, "a pause of a customer needs a customer_id"),
        ({"scope": "invoice"}, "a pause of an invoice needs an invoice_id"),
        ({"paused_until": "2026-01-10"}, "paused_until must be later than paused_from"),
        ({"scope": "everybody"}, "scope 'everybody' is not allowed; allowed: organisation, customer, invoice"),
    ],
)
def test_a_pause_of_nothing_is_rejected(staged: Stage, change: Row, reason: str) -> None:
    assert reasons(staged(PAUSES, PAUSE | change)) == [reason]


def test_a_pause_of_the_whole_organisation_needs_no_id(staged: Stage) -> None:
    row = only(staged(PAUSES, PAUSE | {"scope": "Organisation", "customer_id": None}))
    assert (row["scope"], row["paused_until"]) == ("organisation", None)


def test_a_promise_cannot_end_before_it_is_made(staged: Stage) -> None:
    result = staged(PROMISES, PROMISE | {"pay_by": "2026-01-09"})
    assert reasons(result) == ["pay_by must not be before promised_on"]


@pytest.mark.parametrize(
    ("text", "pauses"), [(None, True), ("false", False), ("true", True), ("0", False), ("1", True)]
)
def test_whether_a_promise_pauses_is_read_and_true_by_default(staged: Stage, text: str | None, pauses: bool) -> None:
    assert only(staged(PROMISES, PROMISE | {"pauses": text}))["pauses"] is pauses


def test_a_switch_that_is_neither_true_nor_false_is_rejected(staged: Stage) -> None:
    result = staged(PROMISES, PROMISE | {"pauses": "maybe"})
    assert reasons(result) == ["pauses 'maybe' is not allowed; allowed: true, false"]


def test_empty_columns_get_their_defaults(staged: Stage) -> None:
    invoice = only(staged(INVOICES, INVOICE | {"status": None}))
    assert (invoice["status"], invoice["recorded_on"]) == ("open", date(2026, 1, 1))
    payment = only(staged(PAYMENTS, PAYMENT))
    assert (payment["kind"], payment["recorded_on"]) == ("payment", date(2026, 2, 1))


def test_currencies_and_allowed_words_are_taken_in_any_case(staged: Stage) -> None:
    row = only(staged(INVOICES, INVOICE | {"currency": "eur", "status": "Written_Off", "total": "1.50"}))
    assert (row["currency"], row["status"], row["total_minor"]) == ("EUR", "written_off", 150)


@pytest.mark.parametrize(
    ("text", "zone", "day"),
    [
        ("2026-01-01T23:30:00Z", "Europe/Paris", date(2026, 1, 2)),
        ("2026-01-01T23:30:00Z", "America/New_York", date(2026, 1, 1)),
        ("2026-01-01 23:30:00+00:00", "Europe/Paris", date(2026, 1, 2)),
        ("2026-01-02T00:30:00+09:00", "Europe/Paris", date(2026, 1, 1)),
        ("2026-01-01 23:30:00", "Europe/Paris", date(2026, 1, 1)),
        ("2026-01-01 00:00:00", "America/New_York", date(2026, 1, 1)),
        ("2026-01-01", "Pacific/Auckland", date(2026, 1, 1)),
    ],
)
def test_instants_become_dates_of_the_zone_and_dates_stay(staged: Stage, text: str, zone: str, day: date) -> None:
    assert only(staged(INVOICES, INVOICE | {"issued_on": text}, time_zone=zone))["issued_on"] == day


def test_times_without_a_zone_are_of_the_source(staged: Stage) -> None:
    row = only(staged(INVOICES, INVOICE | {"updated_at": "2026-07-01 10:00:00"}))
    assert row["updated_at"] == datetime(2026, 7, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "form", "day"),
    [
        ("1/2/2013", "%m/%d/%Y", date(2013, 1, 2)),
        ("12/31/2013", "%m/%d/%Y", date(2013, 12, 31)),
        ("26-Apr-11", "%d-%b-%y", date(2011, 4, 26)),
        ("31.01.2026", "%d.%m.%Y", date(2026, 1, 31)),
        ("20260131", "%Y%m%d", date(2026, 1, 31)),
    ],
)
def test_dates_of_another_form_are_read_by_it(staged: Stage, text: str, form: str, day: date) -> None:
    row = only(staged(INVOICES, INVOICE | {"issued_on": text, "due_on": None}, date_format=form))
    assert row["issued_on"] == day


def test_columns_may_have_dates_of_different_forms(staged: Stage) -> None:
    row = INVOICE | {"issued_on": "26-Apr-11", "due_on": "5/26/2011", "voided_on": "2011-06-01"}
    forms = {"issued_on": "%d-%b-%y", "voided_on": "%Y-%m-%d"}
    result = only(staged(INVOICES, row, date_format="%m/%d/%Y", date_formats=forms))
    assert [result[name] for name in ("issued_on", "due_on", "voided_on")] == [
        date(2011, 4, 26),
        date(2011, 5, 26),
        date(2011, 6, 1),
    ]


def test_a_date_of_another_form_than_the_mapping_says_is_rejected(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE | {"due_on": None, "issued_on": "13/31/2013"}, date_format="%m/%d/%Y")
    assert reasons(result) == ["issued_on '13/31/2013' is no date of the form %m/%d/%Y"]


def test_of_rows_with_one_key_the_newest_is_kept_and_the_others_are_counted(staged: Stage) -> None:
    rows = [
        INVOICE | {"total": total, "updated_at": updated_at}
        for total, updated_at in [
            ("1.00", "2026-01-01T10:00:00Z"),
            ("3.00", "2026-01-03T10:00:00Z"),
            ("2.00", "2026-01-02T10:00:00Z"),
            ("4.00", None),
        ]
    ]
    result = staged(INVOICES, *rows)
    assert only(result)["total_minor"] == 300
    assert (result.pulled, result.duplicates, reasons(result)) == (4, 3, [])


def test_without_a_time_the_last_row_of_a_key_is_kept(staged: Stage) -> None:
    result = staged(INVOICES, INVOICE | {"total": "2.00"}, INVOICE | {"total": "1.00"})
    assert (only(result)["total_minor"], result.duplicates) == (100, 1)


def test_unreadable_rows_are_counted_with_the_pulled_ones_and_kept(staged: Stage) -> None:
    unreadable = pa.table({"row": ["{}"], "reason": ["the line cannot be read"]}, schema=REJECTS_SCHEMA)
    result = staged(INVOICES, INVOICE, INVOICE | {"currency": None}, unreadable=unreadable)
    assert (result.pulled, reasons(result)) == (3, ["the line cannot be read", "currency is empty"])


def test_values_are_the_same_for_every_row(staged: Stage) -> None:
    row = {name: text for name, text in INVOICE.items() if name != "currency"}
    rows = kept(staged(INVOICES, row, row | {"invoice_id": "F2"}, values={"currency": "USD", "pay_url": "it's"}))
    assert [(kept["currency"], kept["pay_url"]) for kept in rows] == [("USD", "it's")] * 2


def test_a_column_of_the_source_can_feed_two(staged: Stage) -> None:
    row = {name: text for name, text in INVOICE.items() if name != "invoice_id"} | {"No.": "0042"}
    result = only(staged(INVOICES, row, columns={"No.": ["invoice_id", "number"]}))
    assert (result["invoice_id"], result["number"]) == ("0042", "0042")


def test_a_mapped_column_goes_before_one_that_has_the_name(staged: Stage) -> None:
    result = only(staged(INVOICES, INVOICE | {"gross": "119.00"}, columns={"gross": "total"}))
    assert result["total_minor"] == 11_900


def test_columns_beyond_the_declared_ones_stay_with_customers_as_text(staged: Stage) -> None:
    customer = {"customer_id": "C1", "Segment": "0042", "credit limit": "10.0", 'size "x"': None}
    result = staged(CUSTOMERS, customer)
    assert result.custom == ("Segment", "credit limit", 'size "x"')
    assert only(result) | customer == only(result)


@pytest.mark.parametrize("name", ["row", "reason", "digits", "raw", "texts", "_position", "_rounded", "text_name"])
def test_a_custom_column_may_have_any_name(staged: Stage, name: str) -> None:
    nobody: Row = {"customer_id": None, "name": "Bob", name: "y"}
    result = staged(CUSTOMERS, {"customer_id": "C1", "name": "Ann", name: "x"}, nobody)
    assert (only(result)[name], only(result)["name"]) == ("x", "Ann")
    assert reasons(result) == ["customer_id is empty"]
    assert json.loads(result.rejected["row"].to_pylist()[0]) == nobody


def test_other_tables_keep_no_custom_columns(staged: Stage) -> None:
    assert staged(INVOICES, INVOICE | {"note": "x"}).custom == ()
    assert staged(INVOICES, INVOICE | {"note": "x"}, columns={"note": "remark"}).custom == ()


def test_a_mapping_of_customers_keeps_the_custom_columns_that_it_names_and_no_others(staged: Stage) -> None:
    row: Row = {"id": "C1", "note": "x", "segment_code": " 0042", "country": "FR"}
    mapped = staged(CUSTOMERS, row, columns={"id": "customer_id", "segment_code": "segment"}, values={"shop": "north"})
    assert mapped.custom == ("segment", "shop")
    found = only(mapped)
    assert (found["segment"], found["shop"], found["country"]) == (" 0042", "north", "FR")
    assert "note" not in found


def test_one_column_can_fill_a_declared_and_a_custom_one(staged: Stage) -> None:
    found = only(
        staged(CUSTOMERS, {"id": "C1", "land": "FR"}, columns={"id": "customer_id", "land": ["country", "region"]})
    )
    assert (found["country"], found["region"]) == ("FR", "FR")


def test_constants_beyond_the_declared_columns_stay_with_customers(staged: Stage) -> None:
    result = staged(CUSTOMERS, {"customer_id": "C1", "note": "x"}, values={"segment": "retail"})
    assert result.custom == ("note", "segment")
    assert only(result)["segment"] == "retail"


@pytest.mark.parametrize("name", ["source", "customer_key", "Source"])
def test_a_custom_column_with_a_name_of_the_pipelines_own_is_refused(staged: Stage, name: str) -> None:
    refused = f"billing.customers: column '{name}' is filled by the pipeline; give it another name"
    with pytest.raises(SourceError) as caught:
        staged(CUSTOMERS, {"customer_id": "C1", name: "x"})
    assert str(caught.value) == refused
    mapping = Mapping(columns={"theirs": (name,)})
    assert raw_columns_problem("billing", CUSTOMERS, mapping, ["customer_id", "theirs"]) == refused


def test_a_declared_name_in_other_case_is_refused_not_confused(staged: Stage) -> None:
    with pytest.raises(SourceError, match=r"billing\.customers: column 'Email' .*email"):
        staged(CUSTOMERS, {"customer_id": "C1", "Email": "a@shop.test"})


def test_a_needed_column_that_is_missing_is_named_with_what_there_is(staged: Stage) -> None:
    row = {name: text for name, text in INVOICE.items() if name not in {"total", "due_on"}}
    with pytest.raises(SourceError) as caught:
        staged(INVOICES, row)
    assert str(caught.value) == (
        "billing.invoices: column 'total' is needed, but the source yields invoice_id, customer_id, issued_on, "
        "currency; name it so in the query, or give `columns: {<its name>: total}` or `values: {total: <constant>}`"
    )


def test_a_mapped_column_that_is_missing_is_named_with_what_there_is(staged: Stage) -> None:
    with pytest.raises(SourceError) as caught:
        staged(CUSTOMERS, {"customer_id": "C1"}, columns={"mail": "email"})
    assert str(caught.value) == (
        "billing.customers: the mapping names column 'mail', but the source yields customer_id"
    )


def test_the_problem_of_columns_can_be_asked_for_without_rows() -> None:
    mapping = Mapping(columns={"id": ("customer_id",)})
    assert raw_columns_problem("billing", CUSTOMERS, mapping, ["id"]) is None
    problem = raw_columns_problem("billing", CUSTOMERS, mapping, ["name"])
    assert problem == "billing.customers: the mapping names column 'id', but the source yields name"


def test_an_empty_table_is_an_empty_pull(staged: Stage) -> None:
    names = [column.incoming_name for column in INVOICES.incoming]
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), staged.raw)
    result = stage("billing", INVOICES, Mapping(), staged.raw, REJECTS_SCHEMA.empty_table(), time_zone="Europe/Paris")
    assert (result.pulled, result.duplicates, result.rounded, reasons(result), kept(result)) == (0, 0, 0, [], [])


def test_columns_without_any_value_are_empty_not_wrong(staged: Stage) -> None:
    optional: Row = {column.incoming_name: None for column in INVOICES.incoming if not column.required}
    row = only(staged(INVOICES, optional | {name: INVOICE[name] for name in INVOICE if name != "due_on"}))
    assert (row["due_on"], row["updated_at"], row["pay_url"], row["voided_on"]) == (None,) * 4


def test_rows_of_nothing_but_empty_values_are_all_rejected(staged: Stage) -> None:
    result = staged(INVOICES, *[dict.fromkeys(INVOICE)] * 3)
    empty = "; ".join(f"{name} is empty" for name in ["invoice_id", "customer_id", "issued_on", "currency", "total"])
    assert (reasons(result), kept(result)) == ([empty] * 3, [])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0022-07-01", None),
        ("22-07-01", None),
        ("1899-12-31", None),
        ("2201-01-01", None),
        ("22-07-01T10:00:00Z", None),
        ("0202-07-01T10:00:00Z", None),
        ("1/2/13", "%m/%d/%Y"),
        ("01.01.2201", "%d.%m.%Y"),
    ],
)
def test_a_date_of_an_impossible_year_is_rejected(staged: Stage, text: str, form: str | None) -> None:
    mapping = {"date_format": form} if form else {}
    result = staged(INVOICES, INVOICE | {"due_on": None, "issued_on": text}, **mapping)
    assert reasons(result) == [f"issued_on '{text}' is no date of the form {form or '2026-11-22'}"]


@pytest.mark.parametrize("text", ["1900-01-01", "2200-12-31"])
def test_the_first_and_the_last_possible_year_are_taken(staged: Stage, text: str) -> None:
    assert only(staged(INVOICES, INVOICE | {"issued_on": text, "due_on": None}))["issued_on"].isoformat() == text
