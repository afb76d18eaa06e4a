"""What keeps an invoice or a customer back on a day: pauses and promises, RULES.md 6.1 and 6.2.

The order in which reasons are given is in decisions.py.
"""

from datetime import date

import numpy as np
import pandas as pd

from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.spans import distinct, packed, place_in


def mark_holds(owed: pd.DataFrame, pauses: pd.DataFrame, promises: pd.DataFrame) -> pd.DataFrame:
    """Adds `paused`, `paused_by` (pause, promise or empty) and `broken_promise` to owed invoices, each on its day.

    A pause is named before a promise when both hold an invoice.

    Args:
        owed: day (since 1970), customer_key, invoice_key, recorded_on, unpaid; all that their customers owe.
        pauses: scope, customer_key, invoice_key, paused_from, paused_until, recorded_on.
        promises: promise_id, customer_key, invoice_key (NO_KEY: everything), promised_on, pay_by, pauses,
            withdrawn_on, recorded_on.
    """
    if pauses.empty and promises.empty:
        nobody = labelled(np.full(len(owed), -1), ["pause", "promise"])
        return owed.assign(paused=False, paused_by=nobody, broken_promise=False)
    by_pause = _held(owed, _held_by_pauses(pauses))
    by_promise = _held(owed, _held_by_named_promises(promises)) | _held_by_general_promises(owed, promises)
    by_promise &= ~by_pause
    return owed.assign(
        paused=by_pause | by_promise,
        paused_by=labelled(np.where(by_pause, 0, np.where(by_promise, 1, -1)), ["pause", "promise"]),
        broken_promise=_broken(owed, promises),
    )


def _held(owed: pd.DataFrame, spans: pd.DataFrame) -> np.ndarray:
    """Whether one of the spans holds each invoice on its day."""
    held = np.zeros(len(owed), dtype=bool)
    if spans.empty:
        return held
    pairs = _pairs(owed, spans)
    day = pairs["day"].to_numpy().astype("datetime64[D]")
    begun, ended = pairs["held_from"].to_numpy() <= day, pairs["held_until"].to_numpy() <= day
    held[pairs["row"].to_numpy(dtype="int64")[begun & ~ended]] = True
    return held


