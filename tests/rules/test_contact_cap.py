"""The cap over invoice and order reminders together (RULES 5.4): how long a reminder waits after an order event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from frames import (
    CUSTOMER,
    EVERY_DAY,
    MONDAY,
    assigned,
    book,
    both_levels,
    day,
    decisions,
    each_day,
    invoice,
    rules_of,
    run,
    sent,
)
from reference import Contact, Ledger, OrderEvent, Rules, accepted

ALWAYS = range(30)


def ordered(*offsets: int, customer_id: str = "c1") -> list[OrderEvent]:
    return [OrderEvent(customer_id, day(offset)) for offset in offsets]


def capped(days: int, max_deferral: int, **columns: object) -> Rules:
    """One action on day 1 and a cap."""
    return rules_of(1, contact_cap=(days, max_deferral), **columns)


def held_on(ledger: Ledger, rules: Rules, *offsets: int) -> list[int]:
    """The days on which the reminder waits because of the cap; on the others it goes."""
    rows = dict(zip(offsets, each_day(ledger, rules, *offsets), strict=True))
    assert {row.reason for row in rows.values()} <= {"contact_cap", "remind"}
    return [offset for offset, row in rows.items() if row.reason == "contact_cap"]


@pytest.mark.parametrize(("days", "held"), [(1, [2]), (2, [2, 3]), (3, [2, 3, 4])])
def test_a_reminder_waits_fewer_than_so_many_days_after_an_order_event(days, held):
    ledger = book(invoice(), order_events=ordered(2, -5))
    assert held_on(ledger, capped(days, 9), *range(1, 8)) == held


def test_the_latest_order_event_counts():
    assert held_on(book(invoice(), order_events=ordered(4, 2, 3)), capped(2, 9), *range(1, 8)) == [2, 3, 4, 5]


@pytest.mark.parametrize(("max_deferral", "first"), [(0, 1), (1, 2), (2, 3), (5, 6)])
def test_a_reminder_is_deferred_at_most_so_many_days_past_its_due_date(max_deferral, first):
    ledger = book(invoice(), order_events=ordered(*ALWAYS))
    assert held_on(ledger, capped(1, max_deferral), *range(1, 8)) == list(range(1, first))


def test_deferral_counts_from_when_the_delay_allowed_the_reminder():
    call = Contact("c1", day(3), kind="recorded")
    rows = each_day(book(invoice(), order_events=ordered(*ALWAYS), contacts=[call]), capped(1, 2), 7, 8, 9, 10)
    assert [row.reason for row in rows] == ["minimum_contact_delay", "contact_cap", "contact_cap", "remind"]


def test_deferral_counts_from_a_working_day_and_is_told_before_a_day_off():
    # Monday's action was due on a day off; the first working day is Wednesday.
    rules = capped(1, 1, working_days=EVERY_DAY - {0, 1})
    ledger = book(invoice(), order_events=ordered(*ALWAYS))
    rows = each_day(ledger, rules, 0, 1, 2, 3, 4)
    assert [(row.reason, row.next_due_on) for row in rows] == [
        ("waiting_for_trigger", day(3)),
        ("contact_cap", day(3)),
        ("contact_cap", day(3)),
        ("contact_cap", day(3)),
        ("remind", day(4)),
    ]
    never = replace(rules, contact_cap=(1, 0))
    assert [row.reason for row in each_day(ledger, never, 1, 2, 3)] == ["non_working_day"] * 2 + ["remind"]


def test_a_deferred_reminder_tells_what_would_go_and_goes_when_the_cap_ends():
    (row,) = each_day(book(invoice(), order_events=ordered(1)), capped(1, 5), 1)
    assert (row.decision, row.reason, row.action, row.occurrence) == ("skip", "contact_cap", "step_1", 1)
    assert (row.next_due_on, row.reminder_id) == (MONDAY, None)
    assert sent(book(invoice(), order_events=ordered(1)), capped(1, 5), 0, 9) == [(2, "A", "step_1")]


def test_order_events_of_a_later_day_or_another_customer_do_not_count():
    ledger = book(invoice(), order_events=[*ordered(2), *ordered(1, customer_id="c2")])
    assert held_on(ledger, capped(1, 5), 1, 3) == []


def test_without_a_cap_order_events_do_not_matter():
    assert held_on(book(invoice(), order_events=ordered(1)), rules_of(1), 1) == []


def test_trigger_and_delay_are_told_before_the_cap():
    ledger = book(invoice(), order_events=ordered(*ALWAYS), contacts=[Contact("c1", day(0), kind="recorded")])
    rows = each_day(ledger, rules_of(2, contact_cap=(1, 9)), 1, 2, 4, 5)
    expected = ["waiting_for_trigger", "minimum_contact_delay", "minimum_contact_delay", "contact_cap"]
    assert [row.reason for row in rows] == expected


TWO_LEVELS = book(invoice("A"), invoice("B"), assignments=[assigned("B")])


def test_the_cap_holds_both_levels():
    ledger = replace(TWO_LEVELS, order_events=ordered(1))
    rows = decisions(run(ledger, both_levels(1, contact_cap=(1, 5))))
    assert [(row.level, row.reason) for row in rows] == [("customer", "contact_cap"), ("invoice", "contact_cap")]


def test_an_order_event_after_the_reminder_of_the_day_caps_nothing():
    rules = both_levels(1, contact_cap=(1, 5))
    due = decisions(run(TWO_LEVELS, rules))
    sent_already = replace(TWO_LEVELS, order_events=ordered(1), contacts=[accepted(row) for row in due])
    assert [row.decision for row in due] == ["remind", "remind"]
    assert decisions(run(sent_already, rules)) == due
    perhaps = replace(sent_already, contacts=[replace(row, kind="unknown") for row in sent_already.contacts])
    assert decisions(run(perhaps, rules)) == due


@pytest.mark.parametrize("days_off", [frozenset(), frozenset({0})])
def test_that_the_day_has_another_reminder_is_told_before_the_cap_and_before_a_day_off(days_off):
    other = Contact("c1", MONDAY, "Z", "standard", "step_1", "another")
    ledger = book(invoice(), order_events=ordered(1), contacts=[other])
    rules = capped(1, 5, working_days=EVERY_DAY - days_off)
    (row,) = each_day(ledger, rules, 1)
    assert (row.reason, row.last_contact_on) == ("minimum_contact_delay", MONDAY)
    assert (row.next_due_on, row.reminder_id) == (day(6), None)
    assert each_day(replace(ledger, order_events=[]), rules, 1) == [row]


def test_each_customer_waits_for_its_own_order_events():
    ledger = book(
        invoice("A"),
        invoice("B", customer_id="c2"),
        customers=[CUSTOMER, replace(CUSTOMER, customer_id="c2")],
        order_events=ordered(1, customer_id="c2"),
    )
    rows = decisions(run(ledger, capped(1, 5)))
    assert {row.customer_id: row.reason for row in rows} == {"c1": "remind", "c2": "contact_cap"}
