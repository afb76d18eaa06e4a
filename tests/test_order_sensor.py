"""The sensor of the order side: its decision for every case, and gathered from a real instance and a served shop."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
import pytest
from order_world import POLICY, OrderWorld, order_world

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.order_run import ORDERING, SourceState
from dunning_pipeline.policy import PolicyError, parse_policy
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import ORDER_JOB, ORDER_REASON_TAG
from dunning_pipeline.sandbox.klaviyo import Fault
from dunning_pipeline.sandbox.shopify import FAULTS
from dunning_pipeline.sensors import (
    POLLED_EVERY,
    PULLED_AGAIN_AFTER,
    STARTING_SECONDS,
    OrdersView,
    decide_order_run,
    gather_orders_view,
    order_edits_sensor,
)

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
STATE = SourceState(NOW - MINUTE, version="seen")
QUIET = OrdersView(
    NOW, policy_hash="p", last={"shop": STATE}, last_policy_hash="p", showing={"shop": "seen"}, live=True
)
DUE = replace(STATE, next_due_at=NOW)
FAILED = replace(STATE, failed="the shop is closed", pulled_at=NOW - PULLED_AGAIN_AFTER + TICK)


def view(state: SourceState = STATE, **seen: Any) -> OrdersView:
    """A view of one shop that shows what the last run saw, unless told otherwise."""
    return replace(QUIET, last={"shop": state}, **seen)


def why(answer: dg.RunRequest | dg.SkipReason) -> str:
    """Why a run is asked for."""
    assert isinstance(answer, dg.RunRequest), answer
    assert (answer.run_key, answer.run_config) == (None, {})
    return answer.tags[ORDER_REASON_TAG]


def sentence(answer: dg.RunRequest | dg.SkipReason) -> str:
    """Why none is asked for."""
    assert isinstance(answer, dg.SkipReason), answer
    return str(answer.skip_message)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(QUIET, last=None), "first run by this policy"),
        (view(policy_hash="another"), "first run by this policy"),
        (view(showing={"shop": "seen", "desk": "x"}), "desk is new"),
        (view(showing={"shop": "other"}), "shop changed"),
        (view(DUE), "an event about an order of shop is due"),
        (view(DUE, failures=1, failed_for=MINUTE), "an event about an order of shop is due"),
        (view(failures=1, failed_for=MINUTE), "tried again"),
        (view(showing={"shop": "other"}, unreadable={"desk": "closed"}), "shop changed"),
        (view(DUE, showing={"shop": "other"}, unusual="too many"), "shop changed"),
        (view(DUE, showing={"shop": "other"}, live=False), "shop changed"),
        (view(replace(FAILED, pulled_at=NOW - PULLED_AGAIN_AFTER)), "shop could not be pulled"),
        (view(replace(STATE, pulled_at=NOW - POLLED_EVERY), showing={"shop": None}), "shop is pulled every 0:10:00"),
    ],
)
def test_a_run_is_asked_for_and_the_reason_is_told(seen: OrdersView, reason: str) -> None:
    assert why(decide_order_run(seen)) == reason


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (view(refusal="it is off"), "it is off"),
        (view(DUE, underway=True), "a run of order_reminders is under way"),
        (view(), "no order has changed; no event is due"),
        (view(live=False), "no order has changed; no event is due, and sending.live is false"),
        (
            view(replace(STATE, next_due_at=NOW + TICK)),
            "no order has changed; the next event is due at 2026-11-16 08:30:00 UTC",
        ),
        (
            view(DUE, live=False),
            "no order has changed; the next event is due at 2026-11-16 08:30:00 UTC, and sending.live is false",
        ),
        (
            view(DUE, unusual="too many; confirm it"),
            "too many; confirm it; no order has changed; the next event is due at 2026-11-16 08:30:00 UTC",
        ),
        (
            view(DUE, showing={}, unreadable={"shop": "HTTP 502"}),
            "shop could not be asked, its orders are known as of 2026-11-16 08:29 UTC; "
            "nothing is sent about them until it answers: HTTP 502",
        ),
        (
            replace(QUIET, last=None, showing={}, unreadable={"shop": "HTTP 502"}),
            "shop could not be asked, nothing is sent about them until it answers: HTTP 502",
        ),
        (
            view(FAILED, showing={"shop": "other"}),
            "shop could not be pulled, which is tried every 0:01:00: the shop is closed; "
            "no order has changed; no event is due",
        ),
        (
            view(replace(STATE, pulled_at=NOW - POLLED_EVERY + TICK), showing={"shop": None}),
            "no order has changed; no event is due",
        ),
    ],
)
def test_a_skip_says_why(seen: OrdersView, words: str) -> None:
    assert sentence(decide_order_run(seen)) == words


@pytest.mark.parametrize(("failures", "pause"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (8, 600), (20, 600)])
def test_between_failures_there_is_a_pause_that_grows(failures: int, pause: int) -> None:
    changed = view(showing={"shop": "other"}, failures=failures, failed_for=timedelta(seconds=pause))
    assert why(decide_order_run(changed)) == "shop changed"
    soon = decide_order_run(replace(changed, failed_for=timedelta(seconds=pause) - TICK))
    assert sentence(soon) == (
        f"the last {failures} runs of order_reminders failed: look at the latest; it is tried again {pause} s after "
        "it, and no edit is lost meanwhile"
    )


@dataclass
class Watch:
    """A shop with a pipeline, the instance that its runs are recorded in, and what the sensor says of both."""

    world: OrderWorld
    instance: dg.DagsterInstance

    def answer(self, later: float = 0) -> dg.RunRequest | dg.SkipReason:
        """What the sensor decides `later` seconds from now by Dagster's clock."""
        now = system_clock().timestamp() + later
        return decide_order_run(gather_orders_view(self.instance, self.world.settings, now))

    def run(self, name: str = ORDER_JOB) -> dg.ExecuteInProcessResult:
        """Runs a job, or materialises an asset, in process."""
        defs = build_defs(self.world.settings)
        if name == ORDER_JOB:
            return defs.resolve_job_def(name).execute_in_process(instance=self.instance, raise_on_error=False)
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, asset_selection=[dg.AssetKey(name.split("/"))])

    def record(self, event: dg.DagsterEventType | None) -> str:
        """Adds a run that some event was the last of, or none yet; returns its id."""
        run = dg.DagsterRun(ORDER_JOB, str(uuid.uuid4()))
        self.instance.add_run(run)
        if event:
            self.instance.report_dagster_event(dg.DagsterEvent(event.value, ORDER_JOB), run.run_id)
        return run.run_id

    @property
    def warehouse(self) -> Warehouse:
        return self.world.front.warehouse


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """A shop with one order that nobody has edited, as the first run has seen it."""
    with order_world(tmp_path) as world, dg.DagsterInstance.ephemeral() as instance:
        world.shop.place("#1", "50.00")
        world.pass_time(minutes=1)
        found = Watch(world, instance)
        assert why(found.answer()) == "first run by this policy"
        assert found.run().success
        world.pass_time(minutes=1)
        yield found


