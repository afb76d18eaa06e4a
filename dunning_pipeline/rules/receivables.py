"""When an invoice counts and a currency is chaseable: the conditions of RULES.md section 1.

What is owed on the days of a window is put together in standing.py and owed.py.
"""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import pandas as pd

from dunning_pipeline.rules.spans import place_in
from dunning_pipeline.rules.timing import AsOf

Amounts = TypeVar("Amounts", pd.Series, np.ndarray)

NO_KEY = -1
"""Stands for "no invoice" in key columns."""

VOID_KEY = -2
"""Stands for an invoice that is not of the row's customer, or that no source has: the row says nothing about it."""


def chaseable(net_minor: Amounts, unpaid_minor: Amounts, minimum: np.ndarray) -> tuple[Amounts, Amounts]:
    """Whether something can be chased at all, and whether the minimum amount is reached too (RULES 1.4, 6.3).

    Args:
        net_minor: open balances of all counting invoices less unapplied payments.
        unpaid_minor: open balances of unpaid, unpaused invoices.
        minimum: below which nobody is chased.
    """
    positive = (net_minor > 0) & (unpaid_minor > 0)
    return positive, positive & (unpaid_minor >= minimum)


def per_currency(currency: pd.Series, amounts: Mapping[str, int]) -> np.ndarray:
    """For each row the amount that its currency has in `amounts`, else 0."""
    by_category = np.array([amounts.get(code, 0) for code in currency.cat.categories], dtype="int64")
    codes = currency.cat.codes.to_numpy()
    return by_category[codes]


def invoice_rows(invoices: pd.DataFrame, payments: pd.DataFrame) -> np.ndarray:
    """The row of `invoices` that each payment is applied to, or NO_KEY."""
    invoice_keys, payment_keys = invoices["invoice_key"].to_numpy(), payments["invoice_key"].to_numpy()
    order = np.argsort(invoice_keys)
    place = place_in(invoice_keys[order], payment_keys)
    return np.where(place < 0, NO_KEY, np.append(order, NO_KEY)[place])


def counts(invoices: pd.DataFrame, day: AsOf) -> np.ndarray:
    """Whether each invoice counts on `day` (one, or one for each), vanished ones included (RULES 1.1)."""
    voided, written_off = (
        _on_or_before(invoices, "voided_on", day),
        _on_or_before(invoices, "written_off_on", day),
    )
    resolved = _on_or_before(invoices, "dispute_resolved_on", day)
    return (
        _on_or_before(invoices, "recorded_on", day)
        & ~_excluded_by_status(invoices)
        & ~voided
        & ~written_off
        & ~(_on_or_before(invoices, "disputed_on", day) & ~resolved)
    )


def vanished(invoices: pd.DataFrame, day: AsOf) -> np.ndarray:
    """Whether nobody can say any more what became of each invoice (RULES 1.1)."""
    return _on_or_before(invoices, "missing_since", day)


def _excluded_by_status(invoices: pd.DataFrame) -> np.ndarray:
    """Drafts, and void or written-off invoices that do not say since when."""
    status = invoices["status"]
    undated_void = (status == "void").to_numpy() & invoices["voided_on"].isna().to_numpy()
    undated_write_off = (status == "written_off").to_numpy() & invoices["written_off_on"].isna().to_numpy()
    return (status == "draft").to_numpy() | undated_void | undated_write_off


def _on_or_before(frame: pd.DataFrame, column: str, day: AsOf) -> np.ndarray:
    """Whether the date is on or before `day`; an empty date is not."""
    return frame[column].to_numpy() <= day
