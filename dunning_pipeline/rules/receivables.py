"""What is owed on a day: RULES.md section 1. What keeps an owed invoice back is in holds.py."""

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd

NO_KEY = -1
"""Stands for "no invoice" in key columns."""


def owed_invoices(
    invoices: pd.DataFrame, payments: pd.DataFrame, tolerance: Mapping[str, int], as_of: date
) -> pd.DataFrame:
    """Invoices with an open balance other than zero that count on `as_of`, or would if they had not vanished.

    Implements RULES 1.1 to 1.3.

    Args:
        invoices: customer_key, invoice_key, issued_on, due_on, currency, total_minor, status, recorded_on,
            voided_on, written_off_on, disputed_on, dispute_resolved_on, missing_since; one row per invoice.
        payments: invoice_key (NO_KEY: unapplied), currency, amount_minor, paid_on, recorded_on.
        tolerance: minor units per currency up to which an open balance counts as paid.
        as_of: the day to derive.

    Returns:
        The rows of `invoices` that are left, with `due_on` filled, `open_minor`, `unpaid` (more than the tolerance
        is open) and `vanished` (neither paid nor owed) added.
    """
    day = np.datetime64(as_of)
    open_minor = invoices["total_minor"].to_numpy() - _paid(invoices, payments, day)
    rows = np.flatnonzero(_counts(invoices, day) & (open_minor != 0))
    owed = invoices.iloc[rows]
    return owed.assign(
        due_on=owed["due_on"].fillna(owed["issued_on"]),
        open_minor=open_minor[rows],
        unpaid=open_minor[rows] > per_currency(owed["currency"], tolerance),
        vanished=_on_or_before(owed, "missing_since", day),
    )