def test_a_shop_in_which_nothing_happens_costs_one_request_and_no_run(watch: Watch) -> None:
    before = len(watch.world.shop.received)
    assert sentence(watch.answer()) == "no order has changed; no event is due"
    (asked,) = list(watch.world.shop.received)[before:]
    assert (asked.query, asked.cost <= 12) == ("orders", True)


def test_an_edit_starts_a_run_and_what_it_sent_is_due_again_a_day_later(watch: Watch) -> None:
    watch.world.shop.add_item("#1")
    assert why(watch.answer()) == "storefront changed"
    assert watch.run().success
    assert watch.world.told() == [("#1", 1)]
    assert sentence(watch.answer()) == "no order has changed; the next event is due at 2026-11-17 08:32:00 UTC"
    watch.world.pass_time(hours=24, microseconds=-1)
    assert why(watch.answer()) == "storefront is pulled every 1:00:00"
    assert watch.run().success
    assert "the next event is due" in sentence(watch.answer())
    watch.world.pass_time(microseconds=1)
    assert why(watch.answer()) == "an event about an order of storefront is due"
    assert watch.run().success
    assert watch.world.told() == [("#1", 1), ("#1", 2)]


def test_a_change_within_the_second_of_the_last_one_is_seen(watch: Watch) -> None:
    watch.world.shop.add_item("#1")
    watch.run()
    watch.world.shop.pay("#1")
    assert why(watch.answer()) == "storefront changed"


def test_a_run_that_only_decided_hides_nothing(watch: Watch) -> None:
    watch.world.shop.add_item("#1")
    watch.run()
    watch.world.pass_time(minutes=1)
    watch.run("dunning/order_series")
    assert "the next event is due at 2026-11-17 08:32:00 UTC" in sentence(watch.answer())


def test_another_policy_starts_a_run(watch: Watch) -> None:
    watch.world.policy = POLICY.replace("live: true", "live: true, allow_list: [ada@shop.dev]")
    assert why(watch.answer()) == "first run by this policy"
    assert watch.run().success
    assert "no order has changed" in sentence(watch.answer())


def test_a_shop_that_cannot_be_asked_is_named_and_starts_nothing(watch: Watch) -> None:
    watch.world.shop.add_item("#1")
    watch.world.shop.faults.plan([FAULTS["500"]])
    words = sentence(watch.answer())
    assert words.startswith(
        "storefront could not be asked, its orders are known as of 2026-11-16 08:31 UTC; nothing is"
    )
    assert why(watch.answer()) == "storefront changed"


