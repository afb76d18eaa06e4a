"""The decision as it was made, beside the one that today's knowledge of the day gives (RULES 6), in sentences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Decision, Facts, read_decisions, records
from dunning_pipeline.explaining.texts import day
from dunning_pipeline.policy import Policy, PolicyError, parse_policy

COMPARED = tuple(Decision.__dataclass_fields__)
"""The columns of decisions that are compared."""


@dataclass(frozen=True)
class Batch:
    """The newest live batch of a day, with the text of the policy that decided it."""

    batch_id: str
    state: str
    created_at: datetime
    policy_hash: str
    policy_text: str | None


@dataclass(frozen=True)
class Sent:
    """What came of an attempt to send a reminder."""

    reminder_id: str
    outcome: str
    attempted_at: datetime
    error_detail: str | None


@dataclass(frozen=True)
class Made:
    """Decisions as they were made: frozen with a live batch, or without one as `dunning.decisions` has them still."""

    batch: Batch | None
    decisions: tuple[Decision, ...]
    sent: tuple[Sent, ...]


def read_made(connection: duckdb.DuckDBPyConnection, customer_key: int, on: date) -> Made:
    """What was decided about a customer for a day, to be read before the day is derived again."""
    batches = records(
        connection,
        Batch,
        "select batch_id, state, created_at, policy_hash, text as policy_text"
        " from dunning.batches left join dunning.policies using (policy_hash)"
        " where stream = 'invoice' and live and as_of = $day order by created_at desc, batches.rowid desc limit 1",
        {"day": on},
    )
    key = {"customer_key": customer_key}
    if not batches:
        return Made(None, read_decisions(connection, "dunning.decisions where as_of = $day", {**key, "day": on}), ())
    (batch,) = batches
    frozen = "dunning.batch_decisions where batch_id = $batch_id"
    decisions = read_decisions(connection, frozen, {**key, "batch_id": batch.batch_id})
    tried = (
        "select reminder_id, outcome, attempted_at, error_detail from dunning.sent_history"
        # That this batch superseded an earlier one of the day says nothing about its own reminders.
        " where contact_on = $day and (outcome <> 'superseded' or batch_id = $batch_id)"
        " order by attempted_at desc, outcome = 'attempting'"
    )
    return Made(batch, decisions, records(connection, Sent, tried, {"day": on, "batch_id": batch.batch_id}))


@dataclass(frozen=True)
class Difference:
    """A row of decisions that differs: as it was made, and as it is made of what is known today; None: no such row."""

    made: Decision | None
    known: Decision | None

    @property
    def fields(self) -> list[tuple[str, object, object]]:
        """The columns that differ with both values."""
        if not (self.made and self.known):
            return []
        pairs = [(name, getattr(self.made, name), getattr(self.known, name)) for name in COMPARED]
        return [pair for pair in pairs if pair[1] != pair[2]]


def differences(made: Sequence[Decision], known: Sequence[Decision]) -> list[Difference]:
    """The rows that differ, customer-level ones first."""
    before, now = ({_row(decision): decision for decision in side} for side in (made, known))
    pairs = [Difference(before.get(key), now.get(key)) for key in sorted({*before, *now})]
    return [pair for pair in pairs if pair.made != pair.known]


def _row(decision: Decision) -> tuple[str, str]:
    return decision.level, (decision.carrying_invoice_id or "") if decision.level == "invoice" else ""


Decide = Callable[[Policy], Sequence[Decision]]
"""Decides the day anew by a policy, from what is known today."""


def as_it_was_made(facts: Facts, made: Made, decide: Decide) -> Step | None:
    """What was decided and sent at the time, and where what is known today gives another decision.

    None if the day was never decided. `decide` is asked only if the policy has changed and the decision differs.
    """
    different = differences(made.decisions, facts.decisions)
    if made.batch is None:
        return _derived_before(made, facts) if made.decisions and different else None
    told = [*_frozen(facts, made, made.batch), *_compared(facts, different)]
    if made.batch.policy_hash != facts.policy.hash:
        told.append(_policy_changed(made, made.batch, different, decide))
    return step("As it was decided", told)


def _frozen(facts: Facts, made: Made, batch: Batch) -> list[Said]:
    at = batch.created_at.astimezone(facts.policy.organisation.zone)
    frozen = f"Batch {batch.batch_id}, frozen on {day(at.date())} at {at:%H:%M}"
    if not made.decisions:
        return [said(f"{frozen}: no decision about the customer, who owed nothing by what was known then.", "6")]
    return [said(f"{frozen}: {_outcome(facts, one)}{_sent(facts, made, batch, one)}.", "6") for one in made.decisions]


def _outcome(facts: Facts, decision: Decision) -> str:
    about = f" about invoice {facts.number(decision.carrying_invoice_id)}" if decision.carrying_invoice_id else ""
    action = f", {decision.action} of {decision.workflow}{about}" if decision.action else about
    return f"{decision.outcome}{action}"


def _sent(facts: Facts, made: Made, batch: Batch, decision: Decision) -> str:
    """What came of the reminder on the day; what Klaviyo accepted stays accepted."""
    if decision.reminder_id is None:
        return ""
    tried = [one for one in made.sent if one.reminder_id == decision.reminder_id]
    if not tried:
        return f"; nothing was sent of it (the batch is {batch.state})"
    latest = next((one for one in tried if one.outcome == "accepted"), tried[0])
    at = latest.attempted_at.astimezone(facts.policy.organisation.zone)
    became = {
        "accepted": "Klaviyo accepted it",
        "rejected": f"Klaviyo rejected it ({latest.error_detail or 'no reason given'})",
        "dropped": f"it was dropped ({latest.error_detail or 'no reason given'})",
        "superseded": "a newer batch superseded it",
        "not_delivered": "it did not reach Klaviyo",
    }.get(latest.outcome, "whether Klaviyo got it is unknown")
    return f"; {became} at {at:%H:%M}"


def _compared(facts: Facts, different: Sequence[Difference]) -> list[Said]:
    if not different:
        return [said("What is known today of that day gives the same decision.", "6")]
    told = [said("What is known today of that day gives another decision, which is told below.", "6")]
    return told + [said(text, "6") for pair in different for text in _pair(facts, pair)]


def _pair(facts: Facts, pair: Difference) -> list[str]:
    who = _who(facts, pair.made or pair.known)
    if pair.known is None:
        return [f"{who}There is no decision by what is known today."]
    if pair.made is None:
        return [f"{who}There is no decision as it was made, {_outcome(facts, pair.known)} by what is known today."]
    return [
        f"{who}{name}: {_value(before)} as it was made, {_value(now)} by what is known today."
        for name, before, now in pair.fields
    ]


def _who(facts: Facts, decision: Decision | None) -> str:
    own = decision is not None and decision.level == "invoice" and decision.carrying_invoice_id
    return f"Invoice {facts.number(own)}: " if own else ""


def _value(value: object) -> str:
    if value is None:
        return "empty"
    return day(value) if isinstance(value, date) else str(value)


def _policy_changed(made: Made, batch: Batch, different: Sequence[Difference], decide: Decide) -> Said:
    changed = "The policy has changed since"
    if not different:
        return said(f"{changed}, which makes no difference.", "6")
    try:
        then = parse_policy(batch.policy_text or "")
    except PolicyError:
        return said(f"{changed}.", "6")
    left = differences(made.decisions, decide(then))
    if not left:
        return said(f"{changed}, which makes the whole difference.", "6")
    known: Mapping[bool, str] = {
        True: "which makes no difference: what is known has changed",
        False: "and what is known",
    }
    return said(f"{changed}, {known[left == different]}.", "6")


def _derived_before(made: Made, facts: Facts) -> Step:
    told = [
        said("No live batch was made on that day, so nothing was sent.", "9.2"),
        said("dunning.decisions has the day as it was derived last; the next run that derives it replaces it.", "6"),
        *(said(f"It says: {_outcome(facts, one)}.", "6") for one in made.decisions),
        *_compared(facts, differences(made.decisions, facts.decisions)),
    ]
    return step("As it was decided", told)
