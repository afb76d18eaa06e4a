"""The decision of each day: sections 3 to 5 put together, and the one reason of section 6 where nobody is reminded.

Every row knows its own day, so one day and a whole window of days are decided in the same call.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import ladder, timing
from dunning_pipeline.rules.assignment import NO_WORKFLOW, assign_customers, workflow_positions
from dunning_pipeline.rules.carrying import in_order
from dunning_pipeline.rules.contacts import by_hand, executed_actions, last_contacts, latest_order_events
from dunning_pipeline.rules.events import reminder_ids
from dunning_pipeline.rules.holds import pause_spans
from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.slices import key_ranges, within
from dunning_pipeline.rules.smart_rules import customer_columns
from dunning_pipeline.rules.spans import distinct, packed, place_in, unpacked
from dunning_pipeline.rules.timing import day_numbers
from dunning_pipeline.tables import REASONS

STREAM = "invoice"


@dataclass(frozen=True)
class Facts:
    """What decisions are made from, each frame as its table is declared unless said otherwise.

    open_invoices, balances, carrying: of the days to decide; `carrying` has `issued_on`.
    customers: customer_key, customer_id, country, email, phone, external_id, and what the smart rules ask for (see
        `smart_rules.customer_column_names`); all that owe, one row each.
    invoice_ids: invoice_key, invoice_id of the invoices in `carrying`, one row each.
    assignments, pauses: all rows.
    contacts: customer_key, invoice_key, level (empty for what was recorded by hand), workflow, action, contact_on,
        known_on, reminder_id, kind: `accepted` (by Klaviyo), `unknown` (perhaps accepted: counts for the delay
        only) or `recorded` (by hand).
    rejections: reminder_id, rejected_on, and email, phone, external_id, policy_hash as they were when Klaviyo
        rejected it.
    order_events: customer_key, contact_on; events about orders that the customer got.
    """

    open_invoices: pd.DataFrame
    balances: pd.DataFrame
    carrying: pd.DataFrame
    customers: pd.DataFrame
    invoice_ids: pd.DataFrame
    assignments: pd.DataFrame
    pauses: pd.DataFrame
    contacts: pd.DataFrame
    rejections: pd.DataFrame
    order_events: pd.DataFrame

    def key_ranges(self) -> list[range]:
        """Ranges of customers that are worth their own computation; see `slices.key_ranges`."""
        about = self.open_invoices["customer_key"].to_numpy(), self.balances["customer_key"].to_numpy()
        return key_ranges(np.concatenate(about))

    def within(self, keys: range) -> "Facts":
        """What is about the customers in a range of keys, and whatever else there is of the smaller frames."""
        named = ("open_invoices", "balances", "carrying", "customers", "contacts", "order_events")
        return replace(self, **{name: within(getattr(self, name), keys) for name in named})


def decide(facts: Facts, policy: Policy) -> pd.DataFrame:
    """Remind, or skip for the first reason of section 6 that applies: a row per customer and per invoice of its own.

    Returns:
        The columns of `dunning.decisions` without ids, ordered by day and customer_key, the customer-level row first.
        Deciding the same again gives the same rows.
    """
    rows = _with_workflows(_units(facts), facts, policy)
    calendar = timing.WorkingDays.of(policy, facts.customers["country"], _years(rows, policy))
    calendar = calendar.take(rows["customer"].to_numpy())
    rows = _with_next_action(rows, facts.contacts, policy, calendar)
    rows = _with_due_dates(_with_last_contact(rows, facts.contacts, policy), policy, calendar)
    rows["reason"] = _reasons(rows, facts, policy, calendar)
    due = _that_may_be_second_on_the_day(rows, facts)
    due = due.assign(reminder_id=_reminder_ids(due, facts, policy))
    due = _with_sent_before_the_order_event(due, facts, calendar)
    due = _one_per_day(due, facts, policy, calendar)
    due = _without_rejected(due, facts, policy)
    due = _within_daily_maximum(due, facts, policy)
    return _as_declared(_replaced(rows, due), policy)


REMIND = len(REASONS)
"""Stands for "no reason against it" among places in REASONS."""

_CODE = {reason: code for code, reason in enumerate(REASONS)}


def _units(facts: Facts) -> pd.DataFrame:
    """What is decided on: customers by what is left at their level, and invoices of their own workflow (RULES 2.4).

    Has the carrying invoice where one carries (else no `due_on`), the place of the customer in `facts.customers`, and
    whether all that the unit owes is held by pauses (`all_paused`) or anyhow (`all_held`) or is `unclear`, and whether
    some of it is in a currency with a positive net balance (`net_positive`), or can be chased (`chaseable`).
    """
    owed = _with_flags(facts.open_invoices, facts.balances)
    units = pd.concat([_customer_units(owed, facts), _invoice_units(owed, facts.carrying)], ignore_index=True)
    units = units.iloc[np.lexsort((units["own"], units["customer_key"], units["day"]))].reset_index(drop=True)
    customer = pd.Index(facts.customers["customer_key"]).get_indexer(pd.Index(units["customer_key"]))
    return units.assign(
        customer=customer, as_of=units["day"].to_numpy().astype("datetime64[D]").astype("datetime64[s]")
    )


def _with_flags(owed: pd.DataFrame, balances: pd.DataFrame) -> pd.DataFrame:
    """Adds `day`, `own` (level invoice) and what its balance makes of each unpaid invoice."""
    at = _balance_of(owed, balances)
    held = owed["paused"].to_numpy(dtype=bool)
    return owed.assign(
        day=day_numbers(owed["as_of"]),
        own=(owed["level"] == "invoice").to_numpy(),
        all_paused=(owed["paused_by"] == "pause").to_numpy(dtype=bool),
        all_held=held,
        net_positive=(balances["net_minor"].to_numpy() > 0)[at],
        chaseable=~held & balances["chaseable"].to_numpy(dtype=bool)[at],
    )


def _balance_of(owed: pd.DataFrame, balances: pd.DataFrame) -> np.ndarray:
    """The row of `balances` about each invoice's customer, currency and day; every invoice has one."""
    places = _account_days(balances)
    order = np.argsort(places)
    found: np.ndarray = order[np.searchsorted(places[order], _account_days(owed))]
    return found


