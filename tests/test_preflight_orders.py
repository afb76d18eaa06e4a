"""What `dunning check` tells of the order side."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from order_world import POLICY, OrderWorld, order_world

from dunning_pipeline.preflight import check


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OrderWorld]:
    with order_world(tmp_path) as found:
        yield found


def run_a_minute_later(world: OrderWorld) -> None:
    world.pass_time(minutes=1)
    world.run()


def told_before(world: OrderWorld) -> list[str]:
    """What `dunning check` notes of the order side."""
    found = [finding.sentence for finding in check(world.settings) if finding.level == "note"]
    return [sentence for sentence in found if "order" in sentence and "edited_by_apps" not in sentence]


def test_check_tells_since_when_edits_count_and_what_is_due(world: OrderWorld) -> None:
    world.shop.place("#1031", "50.00")
    world.pass_time(minutes=2)
    world.shop.add_item("#1031")
    run_a_minute_later(world)
    on = "order events are on for storefront; edits count since 2026-01-01 00:00 UTC (order_reminders.start_at)"
    alive = "1 series of order events were alive when orders were decided last; an event is due about "
    assert told_before(world)[-2:] == [on, f"{alive}0 of them, the next one at 2026-11-17 08:33 UTC"]
    world.pass_time(hours=24)
    assert told_before(world)[-3:] == [
        on,
        f"{alive}1 of them",
        "storefront.orders is 24h old; quality.max_source_age allows 60m; until it is pulled, no event goes about its "
        "orders",
    ]


def test_check_tells_that_edits_count_from_the_first_live_run_on(tmp_path: Path) -> None:
    dry = POLICY.replace('{start_at: "2026-01-01T00:00:00Z"}', "{}").replace("live: true", "live: false")
    with order_world(tmp_path, dry) as world:
        to_come = "order events are on for storefront; edits count from the first live run on"
        only = "no source feeds the tables customers and invoices: there are events about orders only"
        assert told_before(world) == [only, to_come]
        run_a_minute_later(world)
        assert to_come in told_before(world)
        world.policy = dry.replace("live: false", "live: true")
        run_a_minute_later(world)
        since = "order events are on for storefront; edits count since 2026-11-16 08:32 UTC, when a run was first live"
        assert since in told_before(world)
        wrong = [finding.sentence for finding in check(world.settings) if finding.level == "wrong"]
        assert not any("feeds" in sentence for sentence in wrong)


def test_check_tells_that_order_events_are_off(world: OrderWorld) -> None:
    world.policy = POLICY.replace("{start_at", "{enabled: false, start_at")
    assert told_before(world)[-1] == "order_reminders.enabled is false: no events about the orders of storefront"
