"""Which contacts count on which day, and what they executed: RULES.md 5.2 and 4.2.

Every row is asked of its own day, so that one day or a whole window is decided in one call.
"""

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules.ladder import Executed, named_actions
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.spans import begins, packed, running_sums, unpacked
from dunning_pipeline.rules.timing import day_numbers, latest_of

NO_DAY = np.datetime64("NaT", "D")


def by_hand(contacts: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a contact was recorded by hand, and not sent by this pipeline."""
    return contacts["kind"] == "recorded"


def counts_from(contacts: pd.DataFrame) -> np.ndarray:
    """Days since 1970 from which contacts count: the day after a reminder; what was recorded, once it is known."""
    contact_on, known_on = day_numbers(contacts["contact_on"]), day_numbers(contacts["known_on"])
    return np.where(by_hand(contacts), np.maximum(contact_on, known_on), contact_on + 1)


def last_contacts(
    contacts: pd.DataFrame,
    policy: Policy,
    own: np.ndarray,
    customer_key: np.ndarray,
    invoice_key: np.ndarray,
    day: np.ndarray,
) -> np.ndarray:
    """The day of the latest contact from which each row's minimum contact delay counts (RULES 5.2); NaT for none.

    Args:
        contacts: customer_key, invoice_key, level, workflow, kind, contact_on, known_on.
        policy: workflows.
        own: whether the row is about an invoice of its own workflow, and not about a customer.
        customer_key, invoice_key: of each row.
        day: of each row, days since 1970.
    """
    last = latest_contacts(_of_customer_level(contacts, policy), "customer_key", customer_key, day)
    if own.any():
        general = contacts[by_hand(contacts) & (contacts["invoice_key"] == NO_KEY)]
        last[own] = latest_of(
            latest_contacts(contacts, "invoice_key", invoice_key[own], day[own]),
            latest_contacts(general, "customer_key", customer_key[own], day[own]),
        )
    return last


def _of_customer_level(contacts: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Customer-level reminders, and what was recorded by hand but not about a workflow of invoices (RULES 5.2)."""
    of_invoices = [workflow.name for workflow in policy.workflows if workflow.carried_by == "invoice"]
    recorded = by_hand(contacts) & ~contacts["workflow"].isin(of_invoices)
    return contacts[recorded | (contacts["level"] == "customer")]


def latest_contacts(contacts: pd.DataFrame, column: str, key: np.ndarray, day: np.ndarray) -> np.ndarray:
    """The day of the latest contact that counts on each row's day; NaT for none.

    Args:
        contacts: `column`, kind, contact_on, known_on.
        column: the key that contacts and rows share: customer_key or invoice_key.
        key: of each row.
        day: of each row, days since 1970.
    """
    contacts = contacts[contacts[column] >= 0]
    keys = contacts[column].to_numpy()
    places = packed(keys, counts_from(contacts))
    order = np.argsort(places)
    # Keys in the high bits keep the running maximum within each key.
    latest = np.maximum.accumulate(packed(keys, day_numbers(contacts["contact_on"]))[order])
    at = _last_at(places[order], key, day)
    found = np.full(len(key), NO_DAY)
    found[at >= 0] = unpacked(latest[at[at >= 0]])[1].astype("datetime64[D]")
    return found


def latest_order_events(order_events: pd.DataFrame, customer_key: np.ndarray, day: np.ndarray) -> np.ndarray:
    """The day of each customer's latest event about an order, up to and including a day (RULES 5.4).

    Args:
        order_events: customer_key, contact_on.
        customer_key: of each row.
        day: of each row, days since 1970.

    Returns:
        One datetime64[D] for each row; NaT where the customer got none by then.
    """
    # It counts on its own day already, as what was recorded by hand does.
    events = order_events.assign(kind="recorded", known_on=order_events["contact_on"])
    return latest_contacts(events, "customer_key", customer_key, day)


def executed_actions(
    contacts: pd.DataFrame, policy: Policy, invoice_key: np.ndarray, workflow: np.ndarray, day: np.ndarray
) -> Executed:
    """The last action executed of each row's workflow for its carrying invoice, before its day (RULES 4.2, 4.5).

    Former names of an action (`was`) count as the action; a contact about an action that the ladder no longer has
    executes nothing, nor does a reminder that was perhaps never accepted.

    Args:
        contacts: invoice_key, workflow and action (names), kind, contact_on, known_on.
        policy: the ladders.
        invoice_key: the carrying invoice of each row; NO_KEY: none.
        workflow: its position in the policy, or NO_WORKFLOW.
        day: of each row, days since 1970.
    """
    named = named_actions(contacts, policy)
    executing = ((contacts["kind"] != "unknown") & (contacts["invoice_key"] >= 0)).to_numpy()
    named = named.take(executing[named.row])
    executions = contacts[["invoice_key", "kind", "contact_on", "known_on"]].iloc[named.row]
    course = executions["invoice_key"].to_numpy() * len(policy.workflows) + named.workflow
    places = packed(course, counts_from(executions))
    order = np.argsort(places)
    state = _states(course[order], named.position[order], day_numbers(executions["contact_on"])[order])
    at = _last_at(places[order], np.where(workflow < 0, NO_KEY, invoice_key * len(policy.workflows) + workflow), day)
    executed = Executed.nothing(len(day))
    found = np.flatnonzero(at >= 0)
    executed.position[found] = state.position[at[found]]
    executed.times[found] = state.times[at[found]]
    executed.last_on[found] = state.last_on[at[found]]
    return executed


def _states(course: np.ndarray, position: np.ndarray, contact_on: np.ndarray) -> Executed:
    """What was executed of each course after each execution, which are in order of course and day."""
    furthest = np.maximum.accumulate(packed(course, position))
    begin = begins(furthest)
    is_furthest = packed(course, position) == furthest
    stretch = np.cumsum(begin) - 1
    days = np.where(is_furthest, packed(stretch, contact_on), packed(stretch, np.full(len(stretch), _LONG_AGO)))
    return Executed(
        position=unpacked(furthest)[1],
        times=running_sums(is_furthest.astype("int64"), begin),
        last_on=unpacked(np.maximum.accumulate(days))[1].astype("datetime64[D]"),
    )


_LONG_AGO = -1_000_000


def _last_at(places: np.ndarray, key: np.ndarray, day: np.ndarray) -> np.ndarray:
    """The last of the places, packed and in order, that has each row's key and is not after its day; -1 for none."""
    at = np.searchsorted(places, packed(key, day), "right") - 1
    same = (at >= 0) & (unpacked(places[at])[0] == key) if len(places) else np.zeros(len(key), dtype=bool)
    return np.where(same & (key >= 0), at, -1)
