"""Whether an event goes about an edited order, and when (RULES 8.2 to 8.7, 6.4, 6.5, 9.3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from order_frames import NOON, RULES, at, decide, edit, left, one, order, reason, seen, sent, series_of, shop
from order_reference import Edit, Observation, Rejection, Rules, Sent, reminder_id

PAID = {"financial_status": "paid"}
DAY = 24
STARTED = 1 / 60
"""Hours after NOON at which the balance that `left` leaves is seen."""


BERLIN = ZoneInfo("Europe/Berlin")


# The scenarios of section 8.


@pytest.mark.parametrize(
    ("story", "goes"),
    [
        ([edit(0), seen(1, 2_000)], True),
        ([edit(0, kind="address"), seen(1, 350)], True),
        ([*left(), seen(100, 1_000)], True),
        ([edit(0), seen(1, -700)], False),
        ([*left(), seen(1, 0, **PAID)], False),
        ([*left(), seen(1, 1_000, cancelled_at=at(1))], False),
        ([*left(), seen(1, 1_000, fulfillment_status="fulfilled")], False),
    ],
    ids=[
        "customer adds an item, leaving a balance",
        "address change raises shipping, leaving a balance",
        "edit window closes, balance still unpaid",
        "edit leads to a refund",
        "balance paid after the edit",
        "order cancelled after the edit",
        "order fulfilled after the edit",
    ],
)
def test_the_table_of_scenarios_holds(story: list[Edit | Observation], goes: bool) -> None:
    assert (reason(shop(*story), at(101)) is None) == goes


# 8.2


def test_the_first_event_is_due_at_once() -> None:
    row = one(shop(*left()), RULES, at(STARTED))
    assert (row.decision, row.reason, row.next_due_at, row.occurrence) == ("remind", None, at(STARTED), 1)


def test_the_first_event_is_due_at_once_though_the_shop_s_clock_is_ahead_of_ours() -> None:
    row = one(shop(*left()), RULES, at(0))
    assert (row.decision, row.next_due_at) == ("remind", at(0))


def test_the_next_one_is_due_exactly_every_hours_after_the_last_was_sent() -> None:
    story = shop(*left(), sent(2))
    assert reason(story, at(2 + DAY, microseconds=-1)) == "waiting"
    row = one(story, RULES, at(2 + DAY))
    assert (row.decision, row.occurrence) == ("remind", 2)


def test_until_then_it_is_told_when_that_is() -> None:
    story = shop(*left(), sent(2))
    assert one(story, RULES, at(3)).next_due_at == at(2 + DAY)
    assert series_of(story, now=at(3))[0].next_due_at == at(2 + DAY)


def test_the_hours_are_a_setting() -> None:
    story, rules = shop(*left(), sent(2)), replace(RULES, every_hours=6)
    assert (reason(story, at(8, microseconds=-1), rules), reason(story, at(8), rules)) == ("waiting", None)


def test_a_run_that_was_missed_sends_once_and_the_clock_goes_on_from_then() -> None:
    late = at(2 + 5 * DAY)
    assert one(shop(*left(), sent(2)), RULES, late).occurrence == 2
    assert one(shop(*left(), sent(2 + 5 * DAY, occurrence=2)), RULES, late).next_due_at == at(2 + 6 * DAY)


def test_the_worked_example_of_an_order_edited_at_noon_holds() -> None:
    edited = [edit(0), seen(STARTED / 2, 1_000)]
    assert reason(shop(*edited), at(STARTED)) is None
    sent_once = sent(STARTED)
    assert reason(shop(*edited, sent_once), at(STARTED + DAY)) is None
    paid = seen(STARTED + 23, 0, **PAID)
    assert reason(shop(*edited, sent_once, paid), at(STARTED + DAY)) == "no_balance"


# 8.4


def test_a_second_edit_within_the_hours_does_not_restart_the_clock() -> None:
    story = shop(*left(), sent(1), edit(20), seen(21, 3_000))
    assert one(story, RULES, at(22)).next_due_at == at(1 + DAY)


def test_a_second_edit_does_not_make_an_event_due_before_the_hours_are_over() -> None:
    story = shop(*left(), sent(1), edit(2), seen(3, 3_000))
    assert reason(story, at(3)) == "waiting"


def test_after_the_end_the_first_event_of_a_new_series_is_due_at_once() -> None:
    story = shop(*left(), sent(1, occurrence=4), seen(2, 0, **PAID), edit(3), seen(4, 700))
    row = one(story, RULES, at(4))
    assert (row.decision, row.series, row.occurrence, row.first_edit_id) == ("remind", 2, 1, "E1@3")


# 8.5


def test_the_clock_and_the_occurrence_go_on_in_the_replacement() -> None:
    orders = order("1", cancelled_at=at(4)), order("1A", created=4)
    story = shop(*orders, *left(), sent(1, occurrence=2), seen(5, 1_000, "1A"))
    assert (reason(story, at(6)), reason(story, at(6), order_id="1A")) == ("replaced", "waiting")
    row = one(story, RULES, at(1 + DAY), "1A")
    assert (row.decision, row.occurrence) == ("remind", 3)
    assert row.reminder_id == reminder_id("1A", "E1@0", 3)


def test_what_was_sent_about_both_orders_counts_by_the_latest() -> None:
    orders = order("1", cancelled_at=at(4)), order("1A", created=4)
    story = shop(*orders, *left(), sent(1), sent(1 + DAY, 2, order_id="1A"))
    assert one(story, RULES, at(30), "1A").next_due_at == at(1 + 2 * DAY)


def test_what_was_sent_of_a_series_that_another_order_continues_counts_for_the_order_it_was_sent_about() -> None:
    """9 went for the replacement of 7 until 8 became known, which had been created before it."""
    orders = [order("7"), order("8", 1, replaces_order_id="7"), order("9", 2, replaces_order_id="7")]
    own = edit(2, "9", kind="replacement")
    seen_since = seen(0.5, 900, "7"), seen(3, 900, "8"), seen(3, 900, "9")
    story = shop(*orders, edit(0, "7"), own, *seen_since, sent(3, 1, "E7@0", order_id="9"))
    assert reason(story, at(4), order_id="9") == "waiting"


# 8.6


def test_the_last_of_max_reminders_goes_and_none_after_it() -> None:
    rules = replace(RULES, max_reminders=2)
    assert reason(shop(*left(), sent(1, occurrence=1)), at(1 + DAY), rules) is None
    row = one(shop(*left(), sent(1, occurrence=2)), rules, at(1 + DAY))
    assert (row.reason, row.next_due_at) == ("max_reminders", None)


def test_max_reminders_are_of_one_series() -> None:
    story = shop(*left(), sent(1), seen(2, 0, **PAID), edit(3), seen(4, 700))
    assert reason(story, at(4), replace(RULES, max_reminders=1)) is None


def test_a_later_edit_restarts_no_series_that_has_its_max_reminders() -> None:
    rules = replace(RULES, max_reminders=1)
    story = shop(*left(), sent(1), edit(50), seen(51, 3_000))
    assert reason(story, at(52), rules) == "max_reminders"
    assert [row.state for row in series_of(story, rules=rules)] == ["stopped"]


def test_a_series_stops_exactly_so_many_days_after_it_started() -> None:
    story, rules = shop(*left()), replace(RULES, stop_after_days=3)
    assert reason(story, at(STARTED + 3 * DAY, microseconds=-1), rules) is None
    assert one(story, rules, at(STARTED + 3 * DAY)).reason == "stopped"
    assert [row.state for row in series_of(story, rules=rules, now=at(STARTED + 3 * DAY))] == ["stopped"]


@pytest.mark.parametrize("hours", [STARTED, 2])
def test_an_event_that_would_come_then_or_later_is_not_announced(hours: float) -> None:
    row = one(shop(*left(), sent(hours)), replace(RULES, stop_after_days=1), at(3))
    assert (row.reason, row.next_due_at) == ("waiting", None)


def test_a_later_edit_restarts_no_stopped_series() -> None:
    story = shop(*left(), edit(50), seen(51, 3_000))
    assert reason(story, at(52), replace(RULES, stop_after_days=1)) == "stopped"


def quiet(begin: str, end: str, **columns: object) -> Rules:
    return replace(RULES, quiet_hours=(time.fromisoformat(begin), time.fromisoformat(end)), **columns)


def berlin(wall_clock: str, fold: int = 0) -> datetime:
    """An instant by the clock of Berlin; of a time that it shows twice the second one with fold 1."""
    return datetime.fromisoformat(wall_clock).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def leaves(rules: Rules, now: datetime) -> datetime | None:
    """When the event leaves that has been due for nine days; None: now."""
    edited = now - timedelta(days=9)
    story = shop(
        replace(order(), created_at=edited),
        replace(edit(), edited_at=edited),
        replace(seen(0, 1_000), observed_at=edited),
    )
    row = one(story, replace(rules, start_at=edited), now)
    assert row.reason in {None, "quiet_hours"}
    assert (row.decision == "remind") == (row.reason is None) == (row.next_due_at == now)
    return row.next_due_at if row.reason else None


OVER_MIDNIGHT, BY_DAY = quiet("21:00", "08:00"), quiet("12:00", "13:30")


@pytest.mark.parametrize(
    ("rules", "now", "leaves_at"),
    [
        (OVER_MIDNIGHT, "2026-06-10 20:59:59.999999", None),
        (OVER_MIDNIGHT, "2026-06-10 21:00", "2026-06-11 08:00"),
        (OVER_MIDNIGHT, "2026-06-11 00:00", "2026-06-11 08:00"),
        (OVER_MIDNIGHT, "2026-06-11 07:59:59.999999", "2026-06-11 08:00"),
        (OVER_MIDNIGHT, "2026-06-11 08:00", None),
        (BY_DAY, "2026-06-10 11:59:59.999999", None),
        (BY_DAY, "2026-06-10 12:00", "2026-06-10 13:30"),
        (BY_DAY, "2026-06-10 13:29:59.999999", "2026-06-10 13:30"),
        (BY_DAY, "2026-06-10 13:30", None),
        (BY_DAY, "2026-06-10 00:30", None),
    ],
)
def test_what_is_due_in_quiet_hours_leaves_when_they_end(rules: Rules, now: str, leaves_at: str | None) -> None:
    assert leaves(rules, berlin(now)) == (leaves_at and berlin(leaves_at))


def test_quiet_hours_are_of_the_organisation_s_time_zone() -> None:
    assert leaves(OVER_MIDNIGHT, datetime(2026, 6, 10, 20, tzinfo=UTC)) == datetime(2026, 6, 11, 6, tzinfo=UTC)
    assert leaves(replace(OVER_MIDNIGHT, time_zone="America/New_York"), datetime(2026, 6, 10, 20, tzinfo=UTC)) is None


def test_what_becomes_due_in_quiet_hours_is_announced_for_their_end() -> None:
    row = one(shop(*left()), OVER_MIDNIGHT, at(10))
    assert (row.reason, row.next_due_at) == ("quiet_hours", berlin("2026-06-11 08:00"))
    row = one(shop(*left(), sent(8)), OVER_MIDNIGHT, at(21))
    assert (row.reason, row.next_due_at) == ("waiting", berlin("2026-06-12 08:00"))


def test_the_clock_runs_from_when_an_event_was_sent_and_not_from_when_it_was_due() -> None:
    """Due at ten in the evening, sent at eight in the morning, and next at eight."""
    morning = (berlin("2026-06-11 08:00") - NOON) / timedelta(hours=1)
    story = shop(*left(), sent(morning))
    assert one(story, OVER_MIDNIGHT, berlin("2026-06-11 22:00")).next_due_at == berlin("2026-06-12 08:00")
    assert reason(story, berlin("2026-06-12 08:00"), OVER_MIDNIGHT) is None


@pytest.mark.parametrize(
    ("begin", "end", "now", "leaves_at"),
    [
        ("21:00", "08:00", "2026-03-28 23:00", "2026-03-29T08:00+02:00"),
        ("21:00", "08:00", "2026-03-28 21:00", "2026-03-29T08:00+02:00"),
        ("21:00", "08:00", "2026-03-29 03:00", "2026-03-29T08:00+02:00"),
        # At two the clock goes to three.
        ("21:00", "02:30", "2026-03-29 01:59", "2026-03-29T03:00+02:00"),
        ("21:00", "02:30", "2026-03-29 03:00", None),
        ("02:30", "08:00", "2026-03-29 01:59", None),
        ("02:30", "08:00", "2026-03-29 03:00", "2026-03-29T08:00+02:00"),
        ("02:15", "02:45", "2026-03-29 03:00", None),
    ],
)
def test_quiet_hours_when_the_clock_goes_forward(begin: str, end: str, now: str, leaves_at: str | None) -> None:
    assert leaves(quiet(begin, end), berlin(now)) == (leaves_at and datetime.fromisoformat(leaves_at))


@pytest.mark.parametrize(
    ("begin", "end", "now", "leaves_at"),
    [
        ("21:00", "08:00", "2026-10-24T21:00+02:00", "2026-10-25T08:00+01:00"),
        ("21:00", "08:00", "2026-10-25T02:30+02:00", "2026-10-25T08:00+01:00"),
        ("21:00", "08:00", "2026-10-25T02:30+01:00", "2026-10-25T08:00+01:00"),
        # At three the clock goes back to two.
        ("21:00", "02:30", "2026-10-25T02:10+02:00", "2026-10-25T02:30+01:00"),
        ("21:00", "02:30", "2026-10-25T02:40+02:00", "2026-10-25T02:30+01:00"),
        ("21:00", "02:30", "2026-10-25T02:10+01:00", "2026-10-25T02:30+01:00"),
        ("21:00", "02:30", "2026-10-25T02:30+01:00", None),
        ("02:30", "08:00", "2026-10-25T02:29+02:00", None),
        ("02:30", "08:00", "2026-10-25T02:30+02:00", "2026-10-25T08:00+01:00"),
        ("02:30", "08:00", "2026-10-25T02:10+01:00", "2026-10-25T08:00+01:00"),
        ("02:15", "02:45", "2026-10-25T02:50+02:00", "2026-10-25T02:45+01:00"),
    ],
)
def test_quiet_hours_when_the_clock_goes_back(begin: str, end: str, now: str, leaves_at: str | None) -> None:
    found = leaves(quiet(begin, end), datetime.fromisoformat(now))
    assert found == (leaves_at and datetime.fromisoformat(leaves_at))


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
def test_an_event_is_due_so_many_hours_after_the_last_though_the_day_between_is_longer_or_shorter(day: str) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00+00:00")
    hours = (noon - NOON) / timedelta(hours=1)
    story = shop(order(created=hours - 10), *left(hours=hours), sent(hours + 1, edit_id=f"E1@{hours}"))
    rules = replace(RULES, start_at=noon - timedelta(days=1))
    assert one(story, rules, noon + timedelta(hours=2)).next_due_at == noon + timedelta(hours=25)


# What a policy or a late edit changes after events have gone.


def test_another_first_edit_by_another_policy_makes_nothing_due_before_the_hours_are_over() -> None:
    story = shop(edit(-2, by="staff"), edit(-1), seen(0, 1_000), sent(1, 2, "E1@-1"))
    row = one(story, replace(RULES, edited_by=("any",)), at(2))
    assert (row.reason, row.first_edit_id, row.occurrence, row.next_due_at) == ("waiting", "E1@-2", 3, at(1 + DAY))


def test_a_later_start_makes_another_edit_the_first_and_nothing_due_before_the_hours_are_over() -> None:
    story = shop(edit(-2), seen(-1, 800), edit(0.5), seen(0.6, 1_000), sent(1, 2, "E1@-2"))
    row = one(story, replace(RULES, start_at=at(0)), at(2))
    assert (row.reason, row.first_edit_id, row.occurrence) == ("waiting", "E1@0.5", 3)


def test_a_tolerance_that_ends_the_series_before_its_last_event_makes_nothing_due_before_the_hours_are_over() -> None:
    story = shop(*left(1_000), seen(1, 400), edit(2), seen(3, 2_000), sent(4, 2))
    assert reason(story, at(5)) == "waiting"
    row = one(story, replace(RULES, tolerance={"EUR": 500}), at(5))
    assert (row.reason, row.series, row.first_edit_id, row.occurrence) == ("waiting", 2, "E1@2", 3)


def test_a_tolerance_that_makes_one_series_of_two_counts_what_was_sent_of_both() -> None:
    story = shop(*left(1_000), sent(1, 4), seen(2, 400), edit(3), seen(4, 2_000), sent(5, 1, "E1@3"))
    assert one(story, replace(RULES, tolerance={"EUR": 500}), at(6)).occurrence == 2
    row = one(story, RULES, at(6))
    assert (row.reason, row.first_edit_id, row.occurrence, row.next_due_at) == ("waiting", "E1@0", 5, at(5 + DAY))


def test_an_edit_that_becomes_known_late_makes_nothing_due_before_the_hours_are_over() -> None:
    story = shop(edit(-1, seen_at=at(2)), *left(), sent(1, 2))
    row = one(story, RULES, at(2))
    assert (row.reason, row.first_edit_id, row.occurrence) == ("waiting", "E1@0", 3)


def test_a_series_whose_first_edit_is_another_one_now_makes_nothing_due_before_the_hours_are_over() -> None:
    """Such as one that was taken for known earlier, or that the source no longer tells."""
    story = shop(edit(-1), *left(), sent(1, 2))
    row = one(story, RULES, at(2))
    assert (row.reason, row.first_edit_id, row.occurrence) == ("waiting", "E1@-1", 3)


def test_what_was_sent_of_a_series_that_ended_does_not_count_for_the_next_one() -> None:
    story = shop(*left(), sent(1.5, 4), seen(2, 0, **PAID), edit(3), seen(4, 700))
    assert [row.occurrences for row in series_of(story, now=at(4))] == [4, 0]


# 8.7, 6.4, 6.5, 9.3


def test_the_id_is_of_the_order_the_first_edit_and_the_occurrence_and_the_same_whenever_it_is_decided() -> None:
    story = shop(*left(), edit(1), seen(2, 2_000))
    ids = {one(story, RULES, at(hours)).reminder_id for hours in (3, 4, 100)}
    assert ids == {reminder_id("1", "E1@0", 1)}


def test_an_order_that_can_no_longer_be_read_gets_no_event() -> None:
    row = one(shop(order(unclear=True), *left()), RULES, at(1))
    assert (row.reason, row.next_due_at, row.reminder_id) == ("source_unclear", None, None)


@pytest.mark.parametrize("email", [None, "", "nobody", "a b@quay.test"])
def test_without_an_address_nothing_goes_and_nothing_is_announced(email: str | None) -> None:
    row = one(shop(order(email=email), *left()), RULES, at(1))
    assert (row.reason, row.next_due_at) == ("no_contact_address", None)


def test_any_identifier_of_the_policy_will_do() -> None:
    story = shop(order(email=None, phone="+441632960001"), *left())
    assert reason(story, at(1)) == "no_contact_address"
    assert reason(story, at(1), replace(RULES, identify_by=("email", "phone"))) is None


REJECTED = Rejection(reminder_id("1", "E1@0", 1), email="ada@quay.test")


def test_an_event_that_klaviyo_rejected_does_not_go_again() -> None:
    row = one(shop(*left(), REJECTED), RULES, at(1))
    assert (row.decision, row.reason, row.reminder_id, row.occurrence) == ("skip", "rejected", None, 1)


def test_it_goes_with_another_address() -> None:
    assert reason(shop(order(email="ada@harbour.test"), *left(), REJECTED), at(1)) is None


def test_it_goes_under_another_policy() -> None:
    assert reason(shop(*left(), replace(REJECTED, policy_unchanged=False)), at(1)) is None


def test_another_occurrence_was_not_rejected() -> None:
    assert reason(shop(*left(), sent(1), REJECTED), at(1 + DAY)) is None


def test_an_identifier_that_the_policy_does_not_use_lifts_no_rejection() -> None:
    assert reason(shop(order(phone="+441632960001"), *left(), REJECTED), at(1)) == "rejected"


def doubtful(hours: float) -> Sent:
    return Sent("1", "E1@0", doubtful_at=at(hours))


def test_an_event_of_which_nobody_knows_counts_for_the_hours_and_is_decided_again_under_its_id() -> None:
    story = shop(*left(), doubtful(1))
    assert reason(story, at(1 + DAY, microseconds=-1)) == "waiting"
    row = one(story, RULES, at(1 + DAY))
    assert (row.occurrence, row.reminder_id) == (1, reminder_id("1", "E1@0", 1))


def test_an_event_without_an_answer_today_goes_again_at_once_under_its_id() -> None:
    row = one(shop(*left(), Sent("1", "E1@0", open_at=at(1))), RULES, at(2))
    assert (row.reason, row.reminder_id) == (None, reminder_id("1", "E1@0", 1))


def test_an_event_without_an_answer_today_counts_for_the_hours_once_another_edit_is_the_first() -> None:
    story = shop(edit(-1), seen(-1, 1_000), *left(), Sent("1", "E1@0", open_at=at(1)))
    assert reason(story, at(1 + DAY, microseconds=-1)) == "waiting"
    row = one(story, RULES, at(1 + DAY))
    assert (row.occurrence, row.reminder_id) == (1, reminder_id("1", "E1@-1", 1))


def test_the_latest_of_what_was_accepted_doubtful_and_held_counts() -> None:
    story = shop(*left(), Sent("1", "E1@0", 2, at(1), doubtful_at=at(30), held_at=at(28)))
    row = one(story, RULES, at(31))
    assert (row.next_due_at, row.occurrence) == (at(30 + DAY), 3)


def test_an_event_that_the_allow_list_held_back_is_tried_again_after_the_hours() -> None:
    story = shop(*left(), Sent("1", "E1@0", held_at=at(1)))
    assert (reason(story, at(2)), reason(story, at(1 + DAY))) == ("waiting", None)


# Which reason is told.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"order": {"unclear": True}}, {"rules": {"max_reminders": 1}}),
        ({"rules": {"max_reminders": 1}}, {"rules": {"stop_after_days": 1}}),
        ({"rules": {"stop_after_days": 1}}, {"order": {"email": None}}),
        ({"order": {"email": None}}, {"sent": 119.5}),
        ({"sent": 119.5}, {"rules": {"quiet_hours": (time(12), time(16))}}),
        ({"rules": {"quiet_hours": (time(12), time(16))}}, {"rejected": True}),
    ],
    ids=["source_unclear", "max_reminders", "stopped", "no_contact_address", "waiting", "quiet_hours"],
)
def test_of_two_reasons_the_earlier_one_is_told(first: dict, second: dict, request: pytest.FixtureRequest) -> None:
    """Five days after NOON, an event having been sent a day and more before."""

    def told(*causes: dict) -> str | None:
        columns = {name: value for cause in causes for name, value in cause.get("order", {}).items()}
        settings = {name: value for cause in causes for name, value in cause.get("rules", {}).items()}
        hours = max(cause.get("sent", 1) for cause in causes)
        rejection = Rejection(reminder_id("1", "E1@0", 2), email="ada@quay.test")
        rejected = [rejection for cause in causes if "rejected" in cause]
        return reason(shop(order(**columns), *left(), sent(hours), *rejected), at(120), replace(RULES, **settings))

    name = request.node.callspec.id
    assert told(first) == name
    assert told(second) not in {None, name}
    assert told(first, second) == name


def test_a_replaced_order_is_told_as_replaced_though_it_can_no_longer_be_read() -> None:
    orders = order("1", cancelled_at=at(4), unclear=True), order("1A", created=4)
    assert reason(shop(*orders, *left()), at(5)) == "replaced"


def test_an_order_that_nobody_edited_has_no_row() -> None:
    assert decide(shop(seen(1, 1_000)), RULES, at(2)).decisions == []


def test_an_order_edited_by_others_has_no_qualifying_edit_whatever_became_of_it() -> None:
    assert reason(shop(edit(0, by="staff"), seen(1, 0, cancelled_at=at(1))), at(2)) == "no_qualifying_edit"
