"""What mappings of APIs need of staging: times as numbers, texts of theirs for ours, minor units of their own."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from test_staging import INVOICE, Stage, kept, only, reasons

from dunning_pipeline.tables import CUSTOMERS, INVOICES


@pytest.fixture
def staged(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


MIDNIGHT = "1792454400"
"""2026-10-20T00:00:00Z, in seconds."""


@pytest.mark.parametrize(
    ("form", "text", "zone", "day"),
    [
        ("unix_seconds", MIDNIGHT, "UTC", date(2026, 10, 20)),
        ("unix_seconds", MIDNIGHT, "America/New_York", date(2026, 10, 19)),
        ("unix_seconds", "1792454399.9", "UTC", date(2026, 10, 19)),
        ("unix_seconds", "1792447200", "Europe/Paris", date(2026, 10, 20)),
        ("unix_seconds", "-86400", "UTC", date(1969, 12, 31)),
        ("unix_milliseconds", f"{MIDNIGHT}000", "Pacific/Auckland", date(2026, 10, 20)),
        ("/Date(ms)/", f"/Date({MIDNIGHT}000+0000)/", "America/New_York", date(2026, 10, 20)),
        ("/Date(ms)/", f"/Date({MIDNIGHT}000)/", "America/New_York", date(2026, 10, 20)),
        ("/Date(ms)/", f"/Date({MIDNIGHT}000+1300)/", "UTC", date(2026, 10, 20)),
        ("/Date(ms)/", f"/Date({MIDNIGHT}000-0330)/", "UTC", date(2026, 10, 19)),
    ],
)
def test_times_as_numbers_are_days_of_the_zone_or_of_the_offset_they_name(
    staged: Stage, form: str, text: str, zone: str, day: date
) -> None:
    result = staged(INVOICES, INVOICE | {"due_on": text}, time_zone=zone, date_formats={"due_on": form})
    assert only(result)["due_on"] == day


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("unix_seconds", f"{MIDNIGHT}000"),
        ("unix_seconds", "99999999999999999999"),
        ("unix_seconds", "2026-10-20"),
        ("unix_milliseconds", "soon"),
        ("/Date(ms)/", MIDNIGHT),
        ("/Date(ms)/", "/Date(x)/"),
        ("/Date(ms)/", f"/Date({'9' * 30}+0000)/"),
    ],
)
def test_a_number_that_is_no_time_rejects_its_row_and_no_other(staged: Stage, form: str, text: str) -> None:
    rows = [INVOICE | {"due_on": text}, INVOICE | {"invoice_id": "other", "due_on": None}]
    result = staged(INVOICES, *rows, date_formats={"due_on": form})
    assert reasons(result) == [f"due_on '{text}' is no date of the form {form}"]
    assert only(result)["invoice_id"] == "other"


def test_a_format_of_numbers_is_for_times_too_and_one_of_dates_is_not(staged: Stage) -> None:
    row = {"customer_id": "C", "created_at": MIDNIGHT, "updated_at": f"/Date({MIDNIGHT}000+0000)/"}
    result = only(staged(CUSTOMERS, row, date_format="unix_seconds", date_formats={"updated_at": "/Date(ms)/"}))
    assert result["created_at"] == result["updated_at"] == datetime(2026, 10, 20, tzinfo=UTC)
    iso = only(staged(CUSTOMERS, {"customer_id": "C", "created_at": "2026-10-20T00:00:00Z"}, date_format="%d.%m.%Y"))
    assert iso["created_at"] == datetime(2026, 10, 20, tzinfo=UTC)


def test_a_time_may_have_a_format_of_its_own(staged: Stage) -> None:
    row = {"customer_id": "C", "created_at": "20.10.2026 02:00", "updated_at": "20.10.2026"}
    result = staged(CUSTOMERS, row, date_formats={"created_at": "%d.%m.%Y %H:%M", "updated_at": "%d.%m.%Y %H:%M"})
    assert reasons(result) == ["updated_at '20.10.2026' is no time of the form %d.%m.%Y %H:%M"]
    row = {"customer_id": "C", "created_at": "20.10.2026 02:00"}
    result = staged(CUSTOMERS, row, date_formats={"created_at": "%d.%m.%Y %H:%M"})
    assert only(result)["created_at"] == datetime(2026, 10, 20, tzinfo=UTC)


def test_their_texts_become_ours_and_others_stay(staged: Stage) -> None:
    rows = [INVOICE | {"invoice_id": text, "status": text} for text in ("PAID", "VOIDED", "draft", "it's", "odd")]
    translate = {"status": {"PAID": "open", "VOIDED": "void", "it's": "written_off"}}
    result = staged(INVOICES, *rows, translate=translate)
    assert {row["invoice_id"]: row["status"] for row in kept(result)} == {
        "PAID": "open",
        "VOIDED": "void",
        "draft": "draft",
        "it's": "written_off",
    }
    assert reasons(result) == ["status 'odd' is not allowed; allowed: draft, open, void, written_off"]


@pytest.mark.parametrize(
    ("currency", "total", "minor"),
    [("isk", "50000", 500), ("mga", "7", 700), ("eur", "1050", 1050), ("jpy", "1050", 1050), ("kwd", "5120", 5120)],
)
def test_minor_units_may_be_counted_otherwise_than_by_the_standard(
    staged: Stage, currency: str, total: str, minor: int
) -> None:
    row = INVOICE | {"currency": currency, "total": total, "outstanding": total}
    result = only(staged(INVOICES, row, minor_units=True, minor_unit_decimals={"ISK": 2, "MGA": 0}))
    assert (result["total_minor"], result["outstanding_minor"]) == (minor, minor)


def test_a_part_of_a_minor_unit_is_still_refused(staged: Stage) -> None:
    row = INVOICE | {"currency": "isk", "total": "50050"}
    result = staged(INVOICES, row, minor_units=True, minor_unit_decimals={"ISK": 2})
    assert reasons(result) == ["total '50050' is no whole number of minor units"]
