"""Which workflow a customer, or an invoice, is under (RULES 3.1 and 2.4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pandas as pd
import pytest
from frames import (
    MONDAY,
    assigned,
    book,
    both_levels,
    by_invoice_id,
    day,
    decision,
    each_day,
    frames_of,
    invoice,
    policy_of,
    reason,
    rules_of,
)
from reference import Action, Assignment, Contact, Decision, Rules, SmartRule, Workflow

from dunning_pipeline.rules.assignment import assign_customers

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
    rows = each_day(book(invoice(), assignments=[ASSIGNED]), RULES, 0, 1, 2, 3)
    assert [row.workflow for row in rows] == ["standard", "other", "other", "standard"]


def test_an_assignment_without_an_end_stays_in_force():
    assert workflow(replace(ASSIGNED, assigned_until=None), as_of=900) == "other"


def test_an_assignment_counts_from_the_day_it_was_recorded():
    late = replace(ASSIGNED, recorded_on=day(2))
    rows = each_day(book(invoice(), assignments=[late]), RULES, 1, 2)
    assert [row.workflow for row in rows] == ["standard", "other"]


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
    rows = each_day(book(invoice(), assignments=[older, ended]), RULES, 0, 1)
    assert [row.assigned_by for row in rows] == ["assignment:2", "assignment:1"]


def test_an_unassigned_customer_has_no_workflow_and_tells_why():
    row = decided(replace(ASSIGNED, workflow="unassigned"))
    assert (row.reason, row.workflow, row.assigned_by) == ("no_workflow", None, "assignment:a")


def test_a_workflow_that_the_policy_does_not_have_leaves_the_customer_without_one():
    row = decided(replace(ASSIGNED, workflow="of another policy"))
    assert (row.reason, row.workflow, row.assigned_by) == ("no_workflow", None, "assignment:a")


def test_an_invoice_assigned_to_a_workflow_of_customers_is_left_without_one():
    row = decided(replace(ASSIGNED, invoice_id="A"))
    assert (row.level, row.reason, row.workflow, row.assigned_by) == ("invoice", "no_workflow", None, "assignment:a")


def test_an_assignment_of_another_invoice_does_not_matter():
    assert workflow(replace(ASSIGNED, invoice_id="B")) == "standard"


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
    rows = pd.DataFrame({"customer_key": [5, 11, 3], "day": (MONDAY - date(1970, 1, 1)).days}, index=[7, 8, 9])
    frames = frames_of(book(invoice(), assignments=[ASSIGNED]))
    assigned = assign_customers(rows, {}, frames.assignments, policy_of(RULES))
    assert assigned["workflow"].tolist() == [0, 1, 0]
    assert assigned.index.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [
        ("alone", ("invoice", "alone", "assignment:alone-A", "remind")),
        ("standard", ("invoice", None, "assignment:standard-A", "no_workflow")),
        ("of another policy", ("invoice", None, "assignment:of another policy-A", "no_workflow")),
        ("unassigned", ("customer", "standard", "default", "remind")),
    ],
)
def test_what_an_assignment_of_an_invoice_leads_to(workflow, expected):
    row = decision(book(invoice(), assignments=[assigned("A", workflow)]), both_levels(1))
    assert (row.level, row.workflow, row.assigned_by, row.reason) == expected
    assert row.carrying_invoice_id == "A"


@pytest.mark.parametrize("workflow", ["alone", "of another policy", "unassigned"])
def test_a_customer_assigned_to_no_workflow_of_its_level_has_none(workflow):
    row = decision(book(invoice(), assignments=[assigned(None, workflow)]), both_levels(1))
    assert (row.workflow, row.assigned_by) == (None, f"assignment:{workflow}-None")
    assert (row.reason, row.carrying_invoice_id, row.action) == ("no_workflow", "A", None)


def test_of_overlapping_assignments_of_an_invoice_the_latest_is_in_force_up_to_the_day_before_its_end():
    ledger = book(
        invoice(),
        assignments=[
            assigned("A", start=1, assigned_until=day(6)),
            assigned("A", "nowhere", start=3, assigned_until=day(5)),
            assigned("A", "unassigned", start=3, assigned_until=day(4)),
        ],
    )
    rows = each_day(ledger, both_levels(1), *range(7))
    assert [(row.level, row.assigned_by) for row in rows] == [
        ("customer", "default"),
        ("invoice", "assignment:alone-A"),
        ("invoice", "assignment:alone-A"),
        ("customer", "default"),
        ("invoice", "assignment:nowhere-A"),
        ("invoice", "assignment:alone-A"),
        ("customer", "default"),
    ]


def test_assignments_of_the_customer_and_of_its_invoice_do_not_compete():
    unassigned = [assigned(None, "unassigned"), assigned("B")]
    rows = by_invoice_id(book(invoice("A"), invoice("B"), assignments=unassigned), both_levels(1))
    assert {name: (row.level, row.reason) for name, row in rows.items()} == {
        "A": ("customer", "no_workflow"),
        "B": ("invoice", "remind"),
    }


def test_an_assignment_of_somebody_else_s_invoice_says_nothing_about_either():
    others = [assigned("B", customer_id="c1"), assigned("A", "unassigned", customer_id="c2")]
    ledger = book(invoice("A"), invoice("B", customer_id="c2"), assignments=others)
    rows = by_invoice_id(ledger, both_levels(1))
    assert {name: (row.level, row.assigned_by) for name, row in rows.items()} == {
        "A": ("customer", "default"),
        "B": ("customer", "default"),
    }


def ruled(workflow: str, for_: str = "customer", **columns: object) -> Rules:
    """Rules by which everything recent comes under a workflow."""
    rule = SmartRule("recent", workflow, (("open_invoices", "is", 1),), for_)
    rules = both_levels(1, smart_rules=(rule,), **columns)
    return replace(rules, workflows=(*rules.workflows, OTHER))


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    ("assigned_to", "by_hand"),
    [
        ("standard", ("standard", "assignment:standard-None")),
        ("unassigned", (None, "assignment:unassigned-None")),
        ("of another policy", (None, "assignment:of another policy-None")),
    ],
)
def test_assignments_come_before_rules_unless_these_override_them(assigned_to, by_hand, override):
    one, two = book(invoice()), book(invoice("A"), invoice("B"))
    for ledger in (one, two):
        ledger.assignments = [assigned(None, assigned_to)]
    rules = ruled("other", smart_rules_override_manual=override)
    by_rule = decision(one, rules)
    assert (by_rule.workflow, by_rule.assigned_by) == (("other", "rule:recent") if override else by_hand)
    no_rule_holds = decision(two, rules)
    assert (no_rule_holds.workflow, no_rule_holds.assigned_by) == by_hand


def test_without_an_assignment_in_force_a_rule_comes_before_the_default():
    ended = assigned(None, "standard", assigned_until=MONDAY)
    row = decision(book(invoice(), assignments=[ended]), ruled("other"))
    assert (row.workflow, row.assigned_by) == ("other", "rule:recent")


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    ("assigned_to", "by_hand"),
    [
        ("alone", ("invoice", "alone", "assignment:alone-A")),
        ("of another policy", ("invoice", None, "assignment:of another policy-A")),
        ("unassigned", ("customer", "standard", "default")),
    ],
)
def test_assignments_of_invoices_come_before_rules_unless_these_override_them(assigned_to, by_hand, override):
    ledger = book(invoice(), assignments=[assigned("A", assigned_to)])
    row = decision(ledger, ruled("alone", "invoice", smart_rules_override_manual=override))
    expected = ("invoice", "alone", "rule:recent") if override else by_hand
    assert (row.level, row.workflow, row.assigned_by) == expected


def test_an_unassigned_customer_may_have_invoices_under_a_rule_of_their_own():
    ledger = book(invoice(), assignments=[assigned(None, "unassigned")])
    row = decision(ledger, ruled("alone", "invoice"))
    assert (row.level, row.workflow, row.assigned_by) == ("invoice", "alone", "rule:recent")
