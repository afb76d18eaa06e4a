"""What is owed on each day of a window, a row per invoice and day: RULES.md 1, 6.1 to 6.3.

How an invoice stands is found in spans (standing.py); here the spans become rows, and the rows balances.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dunning_pipeline.rules import receivables
from dunning_pipeline.rules.holds import mark_holds
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.spans import begins as new_keys
from dunning_pipeline.rules.spans import distinct, expanded, packed, place_in, running_sums, unpacked
from dunning_pipeline.rules.standing import Ledger, Window, applied_payments, due_dates, standing
from dunning_pipeline.rules.timing import day_numbers


@dataclass(frozen=True)
class Owed:
    """`invoices` that count and have a balance other than zero, day by day; `vanished`: those that would (RULES 1.1).

    Both have as_of, day (since 1970), customer_key, invoice_key, issued_on, due_on (filled), currency, total_minor,
    open_minor, unpaid (more than the tolerance is open), paused, paused_by and broken_promise.
    """

    invoices: pd.DataFrame
    vanished: pd.DataFrame


def owed_invoices(ledger: Ledger, tolerance: Mapping[str, int], window: Window) -> Owed:
    """What is owed on each day of the window (RULES 1.1 to 1.3, 6.1, 6.2).

    Args:
        ledger: what was known.
        tolerance: minor units per currency up to which an open balance counts as paid.
        window: the days.
    """
    rows = _rows(ledger, tolerance, window)
    missing = ledger.invoices[ledger.invoices["missing_since"].notna()]
    if missing.empty:
        return Owed(rows, rows.iloc[:0])
    shown = replace(ledger, invoices=missing.assign(missing_since=np.datetime64("NaT", "s")))
    vanished = _rows(shown, tolerance, window)
    since = missing.set_index("invoice_key")["missing_since"].reindex(vanished["invoice_key"])
    return Owed(rows, vanished[vanished["day"].to_numpy() >= day_numbers(since)])


def _rows(ledger: Ledger, tolerance: Mapping[str, int], window: Window) -> pd.DataFrame:
    # What holds an invoice is marked row by row below.
    free = replace(ledger, pauses=ledger.pauses.iloc[:0], promises=ledger.promises.iloc[:0])
    stood = standing(free, tolerance, window)
    span, day = expanded(stood.spans.start, stood.spans.stop)
    row, invoices = stood.spans.key[span], ledger.invoices
    due = due_dates(invoices).astype("datetime64[D]").astype("datetime64[s]")
    rows = pd.DataFrame(
        {
            "as_of": day.astype("datetime64[D]").astype("datetime64[s]"),
            "day": day,
            "customer_key": invoices["customer_key"].to_numpy()[row],
            "invoice_key": invoices["invoice_key"].to_numpy()[row],
            "issued_on": invoices["issued_on"].to_numpy()[row],
            "due_on": due[row],
            "recorded_on": invoices["recorded_on"].to_numpy()[row],
            "currency": pd.Categorical.from_codes(invoices["currency"].cat.codes.to_numpy()[row], dtype=CURRENCY),
            "total_minor": invoices["total_minor"].to_numpy()[row],
            "open_minor": stood.open_minor[span],
            "unpaid": stood.unpaid[span],
        },
        copy=False,
    )
    return mark_holds(rows, ledger.pauses, ledger.promises)


def are_paid(ledger: Ledger, tolerance: Mapping[str, int], invoice_key: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Whether no more than the tolerance was open of invoices on days, whatever else became of them (RULES 1.3).

    Args:
        ledger: what was known by the last of the days; has every invoice that is asked for.
        tolerance: minor units per currency up to which an open balance counts as paid.
        invoice_key: the invoices, any of them several times.
        day: the day (since 1970) on which each is asked for.

    Returns:
        One answer for each key and day, in their order.
    """
    row, known, amount = applied_payments(ledger)
    places = packed(row, known)
    order = np.argsort(places)
    paid = running_sums(amount[order], new_keys(row[order]))
    invoices = ledger.invoices
    asked = pd.Index(invoices["invoice_key"]).get_indexer(pd.Index(invoice_key))
    at = np.searchsorted(places[order], packed(asked, day), "right") - 1
    same = (at >= 0) & (np.append(row[order], NO_KEY)[at] == asked)
    open_minor = invoices["total_minor"].to_numpy()[asked] - np.where(same, np.append(paid, 0)[at], 0)
    settled: np.ndarray = open_minor <= receivables.per_currency(invoices["currency"], tolerance)[asked]
    return settled


def open_invoices(owed: Owed) -> pd.DataFrame:
    """The owed invoices that are unpaid, with `days_overdue` (0 up to the due date)."""
    unpaid = owed.invoices[owed.invoices["unpaid"].to_numpy()].reset_index(drop=True)
    return unpaid.assign(days_overdue=np.maximum(unpaid["day"].to_numpy() - day_numbers(unpaid["due_on"]), 0))


