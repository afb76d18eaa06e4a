"""What keeps an invoice or a customer back on a day: pauses and promises, RULES.md 6.1 and 6.2.

The order in which reasons are given is in decisions.py.
"""

from datetime import date

import numpy as np
import pandas as pd

from dunning_pipeline.rules.receivables import NO_KEY


def mark_holds(owed: pd.DataFrame, pauses: pd.DataFrame, promises: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """Adds `paused`, `paused_by` (pause, promise or empty) and `broken_promise` to owed invoices.

    A pause is named before a promise when both hold an invoice.

    Args:
        owed: customer_key, invoice_key, recorded_on; one row per invoice.
        pauses: scope, customer_key, invoice_key, paused_from, paused_until, recorded_on.
        promises: promise_id, customer_key, invoice_key (NO_KEY: everything), promised_on, pay_by, pauses,
            withdrawn_on, recorded_on.
        as_of: the day to derive.
    """
    by_pause = _held_by_pause(owed, active_pauses(pauses, as_of))
    standing = _standing_promises(promises, as_of)
    by_promise = _held_by_promise(owed, standing, as_of)
    return owed.assign(
        paused=by_pause | by_promise,
        paused_by=pd.Series(
            np.select([by_pause, by_promise], ["pause", "promise"], default=""), owed.index, dtype="str"
        ).replace("", None),
        broken_promise=_broken(owed, standing, as_of),
    )


def active_pauses(pauses: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The pauses in force on `as_of`: from `paused_from` to the day before `paused_until` (RULES 6.1)."""
    day = pd.Timestamp(as_of)
    ended = pauses["paused_until"] <= day
    return pauses[(pauses["recorded_on"] <= day) & (pauses["paused_from"] <= day) & ~ended]


def _held_by_pause(owed: pd.DataFrame, active: pd.DataFrame) -> np.ndarray:
    customers = active.loc[active["scope"] == "customer", "customer_key"]
    invoices = active.loc[active["scope"] == "invoice", "invoice_key"]
    return (owed["customer_key"].isin(customers) | owed["invoice_key"].isin(invoices)).to_numpy()


def _standing_promises(promises: pd.DataFrame, as_of: date) -> pd.DataFrame:
    day = pd.Timestamp(as_of)
    withdrawn = promises["withdrawn_on"] <= day
    return promises[(promises["recorded_on"] <= day) & (promises["promised_on"] <= day) & ~withdrawn]


def _held_by_promise(owed: pd.DataFrame, standing: pd.DataFrame, as_of: date) -> np.ndarray:
    running = standing[(standing["pay_by"] >= pd.Timestamp(as_of)) & standing["pauses"].astype(bool)]
    everything = running["invoice_key"] == NO_KEY
    customers, invoices = running.loc[everything, "customer_key"], running.loc[~everything, "invoice_key"]
    return (owed["customer_key"].isin(customers) | owed["invoice_key"].isin(invoices)).to_numpy()


def _broken(owed: pd.DataFrame, standing: pd.DataFrame, as_of: date) -> np.ndarray:
    """Whether the latest promise that covered an invoice when it was made has passed unkept."""
    promises = standing[["promise_id", "customer_key", "invoice_key", "promised_on", "pay_by"]]
    everything = promises["invoice_key"] == NO_KEY
    invoices = owed[["customer_key", "invoice_key", "recorded_on"]]
    named = invoices.merge(promises[~everything].drop(columns="customer_key"), on="invoice_key", validate="1:m")
    general = invoices.merge(promises[everything].drop(columns="invoice_key"), on="customer_key", validate="m:m")
    general = general[general["recorded_on"] <= general["promised_on"]]
    latest = (
        pd.concat([named, general], ignore_index=True)
        .sort_values(["promised_on", "promise_id"])
        .drop_duplicates("invoice_key", keep="last")
    )
    passed = latest.loc[latest["pay_by"] < pd.Timestamp(as_of), "invoice_key"]
    return owed["invoice_key"].isin(passed).to_numpy()
