"""Which workflow a customer is under (RULES 3.1)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from frames import MONDAY, book, day, decision, frames_of, invoice, policy_of, reason, rules_of
from reference import Action, Assignment, Contact, Decision, Workflow

from dunning_pipeline.rules.assignment import assign_workflows

OTHER = Workflow("other", (Action("call", 0),))
RULES = replace(rules_of(1), workflows=(*rules_of(1).workflows, OTHER))
ASSIGNED = Assignment("a", "c1", "other", day(1), day(3))


def decided(*assignments: Assignment, as_of: int = 1, default: str | None = "standard") -> Decision:
    ledger = book(invoice(), assignments=list(assignments))
    return decision(ledger, replace(RULES, default=default), day(as_of))


def workflow(*assignments: Assignment, as_of: int = 1) -> str | None:
    return decided(*assignments, as_of=as_of).workflow


def test_without_an_assignment_the_default_is_in_force():
    row = decided()
    assert (row.workflow, row.assigned_by, row.action) == ("standard", "default", "step_1")


def test_without_an_assignment_or_a_default_there_is_no_workflow():
    row = decided(default=None)
    assert (row.reason, row.workflow, row.assigned_by, row.carrying_invoice_id) == ("no_workflow", None, None, "A")
    assert row.action is row.next_due_on is None


def test_an_assignment_is_in_force_from_its_first_day_to_the_day_before_its_end():
    assert [workflow(ASSIGNED, as_of=n) for n in (0, 1, 2, 3)] == ["standard", "other", "other", "standard"]


def test_an_assignment_without_an_end_stays_in_force():
    assert workflow(replace(ASSIGNED, assigned_until=None), as_of=900) == "other"


def test_an_assignment_counts_from_the_day_it_was_recorded():
    late = replace(ASSIGNED, recorded_on=day(2))
    assert [workflow(late, as_of=n) for n in (1, 2)] == ["standard", "other"]


def test_an_assignment_tells_its_id():
    assert decided(ASSIGNED).assigned_by == "assignment:a"


def test_of_several_assignments_the_latest_is_in_force():
    older, newer = replace(ASSIGNED, assigned_from=day(-5)), Assignment("0", "c1", "standard", day(0))
    assert decided(newer, older).assigned_by == "assignment:0"


def test_of_several_assignments_of_one_day_the_highest_id_is_in_force():
    same_day = [Assignment(name, "c1", "standard", day(0)) for name in ("10", "9", "1")]
    assert decided(*same_day).assigned_by == "assignment:9"


def test_an_ended_assignment_uncovers_an_older_one():
    older, ended = Assignment("1", "c1", "other", day(-9)), Assignment("2", "c1", "standard", day(-5), day(1))
    assert [decided(older, ended, as_of=n).assigned_by for n in (0, 1)] == ["assignment:2", "assignment:1"]


def test_an_unassigned_customer_has_no_workflow_and_tells_why():
    row = decided(replace(ASSIGNED, workflow="unassigned"))
    assert (row.reason, row.workflow, row.assigned_by) == ("no_workflow", None, "assignment:a")


def test_a_workflow_that_the_policy_does_not_have_leaves_the_customer_without_one():
    row = decided(replace(ASSIGNED, workflow="of another policy"))
    assert (row.reason, row.workflow, row.assigned_by) == ("no_workflow", None, "assignment:a")


def test_an_assignment_of_an_invoice_is_none_of_the_customer():
    assert workflow(replace(ASSIGNED, invoice_id="A")) == "standard"


def test_an_assignment_of_another_customer_does_not_matter():
    assert workflow(replace(ASSIGNED, customer_id="c2")) == "standard"


def test_contacts_under_the_former_workflow_keep_counting_for_the_delay_only():
    ledger = book(
        invoice(), assignments=[ASSIGNED], contacts=[Contact("c1", day(0), "A", "standard", "step_1", "an id")]
    )
    row = decision(ledger, RULES)
    assert (row.action, row.reason, row.next_due_on) == ("call", "minimum_contact_delay", day(5))


def test_a_workflow_without_actions_is_empty():
    assert reason(book(invoice()), rules_of()) == "empty_workflow"


def test_the_answer_has_the_rows_of_the_question():
    keys = pd.Series([5, 11, 3], index=[7, 8, 9])
    frames = frames_of(book(invoice(), assignments=[ASSIGNED]))
    assigned = assign_workflows(keys, frames.assignments, policy_of(RULES), MONDAY)
    assert assigned["workflow"].tolist() == [0, 1, 0]
    assert assigned.index.tolist() == [7, 8, 9]
