"""How every invoice stands on each day of a window, as spans of days in which nothing changes: RULES.md 1, 6.1 to 6.3.

The same rules as for a single day (receivables.py, holds.py), for all days at once, so that the work grows with what
happens and not with the days.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd

from dunning_pipeline.rules import holds, receivables, slices
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.slices import key_ranges, rows_within, within
from dunning_pipeline.rules.spans import (
    Spans,
    begins,
    crossed,
    distinct,
    first_of,
    joined,
    packed,
    place_in,
    running_sums,
    sums_at,
    unpacked,
)
from dunning_pipeline.rules.timing import day_numbers

NEVER = 1 << 22
"""A day after all others, for spans without an end."""

TEXTS = ("invoice_id", "number", "pay_url")
Texts = Callable[[np.ndarray], pd.DataFrame]
"""Gives the TEXTS of invoice keys, in their order. Asked only where texts decide."""


@dataclass(frozen=True)
class Ledger:
    """What was known of invoices, payments and holds by the last day of a window.

    invoices: customer_key, invoice_key, issued_on, due_on, currency, total_minor, status, recorded_on, voided_on,
        written_off_on, disputed_on, dispute_resolved_on, missing_since; one row per invoice.
    payments: customer_key (the invoice's, whoever paid), invoice_key (NO_KEY: unapplied), currency, amount_minor,
        paid_on, recorded_on. One that came before its invoice is there as unapplied too, and is taken back when the
        invoice becomes known (RULES 1.4).
    pauses: scope, customer_key, invoice_key, paused_from, paused_until, recorded_on.
    promises: promise_id, customer_key, invoice_key (NO_KEY: everything), promised_on, pay_by, pauses, withdrawn_on,
        recorded_on.
    """

    invoices: pd.DataFrame
    payments: pd.DataFrame
    pauses: pd.DataFrame
    promises: pd.DataFrame

    def key_ranges(self, days: int = 1) -> list[range]:
        """Ranges of customers that are worth their own computation of some days; see `slices.key_ranges`."""
        return key_ranges(self.invoices["customer_key"].to_numpy(), max(1, slices.ROWS // days))

    def within(self, keys: range) -> "Ledger":
        """What is about the customers in a range of keys, invoices in order of customer; pauses and promises whole."""
        owner = self.invoices["customer_key"].to_numpy()
        rows = rows_within(owner, keys)
        rows = rows[np.argsort(owner[rows])]
        invoices = self.invoices.take(rows).reset_index(drop=True)
        return Ledger(invoices, within(self.payments, keys), self.pauses, self.promises)


@dataclass(frozen=True)
class Records(Ledger):
    """What else was known by the last day of a window.

    texts: of the invoices.
    assignments, contacts, order_events: all rows.
    customers: customer_key, country, identifiers and what the smart rules ask for, one row each.
    """

    texts: Texts
    assignments: pd.DataFrame
    contacts: pd.DataFrame
    order_events: pd.DataFrame
    customers: pd.DataFrame


class Window(NamedTuple):
    """The days from `first` up to the day before `stop`, as numbers since 1970."""

    first: int
    stop: int

    @classmethod
    def of(cls, first: date, last: date) -> "Window":
        """The days from `first` to `last`, both included."""
        return cls(_number(first), _number(last) + 1)

    def clip(self, spans: Spans) -> tuple[Spans, np.ndarray]:
        """What of the spans lies in the window, and the rows that it is of."""
        start, stop = np.maximum(spans.start, self.first), np.minimum(spans.stop, self.stop)
        rows = np.flatnonzero(start < stop)
        return Spans(spans.key[rows], start[rows], stop[rows]), rows

    def inner(self, key: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys and days, as far as the days lie in the window and are not its first."""
        inside = np.flatnonzero((day > self.first) & (day < self.stop))
        return key[inside], day[inside]

    def places(self, key: np.ndarray, day: np.ndarray) -> np.ndarray:
        """What is `inner`, packed."""
        return packed(*self.inner(key, day))


def _number(day: date) -> int:
    return int(np.datetime64(day, "D").astype("int64"))


def ends(dates: pd.Series) -> np.ndarray:
    """Days since 1970; an empty date is NEVER."""
    return np.where(dates.isna().to_numpy(), NEVER, day_numbers(dates))


def due_dates(invoices: pd.DataFrame) -> np.ndarray:
    """Days since 1970 on which invoices are due; the issue date stands in (RULES 2.1)."""
    return np.where(
        invoices["due_on"].isna().to_numpy(), day_numbers(invoices["issued_on"]), day_numbers(invoices["due_on"])
    )


@dataclass(frozen=True)
class Standing:
    """Invoices that count and have an open balance other than zero, for as long as nothing changes (RULES 1.1 to 1.3).

    The key of `spans` is the invoice's row. `paused`: a pause or a promise holds it (RULES 6.1, 6.2).
    """

    spans: Spans
    open_minor: np.ndarray
    unpaid: np.ndarray
    paused: np.ndarray

    def take(self, rows: np.ndarray) -> "Standing":
        """Some of the rows."""
        return Standing(self.spans.take(rows), self.open_minor[rows], self.unpaid[rows], self.paused[rows])


def standing(records: Ledger, tolerance: Mapping[str, int], window: Window) -> Standing:
    """How each invoice stands, from day to day (RULES 1.1 to 1.3, 6.1, 6.2).

    Args:
        records: what was known by the last day; what is dated or recorded later than a day does not count on it.
        tolerance: minor units per currency up to which an open balance counts as paid; none for a currency: 0.
        window: the days.

    Returns:
        Disjoint spans within the window in order of the invoices' rows and of days; `open_minor` in minor units of the
        invoice's currency, never 0. Payments in another currency than their invoice are ignored.
    """
    invoices = records.invoices
    begin = np.maximum(day_numbers(invoices["recorded_on"]), window.first)
    row, known, amount = applied_payments(records)
    early, later = np.flatnonzero(known <= begin[row]), np.flatnonzero((begin[row] < known) & (known < window.stop))
    open_minor = invoices["total_minor"].to_numpy().copy()
    np.subtract.at(open_minor, row[early], amount[early])
    matters = open_minor != 0
    matters[row[later]] = True
    matters &= begin < window.stop

    rows = np.flatnonzero(matters)
    dated = matters & _is_dated(invoices)
    held = _held(records, begin, matters, tolerance, window)
    paid, held_from, held_until = (
        packed(row[later], known[later]),
        packed(held.key, held.start),
        window.places(held.key, held.stop),
    )
    dates = _dates(invoices, np.flatnonzero(dated), begin, window)
    cuts = distinct(np.concatenate([packed(rows, begin[rows]), paid, held_from, held_until, dates]))
    row, start = unpacked(cuts)
    new = begins(row)
    open_minor = open_minor[row] - running_sums(sums_at(cuts, paid, amount[later]), new)
    every = Standing(
        Spans(row, start, _until_next(start, new, window.stop)),
        open_minor,
        unpaid=open_minor > receivables.per_currency(invoices["currency"], tolerance)[row],
        paused=running_sums(sums_at(cuts, held_from, 1) - sums_at(cuts, held_until, 1), new) > 0,
    )
    return every.take(np.flatnonzero((open_minor != 0) & _counts(invoices, row, start, dated)))


def applied_payments(records: Ledger) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row of the invoice, day from which it counts and amount of each applied payment (RULES 1.2)."""
    invoices, payments = records.invoices, records.payments
    row = receivables.invoice_rows(invoices, payments)
    applied = np.flatnonzero(row != NO_KEY)
    row = row[applied].astype("int64")
    same = invoices["currency"].cat.codes.to_numpy()[row] == payments["currency"].cat.codes.to_numpy()[applied]
    return row[same], _known(payments)[applied[same]], payments["amount_minor"].to_numpy()[applied[same]]


def _known(payments: pd.DataFrame) -> np.ndarray:
    """The day from which each payment counts."""
    return np.maximum(day_numbers(payments["paid_on"]), day_numbers(payments["recorded_on"]))


_DATES = ("voided_on", "written_off_on", "disputed_on", "dispute_resolved_on", "missing_since")


def _is_dated(invoices: pd.DataFrame) -> np.ndarray:
    """Whether an invoice may begin or cease to count after it was recorded, or never counts."""
    dated = (invoices["status"] != "open").to_numpy()
    for column in _DATES:
        dated = dated | invoices[column].notna().to_numpy()
    return dated


def _dates(invoices: pd.DataFrame, rows: np.ndarray, begin: np.ndarray, window: Window) -> np.ndarray:
    """Days on which some of the invoices may begin or cease to count, packed with their rows."""
    days = np.concatenate([day_numbers(invoices[column].iloc[rows]) for column in _DATES])
    rows = np.tile(rows, len(_DATES))
    later = days > begin[rows]
    return window.places(rows[later], days[later])


def _counts(invoices: pd.DataFrame, row: np.ndarray, day: np.ndarray, dated: np.ndarray) -> np.ndarray:
    """Whether the invoices count on their days (RULES 1.1); asked only of those for which that can change."""
    counting = np.ones(len(row), dtype=bool)
    asked = np.flatnonzero(dated[row])
    of_asked, days = invoices[[*_DATES, "status", "recorded_on"]].iloc[row[asked]], day[asked].astype("datetime64[D]")
    counting[asked] = receivables.counts(of_asked, days) & ~receivables.vanished(of_asked, days)
    return counting


def _held(
    records: Ledger, begin: np.ndarray, matters: np.ndarray, tolerance: Mapping[str, int], window: Window
) -> Spans:
    """While what pauses and promises hold the invoices that matter, from the day on which these are looked at."""
    nothing = np.empty(0, dtype="int64")
    if records.pauses.empty and records.promises.empty:
        return Spans(nothing, nothing, nothing)
    general = _held_by_general_promises(records, tolerance, window)
    held = pd.concat([holds.hold_spans(records.pauses, records.promises), *general], ignore_index=True)
    if held.empty:
        return Spans(nothing, nothing, nothing)
    keys = records.invoices[["customer_key", "invoice_key"]]
    named = keys["invoice_key"].isin(held["invoice_key"]) | keys["customer_key"].isin(
        held.loc[held["invoice_key"] == NO_KEY, "customer_key"]
    )
    rows = np.flatnonzero(matters & named.to_numpy())
    keys = keys.iloc[rows].assign(row=rows)
    one = held["invoice_key"] != NO_KEY
    found = pd.concat(
        [
            held[one].drop(columns="customer_key").merge(keys, on="invoice_key", validate="m:1"),
            held[~one].drop(columns="invoice_key").merge(keys, on="customer_key", validate="m:m"),
        ]
    )
    row = found["row"].to_numpy(dtype="int64")
    start = np.maximum(day_numbers(found["held_from"]), begin[row])
    return window.clip(Spans(row, start, ends(found["held_until"])))[0]


def _held_by_general_promises(records: Ledger, tolerance: Mapping[str, int], window: Window) -> Iterator[pd.DataFrame]:
    """While what promises that name no invoice hold their customers, as `holds.hold_spans`; no frame without promises.

    They hold while an invoice that was known when they were made is unpaid, whatever else holds it (RULES 6.2).
    """
    promises = holds.general_promises(records.promises)
    if promises.empty:
        return
    invoices = records.invoices[records.invoices["customer_key"].isin(promises["customer_key"])]
    free = Ledger(invoices, records.payments, records.pauses.iloc[:0], records.promises.iloc[:0])
    stood = standing(free, tolerance, window)
    unpaid = stood.spans.take(np.flatnonzero(stood.unpaid))
    known = invoices[["customer_key", "recorded_on"]].iloc[unpaid.key].assign(start=unpaid.start, stop=unpaid.stop)
    pairs = promises.assign(promise=np.arange(len(promises))).merge(known, on="customer_key", validate="m:m")
    pairs = pairs[pairs["recorded_on"] <= pairs["promised_on"]]
    start = np.maximum(pairs["start"].to_numpy(), day_numbers(pairs["held_from"]))
    stop = np.minimum(pairs["stop"].to_numpy(), ends(pairs["held_until"]))
    some = np.flatnonzero(start < stop)
    each, _ = first_of(Spans(pairs["promise"].to_numpy()[some], start[some], stop[some]))
    whole, _ = joined(each, np.zeros(len(each)))
    yield pd.DataFrame(
        {
            "customer_key": promises["customer_key"].to_numpy()[whole.key],
            "invoice_key": NO_KEY,
            "held_from": whole.start.astype("datetime64[D]").astype("datetime64[s]"),
            "held_until": whole.stop.astype("datetime64[D]").astype("datetime64[s]"),
        }
    )


def _until_next(start: np.ndarray, new: np.ndarray, stop: int) -> np.ndarray:
    """The start of the next row, or `stop` where the next row is of another key."""
    until = np.append(start[1:], stop)
    until[np.append(new[1:], True)] = stop
    return until


def chaseable(
    records: Records, stood: Standing, free: Spans, minimum: Mapping[str, int], window: Window
) -> tuple[Spans, np.ndarray]:
    """While what of unpaid, unpaused invoices are in a chaseable currency (RULES 1.4, 6.3).

    A currency of a customer has to be looked at only where something can keep it from being chaseable: a payment
    without an invoice, an overpaid invoice, a minimum amount.

    Args:
        records: what `stood` was made from.
        stood: how all invoices stand.
        free: the unpaid, unpaused ones; keys are rows of invoices.
        minimum: minor units per currency below which nobody is chased.
        window: the days.

    Returns:
        The spans that are left, and the row of `free` that each is of.
    """
    account = _accounts(records.invoices)
    unapplied = _unapplied(records.payments, window)
    lowest = receivables.per_currency(records.invoices["currency"], minimum)
    doubtful = distinct(
        np.concatenate(
            [
                unapplied.account,
                account[stood.spans.key[stood.open_minor < 0]],
                account[free.key[lowest[free.key] > 0]],
            ]
        )
    )
    place = place_in(doubtful, account)
    sure, doubted = np.flatnonzero(place[free.key] < 0), np.flatnonzero(place[free.key] >= 0)
    part = stood.take(np.flatnonzero(place[stood.spans.key] >= 0))
    chased = _chaseable_accounts(part, place, unapplied, doubtful, lowest, window)
    found, of_doubted, _ = crossed(Spans(place[free.key[doubted]], free.start[doubted], free.stop[doubted]), chased)
    rows = np.concatenate([sure, doubted[of_doubted]])
    start, stop = np.append(free.start[sure], found.start), np.append(free.stop[sure], found.stop)
    return Spans(free.key[rows], start, stop), rows


class _Unapplied(NamedTuple):
    account: np.ndarray
    day: np.ndarray
    amount: np.ndarray


def _accounts(rows: pd.DataFrame) -> np.ndarray:
    """Integers that stand for customer and currency."""
    codes = rows["currency"].cat.codes.to_numpy().astype("int64")
    return rows["customer_key"].to_numpy() * len(rows["currency"].cat.categories) + codes


def _unapplied(payments: pd.DataFrame, window: Window) -> _Unapplied:
    known = _known(payments)
    rows = np.flatnonzero((payments["invoice_key"].to_numpy() == NO_KEY) & (known < window.stop))
    amounts = payments["amount_minor"].to_numpy()[rows]
    return _Unapplied(_accounts(payments.iloc[rows]), np.maximum(known[rows], window.first), amounts)


def _chaseable_accounts(
    stood: Standing,
    account: np.ndarray,
    unapplied: _Unapplied,
    doubtful: np.ndarray,
    lowest: np.ndarray,
    window: Window,
) -> Spans:
    """While what each doubtful account is chaseable; `account` is the place among them of each row of invoices."""
    key = account[stood.spans.key]
    unpaid = np.where(stood.unpaid & ~stood.paused, stood.open_minor, 0)
    begun, ended = packed(key, stood.spans.start), packed(key, stood.spans.stop)
    credited = packed(place_in(doubtful, unapplied.account), unapplied.day)
    cuts = distinct(np.concatenate([begun, ended, credited]))
    of_cut, start = unpacked(cuts)
    new = begins(of_cut)
    net = sums_at(cuts, begun, stood.open_minor) - sums_at(cuts, ended, stood.open_minor)
    net_minor = running_sums(net - sums_at(cuts, credited, unapplied.amount), new)
    unpaid_minor = running_sums(sums_at(cuts, begun, unpaid) - sums_at(cuts, ended, unpaid), new)
    minimum = np.zeros(len(doubtful), dtype="int64")
    minimum[key] = lowest[stood.spans.key]
    _, reached = receivables.chaseable(net_minor, unpaid_minor, minimum[of_cut])
    stop = _until_next(start, new, window.stop)
    found = np.flatnonzero(reached & (start < stop))
    return joined(Spans(of_cut[found], start[found], stop[found]), np.zeros(len(found)))[0]
