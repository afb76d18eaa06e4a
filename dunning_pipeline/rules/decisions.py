"""The decision of a day: sections 3 to 5 put together, and the one reason of section 6 where nobody is reminded."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import ladder, timing
from dunning_pipeline.rules.assignment import NO_WORKFLOW, assign_workflows
from dunning_pipeline.rules.holds import active_pauses
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.reminders import reminder_ids

STREAM = "invoice"


@dataclass(frozen=True)
class Facts:
    """What a decision is made from, each frame as its table is declared unless said otherwise.

    open_invoices, balances, carrying: of the as-of date.
    customers: customer_key, customer_id, country, email, phone, external_id; all that owe, one row each.
    assignments, pauses: all rows.
    contacts: customer_key, invoice_key, workflow, action, contact_on, known_on, reminder_id, kind: `accepted`
        (by Klaviyo), `unknown` (perhaps accepted: counts for the delay only) or `recorded` (by hand).
    rejections: reminder_id, rejected_on, and email, phone, external_id, policy_hash as they were when Klaviyo
        rejected it.
    """

    open_invoices: pd.DataFrame
    balances: pd.DataFrame
    carrying: pd.DataFrame
    customers: pd.DataFrame
    assignments: pd.DataFrame
    pauses: pd.DataFrame
    contacts: pd.DataFrame
    rejections: pd.DataFrame


def decide(facts: Facts, policy: Policy, as_of: date) -> pd.DataFrame:
    """One row per customer with an unpaid invoice: remind, or skip for the first reason of section 6 that applies.

    Returns:
        The columns of `dunning.decisions`, ordered by customer_key. Deciding the same again gives the same rows.
    """
    rows = _customers_to_decide(facts)
    rows = rows.join(assign_workflows(rows["customer_key"], facts.assignments, policy, as_of))
    calendar = timing.WorkingDays.of(policy, rows["country"], _years(rows, policy, as_of))
    rows = _with_next_action(rows, facts.contacts, policy, calendar, as_of)
    rows = _with_dates(rows, facts.contacts, policy, calendar, as_of)
    rows["reason"] = _reasons(rows, facts, policy, calendar, as_of)
    rows = _one_per_day(rows, facts, policy, calendar, as_of)
    return _as_declared(rows, policy, as_of)


def _customers_to_decide(facts: Facts) -> pd.DataFrame:
    """Customers with a balance row, their carrying invoice where one carries, and their identifiers."""
    issued = facts.open_invoices[["invoice_key", "issued_on"]]
    carrying = facts.carrying[["customer_key", "invoice_key", "invoice_id", "due_on"]].merge(
        issued, on="invoice_key", how="left", validate="1:1"
    )
    rows = (
        facts.balances[["customer_key"]]
        .drop_duplicates()
        .sort_values("customer_key")
        .merge(facts.customers, on="customer_key", how="left", validate="1:1")
        .merge(carrying, on="customer_key", how="left", validate="1:1")
    )
    return rows.assign(invoice_key=rows["invoice_key"].fillna(NO_KEY).astype("int64"))


def _years(rows: pd.DataFrame, policy: Policy, as_of: date) -> range:
    """The years in which a trigger or a next due date of these rows can lie, a year on either side included."""
    anchors = pd.concat([rows["due_on"], rows["issued_on"], pd.Series([pd.Timestamp(as_of)])])
    repeats = [workflow.repeat_last.every for workflow in policy.workflows if workflow.repeat_last]
    days = [abs(action.day) for workflow in policy.workflows for action in workflow.actions]
    reach = pd.Timedelta(days=max([*repeats, *days, 0]))
    return range((anchors.min() - reach).year - 1, (anchors.max() + reach).year + 2)


def _with_next_action(
    rows: pd.DataFrame, contacts: pd.DataFrame, policy: Policy, calendar: timing.WorkingDays, as_of: date
) -> pd.DataFrame:
    """Adds `position` of the next action, its `action` name, `occurrence` and `trigger_on` (RULES 4)."""
    ladders = ladder.Ladders.of(policy)
    workflow = rows["workflow"].to_numpy()
    executed = ladder.executed_actions(rows, _executing(contacts, as_of), policy)
    following = ladder.next_actions(workflow, _anchors(rows, policy), executed, np.datetime64(as_of), ladders, calendar)
    return rows.assign(
        position=following.position,
        action=ladders.names(workflow, following.position),
        occurrence=following.occurrence,
        trigger_on=following.trigger,
    )


def _anchors(rows: pd.DataFrame, policy: Policy) -> np.ndarray:
    """The date that each row's actions count from: the carrying invoice's due date, or its issue date (RULES 4.1)."""
    by_issue = np.array([*(workflow.anchor == "issue_date" for workflow in policy.workflows), False])
    return np.where(by_issue[rows["workflow"]], _days(rows["issued_on"]), _days(rows["due_on"]))


def _with_dates(
    rows: pd.DataFrame, contacts: pd.DataFrame, policy: Policy, calendar: timing.WorkingDays, as_of: date
) -> pd.DataFrame:
    """Adds `last_contact_on`, `allowed_on` (by the minimum contact delay) and `next_due_on` (RULES 5.1, 6)."""
    last_contact = contacts[_looked_at(contacts, as_of)].groupby("customer_key")["contact_on"].max()
    rows = rows.assign(last_contact_on=_days(last_contact.reindex(rows["customer_key"])))
    return _with_due_dates(rows, policy, calendar, as_of)


def _with_due_dates(rows: pd.DataFrame, policy: Policy, calendar: timing.WorkingDays, as_of: date) -> pd.DataFrame:
    allowed = timing.earliest_contact(_days(rows["last_contact_on"]), _delays(rows["workflow"], policy), as_of)
    trigger = _days(rows["trigger_on"])
    due = timing.latest_of(trigger, allowed, np.full(len(rows), np.datetime64(as_of)))
    next_due = np.where(np.isnat(trigger), trigger, calendar.forward(due))
    return rows.assign(allowed_on=allowed, next_due_on=next_due)


def _reasons(rows: pd.DataFrame, facts: Facts, policy: Policy, calendar: timing.WorkingDays, as_of: date) -> np.ndarray:
    """The first reason of RULES 6 that applies to each row; None where the customer is to be reminded."""
    day = np.datetime64(as_of)
    actions = np.array([len(workflow.actions) for workflow in policy.workflows] or [0])
    workflow = rows["workflow"].to_numpy()
    by_customer = facts.balances.groupby("customer_key")[["unclear", "net_positive", "chaseable"]].any()
    unclear, net_positive, chaseable = by_customer.loc[rows["customer_key"]].to_numpy(dtype=bool).T
    paused, promised = _all_held(rows, facts.open_invoices)
    conditions = {
        "source_unclear": unclear,
        "no_workflow": workflow == NO_WORKFLOW,
        "empty_workflow": actions[workflow] == 0,
        "organisation_paused": np.full(len(rows), _organisation_paused(facts.pauses, policy, as_of)),
        "customer_paused": paused,
        "promise_to_pay": promised,
        "net_balance_not_positive": ~net_positive,
        "below_minimum_amount": ~chaseable,
        "no_contact_address": ~_reachable(rows, policy),
        "workflow_completed": rows["position"].to_numpy() == ladder.COMPLETED,
        "waiting_for_trigger": _days(rows["trigger_on"]) > day,
        "minimum_contact_delay": _days(rows["allowed_on"]) > day,
        "non_working_day": ~calendar.includes(as_of),
    }
    holds = [held.astype(bool) for held in conditions.values()]
    return np.select(holds, [np.array(reason, dtype=object) for reason in conditions], default=np.array(None))


def _all_held(rows: pd.DataFrame, open_invoices: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether pauses alone, or pauses and promises together, leave a customer no unpaid invoice (RULES 6.1)."""
    held = (
        open_invoices.assign(by_pause=open_invoices["paused_by"] == "pause")
        .groupby("customer_key")[["by_pause", "paused"]]
        .all()
        .reindex(rows["customer_key"], fill_value=False)
        .astype(bool)
    )
    return held["by_pause"].to_numpy(), held["paused"].to_numpy()


