"""Ranges of customers: everybody is in exactly one."""

import numpy as np
import pandas as pd
import pytest

from dunning_pipeline.rules.slices import key_ranges, rows_within, within


@pytest.mark.parametrize("rows", [1, 7, 100, 10_000])
@pytest.mark.parametrize("customers", [1, 3, 500])
def test_every_row_is_in_exactly_one_range(rows: int, customers: int) -> None:
    keys = np.random.default_rng(rows).integers(1, customers + 1, 3_000)
    ranges = key_ranges(keys, rows)
    found = np.concatenate([rows_within(keys, some) for some in ranges])
    assert sorted(found.tolist()) == list(range(len(keys)))
    assert [some.start for some in ranges] == sorted(some.start for some in ranges)


def test_ranges_have_about_as_many_rows_as_they_should() -> None:
    keys = np.random.default_rng(1).integers(0, 100_000, 50_000)
    sizes = [len(rows_within(keys, some)) for some in key_ranges(keys, 5_000)]
    assert len(sizes) == 10
    assert max(sizes) < 6_000


def test_a_customer_with_most_of_the_rows_is_in_one_range() -> None:
    keys = np.array([5] * 1_000 + [6, 7])
    assert [len(rows_within(keys, some)) for some in key_ranges(keys, 100)] == [1_002]


def test_nobody_is_one_range() -> None:
    assert key_ranges(np.empty(0, dtype="int64")) == [range(0)]


def test_the_rows_of_a_range_are_numbered_anew() -> None:
    frame = pd.DataFrame({"customer_key": [3, 1, 3, 2], "value": list("abcd")}, index=[9, 8, 7, 6])
    expected = pd.DataFrame({"customer_key": [3, 3], "value": ["a", "c"]})
    pd.testing.assert_frame_equal(within(frame, range(3, 4)), expected)
