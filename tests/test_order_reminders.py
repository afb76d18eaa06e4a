"""RULES.md 8 end to end: an edit in the shop's stand-in → pull → decision → event in Klaviyo's stand-in, or none."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from order_world import POLICY, OrderWorld, order_world

from dunning_pipeline import order_run
from dunning_pipeline.errors import DunningError, SourceError
from dunning_pipeline.history import keep_history, restore_history
from dunning_pipeline.order_run import freeze_due
from dunning_pipeline.ordering import decide_orders_now, keep_decided
from dunning_pipeline.outbox import Outbox
from dunning_pipeline.sandbox.klaviyo import Fault
from dunning_pipeline.sandbox.shopify.faults import FAULTS
from dunning_pipeline.sending import send_batch

EDITED = "order_reminders: {start_at"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OrderWorld]:
    with order_world(tmp_path) as found:
        found.shop.place("#1031", "50.00")
        found.pass_time(minutes=1)
        found.run()
        assert found.events() == []
        found.pass_time(minutes=1)
        yield found


def run_a_minute_later(world: OrderWorld, **options: Any) -> None:
    world.pass_time(minutes=1)
    world.run(**options)


def with_reminders(world: OrderWorld, settings: str) -> None:
    world.policy = POLICY.replace(EDITED, f"order_reminders: {{{settings}, start_at")


def test_an_added_item_that_leaves_a_balance_is_told_at_once(world: OrderWorld) -> None:
    world.shop.add_item("#1031", "12.50")
    world.pass_time(seconds=20)
    world.run()
    (event,) = world.events()
    told = ("order_name", "outstanding", "total", "paid", "occurrence", "hours_since_edit", "edit_kind")
    assert [event[name] for name in told] == ["#1031", 12.5, 67.4, 54.9, 1, 0, "order_edit"]
    assert world.reason("#1031") == "waiting"
    assert world.series("state, occurrences, outstanding_minor") == [["open", 1, 1250]]


def test_a_change_of_address_to_a_dearer_rate_is_told(world: OrderWorld) -> None:
    world.shop.change_address("#1031", "15.00")
    run_a_minute_later(world)
    assert [event["outstanding"] for event in world.events()] == [10.1]


def test_a_closed_edit_window_ends_nothing(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.shop.close_edit_window("#1031")
    world.pass_time(hours=24)
    world.run()
    assert world.told() == [("#1031", 1), ("#1031", 2)]


def test_an_edit_that_leads_to_a_refund_is_not_told(world: OrderWorld) -> None:
    world.shop.remove_item("#1031")
    world.shop.refund("#1031")
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1031")) == ([], "no_balance")


@pytest.mark.parametrize(
    ("ends", "reason", "state"),
    [
        (lambda shop: shop.pay("#1031"), "no_balance", "paid"),
        (lambda shop: shop.cancel("#1031"), "cancelled", "cancelled"),
        (lambda shop: shop.fulfil("#1031"), "fulfilled", "fulfilled"),
    ],
    ids=["paid", "cancelled", "fulfilled"],
)
def test_after_payment_cancellation_or_fulfilment_no_event_goes(
    world: OrderWorld, ends: Callable[[Any], object], reason: str, state: str
) -> None:
    world.shop.add_item("#1031")
    ends(world.shop)
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1031"), world.series()) == ([], reason, [])
    world.shop.add_item("#1031") if state == "paid" else None
    world.pass_time(hours=48)
    world.run()
    assert len(world.events()) == (state == "paid")


@pytest.mark.parametrize("state", ["paid", "cancelled", "fulfilled"])
def test_a_running_series_ends_with_payment_cancellation_or_fulfilment(world: OrderWorld, state: str) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    {"paid": world.shop.pay, "cancelled": world.shop.cancel, "fulfilled": world.shop.fulfil}[state]("#1031")
    world.pass_time(hours=23)
    world.run()
    world.pass_time(hours=25)
    world.run()
    assert (world.told(), world.series()) == ([("#1031", 1)], [[state]])


def test_it_repeats_every_24_hours_from_when_it_was_really_sent(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    sent = [world.clock.now]
    for late in (0, 37, 0):
        world.pass_time(hours=23, minutes=59)
        world.run()
        assert len(world.events()) == len(sent)
        world.pass_time(minutes=1 + late)
        world.run()
        sent.append(world.clock.now)
    assert [event.received_at for event in world.account.events] == sent
    assert world.told() == [("#1031", number) for number in (1, 2, 3, 4)]


def test_missed_ticks_send_once(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.pass_time(days=4)
    world.run()
    world.run()
    assert world.told() == [("#1031", 1), ("#1031", 2)]


def test_a_second_edit_within_24_hours_keeps_the_clock_and_changes_the_amount(world: OrderWorld) -> None:
    world.shop.add_item("#1031", "10.00")
    run_a_minute_later(world)
    world.pass_time(hours=5)
    world.shop.add_item("#1031", "5.00")
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]
    world.pass_time(hours=18, minutes=59)
    world.run()
    assert world.told() == [("#1031", 1), ("#1031", 2)]
    assert [event["outstanding"] for event in world.events()] == [10.0, 15.0]
    assert [change["amount"] for change in world.events()[1]["changes"]] == [10.0, 5.0]


def test_paid_and_edited_again_starts_a_new_series_at_once(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.shop.pay("#1031")
    run_a_minute_later(world)
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1), ("#1031", 1)]
    assert len({event["reminder_id"] for event in world.events()}) == 2
    assert world.series("series, state") == [[1, "paid"], [2, "open"]]


def test_a_part_payment_leaves_the_series_alive_with_less_outstanding(world: OrderWorld) -> None:
    world.shop.add_item("#1031", "20.00")
    run_a_minute_later(world)
    world.shop.pay("#1031", "12.00")
    world.pass_time(hours=24)
    world.run()
    assert [event["outstanding"] for event in world.events()] == [20.0, 8.0]


@pytest.mark.parametrize(("stop_on", "events"), [("fulfilled", 2), ("partially_fulfilled", 1)])
def test_partial_fulfilment_ends_it_only_where_the_policy_says_so(world: OrderWorld, stop_on: str, events: int) -> None:
    with_reminders(world, f"stop_on: {stop_on}")
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.shop.fulfil("#1031", partly=True)
    world.pass_time(hours=24)
    world.run()
    assert len(world.events()) == events


def test_a_replacement_goes_on_with_the_clock_of_the_order_it_replaces(world: OrderWorld) -> None:
    world.shop.add_item("#1031", "10.00")
    run_a_minute_later(world)
    world.pass_time(hours=3)
    world.shop.recreate("#1031", "4.00")
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]
    assert (world.reason("#1031"), world.reason("#1031A")) == ("replaced", "waiting")
    world.pass_time(hours=20, minutes=59)
    world.run()
    assert world.told() == [("#1031", 1), ("#1031A", 2)]
    assert world.series("name, state, occurrences") == [["#1031", "replaced", 2], ["#1031A", "open", 2]]


def test_an_edit_of_staff_is_not_told_unless_the_policy_says_so(world: OrderWorld) -> None:
    world.shop.add_item("#1031", app="Shopify Web")
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1031")) == ([], "no_qualifying_edit")
    with_reminders(world, "edited_by: [any]")
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]


def test_a_refund_edit_that_still_leaves_a_balance_is_told(world: OrderWorld) -> None:
    world.shop.add_item("#1031", "30.00")
    world.shop.refund("#1031", "5.00", app="Cleverific")
    run_a_minute_later(world)
    assert [event["outstanding"] for event in world.events()] == [35.0]


def test_edits_before_start_at_are_not_told(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    world.policy = POLICY.replace("2026-01-01T00:00:00Z", "2026-11-16T09:00:00Z")
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1031")) == ([], "before_start")


def test_going_live_floods_nobody_and_later_edits_are_told(tmp_path: Path) -> None:
    with order_world(tmp_path, POLICY.replace(', start_at: "2026-01-01T00:00:00Z"', "")) as world:
        world.policy = POLICY.replace('{start_at: "2026-01-01T00:00:00Z"}', "{}")
        for name in ("#1", "#2"):
            world.shop.place(name, "50.00")
            world.shop.add_item(name)
        run_a_minute_later(world)
        assert (world.events(), world.reason("#1")) == ([], "before_start")
        world.shop.add_item("#2")
        run_a_minute_later(world)
        assert world.told() == [("#2", 1)]


def test_a_dry_run_sends_nothing_and_what_it_saw_does_not_count_when_going_live(tmp_path: Path) -> None:
    dry = POLICY.replace('{start_at: "2026-01-01T00:00:00Z"}', "{}").replace("live: true", "live: false")
    with order_world(tmp_path, dry) as world:
        world.shop.place("#1", "50.00")
        run_a_minute_later(world)
        world.shop.add_item("#1")
        run_a_minute_later(world)
        assert (world.events(), world.reason("#1")) == ([], "remind")
        world.policy = dry.replace("live: false", "live: true")
        run_a_minute_later(world)
        assert (world.events(), world.reason("#1")) == ([], "before_start")


def test_quiet_hours_over_midnight_hold_events_until_they_end(world: OrderWorld) -> None:
    with_reminders(world, 'quiet_hours: {from: "21:00", to: "08:00"}')
    world.clock.move_to(date(2026, 11, 16), time(22, 0), "Europe/Berlin")
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1031")) == ([], "quiet_hours")
    ((due,),) = world.series("next_due_at")
    assert due == datetime(2026, 11, 17, 7, 0, tzinfo=UTC)
    world.clock.move_to(date(2026, 11, 17), time(7, 59), "Europe/Berlin")
    world.run()
    assert world.events() == []
    world.clock.move_to(date(2026, 11, 17), time(8, 0), "Europe/Berlin")
    world.run()
    assert world.told() == [("#1031", 1)]


@pytest.mark.parametrize(
    ("night", "ends"),
    [
        (date(2027, 3, 27), datetime(2027, 3, 28, 1, 0, tzinfo=UTC)),
        (date(2026, 10, 31), datetime(2026, 11, 1, 2, 0, tzinfo=UTC)),
    ],
    ids=["spring, the hour of the end is jumped over", "an ordinary night"],
)
def test_quiet_hours_end_by_the_wall_clock(tmp_path: Path, night: date, ends: datetime) -> None:
    with order_world(tmp_path) as world:
        with_reminders(world, 'quiet_hours: {from: "22:00", to: "02:30"}' if night.month == 3 else
                       'quiet_hours: {from: "22:00", to: "03:00"}')  # fmt: skip
        world.clock.move_to(night, time(12, 0), "Europe/Berlin")
        world.shop.place("#1", "50.00")
        world.clock.move_to(night, time(23, 0), "Europe/Berlin")
        world.shop.add_item("#1")
        run_a_minute_later(world)
        assert world.series("next_due_at") == [[ends]]


def test_no_more_than_max_reminders_are_sent(world: OrderWorld) -> None:
    with_reminders(world, "max_reminders: 2")
    world.shop.add_item("#1031")
    for _ in range(4):
        run_a_minute_later(world)
        world.pass_time(hours=24)
    assert (len(world.events()), world.reason("#1031"), world.series()) == (2, "max_reminders", [["stopped"]])


def test_after_stop_after_days_no_event_goes(world: OrderWorld) -> None:
    with_reminders(world, "stop_after_days: 2")
    world.shop.add_item("#1031")
    for _ in range(4):
        run_a_minute_later(world)
        world.pass_time(hours=24)
    assert (len(world.events()), world.reason("#1031"), world.series()) == (2, "stopped", [["stopped"]])


def test_an_order_without_an_address_is_not_told(world: OrderWorld) -> None:
    world.shop.place("#1032", "50.00", email=None)
    world.shop.add_item("#1032")
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1032")) == ([], "no_contact_address")


@pytest.mark.parametrize("name", ["503", "error beside data", "401", "no JSON"])
def test_a_shop_that_cannot_be_read_sends_nothing_and_goes_on_afterwards(world: OrderWorld, name: str) -> None:
    world.shop.add_item("#1031")
    world.shop.faults.when(lambda _: FAULTS[name])
    world.pass_time(minutes=1)
    with pytest.raises(SourceError):
        world.run()
    assert world.events() == []
    world.shop.faults.clear()
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]


def test_a_needed_field_that_is_gone_sends_nothing_until_it_is_back(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    world.shop.conditions.without = frozenset({"totalOutstandingSet"})
    world.pass_time(minutes=1)
    with pytest.raises(SourceError, match="totalOutstandingSet"):
        world.run()
    assert world.events() == []
    world.shop.conditions.without = frozenset()
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]


def test_a_shop_that_is_down_for_more_than_an_hour_leaves_its_orders_unclear_until_it_answers(
    world: OrderWorld,
) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.pass_time(hours=24)
    now = decide_orders_now(world.front.warehouse, world.settings, live=True)
    assert now.decided.decisions["reason"].tolist() == ["source_unclear"]
    world.policy = POLICY + "quality: {max_source_age: {orders: 2d}}\n"
    now = decide_orders_now(world.front.warehouse, world.settings, live=True)
    assert now.decided.decisions["decision"].tolist() == ["remind"]


def test_a_source_that_fails_keeps_no_other_from_being_told(world: OrderWorld) -> None:
    (world.front.home / "orders.csv").write_text("order_id,name,email,currency,total,outstanding\n")
    files = "{kind: files, tables: {orders: {path: orders.csv}, order_edits: {path: missing.csv}}}"
    world.policy = POLICY + f"  market: {files}\n"
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]
    assert [str(error) for error in world.ran[-1].pulled.failed.values()] == [
        f"source market: no file matches {world.front.home / 'missing.csv'}"
    ]


def test_a_batch_of_unusual_size_waits_until_somebody_confirms_it(world: OrderWorld) -> None:
    world.policy = POLICY.replace("{live: true}", "{live: true, max_batch: 1}")
    world.shop.place("#1032", "50.00")
    for name in ("#1031", "#1032"):
        world.shop.add_item(name)
    run_a_minute_later(world)
    assert world.events() == []
    assert "more than sending.max_batch (1)" in str(world.ran[-1].unusual)
    run_a_minute_later(world, confirmed=True)
    assert sorted(world.told()) == [("#1031", 1), ("#1032", 1)]


def test_what_is_paid_between_decision_and_sending_is_not_told(world: OrderWorld) -> None:
    """Somebody materialises source/orders at that moment (RULES 9.4)."""
    world.shop.add_item("#1031")
    world.pass_time(minutes=1)
    decided = decide_after_pull(world)
    world.shop.pay("#1031")
    world.front.pull(world.policy, run_id="by hand")
    report = send_batch(decided, Outbox(world.front.warehouse, "order"), world.settings)
    assert (world.events(), report.outcomes) == ([], {"dropped": 1})


def decide_after_pull(world: OrderWorld) -> str:
    """Does what a run does up to freezing the batch; returns its id."""
    run_id = "killed before sending"
    world.front.pull(world.policy, run_id=run_id)
    now = decide_orders_now(world.front.warehouse, world.settings, live=True)
    keep_decided(world.front.warehouse, now, run_id)
    assert freeze_due(world.settings, world.front.warehouse, run_id, now, live=True)
    return run_id


def test_an_event_whose_answer_was_lost_is_recorded_once(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    world.account.faults.plan([Fault.lost_answer()] * 10)
    run_a_minute_later(world)
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]


def test_a_run_that_broke_off_before_sending_is_made_up_for(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    world.account.faults.plan([Fault.unauthorized()])
    run_a_minute_later(world)
    assert world.events() == []
    assert world.ran[-1].report is not None
    assert world.ran[-1].report.left == 1
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]


def test_switched_off_the_order_side_refuses_to_run(world: OrderWorld) -> None:
    with_reminders(world, "enabled: false")
    with pytest.raises(DunningError, match="enabled is false"):
        world.run()


def test_those_off_the_allow_list_are_asked_again_only_after_a_day_or_by_another_policy(world: OrderWorld) -> None:
    listed = POLICY.replace("{live: true}", "{live: true, allow_list: [somebody@shop.dev]}")
    world.policy = listed
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    run_a_minute_later(world)
    dropped = "select count(*) as n from dunning.sent_history where outcome = 'dropped'"
    assert (world.events(), world.front.warehouse.fetch(dropped)["n"].iloc[0]) == ([], 1)
    world.policy = POLICY
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1)]


def test_an_order_that_can_no_longer_be_read_is_unknown_and_not_told_again(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.shop.delete("#1031")
    world.pass_time(hours=24)
    world.run()
    assert (world.told(), world.reason("#1031")) == ([("#1031", 1)], "source_unclear")


def test_of_many_orders_due_again_a_run_asks_for_some_and_the_next_for_the_others(
    world: OrderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_run, "MOST_ASKED_FOR", 2)
    names = [f"#{number}" for number in range(2001, 2006)]
    for name in names:
        world.shop.place(name, "50.00")
        world.shop.add_item(name)
    run_a_minute_later(world)
    world.pass_time(hours=24)
    for sent in (2, 4, 5):
        world.run()
        assert len([number for _, number in world.told() if number == 2]) == sent
    assert sorted(world.told()) == sorted([(name, number) for name in names for number in (1, 2)])


def test_an_event_that_was_not_sent_and_is_not_due_any_more_stops_no_later_run(world: OrderWorld) -> None:
    world.shop.add_item("#1031")
    world.account.faults.plan([Fault.unauthorized()])
    run_a_minute_later(world)
    world.shop.pay("#1031")
    run_a_minute_later(world)
    assert (world.events(), world.reason("#1031")) == ([], "no_balance")
    world.shop.place("#1032", "50.00")
    world.shop.add_item("#1032")
    run_a_minute_later(world)
    assert world.told() == [("#1032", 1)]


def test_after_a_restoration_nobody_is_told_again_what_was_told_in_a_later_series(world: OrderWorld) -> None:
    """All edits become known at once then, those of the series that ended and those of the one that lives."""
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    world.shop.pay("#1031")
    run_a_minute_later(world)
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    keep_history(world.front.warehouse, world.clock())
    world.front.warehouse.path.unlink()
    restore_history(world.front.warehouse, world.clock())
    run_a_minute_later(world)
    assert world.told() == [("#1031", 1), ("#1031", 1)]
    world.pass_time(hours=24)
    world.run()
    assert len(world.events()) == 3


def test_after_a_lost_answer_the_amount_that_is_outstanding_now_is_told(world: OrderWorld) -> None:
    world.shop.add_item("#1031", "12.50")
    world.account.faults.plan([Fault.reset_before_acceptance()] * 5)
    run_a_minute_later(world)
    assert world.events() == []
    world.shop.pay("#1031", "5.00")
    run_a_minute_later(world)
    assert [event["outstanding"] for event in world.events()] == [7.5]
