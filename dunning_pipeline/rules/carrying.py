"""Which invoice carries a customer's workflow: RULES.md section 2."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd

from dunning_pipeline.rules.money import minor_digits


def carrying_invoices(candidates: pd.DataFrame, rates: Mapping[str, Decimal]) -> pd.DataFrame:
    """Of each customer's candidates the one with the oldest due date, then the highest total, then the lowest id.

    Implements RULES 2.1.

    Args:
        candidates: customer_key, invoice_id, due_on, currency, total_minor; the unpaid, unpaused invoices in
            chaseable currencies. Ids are compared only where dates and totals tie.
        rates: units of base currency per unit of each currency, the base currency's own (1) included.

    Returns:
        The chosen rows of `candidates`, one per customer, ordered by customer_key.
    """
    oldest = candidates.groupby("customer_key")["due_on"].transform("min")
    tied = candidates[candidates["due_on"] == oldest]
    comparable = _comparable_totals(tied, rates)
    highest = comparable.groupby(tied["customer_key"]).transform("max")
    tied = tied[comparable == highest]
    alone = ~tied["customer_key"].duplicated(keep=False)
    lowest_id = tied[~alone].sort_values("invoice_id").drop_duplicates("customer_key")
    return pd.concat([tied[alone], lowest_id]).sort_values("customer_key", ignore_index=True)


def _comparable_totals(tied: pd.DataFrame, rates: Mapping[str, Decimal]) -> "pd.Series[int]":
    """Integers that order the totals of a customer: minor units, or ranks where several currencies tie."""
    codes = tied["currency"].cat.codes.groupby(tied["customer_key"])
    mixed = (codes.transform("min") != codes.transform("max")).to_numpy()
    totals = tied["total_minor"].copy()
    if mixed.any():
        totals[mixed] = _ranks_across_currencies(tied[mixed], rates)
    return totals


def _ranks_across_currencies(tied: pd.DataFrame, rates: Mapping[str, Decimal]) -> np.ndarray:
    """Ranks of exact totals: in base currency when every tied currency has a rate, else in major units."""
    categories = tied["currency"].cat.categories
    codes = tied["currency"].cat.codes.to_numpy()
    unit = np.array([Fraction(1, 10 ** minor_digits(code)) for code in categories], dtype=object)
    rate = np.array([Fraction(rates.get(code, 0)) for code in categories], dtype=object)
    rated = pd.Series(rate[codes] != 0, tied.index).groupby(tied["customer_key"]).transform("all").to_numpy()
    major = tied["total_minor"].to_numpy().astype(object) * unit[codes]
    exact = np.where(rated, major * rate[codes], major)
    return np.unique(exact, return_inverse=True)[1]