def open_invoices(owed: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The owed invoices that are unpaid, with `days_overdue` (0 up to the due date)."""
    unpaid = owed[owed["unpaid"] & ~owed["vanished"]]
    late = (np.datetime64(as_of) - unpaid["due_on"].to_numpy().astype("datetime64[D]")).astype("int64")
    return unpaid.assign(days_overdue=np.maximum(late, 0))


def unapplied_payments(payments: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """Payments and credits known on `as_of` that belong to no invoice (RULES 1.4).

    Returns:
        customer_key, currency, unapplied_minor; one row per customer and currency.
    """
    known = _known(payments, np.datetime64(as_of))
    unapplied = payments[known & (payments["invoice_key"] == NO_KEY).to_numpy()]
    sums = unapplied.groupby(["customer_key", "currency"], observed=True)["amount_minor"].sum()
    return sums.rename("unapplied_minor").reset_index()


def balances(owed: pd.DataFrame, unapplied: pd.DataFrame, minimum: Mapping[str, int]) -> pd.DataFrame:
    """What each customer owes per currency, and whether that currency is chaseable (RULES 1.4, 6.3).

    A currency whose unpaid invoices are all paused cannot be chased, whatever its balance.

    Args:
        owed: as from `owed_invoices`, with `paused`.
        unapplied: as from `unapplied_payments`.
        minimum: minor units per currency below which nobody is chased.

    Returns:
        customer_key, currency, net_minor, unpaid_minor (unpaused only), net_positive, chaseable, unclear; one row
        per customer and currency with an unpaid invoice, or for customers of whom only vanished ones are left.
    """
    group = ["customer_key", "currency"]
    counting = owed[~owed["vanished"]]
    unpaid = counting["unpaid"].to_numpy()
    per_currency_sums = (
        counting.assign(
            net_minor=counting["open_minor"],
            unpaid_minor=counting["open_minor"].where(unpaid & ~counting["paused"].to_numpy(), 0),
        )
        .groupby(group, observed=True)
        .agg(net_minor=("net_minor", "sum"), unpaid_minor=("unpaid_minor", "sum"), unpaid=("unpaid", "any"))
        .query("unpaid")
        .drop(columns="unpaid")
        .reset_index()
    )
    exact = unapplied.astype({"unapplied_minor": "Int64"})
    result = per_currency_sums.merge(exact, on=group, how="left", validate="1:1")
    net = result["net_minor"] - result.pop("unapplied_minor").fillna(0).astype("int64")
    net_positive = (net > 0) & (result["unpaid_minor"] > 0)
    reached = result["unpaid_minor"].to_numpy() >= per_currency(result["currency"], minimum)
    result = result.assign(net_minor=net, net_positive=net_positive, chaseable=net_positive & reached, unclear=False)
    return pd.concat([result, _only_vanished(owed, result)], ignore_index=True)


def chaseable_invoices(owed: pd.DataFrame, balances: pd.DataFrame) -> pd.DataFrame:
    """The unpaid, unpaused invoices in chaseable currencies: those that can carry and are listed (RULES 1.4, 7.1)."""
    chaseable = balances.loc[balances["chaseable"], ["customer_key", "currency"]]
    return owed[~owed["paused"]].merge(chaseable, on=["customer_key", "currency"], validate="m:1")


def per_currency(currency: pd.Series, amounts: Mapping[str, int]) -> np.ndarray:
    """For each row the amount that its currency has in `amounts`, else 0."""
    by_category = np.array([amounts.get(code, 0) for code in currency.cat.categories], dtype="int64")
    codes = currency.cat.codes.to_numpy()
    return by_category[codes]


def _only_vanished(owed: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    vanished = owed[owed["vanished"] & owed["unpaid"] & ~owed["customer_key"].isin(counted["customer_key"])]
    return (
        vanished[["customer_key", "currency"]]
        .drop_duplicates()
        .assign(net_minor=0, unpaid_minor=0, net_positive=False, chaseable=False, unclear=True)
    )


def _paid(invoices: pd.DataFrame, payments: pd.DataFrame, day: np.datetime64) -> np.ndarray:
    """Minor units applied to each row of `invoices`; a payment in another currency is ignored (RULES 1.2)."""
    rows = _invoice_rows(invoices, payments)
    applied = np.flatnonzero((rows != NO_KEY) & _known(payments, day))
    rows = rows[applied]
    same = invoices["currency"].cat.codes.to_numpy()[rows] == payments["currency"].cat.codes.to_numpy()[applied]
    paid = np.zeros(len(invoices), dtype="int64")
    np.add.at(paid, rows[same], payments["amount_minor"].to_numpy()[applied[same]])
    return paid


def _invoice_rows(invoices: pd.DataFrame, payments: pd.DataFrame) -> np.ndarray:
    """The row of `invoices` that each payment is applied to, or NO_KEY."""
    invoice_keys, payment_keys = invoices["invoice_key"].to_numpy(), payments["invoice_key"].to_numpy()
    highest = max(invoice_keys.max(initial=NO_KEY), payment_keys.max(initial=NO_KEY))
    row_of = np.full(highest + 2, NO_KEY, dtype="int32")
    row_of[invoice_keys] = np.arange(len(invoices), dtype="int32")
    return row_of[payment_keys]


def _known(payments: pd.DataFrame, day: np.datetime64) -> np.ndarray:
    return _on_or_before(payments, "paid_on", day) & _on_or_before(payments, "recorded_on", day)


def _counts(invoices: pd.DataFrame, day: np.datetime64) -> np.ndarray:
    """Whether each invoice counts on `day`, vanished ones included (RULES 1.1)."""
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


def _excluded_by_status(invoices: pd.DataFrame) -> np.ndarray:
    """Drafts, and void or written-off invoices that do not say since when."""
    status = invoices["status"]
    undated_void = (status == "void").to_numpy() & invoices["voided_on"].isna().to_numpy()
    undated_write_off = (status == "written_off").to_numpy() & invoices["written_off_on"].isna().to_numpy()
    return (status == "draft").to_numpy() | undated_void | undated_write_off


def _on_or_before(frame: pd.DataFrame, column: str, day: np.datetime64) -> np.ndarray:
    """Whether the date is on or before `day`; an empty date is not."""
    return frame[column].to_numpy() <= day
