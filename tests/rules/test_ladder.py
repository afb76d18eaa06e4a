"""Which action comes next (RULES 4.1 to 4.6): both logics, anchors, repetitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from frames import (
    EVERY_DAY,
    WEEKDAYS_ONLY,
    book,
    day,
    decision,
    each_day,
    invoice,
    open_rows,
    payment,
    reason,
    rules_of,
    run,
    sent,
)
from reference import Action, Contact, Decision, Ledger, Rules, Workflow, reminder_id

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
    found = [row.action for row in each_day(book(invoice()), rules, -9, -1, 0, 1)]
    assert found == ["step_1", "step_1", "step_3", "step_3"]
    last_day, anchor = each_day(book(invoice()), rules_of(-3), -1, 0)
    assert (last_day.reason, anchor.reason) == ("remind", "workflow_completed")


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


def flow(rules: Rules, **columns: object) -> Rules:
    """The rules with other columns of their only workflow."""
    (workflow,) = rules.workflows
    return replace(rules, workflows=(replace(workflow, **columns),))


def contextual(*action_days: int, **columns: object) -> Rules:
    return flow(rules_of(*action_days, **columns), logic="contextual")


def repeating(*action_days: int, every: int, limit: int | None = None, **columns: object) -> Rules:
    return flow(rules_of(*action_days, **columns), repeat_last=(every, limit))


def days_sent(ledger: Ledger, rules: Rules, first: int, last: int) -> list[int]:
    return [on for on, _, _ in sent(ledger, rules, first, last)]


def test_example_4_contextual_paying_a_younger_invoice_changes_nothing():
    rules = contextual(-2, 3, 8, 14, 20, 30)
    ledger = book(invoice("A", 0), invoice("B", 7), invoice("C", 12), contacts=[contact("step_5", 20)])
    late = {row.invoice_id: row.days_overdue for row in open_rows(run(ledger, rules, day(24)))}
    assert late == {"A": 24, "B": 17, "C": 12}
    ledger.payments = [payment("B", 10_000, 24)]
    row = decision(ledger, rules, day(24))
    assert (row.carrying_invoice_id, row.action, row.action_position) == ("A", "step_6", 6)
    assert sent(ledger, rules, 24, 40) == [(30, "A", "step_6")]


def test_contextual_logic_enters_18_days_overdue_at_the_action_for_18_days():
    assert sent(book(invoice()), contextual(2, 8, 18, 19, 40), 18, 50) == [
        (18, "A", "step_3"),
        (23, "A", "step_4"),
        (40, "A", "step_5"),
    ]


def test_contextual_logic_takes_the_latest_action_reached_from_its_trigger_on():
    rows = each_day(book(invoice()), contextual(1, 8, 15), 0, 1, 7, 8, 9, 14, 15, 99)
    assert [(row.action, row.reason) for row in rows] == [
        ("step_1", "waiting_for_trigger"),
        ("step_1", "remind"),
        ("step_1", "remind"),
        ("step_2", "remind"),
        ("step_2", "remind"),
        ("step_2", "remind"),
        ("step_3", "remind"),
        ("step_3", "remind"),
    ]


def test_contextual_logic_goes_on_after_the_last_executed_action_only():
    rules = contextual(1, 8, 15)
    rows = each_day(book(invoice(), contacts=[contact("step_1", 2)]), rules, 3, 8, 15)
    assert [row.action for row in rows] == ["step_2", "step_2", "step_3"]
    ahead = next_step(rules, contact("step_2", 3), as_of=8)
    assert (ahead.action, ahead.reason) == ("step_3", "waiting_for_trigger")
    assert next_step(rules, contact("step_3", 3), as_of=8).reason == "workflow_completed"


def test_contextual_logic_drops_what_the_delay_outlasts():
    assert sent(book(invoice()), contextual(1, 3, 5), 0, 30) == [(1, "A", "step_1"), (6, "A", "step_3")]


def test_actions_before_the_anchor_expire_on_the_anchor_under_contextual_logic_too():
    rows = each_day(book(invoice()), contextual(-5, -2, 4), -6, -3, -2, -1, 0)
    assert [(row.action, row.reason) for row in rows] == [
        ("step_1", "waiting_for_trigger"),
        ("step_1", "remind"),
        ("step_2", "remind"),
        ("step_2", "remind"),
        ("step_3", "waiting_for_trigger"),
    ]
    assert reason(book(invoice()), contextual(-5, -2), day(0)) == "workflow_completed"


def test_contextual_logic_counts_a_moved_action_as_reached_from_the_day_it_moved_to():
    # Due on Monday: Saturday's action is moved back to Friday, and Thursday's expires with it.
    rows = each_day(book(invoice(due=1)), contextual(-4, -2, working_days=WEEKDAYS_ONLY), -3, -2)
    assert [row.action for row in rows] == ["step_1", "step_2"]


def test_an_issue_date_anchor_counts_from_the_issue_date():
    rules = flow(rules_of(-2, 3, 40), anchor="issue_date")
    ledger = book(invoice(recorded_on=day(-40)))
    assert [(row.action, row.trigger_on, row.reason) for row in each_day(ledger, rules, -31, -30, -28, -27)] == [
        ("step_1", day(-32), "remind"),
        ("step_2", day(-27), "waiting_for_trigger"),
        ("step_2", day(-27), "waiting_for_trigger"),
        ("step_2", day(-27), "remind"),
    ]
    assert sent(ledger, rules, -30, 30) == [(-27, "A", "step_2"), (10, "A", "step_3")]


def test_the_carrying_invoice_is_the_oldest_due_whatever_the_anchor():
    ledger = book(invoice("A", 0, issued_on=day(-2)), invoice("B", 1, issued_on=day(-60)))
    row = decision(ledger, flow(rules_of(10), anchor="issue_date"))
    assert (row.carrying_invoice_id, row.trigger_on) == ("A", day(8))


def test_the_last_action_is_repeated_every_so_many_days_after_its_last_execution():
    rules = repeating(1, 8, every=7)
    assert sent(book(invoice()), rules, 0, 30) == [
        (1, "A", "step_1"),
        (8, "A", "step_2"),
        (15, "A", "step_2"),
        (22, "A", "step_2"),
        (29, "A", "step_2"),
    ]
    assert days_sent(book(invoice(), contacts=[contact("step_2", 10)]), rules, 11, 20) == [17]


def test_a_repetition_has_its_own_number_and_id():
    ledger = book(invoice(), contacts=[contact("step_1", 1), contact("step_1", 8)])
    rows = each_day(ledger, repeating(1, every=7), 14, 15)
    assert [(row.reason, row.occurrence, row.action_position, row.trigger_on) for row in rows] == [
        ("waiting_for_trigger", 3, 1, day(15)),
        ("remind", 3, 1, day(15)),
    ]
    assert rows[1].reminder_id == reminder_id("c1", "standard", "A", "step_1", repetition=3)
    ledger.contacts.append(contact("step_1", 15, reminder_id=rows[1].reminder_id))
    again, later = each_day(ledger, repeating(1, every=7), 15, 16)
    assert (again, later.occurrence) == (rows[1], 4)


def test_a_delay_longer_than_the_repetition_decides():
    rules = repeating(1, every=3, delay=5)
    assert days_sent(book(invoice()), rules, 0, 12) == [1, 6, 11]
    row = next_step(rules, contact("step_1", 1), as_of=4)
    assert (row.reason, row.trigger_on, row.next_due_on) == ("minimum_contact_delay", day(4), day(6))


def test_a_late_repetition_moves_the_following_ones():
    # Monday the 11th, Sunday the 17th: Monday the 18th, Sunday the 24th: Monday the 25th.
    weekdays = repeating(1, every=6, delay=0, working_days=WEEKDAYS_ONLY)
    assert days_sent(book(invoice()), weekdays, 0, 20) == [1, 8, 15]


@pytest.mark.parametrize(("limit", "expected"), [(1, [1, 8]), (2, [1, 8, 15]), (None, [1, 8, 15, 22])])
def test_a_limit_counts_the_repetitions_after_the_first(limit, expected):
    assert days_sent(book(invoice()), repeating(1, every=7, limit=limit), 0, 24) == expected


def test_a_ladder_is_completed_once_the_limit_is_reached():
    rules = repeating(1, every=7, limit=1)
    assert next_step(rules, contact("step_1", 1), as_of=8).reason == "remind"
    row = next_step(rules, contact("step_1", 1), contact("step_1", 8))
    assert (row.reason, row.action, row.occurrence) == ("workflow_completed", None, None)


def test_what_counts_as_an_execution_of_the_last_action():
    rules = flow(repeating(1, every=7, limit=3), actions=(Action("first", 1), Action("second", 2, ("old",))))
    contacts = [
        contact("second", 2),
        contact("old", 3),
        contact("second", 4, kind="recorded", reminder_id=None),
        contact("second", 5, kind="unknown"),
        contact("second", 5, carrying_invoice_id="B"),
        contact("second", 5, workflow="other"),
    ]
    row = next_step(rules, *contacts, as_of=6)
    assert (row.action, row.occurrence, row.trigger_on, row.last_contact_on) == ("second", 4, day(11), day(5))


def test_an_unknown_repetition_is_decided_again_under_the_same_id():
    row = next_step(repeating(1, every=7), contact("step_1", 1), contact("step_1", 8, kind="unknown"), as_of=13)
    assert (row.reason, row.occurrence, row.trigger_on) == ("remind", 2, day(8))
    assert row.reminder_id == reminder_id("c1", "standard", "A", "step_1", repetition=2)


def test_a_last_action_before_the_anchor_is_repeated_up_to_the_anchor_only():
    rules = repeating(-9, every=3, delay=0)
    assert days_sent(book(invoice()), rules, -12, 5) == [-9, -6, -3]
    assert reason(book(invoice()), rules, day(0)) == "workflow_completed"


def test_contextual_logic_repeats_the_last_action_too():
    rules = flow(contextual(1, 8), repeat_last=(10, 1))
    assert sent(book(invoice()), rules, 20, 60) == [(20, "A", "step_2"), (30, "A", "step_2")]


def test_a_changed_anchor_or_logic_never_goes_back():
    done = contact("step_3", 1)
    for rules in (contextual(1, 8, 15, 22), flow(rules_of(1, 8, 15, 22), anchor="issue_date")):
        assert next_step(rules, done, as_of=6).action == "step_4"
