"""Which actions are behind, and which is next from which day on, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dunning_pipeline.explaining.days_off import DaysOff
from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Contact, Decision, Facts
from dunning_pipeline.explaining.texts import day, days, listed
from dunning_pipeline.policy import Action, Workflow

MOST_DATES = 3


@dataclass(frozen=True)
class Climb:
    """A carrying invoice on the ladder of its workflow: the day its actions count from, and what was executed."""

    facts: Facts
    decision: Decision
    workflow: Workflow
    number: str
    anchor: date
    executed: tuple[Contact, ...]

    @property
    def last(self) -> int:
        """The place of the furthest action executed, or -1."""
        return max((self.place(contact) for contact in self.executed), default=-1)

    @property
    def next(self) -> int:
        """The place of the next action; behind the last one if none is left."""
        position = self.decision.action_position
        return len(self.workflow.actions) if position is None else position - 1

    def place(self, contact: Contact) -> int:
        """Where the action of a contact stands in the ladder."""
        name = self.workflow.action_names[contact.action or ""]
        return [action.name for action in self.workflow.actions].index(name)

    def times(self, place: int) -> list[Contact]:
        """The executions of an action, the oldest first."""
        return [contact for contact in reversed(self.executed) if self.place(contact) == place]


def climb(facts: Facts, decision: Decision) -> Climb | None:
    """The ladder of a decision; None without a workflow, or where no invoice carries."""
    workflow = facts.workflow(decision)
    carries = {(one.level, one.invoice_id) for one in facts.carrying}
    invoice = next((one for one in facts.open_invoices if one.invoice_id == decision.carrying_invoice_id), None)
    if workflow is None or invoice is None or (decision.level, invoice.invoice_id) not in carries:
        return None
    anchor = invoice.issued_on if workflow.anchor == "issue_date" else invoice.due_on
    executed = [
        contact
        for contact in executing(facts, workflow.name)
        if contact.invoice_id == invoice.invoice_id and contact.action in workflow.action_names
    ]
    return Climb(facts, decision, workflow, invoice.number, anchor, tuple(executed))


def executing(facts: Facts, workflow: str) -> list[Contact]:
    """Contacts under a workflow that execute actions: reminders before the day, records up to it (RULES 5.2)."""
    return [
        contact
        for contact in facts.contacts
        if contact.workflow == workflow
        and (contact.kind == "recorded" or (contact.kind == "accepted" and contact.contact_on < facts.day))
    ]


def which_action(facts: Facts, decision: Decision, days_off: DaysOff) -> Step:
    """The actions behind, those passed over, and the next one with its trigger date."""
    ladder = climb(facts, decision)
    if ladder is None:
        return step("Which action", [said(_without(facts, decision), "4.1")])
    if not ladder.workflow.actions:
        return step("Which action", [said(f"Workflow {ladder.workflow.name} has no actions.", "6")])
    told = [*_behind(ladder), *_passed_over(ladder), *_next(ladder, days_off)]
    return step("Which action", told)


def _without(facts: Facts, decision: Decision) -> str:
    if facts.workflow(decision) is None:
        return "None, since there is no workflow."
    return "None, since no invoice carries whose dates it could count from."


def _behind(ladder: Climb) -> list[Said]:
    places = sorted({ladder.place(contact) for contact in ladder.executed})
    actions = ladder.workflow.actions
    done = [f"{actions[place].name} ({_dates(ladder.times(place), actions[place])})" for place in places]
    if done:
        return [said(f"Behind for invoice {ladder.number}: {listed(done)}.", "4.2"), *_uncertain(ladder)]
    others = executing(ladder.facts, ladder.workflow.name)
    restarts = "; contacts about other invoices do not count for it" if others else ""
    nothing = f"No action of {ladder.workflow.name} has been executed for invoice {ladder.number} yet{restarts}."
    return [said(nothing, "4.2", *(["4.5"] if others else [])), *_uncertain(ladder)]


def _dates(contacts: Sequence[Contact], action: Action) -> str:
    shown = [_execution(contact, action) for contact in contacts[-MOST_DATES:]]
    earlier = len(contacts) - len(shown)
    return f"{earlier} times before, then {', '.join(shown)}" if earlier else listed(shown)


def _execution(contact: Contact, action: Action) -> str:
    by_hand = " by hand" if contact.kind == "recorded" else ""
    return day(contact.contact_on) + by_hand + (f" as {contact.action}" if contact.action != action.name else "")


def _uncertain(ladder: Climb) -> list[Said]:
    """Reminders about the invoice that execute nothing although they may have gone."""
    unknown = [
        contact
        for contact in ladder.facts.contacts
        if contact.kind == "unknown"
        and contact.contact_on < ladder.facts.day
        and (contact.workflow, contact.invoice_id) == (ladder.workflow.name, ladder.decision.carrying_invoice_id)
    ]
    text = "Whether {} of {} reached Klaviyo is unknown: it counts for the delay and executes nothing."
    return [said(text.format(contact.action, day(contact.contact_on)), "9.3") for contact in unknown[:MOST_DATES]]


def _passed_over(ladder: Climb) -> list[Said]:
    """Actions before the next one that were never executed, and why they are not any more."""
    told: list[Said] = []
    for place, action in enumerate(ladder.workflow.actions[: ladder.next]):
        if not ladder.times(place):
            why, rule = _why_passed_over(ladder, place, action)
            told.append(said(f"Passed over: {action.name} (day {action.day}); {why}.", rule))
    return told


def _why_passed_over(ladder: Climb, place: int, action: Action) -> tuple[str, str]:
    if place < ladder.last:
        return "the ladder never goes back, and a later action was executed", "4.2"
    if action.day < 0 and ladder.facts.day >= ladder.anchor:
        return f"it expired on {day(ladder.anchor)}, from which the days count", "4.3"
    return "the logic is contextual, and a later action has been reached", "4.4"


def _next(ladder: Climb, days_off: DaysOff) -> list[Said]:
    decision, workflow = ladder.decision, ladder.workflow
    if decision.action_position is None or decision.trigger_on is None:
        return [said(*_completed(ladder))]
    place = f"{decision.action_position} of {len(workflow.actions)}"
    action = workflow.actions[ladder.next]
    if decision.occurrence and decision.occurrence > 1:
        return [said(_repetition(ladder, action, decision.trigger_on), "4.6")]
    anchor = f"{_anchor(workflow)} {day(ladder.anchor)}"
    raw = ladder.anchor + timedelta(days=action.day)
    sum_ = f"{anchor} {'+' if action.day >= 0 else '-'} {days(abs(action.day))} = {day(raw)}"
    moved = "" if raw == decision.trigger_on else _moved_back(ladder, raw, decision.trigger_on, days_off)
    reached = "reached" if decision.trigger_on <= ladder.facts.day else "not reached yet"
    return [
        said(
            f"Next: {action.name}, action {place}. Its trigger date: {sum_}{moved}; {reached}.", "4.1", _logic(workflow)
        )
    ]


def _logic(workflow: Workflow) -> str:
    return "4.4" if workflow.logic == "contextual" else "4.3"


def _anchor(workflow: Workflow) -> str:
    return "issue date" if workflow.anchor == "issue_date" else "due date"


def _moved_back(ladder: Climb, raw: date, trigger: date, days_off: DaysOff) -> str:
    off = days_off.why(raw)
    following = days_off.next_working_day(raw)
    return (
        f", {off}; the next working day, {day(following)}, is not before the {_anchor(ladder.workflow)}, so it is "
        f"moved back to the last working day before, {day(trigger)}"
    )


def _repetition(ladder: Climb, action: Action, trigger: date) -> str:
    repeat = ladder.workflow.repeat_last
    before = ladder.times(ladder.next)
    if repeat is None or not before:
        return f"Next: {action.name} again, from {day(trigger)} on."
    limit = f"at most {repeat.limit}" if repeat.limit else "without a limit"
    number = (ladder.decision.occurrence or 1) - 1
    return (
        f"Next: {action.name} again, repetition {number} ({limit}). Its trigger date: last executed on "
        f"{day(before[-1].contact_on)} + {days(repeat.every)} = {day(trigger)}."
    )


def _completed(ladder: Climb) -> tuple[str, str]:
    repeat, final = ladder.workflow.repeat_last, ladder.workflow.actions[-1].name
    if ladder.last < len(ladder.workflow.actions) - 1:
        return "No action is left: those that were never executed have expired.", "4.3"
    if repeat is None:
        return f"No action is left: {final} was the last, and workflow {ladder.workflow.name} repeats nothing.", "4.6"
    if repeat.limit and len(ladder.times(ladder.last)) > repeat.limit:
        return f"No action is left: {final} was repeated {repeat.limit} times, which is the limit.", "4.6"
    return f"No action is left: {final} has expired, and so have its repetitions.", "4.6"