def _account_days(rows: pd.DataFrame) -> np.ndarray:
    codes = rows["currency"].cat.codes.to_numpy().astype("int64")
    accounts = rows["customer_key"].to_numpy() * len(rows["currency"].cat.categories) + codes
    return packed(accounts, day_numbers(rows["as_of"]))


_FLAGS = ["all_paused", "all_held", "net_positive", "chaseable"]


def _customer_units(owed: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    left = owed[~owed["own"]]
    unclear = facts.balances[facts.balances["unclear"].to_numpy(dtype=bool)]
    unclear_places = packed(unclear["customer_key"].to_numpy(), day_numbers(unclear["as_of"]))
    places = packed(left["customer_key"].to_numpy(), left["day"].to_numpy())
    units = distinct(np.concatenate([places, unclear_places]))
    at = np.searchsorted(units, places)
    invoices = np.bincount(at, minlength=len(units))
    counted = {flag: np.bincount(at[left[flag].to_numpy()], minlength=len(units)) for flag in _FLAGS}
    customer_key, day = unpacked(units)
    carrying = facts.carrying[(facts.carrying["level"] == "customer").to_numpy()]
    carried = np.searchsorted(units, packed(carrying["customer_key"].to_numpy(), day_numbers(carrying["as_of"])))
    rows = pd.DataFrame(
        {
            "customer_key": customer_key,
            "day": day,
            "own": False,
            "invoice_key": NO_KEY,
            "all_paused": counted["all_paused"] == invoices,
            "all_held": counted["all_held"] == invoices,
            "net_positive": counted["net_positive"] > 0,
            "chaseable": counted["chaseable"] > 0,
            "unclear": invoices == 0,
        }
    )
    rows["invoice_key"] = _placed(carrying["invoice_key"].to_numpy(), carried, len(units), NO_KEY)
    for column in ("due_on", "issued_on"):
        rows[column] = _placed(carrying[column].to_numpy(), carried, len(units), np.datetime64("NaT"))
    return rows


def _placed(values: np.ndarray, at: np.ndarray, rows: int, empty: object) -> np.ndarray:
    """An array with `values` at some places and `empty` at the others."""
    filled = np.full(rows, empty, dtype=values.dtype)
    filled[at] = values
    return filled


def _invoice_units(owed: pd.DataFrame, carrying: pd.DataFrame) -> pd.DataFrame:
    """An invoice that is held or not chaseable is decided on, but does not carry."""
    own = owed[owed["own"]]
    carries = own["chaseable"].to_numpy()
    columns = ["customer_key", "day", "own", "invoice_key", "workflow", "assigned_by", "total_minor", "currency"]
    return own[[*columns, *_FLAGS]].assign(
        unclear=False,
        due_on=own["due_on"].where(carries),
        issued_on=own["issued_on"].where(carries),
    )


def _with_workflows(rows: pd.DataFrame, facts: Facts, policy: Policy) -> pd.DataFrame:
    """Makes `workflow` a position: an invoice's own is known, a customer's is found (RULES 3)."""
    customers = rows[~rows["own"]]
    columns = customer_columns(customers, facts.customers, facts.open_invoices, policy)
    assigned = assign_customers(customers[["customer_key", "day"]], columns, facts.assignments, policy)
    if len(customers) == len(rows):
        return rows.assign(workflow=assigned["workflow"], assigned_by=assigned["assigned_by"])
    invoices = rows[rows["own"]]
    own = pd.DataFrame(
        {"workflow": workflow_positions(invoices["workflow"], policy), "assigned_by": invoices["assigned_by"]},
        index=invoices.index,
    )
    both = pd.concat([assigned.astype({"assigned_by": "str"}), own]).reindex(rows.index)
    return rows.assign(workflow=both["workflow"], assigned_by=both["assigned_by"].astype("category"))


def _years(rows: pd.DataFrame, policy: Policy) -> range:
    days = [rows[name].to_numpy().astype("datetime64[D]") for name in ("due_on", "issued_on", "as_of")]
    return timing.years_around(np.concatenate(days), policy)


def _with_next_action(
    rows: pd.DataFrame, contacts: pd.DataFrame, policy: Policy, calendar: timing.WorkingDays
) -> pd.DataFrame:
    """Adds `position` of the next action, its `occurrence` and `trigger_on` (RULES 4)."""
    workflow, day = rows["workflow"].to_numpy(), rows["day"].to_numpy()
    executed = executed_actions(contacts, policy, rows["invoice_key"].to_numpy(), workflow, day)
    following = ladder.next_actions(
        workflow, _anchors(rows, policy), executed, _dates(day), ladder.Ladders.of(policy), calendar
    )
    return rows.assign(position=following.position, occurrence=following.occurrence, trigger_on=following.trigger)


def _anchors(rows: pd.DataFrame, policy: Policy) -> np.ndarray:
    """The date that each row's actions count from: the carrying invoice's due date, or its issue date (RULES 4.1)."""
    by_issue = np.array([*(workflow.anchor == "issue_date" for workflow in policy.workflows), False])
    return np.where(by_issue[rows["workflow"]], _days(rows["issued_on"]), _days(rows["due_on"]))


def _with_last_contact(rows: pd.DataFrame, contacts: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Adds `last_contact_on` (RULES 5.2)."""
    own, customer, invoice, day = (rows[name].to_numpy() for name in ("own", "customer_key", "invoice_key", "day"))
    return rows.assign(last_contact_on=last_contacts(contacts, policy, own, customer, invoice, day))


def _with_due_dates(rows: pd.DataFrame, policy: Policy, calendar: timing.WorkingDays) -> pd.DataFrame:
    """Adds `allowed_on` (by the minimum contact delay) and `next_due_on` (RULES 5.1, 6)."""
    delays = np.array([*(workflow.minimum_contact_delay for workflow in policy.workflows), 0], dtype="int64")
    day, trigger = _dates(rows["day"].to_numpy()), _days(rows["trigger_on"])
    allowed = timing.earliest_contact(_days(rows["last_contact_on"]), delays[rows["workflow"]], day)
    next_due = calendar.forward(timing.latest_of(trigger, allowed, day))
    return rows.assign(allowed_on=allowed, next_due_on=np.where(np.isnat(trigger), trigger, next_due))


def _reasons(rows: pd.DataFrame, facts: Facts, policy: Policy, calendar: timing.WorkingDays) -> np.ndarray:
    """The place in REASONS of the first that applies to each row (RULES 6), or REMIND."""
    day = _dates(rows["day"].to_numpy())
    actions = np.array([*(len(workflow.actions) for workflow in policy.workflows), 0])
    workflow = rows["workflow"].to_numpy()
    conditions = {
        "source_unclear": rows["unclear"],
        "no_workflow": workflow == NO_WORKFLOW,
        "empty_workflow": actions[workflow] == 0,
        "organisation_paused": _organisation_paused(rows["day"].to_numpy(), facts.pauses, policy),
        "customer_paused": rows["all_paused"],
        "promise_to_pay": rows["all_held"],
        "net_balance_not_positive": ~rows["net_positive"],
        "below_minimum_amount": ~rows["chaseable"],
        "no_contact_address": ~reachable(facts.customers, policy)[rows["customer"]],
        "workflow_completed": rows["position"] == ladder.COMPLETED,
        "waiting_for_trigger": _days(rows["trigger_on"]) > day,
        "minimum_contact_delay": _days(rows["allowed_on"]) > day,
        "contact_cap": _capped_by_orders(rows, facts.order_events, policy, calendar),
        "non_working_day": calendar.forward(day) != day,
    }
    reason = np.full(len(rows), REMIND, dtype="int8")
    for name, holds in reversed(conditions.items()):
        reason[np.asarray(holds, dtype=bool)] = _CODE[name]
    return reason


def _capped_by_orders(
    rows: pd.DataFrame, order_events: pd.DataFrame, policy: Policy, calendar: timing.WorkingDays
) -> np.ndarray:
    """Whether the contact cap defers a reminder because of a recent order event (RULES 5.4)."""
    cap, day = policy.contact_cap, rows["day"].to_numpy()
    if cap is None or not cap.max_deferral or order_events.empty:
        return np.zeros(len(rows), dtype=bool)
    last = latest_order_events(order_events, rows["customer_key"].to_numpy(), day)
    due = calendar.forward(timing.latest_of(_days(rows["trigger_on"]), _days(rows["allowed_on"])))
    capped: np.ndarray = timing.deferred_until(last, due, cap) > _dates(day)
    return capped


def _organisation_paused(day: np.ndarray, pauses: pd.DataFrame, policy: Policy) -> np.ndarray:
    if policy.organisation.paused:
        return np.ones(len(day), dtype=bool)
    spans = pause_spans(pauses[pauses["scope"] == "organisation"])
    days = distinct(day)
    begun = spans["held_from"].to_numpy()[:, None] <= _dates(days)
    ended = spans["held_until"].to_numpy()[:, None] <= _dates(days)
    paused = np.asarray((begun & ~ended).any(axis=0))
    return paused[np.searchsorted(days, day)]


_ATOM = r"[^@\s\"(),.:;<>\[\\\]]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
IDENTIFIER_PATTERNS = {
    "email": rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]",
    "phone": r"\+[1-9][0-9]{6,14}",
    "external_id": r".*\S.*",
}
"""What a usable identifier looks like: an address, an E.164 number, anything that is not blank."""

LONGEST_EMAIL = 99


def usable_identifiers(customers: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The identifiers of `klaviyo.identify_by` that are present and valid, the others empty (RULES 6.4)."""
    usable = {}
    for name in policy.klaviyo.identify_by:
        text = customers[name].str.strip()
        valid = text.str.fullmatch(IDENTIFIER_PATTERNS[name]).fillna(value=False).astype(bool)
        if name == "email":
            valid &= (text.str.len() <= LONGEST_EMAIL).fillna(value=False)
        usable[name] = text.where(valid)
    return pd.DataFrame(usable, index=customers.index)


def reachable(customers: pd.DataFrame, policy: Policy) -> np.ndarray:
    """Whether each customer has a usable identifier (RULES 6.4)."""
    return usable_identifiers(customers, policy).notna().any(axis=1).to_numpy()


def _reminder_ids(due: pd.DataFrame, facts: Facts, policy: Policy) -> "pd.Series[str]":
    """The id of each reminder (RULES 7.2); one that is due on many days is made once."""
    longest = max((len(workflow.actions) for workflow in policy.workflows), default=0) + 1
    action = (due["invoice_key"] * len(policy.workflows) + due["workflow"]) * longest + due["position"]
    same, _ = pd.factorize(packed(action.to_numpy(), due["occurrence"].to_numpy()))
    first = np.flatnonzero(~pd.Series(same).duplicated().to_numpy())
    ids = reminder_ids(STREAM, _identity(due.iloc[first], facts, policy))
    return ids.take(same).set_axis(due.index)


def _identity(due: pd.DataFrame, facts: Facts, policy: Policy) -> pd.DataFrame:
    """The columns that make a reminder's id (RULES 7.2), in their order."""
    invoice = pd.Index(facts.invoice_ids["invoice_key"]).get_indexer(pd.Index(due["invoice_key"]))
    names = np.array([workflow.name for workflow in policy.workflows], dtype=object)
    action = ladder.Ladders.of(policy).names(due["workflow"].to_numpy(), due["position"].to_numpy())
    return pd.DataFrame(
        {
            "customer_id": facts.customers["customer_id"].to_numpy()[due["customer"]],
            "workflow": names[due["workflow"]],
            "carrying_invoice_id": facts.invoice_ids["invoice_id"].to_numpy()[invoice],
            "action": action,
            "occurrence": due["occurrence"].astype("str"),
        },
        index=due.index,
        dtype="str",
    )


def _that_may_be_second_on_the_day(rows: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """What goes, and what a cap or day off keeps back though the day has a reminder, which is told first (RULES 6)."""
    reason = rows["reason"].to_numpy()
    kept = np.flatnonzero(np.isin(reason, [_CODE["contact_cap"], _CODE["non_working_day"]]))
    asked = reason == REMIND
    asked[kept] = _is_reminded(rows.iloc[kept], _reminders(facts.contacts))
    return rows[asked]


def _with_sent_before_the_order_event(due: pd.DataFrame, facts: Facts, calendar: timing.WorkingDays) -> pd.DataFrame:
    """Decides again alike what was sent on the day already: an order event after it caps nothing (RULES 5.2)."""
    capped = (due["reason"] == _CODE["contact_cap"]).to_numpy()
    sent = capped & _is_of_day(due, _reminders(facts.contacts))
    day = _dates(due["day"].to_numpy())
    open_today = calendar.take(due.index.to_numpy()).forward(day) == day
    return due.assign(reason=np.where(sent, np.where(open_today, REMIND, _CODE["non_working_day"]), due["reason"]))


def _one_per_day(due: pd.DataFrame, facts: Facts, policy: Policy, calendar: timing.WorkingDays) -> pd.DataFrame:
    """Holds what comes second on the day: for a customer, or for an invoice of its own (RULES 5.2, 5.4)."""
    reminders = _reminders(facts.contacts)
    second = _is_reminded(due, reminders) & ~_is_of_day(due, reminders)
    held = due[second].assign(reason=_CODE["minimum_contact_delay"], last_contact_on=due.loc[second, "as_of"])
    held = _with_due_dates(held, policy, calendar.take(held.index.to_numpy()))
    decided = _replaced(due, held)
    return decided.assign(reminder_id=due["reminder_id"].where(decided["reason"] == REMIND))


def _is_reminded(rows: pd.DataFrame, reminders: pd.DataFrame) -> np.ndarray:
    """Whether a reminder was sent on each row's day: to the customer, or about the invoice of its own."""
    to_customers = reminders[reminders["level"] == "customer"]
    reminded: np.ndarray = np.where(
        rows["own"], _has_day(rows, reminders, "invoice_key"), _has_day(rows, to_customers, "customer_key")
    )
    return reminded


def _reminders(contacts: pd.DataFrame) -> pd.DataFrame:
    """Reminders with the number of their day; one that was perhaps accepted holds another like one that surely was."""
    sent = contacts[~by_hand(contacts)]
    return sent.assign(day=day_numbers(sent["contact_on"]))


def _has_day(due: pd.DataFrame, reminders: pd.DataFrame, key: str) -> np.ndarray:
    """Whether a reminder with the same key was sent on the day of each row."""
    reminders = reminders[reminders[key] >= 0]
    sent = packed(reminders[key].to_numpy(), reminders["day"].to_numpy())
    return place_in(distinct(sent), packed(due[key].to_numpy(), due["day"].to_numpy())) >= 0


def _is_of_day(due: pd.DataFrame, reminders: pd.DataFrame) -> np.ndarray:
    """Whether this very reminder was sent on the day of each row."""
    columns = ["reminder_id", "day"]
    sent = pd.MultiIndex.from_frame(reminders[columns])
    return pd.MultiIndex.from_frame(due[columns]).isin(sent)


def _without_rejected(due: pd.DataFrame, facts: Facts, policy: Policy) -> pd.DataFrame:
    """Holds the very reminders that Klaviyo rejected, by then and with the same identifiers (RULES 6.5)."""
    rejections = facts.rejections[facts.rejections["policy_hash"] == policy.hash]
    due_still = due[due["reason"] == REMIND]
    if rejections.empty or due_still.empty:
        return due
    now = usable_identifiers(facts.customers, policy).iloc[due_still["customer"]].astype("str").fillna("")
    now = now.set_axis(due_still.index).assign(reminder_id=due_still["reminder_id"])
    then = rejections.assign(**rejections[list(policy.klaviyo.identify_by)].astype("str").fillna(""))
    pairs = now.reset_index(names="row").merge(then, on=list(now.columns), validate="m:m")
    standing = pairs[pairs["rejected_on"].to_numpy() <= due_still.loc[pairs["row"], "as_of"].to_numpy()]
    rejected = due.index.isin(standing["row"])
    return due.assign(
        reason=np.where(rejected, _CODE["rejected"], due["reason"]), reminder_id=due["reminder_id"].mask(rejected)
    )


def _within_daily_maximum(due: pd.DataFrame, facts: Facts, policy: Policy) -> pd.DataFrame:
    """Holds a customer's reminders about single invoices beyond the most a day, the oldest due go first (RULES 5.4).

    Those of the day that were accepted already count, and keep their place when they are decided again.
    """
    going = due[due["own"] & (due["reason"] == REMIND)]
    if going.empty:
        return due
    sent = _reminders(facts.contacts)
    sent = sent[sent["level"] == "invoice"].drop_duplicates(["reminder_id", "day"])
    new = going[~_is_of_day(going, sent)]
    together = ["customer_key", "day"]
    sent_to = pd.MultiIndex.from_frame(new[together])
    used = sent.groupby(together).size().reindex(sent_to, fill_value=0).to_numpy()
    room = pd.Series(policy.max_invoice_reminders_per_customer_and_day - used, new.index)
    invoice = pd.Index(facts.invoice_ids["invoice_key"]).get_indexer(pd.Index(new["invoice_key"]))
    new = new.assign(
        customer_key=packed(new["customer_key"].to_numpy(), new["day"].to_numpy()),
        invoice_id=facts.invoice_ids["invoice_id"].to_numpy()[invoice],
    ).astype({"total_minor": "int64", "currency": CURRENCY})
    place = in_order(new, policy.organisation.rates).groupby("customer_key").cumcount()
    beyond = due.index.isin(place[place >= room.reindex(place.index)].index)
    return due.assign(
        reason=np.where(beyond, _CODE["contact_cap"], due["reason"]), reminder_id=due["reminder_id"].mask(beyond)
    )


def _replaced(rows: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
    """The rows with what became of some of them, which are known by their index."""
    at = rows.index.get_indexer(some.index)
    changed = {}
    for name in ("reason", "last_contact_on", "next_due_on"):
        changed[name] = rows[name].to_numpy(copy=True)
        changed[name][at] = some[name].to_numpy()
    return rows.assign(reminder_id=some["reminder_id"].reindex(rows.index), **changed)


def _as_declared(rows: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    reason, position = rows["reason"].to_numpy(dtype="int8"), rows["position"].to_numpy()
    workflow, there = rows["workflow"].to_numpy(), position != ladder.COMPLETED
    ladders = ladder.Ladders.of(policy)
    dated = reason >= _CODE["waiting_for_trigger"]
    return pd.DataFrame(
        {
            "as_of": rows["as_of"],
            "level": labelled(rows["own"].to_numpy(), ["customer", "invoice"]),
            "workflow": labelled(workflow, [one.name for one in policy.workflows]),
            "assigned_by": rows["assigned_by"],
            "action": pd.Categorical(ladders.names(workflow, position), pd.Index(pd.unique(ladders.name), dtype="str")),
            "action_position": (rows["position"] + 1).astype("Int64").where(there),
            "occurrence": rows["occurrence"].astype("Int64").where(there),
            "trigger_on": rows["trigger_on"],
            "last_contact_on": rows["last_contact_on"],
            "next_due_on": rows["next_due_on"].where(dated),
            "decision": labelled(reason != REMIND, ["remind", "skip"]),
            "reason": labelled(np.where(reason == REMIND, -1, reason), REASONS),
            "reminder_id": rows["reminder_id"],
            "customer_key": rows["customer_key"],
            "invoice_key": rows["invoice_key"].astype("Int64").where(rows["invoice_key"] != NO_KEY),
        }
    )


def _dates(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype("datetime64[D]")


def _days(dates: pd.Series) -> np.ndarray:
    return dates.to_numpy().astype("datetime64[D]")
