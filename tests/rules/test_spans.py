"""Spans of days against counting day by day."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dunning_pipeline.rules.spans import (
    Spans,
    Steps,
    crossed,
    cut,
    first_of,
    joined,
    numbered,
    packed,
    place_in,
    running_sums,
    unpacked,
)

KEYS, DAYS = range(4), range(-3, 12)
Row = tuple[int, int, int]

rows = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(DAYS), st.integers(1, 9)).map(lambda r: (r[0], r[1], r[1] + r[2])),
    max_size=25,
)


def spans_of(rows: list[Row]) -> Spans:
    columns = np.array(rows, dtype="int64").reshape(-1, 3).T
    return Spans(*columns)


def days_of(spans: Spans) -> list[tuple[int, range]]:
    return [(k, range(a, b)) for k, a, b in zip(spans.key, spans.start, spans.stop, strict=True)]


def held(spans: Spans, content: np.ndarray) -> dict[tuple[int, int], int]:
    """What holds for each key and day; fails where spans overlap or are out of order."""
    found = {}
    for (key, days), value in zip(days_of(spans), content.tolist(), strict=True):
        assert len(days) > 0
        for day in days:
            assert (key, day) not in found
            found[key, day] = value
    assert list(found) == sorted(found)
    return found


@settings(deadline=None)
@given(rows)
def test_the_first_of_overlapping_spans_holds(rows):
    spans = spans_of(rows)
    expected = {}
    for row, (key, days) in reversed(list(enumerate(days_of(spans)))):
        expected |= {(key, day): row for day in days}
    assert held(*first_of(spans)) == expected


@settings(deadline=None)
@given(rows, rows)
def test_crossed_spans_hold_where_both_hold(left, right):
    mine = spans_of(left)
    its, of_row = first_of(spans_of(right))
    common, row, other = crossed(mine, its)
    expected = held(its, of_row)
    found = [
        (mine_row, key, day, its_row)
        for (key, days), mine_row, its_row in zip(days_of(common), row.tolist(), of_row[other].tolist(), strict=True)
        for day in days
    ]
    assert found == [
        (mine_row, key, day, expected[key, day])
        for mine_row, (key, days) in enumerate(days_of(mine))
        for day in days
        if (key, day) in expected
    ]


@settings(deadline=None)
@given(rows, st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(DAYS))))
def test_cutting_changes_no_day_and_leaves_no_cut_inside(rows, cuts):
    spans = spans_of(rows)
    keys, days = np.array(cuts, dtype="int64").reshape(-1, 2).T
    pieces, row = cut(spans, keys, days)
    found = [(r, key, day) for (key, days), r in zip(days_of(pieces), row.tolist(), strict=True) for day in days]
    assert found == [(r, key, day) for r, (key, days) in enumerate(days_of(spans)) for day in days]
    assert not any((key, day) in cuts for key, days in days_of(pieces) for day in days[1:])


@settings(deadline=None)
@given(rows, st.integers(1, 3))
def test_joining_neighbours_changes_no_day(rows, contents):
    spans, row = first_of(spans_of(rows))
    content = row % contents
    whole, first = joined(spans, content)
    assert held(whole, content[first]) == held(spans, content)
    ends = {(key, days.stop, value) for (key, days), value in zip(days_of(whole), content[first], strict=True)}
    assert not any((k, d.start, v) in ends for (k, d), v in zip(days_of(whole), content[first], strict=True))


def test_packing_orders_by_key_then_day_and_can_be_undone():
    keys, days = np.array([0, 0, 1, 2**38]), np.array([-800_000, 25_000, -1, 2_932_896])
    places = packed(keys, days)
    assert (np.diff(places) > 0).all()
    assert [column.tolist() for column in unpacked(places)] == [keys.tolist(), days.tolist()]


def test_running_sums_begin_anew_where_marked():
    sums = running_sums(np.array([1, 2, 3, 10, 20, 5]), np.array([True, False, False, True, False, True]))
    assert sums.tolist() == [1, 3, 6, 10, 30, 5]


@settings(deadline=None)
@given(rows)
def test_steps_are_sums_of_what_holds(rows):
    spans = spans_of(rows)
    amounts = np.arange(1, len(rows) + 1)
    steps = Steps.sums(spans, amounts)
    for key in KEYS:
        for day in range(-5, 25):
            expected = sum(
                amount for (k, days), amount in zip(days_of(spans), amounts, strict=True) if k == key and day in days
            )
            assert steps.on(np.array([key]), np.array([day])) == [expected]


def test_values_are_numbered_by_their_order():
    assert numbered(np.array([30, 10, 30, 20])).tolist() == [2, 0, 2, 1]
    assert place_in(np.array([10, 20]), np.array([20, 5, 10, 99])).tolist() == [1, -1, 0, -1]
    assert place_in(np.array([], dtype="int64"), np.array([1])).tolist() == [-1]
