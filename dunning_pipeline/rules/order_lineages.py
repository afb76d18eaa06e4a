"""Orders that were created in place of others: RULES.md 8.5. What is owed and when to remind is decided elsewhere."""

from datetime import datetime
from string import ascii_uppercase, digits

import numpy as np
import pandas as pd

NO_TIME = np.iinfo("int64").min
NEVER = np.iinfo("int64").max


def microseconds(instants: pd.Series) -> np.ndarray:
    """Instants as int64 microseconds since 1970, UTC; NO_TIME for empty ones."""
    times: np.ndarray = instants.dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype("int64")
    return times


def microsecond(instant: datetime) -> int:
    """One instant as `microseconds` has it."""
    return pd.Timestamp(instant).value // 1_000


def instants(times: np.ndarray) -> "pd.Series[pd.Timestamp]":
    """The reverse of `microseconds`; NEVER is empty too."""
    empty = np.where(times == NEVER, NO_TIME, times)
    return pd.Series(empty.astype("datetime64[us]")).dt.tz_localize("UTC")


def replaced_orders(orders: pd.DataFrame) -> np.ndarray:
    """The row of the order that each order was created in place of; -1 for none.

    An order replaces the one that `replaces_order_key` names; else the one of the same buyer that was cancelled and
    has the name before it: #1031 before #1031A, that one before #1031B. Of several replacements of an order only the
    first created one is; the others are orders of their own.

    Args:
        orders: order_key (int64, unique), source, name, buyer (who ordered; empty: unknown), created_at, cancelled_at
            (UTC instants), replaces_order_key (-1: none).
    """
    named = pd.Index(orders["order_key"]).get_indexer(pd.Index(orders["replaces_order_key"]))
    before = np.where(named >= 0, named, _before_by_name(orders))
    created = microseconds(orders["created_at"])
    later = (created == NO_TIME) | (created >= created[before])
    rows = np.flatnonzero((before >= 0) & later & (before != np.arange(len(orders))))
    order = np.lexsort((orders["order_key"].to_numpy()[rows], created[rows], before[rows]))
    first = rows[order][~pd.Series(before[rows][order]).duplicated().to_numpy()]
    replaced = np.full(len(orders), -1)
    replaced[first] = before[first]
    return replaced


def _before_by_name(orders: pd.DataFrame) -> np.ndarray:
    name = orders["name"]
    lettered = name.str[-1:].isin(_LETTERS)
    base = name.where(~lettered, name.str[:-1])
    rows = np.flatnonzero(base.isin(base[lettered]) & base.str[-1:].isin(_DIGITS))
    named = orders[["source", "buyer"]].iloc[rows].reset_index(drop=True)
    named = named.assign(
        base=base.to_numpy()[rows],
        letter=name.where(lettered, "").str[-1:].to_numpy()[rows],
        row=rows,
        cancelled=orders["cancelled_at"].notna().to_numpy()[rows],
    )
    of_one = ["source", "base", "buyer"]
    named = named.dropna(subset=of_one).sort_values([*of_one, "letter", "row"])
    previous = named.groupby(of_one, sort=False)[["row", "cancelled"]].shift()
    replaces = (named["letter"] != "") & previous["cancelled"].eq(True)
    before = np.full(len(orders), -1)
    before[named.loc[replaces, "row"]] = previous.loc[replaces, "row"].astype("int64")
    return before


_LETTERS, _DIGITS = tuple(ascii_uppercase), tuple(digits)


def first_orders(replaced: np.ndarray) -> np.ndarray:
    """The row of the order at the beginning of each order's lineage; its own where it replaces none."""
    first = np.where(replaced < 0, np.arange(len(replaced)), replaced)
    # Each round doubles how far back it reaches, so that these suffice for a lineage of all orders.
    for _ in range(len(replaced).bit_length()):
        first = first[first]
    return first


def replaced_at(orders: pd.DataFrame, replaced: np.ndarray) -> np.ndarray:
    """When each order was replaced: its cancellation or its replacement, whichever came first; NEVER for the others."""
    until = np.full(len(orders), NEVER)
    rows = np.flatnonzero(replaced >= 0)
    gone = replaced[rows]
    until[gone] = _earlier(microseconds(orders["created_at"])[rows], microseconds(orders["cancelled_at"])[gone])
    return until


def _earlier(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The earlier time where both are known, the known one else; without any the replacement was there always."""
    return np.where(one == NO_TIME, other, np.where(other == NO_TIME, one, np.minimum(one, other)))
