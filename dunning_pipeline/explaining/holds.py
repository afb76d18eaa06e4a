"""What holds a reminder back, with the figures, and when it goes if nothing changes, in sentences."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

import numpy as np
import pandas as pd

from dunning_pipeline.explaining.contacts import described
from dunning_pipeline.explaining.days_off import DaysOff
from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Balance, Contact, Decision, Facts, OpenInvoice
from dunning_pipeline.explaining.owed import pauses_of, promises_of
from dunning_pipeline.explaining.texts import counted, day, days, listed, money
from dunning_pipeline.rules.contacts import last_contacts
from dunning_pipeline.rules.receivables import NO_KEY


def what_holds_it_back(facts: Facts, decision: Decision, days_off: DaysOff) -> Step:
    """The reason of a decision with its figures; or that nothing does."""
    if decision.reason is None:
        return step("What holds it back", [said("Nothing.", "6"), *_goes(facts, decision)])
    return step("What holds it back", [*_REASONS[decision.reason](facts, decision, days_off)])


def when_it_goes(facts: Facts, decision: Decision, days_off: DaysOff) -> Step:
    """How the day comes about on which the action is due if nothing changes."""
    title = "When it goes if nothing changes"
    if decision.next_due_on is None or decision.trigger_on is None:
        return step(title, [said(f"No day can be given: more than time stands before it ({decision.reason}).", "6")])
    dates = [(decision.trigger_on, f"trigger date {day(decision.trigger_on)}")]
    if allowed := _allowed_on(facts, decision):
        dates.append((allowed, f"last contact {_sum(facts, decision)}"))
    due, texts = max(on for on, _ in dates), "; ".join(text for _, text in dates)
    told = [said(f"{texts[0].upper()}{texts[1:]}: due on {day(due)}.", "5.1")]
    if off := days_off.why(due):
        moved = f"{day(due)} is a day off ({off}): the next working day is {day(days_off.next_working_day(due))}."
        told.append(said(moved, "5.3"))
    return step(
        title, [*told, *_goes_on(facts, decision, days_off.next_working_day(due), decision.next_due_on, days_off)]
    )


def _goes_on(facts: Facts, decision: Decision, due: date, goes: date, days_off: DaysOff) -> list[Said]:
    """The day on which it goes, given the working day on which it was or will be due."""
    if decision.reason in _LATER:
        return [said(_LATER[decision.reason].format(day(goes)), "6")]
    off = days_off.why(facts.day) if due < facts.day else None
    if off:
        return [
            said(f"That has passed, and {day(facts.day)} is a day off ({off}): it goes on {day(goes)}.", "5.3", "6")
        ]
    return [said(f"{'That has passed: it' if due < goes else 'It'} goes on {day(goes)}.", "6")]


_LATER = {
    "contact_cap": "It is due on {}; the contact cap, which is not looked ahead for, defers it further.",
    "rejected": "It is due on {}, and goes on the first working day from then on which the rejection no longer stands.",
}


def _goes(facts: Facts, decision: Decision) -> list[Said]:
    """What the reminder of a day lists."""
    listed_ = [one for one in facts.open_invoices if not one.paused and one.level == decision.level]
    chaseable = {balance.currency for balance in facts.balances if balance.chaseable}
    if decision.level == "invoice":
        listed_ = [one for one in listed_ if one.invoice_id == decision.carrying_invoice_id]
    listed_ = [one for one in listed_ if one.currency in chaseable]
    totals = {one.currency: 0 for one in listed_}
    for one in listed_:
        totals[one.currency] += one.open_minor
    amounts = listed([money(minor, currency) for currency, minor in totals.items()])
    return [said(f"The reminder lists {counted(len(listed_), 'invoice')} with {amounts} open.", "7.1")]


def last_contact(facts: Facts, decision: Decision) -> Contact | None:
    """The contact that `last_contact_on` is the day of: one that counts for the decision's level (RULES 5.2)."""
    of_the_day = (contact for contact in facts.contacts if contact.contact_on == decision.last_contact_on)
    return next((contact for contact in of_the_day if _counts(facts, decision, contact)), None)