def balances(owed: Owed, payments: pd.DataFrame, minimum: Mapping[str, int]) -> pd.DataFrame:
    """What each customer owes per currency and day, and whether that currency is chaseable (RULES 1.4, 6.3).

    A currency whose unpaid invoices are all paused cannot be chased, whatever its balance.

    Args:
        owed: as from `owed_invoices`.
        payments: of the same ledger.
        minimum: minor units per currency below which nobody is chased.

    Returns:
        as_of, customer_key, currency, net_minor, unpaid_minor (unpaused only), net_positive, chaseable, unclear; one
        row per day, customer and currency with an unpaid invoice, or for customers of whom only vanished ones are left.
    """
    rows = owed.invoices
    account_days, unpaid = account_day(rows), rows["unpaid"].to_numpy()
    places = distinct(account_days[unpaid])
    at = np.searchsorted(places, account_days)
    mine = np.flatnonzero(place_matches(places, at, account_days))
    at, open_minor = at[mine], rows["open_minor"].to_numpy()[mine]
    free = unpaid[mine] & ~rows["paused"].to_numpy()[mine]
    net, unpaid_minor = np.zeros(len(places), dtype="int64"), np.zeros(len(places), dtype="int64")
    np.add.at(net, at, open_minor)
    np.add.at(unpaid_minor, at[free], open_minor[free])
    account, day = unpacked(places)
    net -= _unapplied(payments, account, day)
    result = _of_accounts(account, day).assign(net_minor=net, unpaid_minor=unpaid_minor)
    lowest = receivables.per_currency(result["currency"], minimum)
    positive, reached = receivables.chaseable(net, unpaid_minor, lowest)
    result = result.assign(net_positive=positive, chaseable=reached, unclear=False)
    return pd.concat([result, _only_vanished(owed.vanished, result)], ignore_index=True)


def place_matches(places: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether the value was found where it would stand among ordered places."""
    return np.append(places, NO_KEY)[at] == values


def account_day(rows: pd.DataFrame) -> np.ndarray:
    """One number for the customer, the currency and the day of each row."""
    codes = rows["currency"].cat.codes.to_numpy().astype("int64")
    return packed(rows["customer_key"].to_numpy() * len(CURRENCY.categories) + codes, day_numbers(rows["as_of"]))


def _of_accounts(account: np.ndarray, day: np.ndarray) -> pd.DataFrame:
    customer, currency = np.divmod(account, len(CURRENCY.categories))
    return pd.DataFrame(
        {
            "as_of": day.astype("datetime64[D]").astype("datetime64[s]"),
            "customer_key": customer,
            "currency": pd.Categorical.from_codes(currency, dtype=CURRENCY),
        }
    )


def _unapplied(payments: pd.DataFrame, account: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Payments and credits of each account, known by its day, that belong to no invoice (RULES 1.4)."""
    unapplied = payments[(payments["invoice_key"] == NO_KEY).to_numpy()]
    if unapplied.empty:
        return np.zeros(len(account), dtype="int64")
    known = unapplied[["paid_on", "recorded_on"]].max(axis=1)
    places = account_day(unapplied.assign(as_of=known))
    order = np.argsort(places)
    places = places[order]
    sums = running_sums(unapplied["amount_minor"].to_numpy()[order], new_keys(unpacked(places)[0]))
    at = np.searchsorted(places, packed(account, day), "right") - 1
    same = (at >= 0) & (unpacked(places[at])[0] == account)
    return np.where(same, sums[at], 0)


def _only_vanished(vanished: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    vanished = vanished[vanished["unpaid"].to_numpy()]
    left = packed(vanished["customer_key"].to_numpy(), vanished["day"].to_numpy())
    # The few are put in order, not the many.
    places = distinct(left)
    others = np.zeros(len(places) + 1, dtype=bool)
    others[place_in(places, packed(counted["customer_key"].to_numpy(), day_numbers(counted["as_of"])))] = True
    alone = vanished[~others[place_in(places, left)]]
    columns = ["as_of", "customer_key", "currency"]
    return (
        alone[columns]
        .drop_duplicates()
        .assign(net_minor=0, unpaid_minor=0, net_positive=False, chaseable=False, unclear=True)
    )


def chaseable_invoices(unpaid: pd.DataFrame, balances: pd.DataFrame) -> pd.DataFrame:
    """The unpaid, unpaused invoices in chaseable currencies: those that can carry and are listed (RULES 1.4, 7.1)."""
    chased = np.sort(account_day(balances[balances["chaseable"].to_numpy(dtype=bool)]))
    free = unpaid[~unpaid["paused"].to_numpy(dtype=bool)]
    account_days = account_day(free)
    found = place_matches(chased, np.searchsorted(chased, account_days), account_days)
    return free[found].reset_index(drop=True)
