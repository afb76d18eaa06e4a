"""Which action comes next (RULES 4.2, 4.3, 4.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from frames import EVERY_DAY, book, day, decision, invoice, payment, reason, rules_of, sent
from reference import Action, Contact, Decision, Rules, Workflow

THREE_STEPS = rules_of(1, 8, 15)


def next_step(rules: Rules, *contacts: Contact, as_of: int = 20) -> Decision:
    return decision(book(invoice(), contacts=list(contacts)), rules, day(as_of))


def contact(action: str | None, on: int = 1, **columns: object) -> Contact:
    values = {"carrying_invoice_id": "A", "workflow": "standard", "reminder_id": f"r-{on}"} | columns
    return Contact("c1", day(on), action=action, **values)


def test_the_first_action_comes_first_and_tells_its_place():
    row = next_step(THREE_STEPS)
    assert (row.action, row.action_position, row.trigger_on) == ("step_1", 1, day(1))


def test_after_each_action_comes_the_next_and_after_the_last_none():
    found = [next_step(THREE_STEPS, contact(f"step_{n}")) for n in (1, 2, 3)]
    assert [(row.action, row.action_position) for row in found] == [("step_2", 2), ("step_3", 3), (None, None)]
    assert found[2].reason == "workflow_completed"
    assert found[2].trigger_on is found[2].next_due_on is found[2].reminder_id is None


def test_the_ladder_never_goes_back_to_an_action_that_was_passed_over():
    assert next_step(THREE_STEPS, contact("step_2", 8), contact("step_1", 13)).action == "step_3"


def test_a_late_entrant_gets_every_reached_action_spaced_by_the_delay():
    assert sent(book(invoice()), THREE_STEPS, 40, 51) == [(40, "A", "step_1"), (45, "A", "step_2"), (50, "A", "step_3")]


def test_former_names_count_as_the_action():
    renamed = Workflow("standard", (Action("first", 1), Action("second", 8, ("older", "old")), Action("third", 15)))
    rules = Rules((renamed,), default="standard", working_days=EVERY_DAY)
    assert [next_step(rules, contact(name)).action for name in ("old", "older", "second")] == ["third"] * 3


def test_an_action_that_the_ladder_does_not_have_executes_nothing():
    assert next_step(THREE_STEPS, contact("dropped")).action == "step_1"


@pytest.mark.parametrize(
    "columns",
    [
        {"carrying_invoice_id": "B"},
        {"carrying_invoice_id": None},
        {"workflow": "another"},
        {"workflow": None},
        {"kind": "unknown"},
        {"customer_id": "c2"},
    ],
)
def test_only_a_contact_of_customer_workflow_and_carrying_invoice_executes(columns):
    assert next_step(THREE_STEPS, replace(contact("step_1"), **columns)).action == "step_1"


def test_an_action_executed_on_the_day_itself_counts_only_if_recorded_by_hand():
    by_hand = contact("step_1", 20, kind="recorded", reminder_id=None)
    assert next_step(THREE_STEPS, by_hand).action == "step_2"
    assert next_step(THREE_STEPS, replace(by_hand, recorded_on=day(21))).action == "step_1"
    assert next_step(THREE_STEPS, contact("step_1", 20)).action == "step_1"
    assert next_step(THREE_STEPS, contact("step_1", 20), as_of=21).action == "step_2"


def test_actions_before_the_anchor_expire_on_the_anchor_itself():
    rules = rules_of(-5, -3, 4)
    assert [next_step(rules, as_of=n).action for n in (-9, -1, 0, 1)] == ["step_1", "step_1", "step_3", "step_3"]
    assert reason(book(invoice()), rules_of(-3), day(0)) == "workflow_completed"
    assert reason(book(invoice()), rules_of(-3), day(-1)) == "remind"


def test_actions_on_or_after_the_anchor_never_expire():
    assert next_step(rules_of(0, 1), as_of=3_000).action == "step_1"


def test_an_executed_action_before_the_anchor_leads_to_the_one_after_it():
    assert next_step(rules_of(-5, -3, 4), contact("step_1", -5), as_of=-4).action == "step_2"
    assert next_step(rules_of(-5, -3, 4), contact("step_3", -5), as_of=-4).reason == "workflow_completed"


def test_a_new_carrying_invoice_starts_the_ladder_and_an_old_one_resumes_it():
    ledger = book(
        invoice("A", disputed_on=day(3), dispute_resolved_on=day(12)),
        invoice("B", 1),
        contacts=[contact("step_1")],
    )
    assert sent(ledger, THREE_STEPS, 5, 16) == [(6, "B", "step_1"), (11, "B", "step_2"), (16, "A", "step_2")]


def test_a_reopened_invoice_resumes_after_its_last_executed_action():
    ledger = book(
        invoice(),
        payments=[payment("A", 10_000, 3), payment("A", -10_000, 18, kind="chargeback")],
        contacts=[contact("step_1"), contact("step_2", 8)],
    )
    assert decision(ledger, THREE_STEPS, day(18)).action == "step_3"


def test_each_workflow_has_its_own_ladder_behind_the_others():
    first, second = (Workflow(name, rules_of(*days).workflows[0].actions) for name, days in LADDERS.items())
    rules = Rules((Workflow("none", ()), first, second), default="long", working_days=EVERY_DAY)
    done = contact("step_3", workflow="long")
    row = next_step(rules, done)
    assert (row.action, row.action_position, row.trigger_on) == ("step_4", 4, day(9))


LADDERS = {"short": (1, 2), "long": (-4, -2, 5, 9)}
