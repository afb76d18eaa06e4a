"""Whether an event goes about an edited order now, and when the next one will: RULES.md 8.2, 8.6, 8.7 and 6.4, 6.5.

Which series there are is order_series.py's, the event itself order_events.py's.
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from dunning_pipeline.policy import OrderReminders, Policy, QuietHours
from dunning_pipeline.rules.decisions import usable_identifiers
from dunning_pipeline.rules.events import reminder_ids
from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.order_lineages import NEVER, NO_TIME, instants, microsecond, microseconds
from dunning_pipeline.rules.order_series import (
    CANCELLED,
    FULFILLED,
    OPEN,
    STATES,
    STOPPED,
    STREAM,
    Derived,
    OrderFacts,
    derive_series,
    sent_of_series,
    series_of_orders,
)
from dunning_pipeline.tables import ORDER_REASONS

_CODE = {reason: code for code, reason in enumerate(ORDER_REASONS)}
_NONE = -1
_GOING = (_NONE, _CODE["waiting"], _CODE["quiet_hours"])
"""Reasons with which an event goes in the end if nothing changes."""
_MICROSECOND = timedelta(microseconds=1)
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class OrdersDecided:
    """`series` as `dunning.order_series`, `decisions` as `dunning.order_decisions`, both by order_key, without run_id.

    Orders without an edit, their own or one of an order before them, have no row.

    `edits` are those of live series that qualify: order_key (of the order that stands for its lineage now), edit_id,
    edited_at, kind.
    """

    series: pd.DataFrame
    decisions: pd.DataFrame
    edits: pd.DataFrame


def decide_orders(facts: OrderFacts, policy: Policy, start: datetime, now: datetime) -> OrdersDecided:
    """Decides every order at an instant.

    Of several reasons that hold the first one is told: replaced; source_unclear; what ended the series, or that none
    began; max_reminders; stopped; no_contact_address; waiting; quiet_hours; rejected.

    Args:
        facts: what is known.
        policy: `order_reminders`, `klaviyo.identify_by`, the time zone.
        start: edits before it do not count (RULES 8.1).
        now: the instant.
    """
    reminders = policy.order_reminders
    derived = derive_series(facts, reminders, start)
    sent = sent_of_series(derived, facts.sent)
    alive = _live_series(derived, sent, policy, now)
    rows = series_of_orders(derived, sent)
    decisions = _decisions(facts, derived, alive, policy)
    edited = np.isin(derived.lineages.first, derived.edits["lineage"])
    decisions = decisions.assign(decided_at=pd.Timestamp(now), series=_numbers(decisions, rows))[edited]
    return OrdersDecided(_with_due(rows, decisions), decisions, _edits_of(derived, alive))


def _live_series(derived: Derived, sent: pd.DataFrame, policy: Policy, now: datetime) -> pd.DataFrame:
    """The live series with the order that stands for each, when its next event is due, and what holds it back.

    Returns:
        order (row of `OrderFacts.orders`), series (row of `Derived.series`), first_edit_id, occurrence, due_at (int64
        microseconds, out of quiet hours; NEVER), reason (code; -1: it may go now).
    """
    reminders, at = policy.order_reminders, microsecond(now)
    stands = np.full(len(derived.lineages.first), _NONE)
    leaves = np.flatnonzero(derived.lineages.until == NEVER)
    stands[derived.lineages.first[leaves]] = leaves
    series = derived.series[(derived.series["ended_at"] == NEVER)]
    series = series[stands[series["lineage"]] >= 0]
    sent = sent.iloc[series.index]
    occurrence = sent["occurrence"].to_numpy() + 1
    last = sent[["accepted_at", "doubtful_at", "held_at"]].to_numpy().max(axis=1)
    # A source's clock may be ahead of ours, by which what it shows is dated.
    first = np.minimum(series["started_at"], at)
    due = np.where(last == NO_TIME, first, last + _span(timedelta(hours=reminders.every_hours)))
    leaves_at = _out_of_quiet_hours(np.maximum(due, at), reminders.quiet_hours, policy.organisation.zone)
    stop_at = _stop_times(series["started_at"].to_numpy(), reminders)
    many = occurrence > (reminders.max_reminders or NEVER)
    reason = np.select(
        [many, stop_at <= at, due > at, leaves_at > at],
        [_CODE["max_reminders"], _CODE["stopped"], _CODE["waiting"], _CODE["quiet_hours"]],
        _NONE,
    )
    return pd.DataFrame(
        {
            "order": stands[series["lineage"]],
            "series": series.index,
            "first_edit_id": series["first_edit_id"].array,
            "occurrence": occurrence,
            "due_at": np.where(many | (leaves_at >= stop_at), NEVER, leaves_at),
            "reason": reason,
        }
    )


def _span(duration: timedelta) -> int:
    return duration // _MICROSECOND


def _stop_times(started: np.ndarray, reminders: OrderReminders) -> np.ndarray:
    """From when on a series gets no more events (RULES 8.6)."""
    if reminders.stop_after_days is None:
        return np.full(len(started), NEVER)
    return started + _span(timedelta(days=reminders.stop_after_days))


def _out_of_quiet_hours(times: np.ndarray, quiet: QuietHours | None, zone: ZoneInfo) -> np.ndarray:
    """Each time, moved to the end of the quiet hours that it falls in (RULES 8.6).

    They are of the organisation's wall clock: from when it first shows their beginning until it shows their end for the
    last time. What it jumps over comes with the jump.
    """
    if quiet is None or not len(times):
        return times
    today = instants(times).dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    for day in (today - _DAY, today):
        last_day = day + _DAY if quiet.to < quiet.from_ else day
        begin = _shown(day + _of_day(quiet.from_), zone, first=True)
        end = _shown(last_day + _of_day(quiet.to), zone, first=False)
        times = np.where((begin <= times) & (times < end), end, times)
    return times


def _shown(wall_clock: "pd.Series[pd.Timestamp]", zone: ZoneInfo, *, first: bool) -> np.ndarray:
    """When the clock of a zone shows each time, for the first or for the last time."""
    ambiguous = np.full(len(wall_clock), first)
    return microseconds(wall_clock.dt.tz_localize(zone, ambiguous=ambiguous, nonexistent="shift_forward"))


def _of_day(moment: time) -> pd.Timedelta:
    return pd.Timedelta(hours=moment.hour, minutes=moment.minute)


def _decisions(facts: OrderFacts, derived: Derived, alive: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """One row per order: order_key, decision, reason, next_due_at, occurrence, reminder_id, first_edit_id."""
    orders = facts.orders.reset_index(drop=True)
    alive = alive.set_index("order")
    reason, due_at = _without_series(derived), np.full(len(orders), NEVER)
    reason[alive.index], due_at[alive.index] = alive["reason"], alive["due_at"]
    reachable = usable_identifiers(orders, policy).notna().any(axis=1).to_numpy()
    reason[np.isin(reason, _GOING) & ~reachable] = _CODE["no_contact_address"]
    reason[orders["unclear"].to_numpy(dtype=bool)] = _CODE["source_unclear"]
    reason[derived.lineages.until < NEVER] = _CODE["replaced"]
    ids = _reminder_ids(orders, alive.loc[np.flatnonzero(reason == _NONE)])
    rejected = _rejected(orders, ids, facts.rejections, policy)
    reason[ids.index[rejected]] = _CODE["rejected"]
    return pd.DataFrame(
        {
            "order_key": orders["order_key"],
            "decision": labelled(reason != _NONE, ["remind", "skip"]),
            "reason": labelled(reason, ORDER_REASONS),
            "next_due_at": instants(np.where(np.isin(reason, _GOING), due_at, NEVER)),
            "occurrence": alive["occurrence"].astype("Int64").reindex(orders.index),
            "reminder_id": ids[~rejected].reindex(orders.index).astype("str"),
            "first_edit_id": alive["first_edit_id"].reindex(orders.index).astype("str"),
        }
    )


def _without_series(derived: Derived) -> np.ndarray:
    """Why no series of each order is alive, as the code of a reason."""
    lineage = derived.lineages.first
    by_lineage = derived.edits.groupby("lineage")[["by_party", "qualifies"]].any()
    known = by_lineage.reindex(lineage, fill_value=False)
    latest = derived.latest.reindex(lineage)
    edited_since = latest["edited"].fillna(value=False).to_numpy(dtype=bool)
    by_party, qualifies = known["by_party"].to_numpy(dtype=bool), known["qualifies"].to_numpy(dtype=bool)
    state = latest["state"].fillna(OPEN).to_numpy(dtype="int64")
    ended_by = _REASON_OF_STATE[state]
    # A balance was never seen after an edit that counts: what it left is not known.
    conditions = [edited_since, qualifies & (state != OPEN), qualifies | ~by_party]
    unclear, unedited = (np.full(len(state), _CODE[reason]) for reason in ("source_unclear", "no_qualifying_edit"))
    reasons: np.ndarray = np.select(conditions, [unclear, ended_by, unedited], _CODE["before_start"])
    return reasons


_REASON_OF_STATE = np.full(len(STATES), _CODE["no_balance"])
_REASON_OF_STATE[[CANCELLED, FULFILLED]] = _CODE["cancelled"], _CODE["fulfilled"]


def _reminder_ids(orders: pd.DataFrame, due: pd.DataFrame) -> "pd.Series[str]":
    """The id of the event that is due about each of some orders (RULES 8.7), which are rows of `orders` by index."""
    identity = pd.DataFrame(
        {
            "order": orders["order_id"].iloc[due.index],
            "first_edit": due["first_edit_id"].astype("str"),
            "occurrence": due["occurrence"].astype("str"),
        }
    )
    return reminder_ids(STREAM, identity)


def _rejected(orders: pd.DataFrame, ids: "pd.Series[str]", rejections: pd.DataFrame, policy: Policy) -> np.ndarray:
    """Whether Klaviyo rejected each of these very events, with the same identifiers, under the same policy (6.5)."""
    standing = rejections[rejections["policy_hash"] == policy.hash]
    used = [*policy.klaviyo.identify_by]
    now = usable_identifiers(orders.loc[ids.index], policy).astype("str").fillna("").assign(reminder_id=ids)
    then = standing[[*used, "reminder_id"]].astype("str").fillna("")
    found: np.ndarray = pd.MultiIndex.from_frame(now).isin(pd.MultiIndex.from_frame(then))
    return found


def _numbers(decisions: pd.DataFrame, series: pd.DataFrame) -> np.ndarray:
    """The number of each order's latest series; 0: it has none."""
    latest = series.groupby("order_key")["series"].max()
    return latest.reindex(decisions["order_key"], fill_value=0).to_numpy(dtype="int64")


