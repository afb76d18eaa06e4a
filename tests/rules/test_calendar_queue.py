"""Replays against deciding day after day, on generated ledgers; and what must hold of every replay."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import frames
import pytest
import reference
from frames import WEEKDAYS_ONLY, Reminder, book, day, invoice, payment, replayed, rules_of
from hypothesis import given, note, settings
from reference import Action, Assignment, Contact, Customer, OrderEvent, Pause, Promise, Rules, SmartRule, Workflow
from test_against_reference import CENTRE, FEW, MANY, Case, assert_same, generated, knobs

FIRST_DAYS = (4, 10, 20)
"""Days before CENTRE on which replays begin."""


def compare(chosen) -> list[Reminder]:
    """Replays a generated ledger, compares with the reference, checks the invariants; returns the reminders."""
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    first = CENTRE - timedelta(days=random.Random(chosen.seed).choice(FIRST_DAYS))
    last = CENTRE + timedelta(days=16)
    found = replayed(case.ledger, case.rules, first, last)
    assert_same(case, found, frames.reference_replay(case.ledger, case.rules, first, last))
    check_invariants(case, found)
    return found


def check_invariants(case: Case, reminders: list[Reminder]) -> None:
    check_delays(case.rules, reminders)
    check_working_days(case, reminders)
    check_ladders(case.rules, reminders)
    check_what_is_owed(case, reminders)


def check_delays(rules: Rules, reminders: list[Reminder]) -> None:
    """Never two reminders to a customer, or about an invoice of its own workflow, within the delay."""
    for _, mine in grouped(reminders, lambda row: (row.customer_id, row.level, row.level == "invoice" and row[3])):
        for one, other in pairwise(mine):
            delay = workflow_of(rules, other).minimum_contact_delay
            assert (other.remind_on - one.remind_on).days >= max(1, delay)
    single = [row for row in reminders if row.level == "invoice"]
    for _, mine in grouped(single, lambda row: (row.customer_id, row.remind_on)):
        assert len(mine) <= rules.max_invoice_reminders


def check_working_days(case: Case, reminders: list[Reminder]) -> None:
    known = {customer.customer_id: customer for customer in case.ledger.customers}
    for row in reminders:
        calendar = reference._calendar(known[row.customer_id], case.rules)
        assert calendar.includes(row.remind_on)


def check_ladders(rules: Rules, reminders: list[Reminder]) -> None:
    """Positions of one carrying invoice strictly increase, repetitions of the last action aside."""
    for (*_, name), mine in grouped(reminders, lambda row: (row.customer_id, row.carrying_invoice_id, row.workflow)):
        actions = [action.name for action in reference_workflow(rules, name).actions]
        steps = [(actions.index(row.action), row.occurrence) for row in mine]
        assert steps == sorted(set(steps))
        assert all(occurrence == 1 or at == len(actions) - 1 for at, occurrence in steps)


def check_what_is_owed(case: Case, reminders: list[Reminder]) -> None:
    """Every carrying invoice is unpaid and unpaused on the day: neither paid, nor disputed, nor voided."""
    for as_of, mine in grouped(reminders, lambda row: row.remind_on):
        rows = reference.open_invoices(case.ledger, case.rules, as_of)
        free = {row.invoice.invoice_id for row in rows if not row.paused}
        assert {row.carrying_invoice_id for row in mine} <= free


def grouped(reminders: Iterable[Reminder], key) -> Iterable[tuple[object, list[Reminder]]]:
    groups = defaultdict(list)
    for row in sorted(reminders):
        groups[key(row)].append(row)
    return groups.items()


def workflow_of(rules: Rules, row: Reminder) -> Workflow:
    return reference_workflow(rules, row.workflow)


def reference_workflow(rules: Rules, name: str) -> Workflow:
    return next(workflow for workflow in rules.workflows if workflow.name == name)


@settings(FEW, max_examples=5)
@given(knobs)
def test_a_replay_is_what_deciding_day_after_day_gives(chosen):
    compare(chosen)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(MANY, max_examples=200)
@given(knobs)
def test_a_replay_is_what_deciding_day_after_day_gives_on_many_ledgers(chosen):
    compare(chosen)


def sent(ledger: reference.Ledger, rules: Rules, first: int, last: int) -> list[tuple[int, str, str]]:
    """Day (counted from DUE), carrying invoice and action of what a replay sends, which is what the reference sends."""
    found = replayed(ledger, rules, day(first), day(last))
    assert found == frames.reference_replay(ledger, rules, day(first), day(last))
    return [((row.remind_on - frames.DUE).days, row.carrying_invoice_id, row.action) for row in found]


def recorded(on: int, **columns: object) -> Contact:
    return replace(Contact("c1", day(on), kind="recorded"), **columns)


def accepted(on: int, action: str = "step_1", invoice_id: str = "A", **columns: object) -> Contact:
    contact = Contact("c1", day(on), invoice_id, "standard", action, f"r-{on}", level="customer")
    return replace(contact, **columns)


THREE_STEPS = rules_of(1, 8, 15)


def test_nothing_is_sent_before_the_first_day_and_after_the_last():
    assert sent(book(invoice()), THREE_STEPS, 1, 15) == [(1, "A", "step_1"), (8, "A", "step_2"), (15, "A", "step_3")]
    assert sent(book(invoice()), THREE_STEPS, 2, 14) == [(2, "A", "step_1"), (8, "A", "step_2")]
    assert sent(book(invoice()), THREE_STEPS, 1, 1) == [(1, "A", "step_1")]
    assert sent(book(invoice()), THREE_STEPS, -9, 0) == []


def test_its_own_reminders_count_for_the_delay_and_execute_actions():
    assert sent(book(invoice()), THREE_STEPS, 40, 60) == [(40, "A", "step_1"), (45, "A", "step_2"), (50, "A", "step_3")]


def test_real_reminders_count_before_the_first_day_and_not_from_then_on():
    contacts = [accepted(2), accepted(5, "step_2"), accepted(6, "step_3")]
    assert sent(book(invoice(), contacts=contacts), THREE_STEPS, 5, 20) == [(8, "A", "step_2"), (15, "A", "step_3")]


def test_a_reminder_that_was_perhaps_accepted_counts_for_the_delay_only():
    contacts = [accepted(4, kind="unknown")]
    assert sent(book(invoice(), contacts=contacts), THREE_STEPS, 5, 12) == [(9, "A", "step_1")]


@pytest.mark.parametrize(("on", "expected"), [(0, [1, 8]), (1, [6, 11]), (3, [1, 8]), (4, [1, 9]), (8, [1, 13])])
def test_a_call_recorded_by_hand_pushes_what_is_due_within_the_delay(on, expected):
    ledger = book(invoice(), contacts=[recorded(on)])
    rules = rules_of(1, 8, delay=5) if on else rules_of(1, 8, delay=1)
    assert [found for found, *_ in sent(ledger, rules, -3, 13)] == expected


def test_a_call_counts_from_the_day_on_which_it_became_known():
    late = recorded(6, recorded_on=day(8))
    assert sent(book(invoice(), contacts=[late]), THREE_STEPS, 0, 12) == [(1, "A", "step_1"), (11, "A", "step_2")]
    later = recorded(6, recorded_on=day(9))
    assert sent(book(invoice(), contacts=[later]), THREE_STEPS, 0, 12) == [(1, "A", "step_1"), (8, "A", "step_2")]


def test_an_action_executed_by_hand_meanwhile_is_not_sent_again():
    by_hand = recorded(7, carrying_invoice_id="A", workflow="standard", action="step_2")
    assert sent(book(invoice(), contacts=[by_hand]), THREE_STEPS, 0, 20) == [(1, "A", "step_1"), (15, "A", "step_3")]


def test_repetitions_by_hand_and_by_replay_are_counted_together():
    rules = replace(
        rules_of(1), workflows=(replace(rules_of(1).workflows[0], repeat_last=(7, 3), minimum_contact_delay=1),)
    )
    by_hand = recorded(10, carrying_invoice_id="A", workflow="standard", action="step_1")
    found = replayed(book(invoice(), contacts=[by_hand]), rules, day(0), day(60))
    assert found == frames.reference_replay(book(invoice(), contacts=[by_hand]), rules, day(0), day(60))
    assert [((row.remind_on - frames.DUE).days, row.occurrence) for row in found] == [(1, 1), (8, 2), (17, 4)]


def test_the_ladder_restarts_for_another_invoice_and_resumes_for_the_first():
    ledger = book(invoice(disputed_on=day(4), dispute_resolved_on=day(9)), invoice("B", due=2))
    found = sent(ledger, THREE_STEPS, 0, 20)
    assert found == [(1, "A", "step_1"), (6, "B", "step_1"), (11, "A", "step_2"), (16, "A", "step_3")]


def test_a_payment_that_becomes_known_later_stops_reminders_from_then_on():
    late = payment("A", 10_000, 2, recorded_on=day(9))
    assert sent(book(invoice(), payments=[late]), THREE_STEPS, 0, 20) == [(1, "A", "step_1"), (8, "A", "step_2")]
    soon = payment("A", 10_000, 2, recorded_on=day(8))
    assert sent(book(invoice(), payments=[soon]), THREE_STEPS, 0, 20) == [(1, "A", "step_1")]


def test_an_invoice_is_unknown_before_it_was_recorded():
    ledger = book(invoice("B", due=5), invoice(recorded_on=day(7)))
    assert sent(ledger, THREE_STEPS, 0, 13) == [(6, "B", "step_1"), (11, "A", "step_1")]


def test_pauses_and_promises_end_by_themselves():
    pause = Pause("z", "customer", day(1), day(4), customer_id="c1")
    assert sent(book(invoice(), pauses=[pause]), THREE_STEPS, 0, 10) == [(4, "A", "step_1"), (9, "A", "step_2")]
    promise = Promise("p", "c1", day(1), day(4))
    assert sent(book(invoice(), promises=[promise]), THREE_STEPS, 0, 10) == [(5, "A", "step_1"), (10, "A", "step_2")]


def test_nobody_is_reminded_while_the_organisation_is_paused():
    pause = Pause("z", "organisation", day(1), day(4))
    assert sent(book(invoice(), pauses=[pause]), THREE_STEPS, 0, 9) == [(4, "A", "step_1"), (9, "A", "step_2")]
    assert sent(book(invoice()), replace(THREE_STEPS, organisation_paused=True), 0, 30) == []


def test_what_is_due_on_a_day_off_goes_on_the_next_working_day():
    assert sent(book(invoice()), rules_of(-1, 6, working_days=WEEKDAYS_ONLY), -5, 9) == [
        (-2, "A", "step_1"),
        (8, "A", "step_2"),
    ]


def test_contextual_workflows_start_at_the_latest_action_reached():
    contextual = replace(THREE_STEPS, workflows=(replace(THREE_STEPS.workflows[0], logic="contextual"),))
    assert sent(book(invoice()), contextual, 9, 20) == [(9, "A", "step_2"), (15, "A", "step_3")]


def test_an_action_before_the_due_date_is_lost_when_the_delay_reaches_it():
    assert sent(book(invoice(), contacts=[recorded(-4)]), rules_of(-3, 2), -3, 5) == [(2, "A", "step_2")]
    assert sent(book(invoice(), contacts=[recorded(-6)]), rules_of(-3, 2), -3, 5) == [
        (-1, "A", "step_1"),
        (4, "A", "step_2"),
    ]


def test_an_unreachable_customer_gets_nothing():
    assert sent(book(invoice(), customers=[Customer("c1", email="nobody")]), THREE_STEPS, 0, 30) == []


def workflows(*more: Workflow, **columns: object) -> Rules:
    return replace(THREE_STEPS, workflows=(*THREE_STEPS.workflows, *more), **columns)


GENTLE = Workflow("gentle", (Action("hello", 3), Action("goodbye", 20)), minimum_contact_delay=2)
ALONE = Workflow("alone", (Action("one", 1), Action("two", 4)), minimum_contact_delay=2, carried_by="invoice")


def test_an_assignment_takes_effect_and_ends_on_its_days():
    assignment = Assignment("a", "c1", "gentle", day(2), day(10))
    ledger = book(invoice(), assignments=[assignment])
    assert sent(ledger, workflows(GENTLE), 0, 20) == [
        (1, "A", "step_1"),
        (3, "A", "hello"),
        (10, "A", "step_2"),
        (15, "A", "step_3"),
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (("oldest_days_overdue", "at_least", 3), [(1, "step_1"), (3, "hello"), (20, "goodbye")]),
        (("oldest_days_overdue", "more_than", 3), [(1, "step_1"), (4, "hello"), (20, "goodbye")]),
        (("oldest_days_overdue", "is", 8), [(1, "step_1"), (8, "hello"), (13, "step_2"), (18, "step_3")]),
        (("overdue_balance", "more_than", 0), [(3, "hello"), (20, "goodbye")]),
        (("open_balance", "at_most", 60), [(1, "step_1"), (8, "step_2"), (12, "hello"), (17, "step_3")]),
        (("open_invoices", "at_least", 2), [(1, "step_1"), (8, "step_2"), (15, "hello"), (20, "goodbye")]),
    ],
)
def test_a_smart_rule_is_asked_again_on_every_day_on_which_its_answer_may_change(condition, expected):
    rules = workflows(GENTLE, smart_rules=(SmartRule("rule", "gentle", (condition,)),))
    ledger = book(invoice(), invoice("B", due=90, recorded_on=day(15)), payments=[payment("A", 5_000, 12)])
    assert [(found, action) for found, _, action in sent(ledger, rules, 0, 25)] == expected


def test_an_invoice_of_its_own_workflow_is_reminded_of_beside_the_others():
    named = Assignment("a", "c1", "alone", day(2), day(7), invoice_id="B")
    ledger = book(invoice(), invoice("B"), assignments=[named])
    rules = workflows(ALONE)
    assert sent(ledger, rules, 0, 9) == [(1, "A", "step_1"), (2, "B", "one"), (4, "B", "two"), (8, "A", "step_2")]


def test_a_reminder_about_the_carrying_invoice_delays_the_one_of_its_own_workflow():
    named = Assignment("a", "c1", "alone", day(2), invoice_id="A")
    ledger = book(invoice(), assignments=[named])
    assert sent(ledger, workflows(ALONE), 0, 9) == [(1, "A", "step_1"), (3, "A", "one"), (5, "A", "two")]


def test_the_oldest_due_go_first_when_a_day_has_no_room_for_all():
    rule = SmartRule("all", "alone", (("total", "at_least", 1),), for_="invoice")
    rules = workflows(ALONE, smart_rules=(rule,), max_invoice_reminders=2)
    ledger = book(invoice("C", due=-1), invoice("B", total=9_000), invoice("A", total=9_000), invoice("D"))
    assert [(found, about) for found, about, _ in sent(ledger, rules, 1, 6)] == [
        *((1, "C"), (1, "D"), (2, "A"), (2, "B")),
        *((3, "C"), (4, "A"), (4, "D"), (5, "B")),
    ]


@pytest.mark.parametrize(("cap", "expected"), [((3, 5), 4), ((1, 5), 2), ((9, 2), 3), ((9, 0), 1)])
def test_an_order_event_defers_a_reminder_for_some_days(cap, expected):
    ledger = book(invoice(), order_events=[OrderEvent("c1", day(1))])
    assert sent(ledger, replace(rules_of(1), contact_cap=cap), 0, 20) == [(expected, "A", "step_1")]


def test_ties_in_currencies_without_a_rate_are_settled_among_those_that_are_there():
    """Pounds have no rate: with them there 9000 yen are most by number, without them 100 dollars by their worth."""
    rules = replace(
        rules_of(1, 3, 5, 7, 9, delay=1), exchange_rates={"USD": frames.Decimal(1), "JPY": frames.Decimal("0.01")}
    )
    ledger = book(
        invoice("usd", currency="USD", total=10_000),
        invoice("jpy", currency="JPY", total=9_000),
        invoice("gbp", currency="GBP", total=5_000),
        payments=[payment("gbp", 5_000, 4, currency="GBP")],
    )
    assert [carrying for _, carrying, _ in sent(ledger, rules, 1, 9)] == ["jpy"] * 2 + ["usd"] * 5