def _counts(facts: Facts, decision: Decision, contact: Contact) -> bool:
    """Whether the delay counts from a contact, asked of the rules as if it were the only one."""
    if contact.kind not in ("accepted", "unknown", "recorded"):
        return False
    carried = contact.invoice_id is not None and contact.invoice_id == decision.carrying_invoice_id
    alone = pd.DataFrame(
        {
            "customer_key": [_CUSTOMER],
            "invoice_key": NO_KEY if contact.invoice_id is None else _CARRYING if carried else _OTHER_INVOICE,
            "level": contact.level,
            "workflow": contact.workflow,
            "kind": contact.kind,
            "contact_on": pd.Timestamp(contact.contact_on),
            "known_on": pd.Timestamp(contact.contact_on),
        }
    )
    own = np.array([decision.level == "invoice"])
    # Reminders count from the day after; those of the day itself are told as well.
    asked_on = np.array([facts.day + timedelta(days=1)], dtype="datetime64[D]").astype("int64")
    customer, invoice = np.array([_CUSTOMER]), np.array([_CARRYING])
    return not bool(np.isnat(last_contacts(alone, facts.policy, own, customer, invoice, asked_on))[0])


_CUSTOMER, _CARRYING, _OTHER_INVOICE = 0, 0, 1
"""Keys that stand in for those of the warehouse where a single contact is looked at."""


def _delay(facts: Facts, decision: Decision) -> int:
    """Days that must lie between two contacts; at least 1 after one of the day itself (RULES 6)."""
    workflow = facts.workflow(decision)
    delay = workflow.minimum_contact_delay if workflow else 0
    return max(delay, 1) if decision.last_contact_on == facts.day else delay


def _allowed_on(facts: Facts, decision: Decision) -> date | None:
    if decision.last_contact_on is None:
        return None
    return decision.last_contact_on + timedelta(days=_delay(facts, decision))


def _sum(facts: Facts, decision: Decision) -> str:
    """`Fri 20 Nov 2026 + 5 days = Wed 25 Nov 2026`."""
    last, allowed = decision.last_contact_on, _allowed_on(facts, decision)
    return f"{day(last)} + {days(_delay(facts, decision))} = {day(allowed)}" if last and allowed else ""


Reason = Callable[[Facts, Decision, DaysOff], list[Said]]


def _unclear(facts: Facts, _decision: Decision, _days_off: DaysOff) -> list[Said]:
    missing = [one for one in facts.invoices if one.missing_since and one.missing_since <= facts.day]
    named = listed([f"{one.number} (since {day(one.missing_since)})" for one in missing if one.missing_since])
    return [said(f"Only invoices that their source no longer shows are left: {named}.", "1.1")]