def _with_due(series: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """With `next_due_at`; series that get no more events are `stopped`."""
    decided = series[["order_key", "series"]].merge(
        decisions[["order_key", "series", "next_due_at", "reason"]],
        on=["order_key", "series"],
        how="left",
        validate="1:1",
    )
    is_open = (series["state"] == STATES[OPEN]).to_numpy()
    stopped = is_open & decided["reason"].isin(["max_reminders", "stopped"]).to_numpy()
    return series.drop(columns="of").assign(
        next_due_at=decided["next_due_at"].where(is_open),
        state=series["state"].mask(stopped, STATES[STOPPED]),
    )


def _edits_of(derived: Derived, alive: pd.DataFrame) -> pd.DataFrame:
    """The qualifying edits of live series, in order of time."""
    live = alive.assign(
        lineage=derived.series["lineage"].to_numpy()[alive["series"]],
        edit_at=derived.series["edit_at"].to_numpy()[alive["series"]],
        order_key=derived.lineages.orders["order_key"].to_numpy()[alive["order"]],
    )[["lineage", "edit_at", "order_key"]]
    edits = derived.edits.loc[derived.edits["qualifies"], ["lineage", "at", "edited", "edit_id", "edited_at", "kind"]]
    edits = edits.merge(live, on="lineage", validate="m:1")
    edits = edits[edits["at"] >= edits["edit_at"]].sort_values(["order_key", "at", "edited"])
    return edits[["order_key", "edit_id", "edited_at", "kind"]].reset_index(drop=True)
