"""Customers in ranges of keys. A customer's decision depends on no other, so ranges are decided side by side."""

from itertools import pairwise

import numpy as np
import pandas as pd

ROWS = 1 << 18
"""Rows of a range, about. What pandas does for each range, however small it is, takes as long as some 30,000 rows."""

_SAMPLE = 1_000
"""Keys that are looked at for each range."""


def key_ranges(customer_key: np.ndarray, rows: int = ROWS) -> list[range]:
    """Ranges of keys, ascending, that hold all of some rows' customers, each with about so many of the rows.

    There is at least one range. A customer with more rows is in one range all the same.
    """
    if not len(customer_key):
        return [range(0)]
    number = max(1, round(len(customer_key) / rows))
    sample = np.sort(customer_key[:: max(1, len(customer_key) // (number * _SAMPLE))])
    cuts = sample[np.arange(1, number) * len(sample) // number]
    bounds = np.unique(np.concatenate([[customer_key.min()], cuts, [customer_key.max() + 1]])).tolist()
    return [range(first, stop) for first, stop in pairwise(bounds)]


def within(frame: pd.DataFrame, keys: range) -> pd.DataFrame:
    """The rows of a frame with `customer_key` that are about customers in a range, numbered anew."""
    rows = rows_within(frame["customer_key"].to_numpy(), keys)
    return frame.take(rows).reset_index(drop=True)


def rows_within(customer_key: np.ndarray, keys: range) -> np.ndarray:
    """The rows whose customer is in a range, in their order."""
    return np.flatnonzero((customer_key >= keys.start) & (customer_key < keys.stop))