def _pairs(owed: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    """Each owed row (`row` is its place) with all that is said about its invoice, or about its customer's invoices."""
    general = about[(about["invoice_key"] == NO_KEY).to_numpy()].drop(columns="invoice_key")
    named = about[(about["invoice_key"] >= 0).to_numpy()].drop(columns="customer_key")
    of_customers = _rows_with(owed, "customer_key", general["customer_key"])
    of_invoices = _rows_with(owed, "invoice_key", named["invoice_key"])
    return pd.concat(
        [
            of_customers.merge(general, on="customer_key", validate="m:m").assign(general=True),
            of_invoices.merge(named, on="invoice_key", validate="m:m").assign(general=False),
        ]
    )


def _rows_with(owed: pd.DataFrame, column: str, keys: pd.Series) -> pd.DataFrame:
    """Owed rows with one of the keys, and their places."""
    rows = np.flatnonzero(owed[column].isin(keys).to_numpy()) if len(keys) else np.empty(0, dtype="int64")
    columns = owed[["day", "customer_key", "invoice_key", "recorded_on", "unpaid"]]
    return columns.iloc[rows].rename(columns={"recorded_on": "known_on"}).assign(row=rows)


def active_pauses(pauses: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The pauses in force on `as_of`: from `paused_from` to the day before `paused_until` (RULES 6.1).

    Args:
        pauses: paused_from, paused_until (empty: no end), recorded_on, and whatever else is wanted of them.
        as_of: the day; a pause that was recorded later is not in force on it.

    Returns:
        These rows with all their columns and their index.
    """
    return pauses[_on(pause_spans(pauses), as_of)]


def pause_spans(pauses: pd.DataFrame) -> pd.DataFrame:
    """While what each pause is in force (RULES 6.1): `held_from`, and `held_until`, which is outside or empty."""
    return pd.DataFrame(
        {"held_from": pauses[["paused_from", "recorded_on"]].max(axis=1), "held_until": pauses["paused_until"]}
    )


def _promise_spans(promises: pd.DataFrame) -> pd.DataFrame:
    """While what each promise stands and is not overdue, whether it pauses or not (RULES 6.2)."""
    overdue_on = promises["pay_by"] + pd.Timedelta(days=1)
    return pd.DataFrame(
        {
            "held_from": promises[["promised_on", "recorded_on"]].max(axis=1),
            "held_until": promises["withdrawn_on"].fillna(overdue_on).clip(upper=overdue_on),
        }
    )


def hold_spans(pauses: pd.DataFrame, promises: pd.DataFrame) -> pd.DataFrame:
    """While what customers and invoices are held by pauses and by promises that name an invoice (RULES 6.1, 6.2).

    Returns:
        customer_key, invoice_key (NO_KEY: whatever the customer owes), held_from, held_until (outside; empty: never).
    """
    return pd.concat([_held_by_pauses(pauses), _held_by_named_promises(promises)], ignore_index=True)


def general_promises(promises: pd.DataFrame) -> pd.DataFrame:
    """The promises that name no invoice and pause: they hold a customer while something promised is unpaid (RULES 6.2).

    Returns:
        customer_key, promised_on (what is known by then is promised), held_from, held_until (outside) at the latest.
    """
    general = promises[promises["pauses"].astype(bool) & (promises["invoice_key"] == NO_KEY)]
    return general[["customer_key", "promised_on"]].join(_promise_spans(general))


def _held_by_pauses(pauses: pd.DataFrame) -> pd.DataFrame:
    paused = pauses[["scope", "customer_key", "invoice_key"]].join(pause_spans(pauses))
    whole = paused["scope"] == "customer"
    one = (paused["scope"] == "invoice") & (paused["invoice_key"] != NO_KEY)
    paused = paused.assign(invoice_key=paused["invoice_key"].mask(whole, NO_KEY))[whole | one]
    return paused.drop(columns="scope")


def _held_by_named_promises(promises: pd.DataFrame) -> pd.DataFrame:
    promised = promises[["customer_key", "invoice_key"]].join(_promise_spans(promises))
    return promised[promises["pauses"].astype(bool) & (promises["invoice_key"] != NO_KEY)]


def _held_by_general_promises(owed: pd.DataFrame, promises: pd.DataFrame) -> np.ndarray:
    """Whether a promise holds each invoice on its day because one that was known when it was made is unpaid."""
    held = np.zeros(len(owed), dtype=bool)
    general = general_promises(promises)
    if general.empty:
        return held
    pairs = _pairs(owed, general.assign(promise=np.arange(len(general)), invoice_key=NO_KEY))
    day = pairs["day"].to_numpy().astype("datetime64[D]")
    in_time = (pairs["held_from"].to_numpy() <= day) & ~(pairs["held_until"].to_numpy() <= day)
    promised = in_time & pairs["unpaid"].to_numpy() & (pairs["known_on"] <= pairs["promised_on"]).to_numpy()
    places = packed(pairs["promise"].to_numpy(dtype="int64"), pairs["day"].to_numpy())
    holds = in_time & (place_in(distinct(places[promised]), places) >= 0)
    held[pairs["row"].to_numpy(dtype="int64")[holds]] = True
    return held


def _on(spans: pd.DataFrame, as_of: date) -> "pd.Series[bool]":
    day = pd.Timestamp(as_of)
    return (spans["held_from"] <= day) & ~(spans["held_until"] <= day)


def _broken(owed: pd.DataFrame, promises: pd.DataFrame) -> np.ndarray:
    """Whether the latest promise that covered an invoice when it was made has passed unkept."""
    broken = np.zeros(len(owed), dtype=bool)
    if promises.empty:
        return broken
    said = promises[
        ["promise_id", "customer_key", "invoice_key", "promised_on", "pay_by", "withdrawn_on", "recorded_on"]
    ]
    pairs = _pairs(owed, said)
    day = pairs["day"].to_numpy().astype("datetime64[D]")
    made = (pairs["recorded_on"].to_numpy() <= day) & (pairs["promised_on"].to_numpy() <= day)
    stands = made & ~(pairs["withdrawn_on"].to_numpy() <= day)
    covers = ~pairs["general"].to_numpy() | (pairs["known_on"].to_numpy() <= pairs["promised_on"].to_numpy())
    pairs = pairs[stands & covers]
    latest = pairs.sort_values(["promised_on", "promise_id"]).drop_duplicates("row", keep="last")
    passed = latest["pay_by"].to_numpy() < latest["day"].to_numpy().astype("datetime64[D]")
    broken[latest["row"].to_numpy(dtype="int64")[passed]] = True
    return broken
