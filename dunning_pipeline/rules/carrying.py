"""Which invoice carries a customer's workflow: RULES.md section 2."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd

from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.money import minor_digits
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.spans import begins, packed
from dunning_pipeline.rules.timing import day_numbers

Ids = Callable[[np.ndarray], np.ndarray]
"""Gives the invoice ids of invoice keys, in their order. Asked only where ids decide."""


def carrying_invoices(candidates: pd.DataFrame, rates: Mapping[str, Decimal], ids: Ids) -> pd.DataFrame:
    """Of each customer's candidates the one with the oldest due date, then the highest total, then the lowest id.

    Implements RULES 2.1 and 2.4: an invoice of its own workflow carries itself and competes with no other.

    Args:
        candidates: as_of, customer_key, level, invoice_key, due_on, currency, total_minor; the unpaid, unpaused
            invoices in chaseable currencies.
        rates: units of base currency per unit of each currency, the base currency's own (1) included.
        ids: the invoices' ids.

    Returns:
        The chosen rows of `candidates`, at the customer level one per customer and day.
    """
    own = (candidates["level"] == "invoice").to_numpy()
    rivals = candidates[~own]
    together = packed(rivals["customer_key"].to_numpy(), day_numbers(rivals["as_of"]))
    chosen = rivals.iloc[first_of_each(rivals, together, rates, ids)]
    return pd.concat([chosen, candidates[own]], ignore_index=True)


def first_of_each(candidates: pd.DataFrame, group: np.ndarray, rates: Mapping[str, Decimal], ids: Ids) -> np.ndarray:
    """The row that carries of each group of candidates, in the order of the groups' numbers (RULES 2.1).

    Args:
        candidates: invoice_key, due_on, currency, total_minor.
        group: a number for each of them.
        rates, ids: as for `carrying_invoices`.
    """
    rows = _oldest_due(day_numbers(candidates["due_on"]), group)
    alone = _alone(group[rows])
    tied = rows[~alone]
    if not len(tied):
        return rows
    rivals = candidates.iloc[tied][["invoice_key", "currency", "total_minor"]].assign(customer_key=group[tied])
    total = comparable_totals(rivals, rates).to_numpy()
    place = np.lexsort((-total, group[tied]))
    highest = np.repeat(
        total[place][begins(group[tied][place])], np.bincount(np.cumsum(begins(group[tied][place])) - 1)
    )
    tied = tied[place[total[place] == highest]]
    names = ids(candidates["invoice_key"].to_numpy()[tied])
    tied = tied[np.lexsort((pd.factorize(names, sort=True)[0], group[tied]))]
    found = np.concatenate([rows[alone], tied[begins(group[tied])]])
    sorted_rows: np.ndarray = found[np.argsort(group[found])]
    return sorted_rows


def _oldest_due(due: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The rows with the oldest due date of their group, in the order of the groups' numbers."""
    # A stable sort takes no time where groups are in order already, as they are when they are read.
    order = np.argsort(group, kind="stable")
    if not len(order):
        return order
    first = np.flatnonzero(begins(group[order]))
    oldest = np.minimum.reduceat(due[order], first)
    return order[due[order] == np.repeat(oldest, np.diff(np.append(first, len(order))))]


def _alone(ordered: np.ndarray) -> np.ndarray:
    """Whether each of some ordered numbers occurs once."""
    new = begins(ordered)
    return new & np.append(new[1:], True)


def in_order(candidates: pd.DataFrame, rates: Mapping[str, Decimal]) -> pd.DataFrame:
    """The candidates, those of a customer in the order in which RULES 2.1 would let them carry.

    Args:
        candidates: customer_key, invoice_id, due_on, currency (categorical), total_minor; whoever shares a customer_key
            competes.
        rates: units of base currency per unit of each currency, the base currency's own (1) included.

    Returns:
        The same rows and columns, with their index, by customer_key and then the one that carries first.
    """
    together = candidates.groupby(["customer_key", "due_on"]).ngroup()
    size = comparable_totals(candidates.assign(customer_key=together), rates)
    order = ["customer_key", "due_on", "size", "invoice_id"]
    return candidates.assign(size=-size).sort_values(order).drop(columns="size")


CHANGES = ("first", "paid", "excluded", "older_invoice", "reopened")


def carrying_changes(
    carried: pd.DataFrame,
    candidates: pd.DataFrame,
    is_paid: Callable[[np.ndarray, np.ndarray], np.ndarray],
    recorded_on: Callable[[np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Why an invoice carries that did not the day before (RULES 2.3).

    Args:
        carried: as_of, customer_key, level, invoice_key; the carrying invoices of successive days.
        candidates: as_of, level, invoice_key; what they were chosen from.
        is_paid: whether invoices (by key) were paid on days (since 1970), whatever else became of them.
        recorded_on: the days on which invoices (by key) became known.

    Returns:
        Indexed like `carried`: `carrying_change` (of CHANGES, or empty) and `previous_invoice_key` (empty unless
        another invoice of the customer carried). Every invoice of the first day is `first`.
    """
    day, own = day_numbers(carried["as_of"]), (carried["level"] == "invoice").to_numpy()
    invoice = carried["invoice_key"].to_numpy()
    unit = np.where(own, -invoice - 1, carried["customer_key"].to_numpy())
    before = _found_at(packed(unit, day), packed(unit, day - 1))
    old = np.where(before >= 0, invoice[before], NO_KEY)
    change = np.where(before >= 0, -1, CHANGES.index("first"))
    other = np.flatnonzero((before >= 0) & (old != invoice))
    rivals = candidates[(candidates["level"] != "invoice").to_numpy()]
    still = _found_at(packed(rivals["invoice_key"].to_numpy(), day_numbers(rivals["as_of"])), packed(old, day)[other])
    change[other] = np.select(
        [
            is_paid(old[other], day[other]),
            still < 0,
            recorded_on(invoice[other]).astype("datetime64[D]").astype("int64") == day[other],
        ],
        [CHANGES.index(name) for name in ("paid", "excluded", "older_invoice")],
        default=CHANGES.index("reopened"),
    )
    previous = pd.Series(old, carried.index, dtype="Int64").where((before >= 0) & (old != invoice))
    return pd.DataFrame(
        {
            "carrying_change": labelled(change, CHANGES),
            "previous_invoice_key": previous,
        },
        index=carried.index,
    )


def _found_at(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted number stands in `places`; -1 where it does not."""
    order = np.argsort(places)
    at = np.searchsorted(places[order], wanted)
    found = np.append(places[order], -1)[at] == wanted
    return np.where(found, np.append(order, 0)[at], -1)


def comparable_totals(tied: pd.DataFrame, rates: Mapping[str, Decimal]) -> "pd.Series[int]":
    """Integers that order the totals of a customer: minor units, or ranks where several currencies tie (RULES 2.1).

    Args:
        tied: customer_key, currency (categorical), total_minor; rows with the same customer_key are compared.
        rates: units of base currency per unit of each currency; one that is missing has all of its tie compared by
            number of major units.

    Returns:
        Indexed like `tied`; comparable among rows of one customer_key only.
    """
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