def test_sources_are_asked_at_once_so_that_those_that_hang_hold_no_tick_up(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.world.policy = POLICY + "  market: {kind: files, tables: {orders: {path: orders.csv}}}\n"
    both = Barrier(2)
    monkeypatch.setattr("dunning_pipeline.sensors.version", lambda *_: f"asked {both.wait(timeout=10) >= 0}")
    view = gather_orders_view(watch.instance, watch.world.settings, 0)
    assert [*view.showing.items()] == [("storefront", "asked True"), ("market", "asked True")]


def test_failed_runs_are_followed_after_a_pause_and_a_success_ends_it(watch: Watch) -> None:
    watch.world.shop.add_item("#1")
    watch.world.account.faults.when(lambda _: Fault.unauthorized())
    for failures, pause in ((1, 10), (2, 20)):
        assert not watch.run().success
        assert f"the last {failures} runs of order_reminders failed" in sentence(watch.answer())
        assert why(watch.answer(later=pause + 1))
    watch.world.account.faults.clear()
    assert watch.run().success
    assert "no order has changed" in sentence(watch.answer())


def test_too_many_events_wait_for_somebody_while_changes_are_pulled(watch: Watch) -> None:
    watch.world.policy = POLICY.replace("live: true", "live: true, max_batch: 1")
    watch.world.shop.place("#2", "50.00")
    for name in ("#1", "#2"):
        watch.world.shop.add_item(name)
    assert not watch.run().success
    words = sentence(watch.answer())
    assert "would send 2 reminders, more than sending.max_batch (1)" in words
    assert "the next event is due at 2026-11-16 08:32:00 UTC" in words
    assert "dunning orders run --send --confirm" in words
    watch.world.pass_time(seconds=5)
    watch.world.shop.faults.when(lambda _: FAULTS["500"])
    assert not watch.run().success
    assert sentence(watch.answer()).startswith("the last 1 runs of order_reminders failed")
    watch.world.shop.faults.clear()
    watch.world.shop.pay("#2")
    assert why(watch.answer(later=11)) == "storefront changed"
    assert watch.run().success
    assert watch.world.told() == [("#1", 1)]


@pytest.mark.parametrize("event", [None, dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START])
def test_a_run_that_has_not_got_far_is_under_way(watch: Watch, event: dg.DagsterEventType | None) -> None:
    watch.record(event)
    watch.world.shop.add_item("#1")
    assert sentence(watch.answer(STARTING_SECONDS - 1)) == "a run of order_reminders is under way"


def test_a_run_that_never_got_to_its_work_is_not_waited_for_any_longer(watch: Watch) -> None:
    watch.record(dg.DagsterEventType.RUN_START)
    watch.world.shop.add_item("#1")
    assert why(watch.answer(STARTING_SECONDS + 1)) == "storefront changed"


def test_a_run_is_under_way_for_as_long_as_it_has_its_lock(watch: Watch) -> None:
    run_id = watch.record(dg.DagsterEventType.RUN_START)
    watch.world.shop.add_item("#1")
    with watch.warehouse.only_one(ORDERING, run_id):
        assert sentence(watch.answer(later=3600)) == "a run of order_reminders is under way"


def test_a_killed_run_is_followed_at_once(watch: Watch) -> None:
    run_id = watch.record(dg.DagsterEventType.RUN_START)
    watch.world.shop.add_item("#1")
    with watch.warehouse.only_one(ORDERING, run_id):
        pass
    assert why(watch.answer()) == "storefront changed"


def test_a_wrong_policy_and_one_without_orders_are_said(watch: Watch) -> None:
    with pytest.raises(PolicyError) as raised:
        parse_policy(POLICY.replace("live: true", "live: perhaps"), "dunning.yaml")
    wrong = replace(watch.world.settings, loaded=raised.value)
    assert sentence(decide_order_run(gather_orders_view(watch.instance, wrong, 0))).startswith("the policy is wrong: ")
    watch.world.policy = POLICY.replace("order_reminders: {", "order_reminders: {enabled: false, ")
    assert sentence(watch.answer()) == "order_reminders.enabled is false in the policy: no events about orders"


def test_the_daemon_gets_the_same_answer(watch: Watch) -> None:
    context = dg.build_sensor_context(instance=watch.instance, resources={"settings": watch.world.settings})
    assert order_edits_sensor.evaluate_tick(context).skip_message == sentence(watch.answer())
    watch.world.shop.add_item("#1")
    (request,) = order_edits_sensor.evaluate_tick(context).run_requests or []
    assert why(request) == "storefront changed"


def test_it_starts_the_order_job_and_ships_stopped() -> None:
    assert (order_edits_sensor.name, order_edits_sensor.job_name) == ("order_edits_sensor", ORDER_JOB)
    assert order_edits_sensor.default_status == dg.DefaultSensorStatus.STOPPED