def _organisation_paused(pauses: pd.DataFrame, policy: Policy, as_of: date) -> bool:
    return policy.organisation.paused or bool((active_pauses(pauses, as_of)["scope"] == "organisation").any())


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


def _reachable(rows: pd.DataFrame, policy: Policy) -> np.ndarray:
    return usable_identifiers(rows, policy).notna().any(axis=1).to_numpy()


def _one_per_day(
    rows: pd.DataFrame, facts: Facts, policy: Policy, calendar: timing.WorkingDays, as_of: date
) -> pd.DataFrame:
    """Gives ids to what is to be sent, and holds what was rejected or comes second on the day (RULES 5.2, 6.5)."""
    rows = rows.assign(reminder_id=pd.Series(None, rows.index, dtype="str"))
    remind = rows["reason"].isna()
    rows.loc[remind, "reminder_id"] = reminder_ids(STREAM, _identity(rows[remind], policy))

    today = facts.contacts[_reminded_on(facts.contacts, as_of)]
    reminded = rows["customer_key"].isin(today["customer_key"])
    second = remind & reminded & ~rows["reminder_id"].isin(today["reminder_id"])
    rows.loc[second, "reason"] = "minimum_contact_delay"
    rows.loc[second, "last_contact_on"] = pd.Timestamp(as_of)
    if second.any():
        rows = rows.where(~second, _with_due_dates(rows, policy, calendar, as_of))

    standing = _standing_rejections(rows[remind & ~second], facts, policy, as_of)
    rows.loc[remind & ~second & rows["reminder_id"].isin(standing["reminder_id"]), "reason"] = "rejected"
    return rows


