"""Series of reminders about edited orders: RULES.md 8.1, 8.3 to 8.5. What is due of them is order_decisions.py's.

A series is derived afresh from all edits and observations of an order and of those it replaces, its lineage. Ends cut
the time of a lineage into stretches; in each the earliest qualifying edit and the first balance seen after it begin the
series.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dunning_pipeline.policy import OrderReminders
from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.order_lineages import (
    NEVER,
    NO_TIME,
    first_orders,
    instants,
    microsecond,
    microseconds,
    replaced_at,
    replaced_orders,
)
from dunning_pipeline.rules.spans import begins

STREAM = "order"
"""The stream of reminders that these rules decide."""

ANYBODY = "any"
STATES = ("open", "paid", "refunded", "fulfilled", "cancelled", "replaced", "stopped")
OPEN, PAID, REFUNDED, FULFILLED, CANCELLED, REPLACED, STOPPED = range(len(STATES))

_PARTLY = ("partially_fulfilled", "partial")
_RETURNED = ("refunded", "partially_refunded")


@dataclass(frozen=True)
class OrderFacts:
    """What is known of the orders that were edited or replaced, or took the place of others.

    Times are UTC instants, amounts int64 minor units of `currency` (a category).

    Attributes:
        orders: order_key (unique), order_id, source, name, buyer, currency, outstanding_minor, created_at,
            cancelled_at, replaces_order_key (-1: none), unclear (whether it can no longer be read), email, phone,
            external_id.
        edits: order_key, edit_id (unique), edited_at, seen_at (when it became known), edited_by, kind.
        observations: order_key, observed_at, currency, outstanding_minor, financial_status, fulfillment_status,
            cancelled_at.
        sent: what was sent of each series: order_key, first_edit_id, occurrence (the last one accepted; 0: none),
            accepted_at (the last one accepted), doubtful_at (the last one of an earlier day of which nobody knows),
            open_at (the same of today), held_at (the last one that the allow list kept back under the present policy).
        rejections: reminder_id, policy_hash and email, phone, external_id as they were when Klaviyo rejected it.
    """

    orders: pd.DataFrame
    edits: pd.DataFrame
    observations: pd.DataFrame
    sent: pd.DataFrame
    rejections: pd.DataFrame


@dataclass(frozen=True)
class Lineages:
    """By row of `orders`: `first`, the row at the beginning of its lineage; `begin` and `until`, when it stood for it.

    Times are int64 microseconds; `until` is NEVER for the order that stands for its lineage now.
    """

    orders: pd.DataFrame
    replaced: np.ndarray
    first: np.ndarray
    until: np.ndarray

    @classmethod
    def of(cls, orders: pd.DataFrame) -> "Lineages":
        """Of `OrderFacts.orders`."""
        replaced = replaced_orders(orders)
        return cls(orders, replaced, first_orders(replaced), replaced_at(orders, replaced))

    @cached_property
    def begin(self) -> np.ndarray:
        """When each order took the place of the one before it; NO_TIME without one."""
        return np.where(self.replaced >= 0, self.until[self.replaced], NO_TIME)

    def rows(self, order_key: "pd.Series[int]") -> np.ndarray:
        """The row of each order; -1 for one that is not among them."""
        places: np.ndarray = pd.Index(self.orders["order_key"]).get_indexer(pd.Index(order_key))
        return places


@dataclass(frozen=True)
class Timeline:
    """Edits that count and observations of all lineages, in order of lineage and time, an edit before what it left.

    `row` is that of the edit or of the observation; the other flags hold for observations.
    """

    lineage: np.ndarray
    time: np.ndarray
    row: np.ndarray
    is_edit: np.ndarray
    ends: np.ndarray

    @cached_property
    def stretch(self) -> np.ndarray:
        """The stretch of each entry, from 0: a new one begins with each lineage and after each end."""
        begin = begins(self.lineage)
        begin[1:] |= self.ends[:-1]
        return np.cumsum(begin) - 1

    @cached_property
    def first_entry(self) -> np.ndarray:
        """The first entry of each stretch."""
        return np.flatnonzero(begins(self.stretch)) if len(self.stretch) else np.array([], dtype="int64")

    def earliest(self, entries: np.ndarray) -> np.ndarray:
        """The first entry of each stretch for which `entries` holds; NEVER without one."""
        if not len(entries):
            return np.array([], dtype="int64")
        places: np.ndarray = np.minimum.reduceat(np.where(entries, np.arange(len(entries)), NEVER), self.first_entry)
        return places


@dataclass(frozen=True)
class Derived:
    """What follows from edits and observations.

    Attributes:
        series: one row per series: lineage (row of its first order), first_edit_id, edit_at, begin_at (from when on
            events belong to it), started_at, ended_at (NEVER: it is alive), state (number of STATES); times int64
            microseconds. In order of lineage and time.
        lineages: which order stands for which lineage.
        edits: `OrderFacts.edits` and the implied ones with `lineage`, `edited` and `at` (int64 microseconds: when it
            was made, and its place among the observations), `by_party` and `qualifies`.
        latest: by row of an order that begins a lineage: state (of the lineage's latest observation that ends, else
            OPEN; -1: never observed) and `edited` (whether a qualifying edit came after the latest end).
    """

    series: pd.DataFrame
    lineages: Lineages
    edits: pd.DataFrame
    latest: pd.DataFrame


def derive_series(facts: OrderFacts, reminders: OrderReminders, start: datetime) -> Derived:
    """All series of all orders (RULES 8.1, 8.3 to 8.5).

    Args:
        facts: what is known.
        reminders: which edits count, and what ends a series.
        start: edits before it do not count.
    """
    lineages = Lineages.of(facts.orders)
    seen = _seen(facts.observations, lineages)
    edits = _counted(_with_replacements(facts.edits, lineages, reminders), lineages, reminders, start)
    edits = edits.assign(at=_times(edits, seen))
    state = _states(seen, reminders)
    timeline = _timeline(edits, seen, state, lineages)
    series = _series(timeline, edits, state)
    return Derived(series, lineages, edits, _latest(timeline, state, series))


def _with_replacements(edits: pd.DataFrame, lineages: Lineages, reminders: OrderReminders) -> pd.DataFrame:
    """With an edit for each order that replaces another and comes without one: by who edited that one last (8.5).

    Without those of orders that were created in place of none that is known, unless by a party that the policy names:
    all names of a shop may end with a letter, and an order that was placed is not edited.
    """
    names = (lineages.orders["replaces_order_key"] >= 0).to_numpy()
    recreated = lineages.orders.loc[names | (lineages.replaced >= 0), "order_key"]
    named = edits["edited_by"].isin(reminders.edited_by)
    edits = edits[(edits["kind"] != "replacement") | named | edits["order_key"].isin(recreated)]
    parties = _last_parties(edits, lineages)
    told = edits.loc[edits["kind"] == "replacement", "order_key"]
    rows = np.flatnonzero((lineages.replaced >= 0) & ~lineages.orders["order_key"].isin(told).to_numpy())
    created, replaced = lineages.orders.iloc[rows], lineages.orders.iloc[lineages.replaced[rows]]
    implied = pd.DataFrame(
        {
            "order_key": created["order_key"].to_numpy(),
            "edit_id": "replacement of " + replaced["order_id"].to_numpy() + " by " + created["order_id"].to_numpy(),
            "edited_at": created["created_at"].to_numpy(),
            "seen_at": created["created_at"].to_numpy(),
            "edited_by": parties[lineages.replaced[rows]],
            "kind": "replacement",
        }
    ).astype(edits[["order_key", "edit_id", "edited_at", "seen_at", "edited_by", "kind"]].dtypes)
    return pd.concat([edits, implied[implied["edited_at"].notna()]], ignore_index=True)


def _last_parties(edits: pd.DataFrame, lineages: Lineages) -> np.ndarray:
    """By row of an order the party that edited it last; creating it was an edit by the one of the order before it.

    Only of orders that replace others or were replaced, of which there are few.
    """
    keys, before = lineages.orders["order_key"], lineages.replaced
    wanted = keys[np.isin(lineages.first, lineages.first[before >= 0])]
    edits = edits[edits["order_key"].isin(wanted)].sort_values(["edited_at", "edit_id"])
    parties = edits.groupby("order_key")["edited_by"].last().reindex(keys).to_numpy(dtype=object)
    # Each round doubles how far back it reaches, as in first_orders.
    for _ in range(len(parties).bit_length()):
        if (before < 0).all():
            break
        parties = np.where(pd.isna(parties) & (before >= 0), parties[before], parties)
        before = np.where(before >= 0, before[before], -1)
    return parties


def _counted(edits: pd.DataFrame, lineages: Lineages, reminders: OrderReminders, start: datetime) -> pd.DataFrame:
    row, edited = lineages.rows(edits["order_key"]), microseconds(edits["edited_at"])
    by_party = np.full(len(edits), ANYBODY in reminders.edited_by) | edits["edited_by"].isin(reminders.edited_by)
    begun = edited >= microsecond(start)
    counted = edits.assign(lineage=lineages.first[row], edited=edited, by_party=by_party, qualifies=by_party & begun)
    # Which of several edits at one instant is the first must not depend on the order in which they were read.
    return counted[row >= 0].sort_values("edit_id", ignore_index=True)


def _times(edits: pd.DataFrame, seen: pd.DataFrame) -> np.ndarray:
    """When each edit takes its place among the observations of its lineage: before the first that knows of it.

    Sources round times, and tell some edits late. What was observed before an edit was known does not show what the
    edit left, even where it is dated later; only if nothing was observed since, it is all there is.
    """
    latest = seen.groupby("lineage")["at"].max().reindex(edits["lineage"], fill_value=NO_TIME).to_numpy()
    times: np.ndarray = np.maximum(edits["edited"], np.minimum(microseconds(edits["seen_at"]), latest)).to_numpy()
    return times


def _seen(observations: pd.DataFrame, lineages: Lineages) -> pd.DataFrame:
    """Observations of the orders while each stood for its lineage: a replaced order was cancelled for that only."""
    row, at = lineages.rows(observations["order_key"]), microseconds(observations["observed_at"])
    stood = (row >= 0) & (at < lineages.until[row])
    return observations.assign(lineage=lineages.first[row], at=at)[stood].reset_index(drop=True)


def _states(seen: pd.DataFrame, reminders: OrderReminders) -> np.ndarray:
    """What each observation shows: OPEN, or what ends a series (RULES 8.3)."""
    tolerance = seen["currency"].map(reminders.tolerance_minor).astype("Int64").fillna(0).to_numpy(dtype="int64")
    outstanding, status = seen["outstanding_minor"].to_numpy(dtype="int64"), seen["fulfillment_status"]
    fulfilled = status.isin(["fulfilled", *(_PARTLY if reminders.stop_on == "partially_fulfilled" else ())])
    returned = (outstanding < 0) | seen["financial_status"].isin(_RETURNED).to_numpy()
    conditions = [seen["cancelled_at"].notna().to_numpy(), fulfilled.to_numpy(), outstanding > tolerance, returned]
    state: np.ndarray = np.select(conditions, list(np.array([CANCELLED, FULFILLED, OPEN, REFUNDED])), PAID)
    return state


def _timeline(edits: pd.DataFrame, seen: pd.DataFrame, state: np.ndarray, lineages: Lineages) -> Timeline:
    qualifying = np.flatnonzero(edits["qualifies"])
    is_edit = np.repeat([True, False], [len(qualifying), len(seen)])
    made = np.concatenate([edits["edited"].to_numpy()[qualifying], seen["at"]])
    lineage = np.concatenate([edits["lineage"].to_numpy()[qualifying], seen["lineage"]])
    time = np.concatenate([edits["at"].to_numpy()[qualifying], seen["at"]])
    row = np.concatenate([qualifying, np.arange(len(seen))])
    ends = np.concatenate([np.zeros(len(qualifying), dtype=bool), state != OPEN])
    order = np.lexsort((made, ~is_edit, time, lineage))
    return Timeline(lineage[order], time[order], row[order], is_edit[order], ends[order])


def _series(timeline: Timeline, edits: pd.DataFrame, state: np.ndarray) -> pd.DataFrame:
    entries = np.arange(len(timeline.time))
    edited = timeline.earliest(timeline.is_edit)
    shows_balance = ~timeline.is_edit & ~timeline.ends & (entries > edited[timeline.stretch])
    started = timeline.earliest(shows_balance)
    ended = timeline.earliest(timeline.ends)
    there = np.flatnonzero(started < NEVER)
    first, end = edited[there], ended[there]
    over = end < NEVER
    last = np.where(over, end, 0)
    return pd.DataFrame(
        {
            "lineage": timeline.lineage[first],
            "first_edit_id": edits["edit_id"].array[timeline.row[first]],
            "edit_at": timeline.time[first],
            "begin_at": timeline.time[timeline.first_entry[there]],
            "started_at": timeline.time[started[there]],
            "ended_at": np.where(over, timeline.time[last], NEVER),
            "state": np.where(over, state[np.where(over, timeline.row[last], 0)], OPEN),
        }
    )


def _latest(timeline: Timeline, state: np.ndarray, series: pd.DataFrame) -> pd.DataFrame:
    """The latest observation of each lineage, and whether a qualifying edit came after its latest end."""
    seen = ~timeline.is_edit
    shown = pd.Series(state[timeline.row[seen]]).groupby(timeline.lineage[seen]).last()
    last = np.flatnonzero(begins(timeline.lineage[::-1])[::-1])
    edited = np.zeros(len(timeline.time), dtype=bool)
    if len(timeline.time):
        edited = (timeline.earliest(timeline.is_edit) < NEVER)[timeline.stretch] & ~timeline.ends
    edited_since = pd.Series(edited[last], timeline.lineage[last])
    return pd.DataFrame({"state": shown, "edited": edited_since}).astype({"edited": "boolean"})


def series_of_orders(derived: Derived, sent: pd.DataFrame) -> pd.DataFrame:
    """One row per order and series, as `dunning.order_series` without what is due: a series that goes on in another
    order is `replaced` in the one before.

    Args:
        derived: the series.
        sent: what was sent of each, by row of `derived.series` (see `sent_of_series`).

    Returns:
        order_key, series, first_edit_id, started_at, outstanding_minor, currency, last_sent_at, occurrences, state,
        and `of`: the row of `derived.series`.
    """
    lineages, series = derived.lineages, derived.series
    members = pd.DataFrame({"lineage": lineages.first, "order": np.arange(len(lineages.first))})
    pairs = series.reset_index(names="of").merge(members, on="lineage", validate="m:m")
    begin, until = lineages.begin[pairs["order"]], lineages.until[pairs["order"]]
    pairs = pairs[(pairs["started_at"] < until) & (pairs["ended_at"] >= begin)]
    until = lineages.until[pairs["order"]]
    went_on = (until < NEVER) & (until <= pairs["ended_at"].to_numpy())
    orders, of = lineages.orders.iloc[pairs["order"]], pairs["of"].to_numpy()
    rows = pd.DataFrame(
        {
            "order_key": orders["order_key"].to_numpy(),
            "first_edit_id": pairs["first_edit_id"].array,
            "started_at": instants(pairs["started_at"].to_numpy()).array,
            "outstanding_minor": orders["outstanding_minor"].to_numpy(),
            "currency": orders["currency"].array,
            "last_sent_at": instants(sent["accepted_at"].to_numpy()[of]).array,
            "occurrences": sent["occurrence"].to_numpy()[of],
            "state": labelled(np.where(went_on, REPLACED, pairs["state"]), STATES),
            "of": of,
        }
    ).sort_values(["order_key", "started_at"], ignore_index=True)
    return rows.assign(series=rows.groupby("order_key").cumcount() + 1)


def sent_of_series(derived: Derived, sent: pd.DataFrame) -> pd.DataFrame:
    """What was sent of each series: by the edit that began it, else by when it was sent.

    The edit that began it may be another one now, or its series have ended before, because the policy counts other
    edits or balances or because an edit came late. What was sent meanwhile counts all the same, so that nobody gets
    two events for one; so does what had no answer today, which under another edit would not go again under its id.

    Returns:
        occurrence (0: none), accepted_at, doubtful_at, held_at (int64 microseconds, NO_TIME: never) by row of
        `derived.series`.
    """
    times = {name: microseconds(sent[name]) for name in ("accepted_at", "doubtful_at", "held_at", "open_at")}
    latest = np.maximum.reduce([*times.values()])
    row = derived.lineages.rows(sent["order_key"])
    lineage = np.append(derived.lineages.first, -1)[row]
    begun = _rows_of_texts(derived.series["first_edit_id"], sent["first_edit_id"])
    of = begun.copy()
    in_lineage = np.append(derived.series["lineage"], -1)[of] == lineage
    in_time = latest <= np.append(derived.series["ended_at"], NO_TIME)[of]
    astray = np.flatnonzero(~(in_lineage & in_time) | (of < 0))
    # In a restored warehouse edits became known only after the events about them were sent.
    edit = _rows_of_texts(derived.edits["edit_id"], sent["first_edit_id"].iloc[astray])
    same = np.append(derived.edits["lineage"], -1)[edit] == lineage[astray]
    edited = np.where(same, np.append(derived.edits["at"], NO_TIME)[edit], NO_TIME)
    of[astray] = _in_force(derived.series, lineage[astray], np.maximum(latest[astray], edited))
    open_at = np.where(of == begun, NO_TIME, times.pop("open_at"))
    times["doubtful_at"] = np.maximum(times["doubtful_at"], open_at)
    known = of >= 0
    figures = pd.DataFrame({"occurrence": sent["occurrence"].to_numpy(dtype="int64"), **times})[known]
    empty = {"occurrence": 0, **dict.fromkeys(times, NO_TIME)}
    grouped = figures.groupby(of[known]).max().reindex(np.arange(len(derived.series)))
    return grouped.astype("Int64").fillna(empty).astype("int64")


def _rows_of_texts(texts: "pd.Series[str]", wanted: "pd.Series[str]") -> np.ndarray:
    """The row of each wanted text; -1 where it is not there. Arrow looks texts up in a third of pandas' time."""
    found = pc.index_in(pa.array(wanted, pa.large_string()), value_set=pa.array(texts, pa.large_string()))
    rows: np.ndarray = found.fill_null(-1).to_numpy(zero_copy_only=False).astype("int64")
    return rows


def _in_force(series: pd.DataFrame, lineage: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The row of the series of each lineage that had begun at each time; -1 for none."""
    wanted = pd.DataFrame({"lineage": lineage, "begin_at": time, "place": np.arange(len(time))})
    there = series.reset_index(names="of")[["lineage", "begin_at", "of"]].sort_values("begin_at")
    found = pd.merge_asof(wanted.sort_values("begin_at"), there, on="begin_at", by="lineage")
    rows: np.ndarray = found.sort_values("place")["of"].fillna(-1).to_numpy(dtype="int64")
    return rows
