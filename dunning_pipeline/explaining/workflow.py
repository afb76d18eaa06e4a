"""Which workflow a decision is under, and by which assignment or rule, in sentences."""

from collections.abc import Sequence

from dunning_pipeline.explaining.asked import AskedRules, RuleAnswers
from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Assignment, Decision, Facts
from dunning_pipeline.explaining.texts import counted, day, listed
from dunning_pipeline.policy import UNASSIGNED

MOST_RULES = 5


def which_workflow(facts: Facts, decision: Decision, asked: AskedRules) -> Step:
    """The workflow with the values that made a rule hold, or the assignment that names it; and what did not hold."""
    kind, _, name = (decision.assigned_by or "").partition(":")
    own = decision.carrying_invoice_id or ""
    rules = asked.invoices.get(own, ()) if decision.level == "invoice" else asked.customer
    told = {
        "assignment": lambda: _assigned(facts, decision, name),
        "rule": lambda: _by_rule(decision, name, rules),
        "default": lambda: [said(f"Workflow {decision.workflow}, which is the default.", "3.1")],
        "": lambda: [
            said("None: no assignment is in force, no smart rule holds, and the policy has no default.", "3.1")
        ],
    }[kind]()
    return step(
        "Which workflow", [*told, *_overruled(facts, decision, kind, name), *_in_vain(facts, kind, name, rules)]
    )


def _assigned(facts: Facts, decision: Decision, assignment_id: str) -> list[Said]:
    assignment = next((one for one in facts.assignments if one.assignment_id == assignment_id), None)
    if assignment is None:
        return [said(f"{_named(decision)}, by assignment {assignment_id}.", "3.1")]
    end = f" up to the day before {day(assignment.assigned_until)}" if assignment.assigned_until else ""
    by = f"by assignment {assignment_id} ({assignment.source}), in force from {day(assignment.assigned_from)}{end}"
    return [said(f"{_named(decision)}, {by}{_why_none(facts, decision, assignment)}.", "3.1", *_level(decision))]


def _named(decision: Decision) -> str:
    return f"Workflow {decision.workflow}" if decision.workflow else "None"


def _why_none(facts: Facts, decision: Decision, assignment: Assignment) -> str:
    if decision.workflow:
        return ""
    if assignment.workflow == UNASSIGNED:
        return f", which says {UNASSIGNED}"
    named = facts.policy.workflow(assignment.workflow)
    if named is None:
        return f", which names {assignment.workflow}, a workflow that the policy does not have"
    return f", which names {named.name}, a workflow that is carried by {named.carried_by}"


def _by_rule(decision: Decision, name: str, rules: Sequence[RuleAnswers]) -> list[Said]:
    rule = next(rule for rule in rules if rule.rule == name)
    values = listed([f"{answer.asked} (it is {answer.value})" for answer in rule.answers])
    return [said(f"{_named(decision)}, by the smart rule '{name}': {values}.", "3.1", "3.2", *_level(decision))]


def _level(decision: Decision) -> tuple[str, ...]:
    return ("2.4",) if decision.level == "invoice" else ()


def _overruled(facts: Facts, decision: Decision, kind: str, name: str) -> list[Said]:
    """Other assignments in force of the same customer or invoice, and what goes before them."""
    about = decision.carrying_invoice_id if decision.level == "invoice" else None
    others = [one for one in facts.assignments if one.invoice_id == about and one.assignment_id != name]
    if kind == "rule":
        text = "Assignment {} to {} is in force too, but smart rules go first (smart_rules_override_manual)."
        return [said(text.format(one.assignment_id, one.workflow), "3.1") for one in others[:MOST_RULES]]
    return [
        said(f"Assignment {one.assignment_id} to {one.workflow} is in force too, but {_why_behind(one)}.", "3.1")
        for one in others[:MOST_RULES]
    ]


def _why_behind(assignment: Assignment) -> str:
    return f"it began on {day(assignment.assigned_from)}, and of several the latest counts, then the highest id"


def _in_vain(facts: Facts, kind: str, name: str, rules: Sequence[RuleAnswers]) -> list[Said]:
    """The rules that were asked before the one that decided, each with the first condition that does not hold."""
    if kind == "assignment" and not facts.policy.smart_rules_override_manual:
        return []
    asked = [rule for rule in rules if not rule.holds]
    if kind == "rule":
        place = [rule.rule for rule in rules].index(name)
        asked = [rule for rule in rules[:place] if not rule.holds]
    told = [_not_holding(rule) for rule in asked[:MOST_RULES]]
    more = len(asked) - len(told)
    return told + ([said(f"Nor do {counted(more, 'more rule')}.", "3.2")] if more else [])


def _not_holding(rule: RuleAnswers) -> Said:
    answer = next(answer for answer in rule.answers if not answer.holds)
    return said(
        f"The smart rule '{rule.rule}' does not hold: it asks that {answer.asked}; it is {answer.value}.", "3.2"
    )
