"""When an action may go (RULES 4.1, 5.1 to 5.3): triggers, the minimum contact delay, working days."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from frames import (
    CUSTOMER,
    DUE,
    EVERY_DAY,
    WEEKDAYS_ONLY,
    book,
    day,
    decision,
    decisions,
    each_day,
    invoice,
    policy_of,
    rules_of,
    run,
    sent,
    simulate,
    with_holidays,
)
from reference import Contact, Decision, Rules

from dunning_pipeline.rules.timing import WEEK, Calendars, WorkingDays, earliest_contact, latest_of, trigger_dates

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri")


def week(days: tuple[str, ...], holidays: tuple[date, ...] = ()) -> WorkingDays:
    """The same working days for the only row."""
    calendar = np.busdaycalendar([day in days for day in WEEK], list(holidays))
    return WorkingDays(Calendars([calendar]), np.zeros(1, dtype="int64"))


MONDAY_TO_FRIDAY = week(WEEKDAYS)
NOWHERE = np.datetime64("NaT")


def trigger(anchor: date, action_day: int, calendar: WorkingDays = MONDAY_TO_FRIDAY) -> date:
    (found,) = trigger_dates(np.array([anchor], "datetime64[D]"), np.array([action_day]), calendar)
    return found.item()


def last_contact(on: int, **columns: object) -> Contact:
    return replace(Contact("c1", day(on), "Z", "standard", "step_1", "an id"), **columns)


def after_contact(contact: Contact, as_of: int, rules: Rules | None = None) -> Decision:
    return decision(book(invoice(), contacts=[contact]), rules or rules_of(1), day(as_of))


def test_example_1_weekends_and_delay_move_the_ladder():
    rules = rules_of(-2, 2, 6, 14, 17, delay=4, working_days=WEEKDAYS_ONLY)
    sent_on = [row.as_of for row in simulate(book(invoice()), rules, date(2021, 10, 6), date(2021, 10, 31))]
    assert sent_on == [
        date(2021, 10, 8),
        date(2021, 10, 12),
        date(2021, 10, 18),
        date(2021, 10, 25),
        date(2021, 10, 29),
    ]


def test_example_2_a_pushed_action_pushes_the_next_only_as_far_as_the_delay_needs():
    assert sent(book(invoice()), rules_of(0, 4, 8), -2, 14) == [
        (0, "A", "step_1"),
        (5, "A", "step_2"),
        (10, "A", "step_3"),
    ]


def test_example_9_a_recorded_call_pushes_the_same_action():
    call = Contact("c1", day(10), kind="recorded")
    assert sent(book(invoice(), contacts=[call]), rules_of(12), 9, 17) == [(15, "A", "step_1")]


def test_an_action_is_reached_on_its_trigger_date():
    found = each_day(book(invoice()), rules_of(8), 7, 8, 9)
    assert [row.reason for row in found] == ["waiting_for_trigger", "remind", "remind"]
    assert [row.next_due_on for row in found] == [day(8), day(8), day(9)]


@pytest.mark.parametrize("delay", [0, 1, 2, 5, 30])
def test_exactly_the_minimum_delay_after_the_last_contact_is_allowed(delay):
    allowed = max(delay, 1)
    rules = rules_of(0, delay=delay)
    rows = each_day(book(invoice(), contacts=[last_contact(1)]), rules, allowed, 1 + allowed, 2 + allowed)
    assert [row.reason for row in rows] == ["minimum_contact_delay", "remind", "remind"]


def test_a_delayed_action_tells_the_day_on_which_it_is_allowed():
    row = after_contact(last_contact(1), 3)
    assert (row.reason, row.last_contact_on, row.next_due_on) == ("minimum_contact_delay", day(1), day(6))


def test_the_trigger_is_named_before_the_delay_and_the_later_of_both_is_the_due_date():
    before_both = after_contact(last_contact(0), 2, rules_of(3, delay=9))
    assert (before_both.reason, before_both.next_due_on) == ("waiting_for_trigger", day(9))
    trigger_later = after_contact(last_contact(0), 2, rules_of(12, delay=9))
    assert (trigger_later.reason, trigger_later.next_due_on) == ("waiting_for_trigger", day(12))


def test_the_latest_contact_counts_whatever_its_workflow_and_invoice():
    contacts = [last_contact(-4), last_contact(0, workflow="another", kind="unknown"), last_contact(-2)]
    row = decision(book(invoice(), contacts=contacts), rules_of(1))
    assert (row.reason, row.last_contact_on) == ("minimum_contact_delay", day(0))


def test_contacts_of_other_customers_do_not_count():
    assert after_contact(last_contact(0, customer_id="c2"), 1).reason == "remind"


def test_a_contact_recorded_by_hand_counts_from_the_day_it_was_recorded():
    late = last_contact(0, kind="recorded", recorded_on=day(2))
    found = each_day(book(invoice(), contacts=[late]), rules_of(1), 1, 2)
    assert [(row.reason, row.last_contact_on) for row in found] == [
        ("remind", None),
        ("minimum_contact_delay", day(0)),
    ]


def test_a_contact_recorded_by_hand_on_the_day_itself_delays_by_at_least_one_day():
    today = last_contact(1, kind="recorded")
    row = after_contact(today, 1, rules_of(1, delay=0))
    assert (row.reason, row.last_contact_on, row.next_due_on) == ("minimum_contact_delay", day(1), day(2))
    assert after_contact(today, 2, rules_of(1, delay=0)).reason == "remind"


def test_an_unknown_reminder_counts_for_the_delay_and_holds_another_one_of_its_day():
    unknown = last_contact(1, kind="unknown")
    assert [after_contact(unknown, n).reason for n in (1, 2)] == ["minimum_contact_delay"] * 2


def test_an_unknown_reminder_of_the_day_is_decided_again_under_its_id():
    due = decision(book(invoice()), rules_of(1), day(1))
    unknown = last_contact(1, kind="unknown", reminder_id=due.reminder_id)
    assert after_contact(unknown, 1).reminder_id == due.reminder_id


def test_nothing_is_sent_on_a_day_off():
    weekdays = rules_of(0, working_days=WEEKDAYS_ONLY)
    found = each_day(book(invoice()), weekdays, -1, 0, 1, 6)
    assert [row.reason for row in found] == ["waiting_for_trigger", "non_working_day", "remind", "non_working_day"]
    assert [row.next_due_on for row in found] == [day(1), day(1), day(1), day(8)]


def test_a_delay_that_ends_on_a_day_off_ends_on_the_next_working_day():
    weekdays = rules_of(0, delay=4, working_days=WEEKDAYS_ONLY)
    # Contact on Tuesday the 12th, allowed from Saturday the 16th, due on Monday the 18th.
    row = after_contact(last_contact(2), 3, weekdays)
    assert (row.reason, row.next_due_on) == ("minimum_contact_delay", date(2021, 10, 18))
    assert after_contact(last_contact(2), 6, weekdays).reason == "non_working_day"


def test_any_days_of_the_week_can_be_working_days():
    sundays = rules_of(1, working_days=frozenset({6}))
    assert decision(book(invoice()), sundays, day(1)).next_due_on == day(7)
    assert decision(book(invoice()), sundays, day(7)).reason == "remind"


@pytest.mark.parametrize(
    ("anchor", "action_day", "expected"),
    [
        # Monday: Saturday would slip to the anchor, so it moves back to Friday.
        (date(2021, 10, 11), -2, date(2021, 10, 8)),
        # Sunday: Friday is a working day before the anchor.
        (date(2021, 10, 10), -2, date(2021, 10, 8)),
        # Saturday due on Sunday: it would slip past the anchor.
        (date(2021, 10, 10), -1, date(2021, 10, 8)),
        # Tuesday: Sunday slips to Monday, still before the anchor.
        (date(2021, 10, 12), -2, date(2021, 10, 10)),
        (date(2021, 10, 11), -3, date(2021, 10, 8)),
        (date(2021, 10, 9), 0, date(2021, 10, 9)),
        (date(2021, 10, 8), 1, date(2021, 10, 9)),
    ],
)
def test_a_negative_action_moves_back_only_if_it_would_miss_its_anchor(anchor, action_day, expected):
    assert trigger(anchor, action_day) == expected


def test_a_negative_action_moves_back_over_holidays_too():
    holidays = week(WEEKDAYS, (date(2021, 10, 7), date(2021, 10, 8)))
    assert trigger(date(2021, 10, 11), -3, holidays) == date(2021, 10, 6)
    assert trigger(date(2021, 10, 11), -4, holidays) == date(2021, 10, 6)
    assert trigger(date(2021, 10, 11), -5, holidays) == date(2021, 10, 6)


def test_a_moved_action_is_sent_before_its_anchor():
    weekdays = rules_of(-2, 7, working_days=WEEKDAYS_ONLY)
    assert sent(book(invoice(due=1)), weekdays, -6, 3) == [(-2, "A", "step_1")]


def test_triggers_agree_with_counting_days_one_by_one():
    for calendar in (MONDAY_TO_FRIDAY, week(("tue", "sat"), (day(-1), day(6))), week(("wed",))):
        for offset in range(7):
            for action_day in range(-9, 4):
                anchor = day(offset)
                assert trigger(anchor, action_day, calendar) == counted(anchor, action_day, calendar)


def counted(anchor: date, action_day: int, calendar: WorkingDays) -> date:
    found = anchor + timedelta(days=action_day)
    following = found
    while not calendar.includes(following)[0]:
        following += timedelta(days=1)
    if action_day >= 0 or following < anchor:
        return found
    found -= timedelta(days=1)
    while not calendar.includes(found)[0]:
        found -= timedelta(days=1)
    return found


def test_without_an_anchor_or_a_contact_there_is_no_day():
    assert np.isnat(trigger_dates(np.array([NOWHERE], "datetime64[D]"), np.array([-2]), MONDAY_TO_FRIDAY)).all()
    assert np.isnat(earliest_contact(np.array([NOWHERE], "datetime64[D]"), np.array([5]), DUE)).all()
    assert np.isnat(MONDAY_TO_FRIDAY.forward(np.array([NOWHERE], "datetime64[D]"))).all()


def test_the_delay_counts_as_at_least_one_only_after_a_contact_of_the_day():
    contacts = np.array([day(-1), DUE], "datetime64[D]")
    assert earliest_contact(contacts, np.array([0, 0]), DUE).tolist() == [day(-1), day(1)]
    assert earliest_contact(contacts, np.array([3, 3]), DUE).tolist() == [day(2), day(3)]


def test_the_latest_day_ignores_days_that_are_not_there():
    days = [np.array(values, "datetime64[D]") for values in ([DUE, NOWHERE], [NOWHERE, NOWHERE], [day(-1), day(2)])]
    assert latest_of(*days).tolist() == [DUE, day(2)]


def working_days(days: frozenset[int]) -> WorkingDays:
    policy = policy_of(rules_of(1, working_days=days))
    return WorkingDays.of(policy, pd.Series([None], dtype="str"), range(2020, 2027))


def test_working_days_are_those_of_the_policy():
    weekdays = working_days(WEEKDAYS_ONLY)
    assert [weekdays.includes(day(n))[0] for n in range(7)] == [False, True, True, True, True, True, False]
    assert all(working_days(EVERY_DAY).includes(day(n))[0] for n in range(7))


ALL_SAINTS = date(2021, 11, 1)
"""All Saints, a Monday: a holiday in France, in Bavaria, but neither in Berlin nor in Japan."""


def next_due(rules: Rules, as_of: date = ALL_SAINTS, country: str | None = None) -> date | None:
    """When a reminder of `as_of` goes."""
    owed = invoice(issued_on=as_of - timedelta(days=30), due_on=as_of)
    return decision(book(owed, customers=[replace(CUSTOMER, country=country)]), rules, as_of).next_due_on


@pytest.mark.parametrize(
    ("country", "subdivision", "moved"),
    [(None, None, False), ("FR", None, True), ("JP", None, False), ("DE", None, False), ("DE", "BY", True)],
)
def test_holidays_of_the_organisation_s_country_and_subdivision_move_what_is_due(country, subdivision, moved):
    rules = with_holidays(rules_of(0, working_days=WEEKDAYS_ONLY), country, subdivision)
    assert next_due(rules) == (date(2021, 11, 2) if moved else ALL_SAINTS)


@pytest.mark.parametrize(
    ("country", "moved"),
    [("FR", True), ("JP", False), ("DE", True), (None, True), ("", True), ("ZZ", True), ("Atlantis", True)],
)
def test_holidays_of_the_customer_s_country_count_where_they_are_known(country, moved):
    rules = with_holidays(rules_of(0, working_days=WEEKDAYS_ONLY), "DE", "BY", by_customer_country=True)
    assert next_due(rules, country=country) == (date(2021, 11, 2) if moved else ALL_SAINTS)


def test_without_the_switch_the_customer_s_country_does_not_matter():
    rules = with_holidays(rules_of(0, working_days=WEEKDAYS_ONLY), "DE", "BY")
    assert next_due(rules, country="JP") == date(2021, 11, 2)


def test_each_customer_has_its_own_days_off():
    rules = with_holidays(rules_of(0, working_days=WEEKDAYS_ONLY), None, by_customer_country=True)
    countries = {"c1": "FR", "c2": "JP", "c3": "DE"}
    customers = [replace(CUSTOMER, customer_id=name, country=country) for name, country in countries.items()]
    owed = [invoice(name, customer_id=name) for name in countries]
    rows = decisions(run(book(*owed, customers=customers), rules, ALL_SAINTS))
    assert {row.customer_id: row.reason for row in rows} == {"c1": "non_working_day", "c2": "remind", "c3": "remind"}


def test_a_holiday_moves_an_action_before_the_anchor_back():
    # Due on Tuesday, Monday is off: the reminder of the day before leaves on Friday.
    rules = with_holidays(rules_of(-1, working_days=WEEKDAYS_ONLY), "FR")
    owed = invoice(issued_on=date(2021, 10, 1), due_on=date(2021, 11, 2))
    assert decision(book(owed), rules, date(2021, 10, 28)).trigger_on == date(2021, 10, 29)


def test_a_missed_run_sends_once_at_the_next_one():
    rules = rules_of(1, 2, 3, delay=0)
    (row,) = decisions(run(book(invoice()), rules, day(9)))
    assert (row.action, row.decision, row.next_due_on) == ("step_1", "remind", day(9))
    assert sent(book(invoice()), rules, 9, 12) == [(9, "A", "step_1"), (10, "A", "step_2"), (11, "A", "step_3")]
