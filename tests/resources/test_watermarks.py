"""Watermarks: what a database gives is compared exactly, written down, read again, and less an overlap."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from dunning_pipeline.errors import SourceError
from dunning_pipeline.resources.watermarks import Value, Watermark, highest

HOUR = timedelta(hours=1)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        datetime(2026, 11, 22, 12, 0, 0, 123456),
        date(2026, 11, 22),
        9_007_199_254_740_993,
        Decimal("12.5"),
        "2026-11-22 12:00:00",
        "",
        "time is no time",
    ],
)
def test_a_watermark_is_read_as_it_was_written(value: Value) -> None:
    assert Watermark.parse(str(Watermark(value))) == Watermark(value)


@pytest.mark.parametrize("text", ["", "yesterday", "time soon", "number x", "date 2026-13-01"])
def test_what_is_no_watermark_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SourceError, match=r"is no watermark, such as 'time 2026-11-22T09:00:00\+00:00'"):
        Watermark.parse(text)


@pytest.mark.parametrize(
    ("value", "since"),
    [
        (NOON, NOON - HOUR),
        (datetime(2026, 11, 22, 0, 30), datetime(2026, 11, 21, 23, 30)),
        (date(2026, 11, 22), date(2026, 11, 21)),
        ("2026-11-22 12:00:00", "2026-11-22 11:00:00"),
        ("2026-11-22T12:00:00.250000", "2026-11-22T11:00:00.250000"),
        ("2026-11-22T12:00:00Z", "2026-11-22T11:00:00Z"),
        ("2026-11-22", "2026-11-21"),
        ("R-0042", "R-0042"),
        (42, 42),
    ],
)
def test_a_pull_begins_an_overlap_before_the_watermark_where_it_is_a_time(value: Value, since: Value) -> None:
    assert Watermark(value).less(HOUR) == since


@pytest.mark.parametrize(
    ("value", "capped"),
    [
        (NOON + HOUR, NOON),
        (NOON - HOUR, NOON - HOUR),
        (datetime(2026, 11, 22, 14), datetime(2026, 11, 22, 13)),
        (datetime(2026, 11, 22, 14, tzinfo=timezone(HOUR)), NOON),
        (date(2030, 1, 1), date(2026, 11, 22)),
        ("2099-01-01 00:00:00", "2026-11-22 13:00:00"),
        ("2099-01-01T00:00:00Z", "2026-11-22T12:00:00Z"),
        ("2099-01-01", "2026-11-22"),
        ("R-0042", "R-0042"),
        (42, 42),
    ],
)
def test_a_row_of_the_future_does_not_keep_later_changes_from_being_pulled(value: Value, capped: Value) -> None:
    assert Watermark(value).capped(NOON, "Europe/Paris").value == capped


def test_the_highest_value_is_taken_and_empty_ones_are_left_out() -> None:
    assert highest([None, 3, 9, None], Watermark(5)) == Watermark(9)
    assert highest([None], Watermark(5)) == Watermark(5)
    assert highest([None, None], None) is None


def test_a_watermark_never_goes_back() -> None:
    assert highest([3], Watermark(5)) == Watermark(5)


@pytest.mark.parametrize("value", [0.5, True, b"x", HOUR])
def test_what_does_not_order_exactly_is_refused(value: object) -> None:
    with pytest.raises(SourceError, match="allowed is what orders exactly: times, dates, whole numbers, text"):
        highest([value], None)


def test_values_of_several_kinds_are_refused() -> None:
    with pytest.raises(SourceError, match="cannot be compared: number, text"):
        highest([1, "2"], None)
