"""`dunning explain`: why a customer is reminded on a day, or not, from stored inputs.

The day is derived on a scratch warehouse of this one customer, by the code that decides about everybody. Facts and
sentences are made in explaining/.
"""

from collections.abc import Sequence
from datetime import date

from dunning_pipeline.errors import DunningError
from dunning_pipeline.explaining.action import which_action
from dunning_pipeline.explaining.asked import AskedRules, ask_rules
from dunning_pipeline.explaining.carrying import which_carries
from dunning_pipeline.explaining.contacts import contacts_so_far
from dunning_pipeline.explaining.days_off import DaysOff
from dunning_pipeline.explaining.explanation import Explanation, Part, Step
from dunning_pipeline.explaining.facts import Customer, Decision, Facts, read_customer, read_decisions, read_facts
from dunning_pipeline.explaining.holds import what_holds_it_back, when_it_goes
from dunning_pipeline.explaining.made import Made, as_it_was_made, differences, read_made
from dunning_pipeline.explaining.owed import what_is_owed
from dunning_pipeline.explaining.stretch import Stretch, first_look, stretches
from dunning_pipeline.explaining.texts import counted, day
from dunning_pipeline.explaining.workflow import which_workflow
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.scratch import DECISIONS, WHAT_IS_OWED, derive, scratch_of_customer
from dunning_pipeline.settings import Settings

MOST_INVOICES = 20
"""Invoices under workflows of their own that are told about, those with the oldest due date first."""


def explain(settings: Settings, customer_id: str, on: date) -> Explanation:
    """The story of a customer on a day, by what is known now of that day.

    Raises:
        DunningError: the day cannot be derived, nothing was pulled yet, or the customer is unknown.
    """
    settings.require_derivable(on)
    if not settings.warehouse_path.exists():
        raise DunningError(f"there is nothing to explain yet: run `dunning run --as-of {on}`, which pulls and decides")
    with scratch_of_customer(settings, customer_id) as scratch:
        with scratch.transaction() as connection:
            customer = read_customer(connection, customer_id)
            made = read_made(connection, customer.customer_key, on)
        return _explained(scratch, settings.policy, customer, on, made)


def _explained(scratch: Warehouse, policy: Policy, customer: Customer, on: date, made: Made) -> Explanation:
    derive(scratch, policy, first_look(on), WHAT_IS_OWED)
    derive(scratch, policy, Days(on, on), DECISIONS)
    with scratch.transaction() as connection:
        facts = read_facts(connection, policy, customer, on)
        asked = ask_rules(connection, policy, customer.customer_key, on)
    shown = facts.decisions[: MOST_INVOICES + 1]
    wanted = {(one.level, one.invoice_id) for one in facts.carrying} & {_carried(one) for one in shown}
    since = stretches(scratch, facts, wanted)
    told = [_told(facts, one, asked, since.get(_carried(one))) for one in shown]
    more = len(facts.decisions) - len(shown)
    return Explanation(
        customer.customer_id,
        customer.name or "",
        on,
        tuple(_outcomes(facts, made)),
        (
            _whole(facts, as_it_was_made(facts, made, lambda then: _decided(scratch, then, facts))),
            *told,
            *(
                [Part(f"{counted(more, 'more invoice')} under workflows of their own, not told here", ())]
                if more
                else []
            ),
            Part("", (contacts_so_far(facts),)),
        ),
    )


def _carried(decision: Decision) -> tuple[str, str]:
    return decision.level, decision.carrying_invoice_id or ""


def _decided(scratch: Warehouse, policy: Policy, facts: Facts) -> Sequence[Decision]:
    """The decisions of the day by another policy."""
    derive(scratch, policy, Days(facts.day, facts.day))
    with scratch.transaction() as connection:
        return read_decisions(
            connection,
            "dunning.decisions where as_of = $day",
            {"day": facts.day, "customer_key": facts.customer.customer_key},
        )


def _whole(facts: Facts, made: Step | None) -> Part:
    """What concerns the customer as a whole."""
    return Part("", (*([made] if made else []), what_is_owed(facts)))


def _told(facts: Facts, decision: Decision, asked: AskedRules, stretch: Stretch | None) -> Part:
    """The story of one decision."""
    days_off = DaysOff(facts.policy, facts.customer.country)
    number = facts.number(decision.carrying_invoice_id or "")
    heading = f"Invoice {number}, under a workflow of its own" if decision.level == "invoice" else ""
    if not heading and len(facts.decisions) > 1:
        heading = "The customer's other invoices"
    return Part(
        heading,
        (
            which_carries(facts, decision, stretch),
            which_workflow(facts, decision, asked),
            which_action(facts, decision, days_off),
            what_holds_it_back(facts, decision, days_off),
            when_it_goes(facts, decision, days_off),
        ),
    )


def _outcomes(facts: Facts, made: Made) -> list[str]:
    """The decisions in a sentence each; both where those that were made differ from what is known today."""
    known = _sentences(facts, facts.decisions)
    if made.batch is None or not differences(made.decisions, facts.decisions):
        return known
    before = _sentences(facts, made.decisions)
    return [
        *(f"As it was decided: {text}" for text in before),
        *(f"By what is known today: {text}" for text in known),
    ]


def _sentences(facts: Facts, decisions: Sequence[Decision]) -> list[str]:
    if not decisions:
        return ["Not reminded (no_open_invoices): nothing is owed."]
    told = [_sentence(facts, decision) for decision in decisions[: MOST_INVOICES + 1]]
    more = len(decisions) - len(told)
    return told + ([f"And {counted(more, 'more decision')} about single invoices."] if more else [])


def _sentence(facts: Facts, decision: Decision) -> str:
    number = facts.number(decision.carrying_invoice_id or "")
    who = f"Invoice {number}: not" if decision.level == "invoice" else "Not"
    if decision.reason is None:
        return f"To be reminded: {decision.action} of {decision.workflow} about invoice {number}."
    goes = ""
    if decision.next_due_on and decision.reason not in ("contact_cap", "rejected"):
        goes = f": {decision.action} goes on {day(decision.next_due_on)} if nothing changes"
    return f"{who} reminded ({decision.reason}){goes}."