def _no_workflow(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    return [said("There is no workflow.", "3.1")]


def _empty_workflow(_facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    return [said(f"Workflow {decision.workflow} has no actions.", "6")]


def _organisation_paused(facts: Facts, _decision: Decision, _days_off: DaysOff) -> list[Said]:
    pauses = [f"pause {pause.pause_id} holds everybody" for pause in facts.pauses if pause.scope == "organisation"]
    by_policy = ["organisation.paused is true in the policy"] if facts.policy.organisation.paused else []
    return [said(f"Nobody is reminded: {listed(by_policy + pauses)}.", "6.1")]


def _paused(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    return [said(f"All that is unpaid is held: {_holds(facts, decision)}.", "6.1")]


def _promised(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    return [said(f"All that is unpaid is held: {_holds(facts, decision)}.", "6.1", "6.2")]


def _holds(facts: Facts, decision: Decision) -> str:
    """Pauses and promises that hold what a decision is about, each with its end."""
    about = _about(facts, decision)
    pauses = {pause.pause_id: pause for one in about for pause in pauses_of(facts, one)}
    promises = {p.promise_id: p for one in about if one.paused_by == "promise" for p in promises_of(facts, one)}
    texts = [
        f"pause {pause.pause_id} ({f'until {day(pause.paused_until)}' if pause.paused_until else 'without an end'})"
        for pause in pauses.values()
    ]
    texts += [f"promise {promise.promise_id} (up to {day(promise.pay_by)})" for promise in promises.values()]
    return listed(texts)


def _about(facts: Facts, decision: Decision) -> list[OpenInvoice]:
    """The unpaid invoices that a decision is about."""
    return [
        one
        for one in facts.open_invoices
        if one.level == decision.level
        and (decision.level == "customer" or one.invoice_id == decision.carrying_invoice_id)
    ]


def _net_not_positive(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    currencies = {one.currency for one in _about(facts, decision)}
    nets = [
        f"{money(balance.net_minor, balance.currency)}" for balance in facts.balances if balance.currency in currencies
    ]
    return [said(f"With credits counted nothing is owed: the net balance is {listed(nets)}.", "1.4")]


def _below_minimum(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    currencies = {one.currency for one in _about(facts, decision)}
    amounts = [
        _too_little(facts, balance)
        for balance in facts.balances
        if balance.currency in currencies and balance.net_minor > 0 and not balance.chaseable
    ]
    return [said(f"Too little is owed to be chased: {listed(amounts)}.", "6.3")]


def _too_little(facts: Facts, balance: Balance) -> str:
    free = money(balance.unpaid_minor, balance.currency)
    if balance.unpaid_minor == 0:
        return f"{free} free of pauses and promises"
    minimum = facts.policy.receivables.minimum_amount_minor[balance.currency]
    return f"{free} open, less than {money(minimum, balance.currency)}"


def _no_address(facts: Facts, _decision: Decision, _days_off: DaysOff) -> list[Said]:
    found = {name: getattr(facts.customer, name) for name in facts.policy.klaviyo.identify_by}
    texts = [
        f"{name} is {f'not valid ({value})' if value and value.strip() else 'empty'}" for name, value in found.items()
    ]
    return [said(f"The customer cannot be reached: {listed(texts)}.", "6.4")]


def _completed(_facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    return [said(f"Workflow {decision.workflow} is completed for the carrying invoice.", "4.6")]


def _waiting(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    trigger = decision.trigger_on or facts.day
    return [
        said(f"The trigger date of {decision.action} is {day(trigger)}, in {days((trigger - facts.day).days)}.", "4.1")
    ]


def _delayed(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    contact = last_contact(facts, decision)
    what = f" ({described(contact)})" if contact else ""
    text = f"The last contact{what} is too recent: {_sum(facts, decision)}."
    if contact and contact.kind != "recorded" and contact.contact_on == facts.day:
        return [said("Another reminder went today, and there is at most one a day.", "5.2", "5.4"), said(text, "5.1")]
    return [said(text, "5.1", "5.2")]


def _capped(facts: Facts, decision: Decision, days_off: DaysOff) -> list[Said]:
    cap, last = facts.policy.contact_cap, facts.last_order_event
    if cap and last and (facts.day - last).days < cap.days:
        due = days_off.next_working_day(max(filter(None, [decision.trigger_on, _allowed_on(facts, decision)])))
        until = min(last + timedelta(days=cap.days), due + timedelta(days=cap.max_deferral))
        if facts.day < until:
            text = (
                f"An event about an order went on {day(last)}, {days((facts.day - last).days)} ago: reminders wait "
                f"{days(cap.days)}, at most {cap.max_deferral} past {day(due)}, so until {day(until)}."
            )
            return [said(text, "5.4")]
    most = facts.policy.max_invoice_reminders_per_customer_and_day
    going = [one for one in facts.decisions if one.level == "invoice" and one.decision == "remind"]
    named = listed([facts.number(one.carrying_invoice_id or "") for one in going]) if going else "earlier ones"
    return [
        said(
            f"At most {counted(most, 'reminder')} about single invoices go to a customer on a day: {named} come first.",
            "5.4",
        )
    ]


def _day_off(facts: Facts, _decision: Decision, days_off: DaysOff) -> list[Said]:
    return [said(f"{day(facts.day)} is a day off: {days_off.why(facts.day)}.", "5.3")]


def _rejected(facts: Facts, decision: Decision, _days_off: DaysOff) -> list[Said]:
    key = (decision.workflow, decision.action, decision.carrying_invoice_id)
    found = [
        contact
        for contact in facts.contacts
        if contact.kind == "rejected" and (contact.workflow, contact.action, contact.invoice_id) == key
    ]
    if not found:
        return [said("Klaviyo rejected this very reminder.", "6.5")]
    (latest, *_) = found
    why = latest.error_detail or "no reason given"
    hint = f"It goes again when identifiers or policy change, or after `dunning retry {latest.reminder_id}`."
    return [
        said(f"Klaviyo rejected this very reminder on {day(latest.contact_on)}: {why}.", "6.5", "9.3"),
        said(hint, "6.5"),
    ]


_REASONS: Mapping[str, Reason] = {
    "source_unclear": _unclear,
    "no_workflow": _no_workflow,
    "empty_workflow": _empty_workflow,
    "organisation_paused": _organisation_paused,
    "customer_paused": _paused,
    "promise_to_pay": _promised,
    "net_balance_not_positive": _net_not_positive,
    "below_minimum_amount": _below_minimum,
    "no_contact_address": _no_address,
    "workflow_completed": _completed,
    "waiting_for_trigger": _waiting,
    "minimum_contact_delay": _delayed,
    "contact_cap": _capped,
    "non_working_day": _day_off,
    "rejected": _rejected,
}