def _standing_rejections(rows: pd.DataFrame, facts: Facts, policy: Policy, as_of: date) -> pd.DataFrame:
    """Rejections up to the day after which neither the policy nor the customer's identifiers changed."""
    rejections = facts.rejections[facts.rejections["rejected_on"] <= pd.Timestamp(as_of)]
    if rejections.empty:
        return rejections
    now = usable_identifiers(rows, policy).assign(reminder_id=rows["reminder_id"], policy_hash=policy.hash)
    then = rejections[list(now.columns)].astype("str")
    return then.fillna("").merge(now.astype("str").fillna(""), on=list(now.columns), validate="m:1")


def _identity(rows: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The columns that make a reminder's id (RULES 7.2), in their order."""
    return pd.DataFrame(
        {
            "customer_id": rows["customer_id"],
            "workflow": _workflow_names(rows["workflow"], policy),
            "carrying_invoice_id": rows["invoice_id"],
            "action": rows["action"].astype("str"),
            "occurrence": rows["occurrence"].astype("str"),
        },
        index=rows.index,
    )


def _as_declared(rows: pd.DataFrame, policy: Policy, as_of: date) -> pd.DataFrame:
    remind = rows["reason"].isna()
    dated = remind | rows["reason"].isin(DATED_REASONS)
    there = rows["position"] != ladder.COMPLETED
    return pd.DataFrame(
        {
            "as_of": np.datetime64(as_of, "s"),
            "customer_id": rows["customer_id"],
            "level": "customer",
            "carrying_invoice_id": rows["invoice_id"],
            "workflow": _workflow_names(rows["workflow"], policy),
            "assigned_by": rows["assigned_by"],
            "action": rows["action"].astype("str"),
            "action_position": (rows["position"] + 1).astype("Int64").where(there),
            "occurrence": rows["occurrence"].astype("Int64").where(there),
            "trigger_on": rows["trigger_on"],
            "last_contact_on": rows["last_contact_on"],
            "next_due_on": rows["next_due_on"].where(dated),
            "decision": np.where(remind, "remind", "skip"),
            "reason": rows["reason"].astype("str"),
            "reminder_id": rows["reminder_id"].where(remind),
            "customer_key": rows["customer_key"],
            "invoice_key": rows["invoice_key"].astype("Int64").where(rows["invoice_key"] != NO_KEY),
        }
    )


DATED_REASONS = ("waiting_for_trigger", "minimum_contact_delay", "non_working_day", "rejected")
"""Reasons that leave a next due date: nothing but time, or a retry, stands before the reminder."""


def _workflow_names(positions: pd.Series, policy: Policy) -> pd.Series:
    names = np.array([*(workflow.name for workflow in policy.workflows), None], dtype=object)
    return pd.Series(names[positions], positions.index, dtype="str")


def _delays(positions: pd.Series, policy: Policy) -> np.ndarray:
    delays = np.array([*(workflow.minimum_contact_delay for workflow in policy.workflows), 0], dtype="int64")
    return delays[positions]


def _looked_at(contacts: pd.DataFrame, as_of: date) -> pd.Series:
    """Reminders before the day, contacts recorded by hand up to and including it (RULES 5.2)."""
    day = pd.Timestamp(as_of)
    by_hand = (contacts["kind"] == "recorded") & (contacts["known_on"] <= day)
    return ((contacts["kind"] != "recorded") & (contacts["contact_on"] < day)) | (
        by_hand & (contacts["contact_on"] <= day)
    )


def _executing(contacts: pd.DataFrame, as_of: date) -> pd.DataFrame:
    executing = _looked_at(contacts, as_of) & (contacts["kind"] != "unknown") & (contacts["invoice_key"] != NO_KEY)
    return contacts.loc[executing, ["customer_key", "invoice_key", "workflow", "action", "contact_on"]].dropna()


def _reminded_on(contacts: pd.DataFrame, as_of: date) -> pd.Series:
    """Reminders of the day itself; one that was perhaps accepted holds another like one that surely was."""
    return (contacts["kind"] != "recorded") & (contacts["contact_on"] == pd.Timestamp(as_of))


def _days(dates: pd.Series) -> np.ndarray:
    return dates.to_numpy().astype("datetime64[D]")
