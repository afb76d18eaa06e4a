"""`dunning orders`: the story of an order by any day, and the order side once by command."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from order_world import OrderWorld, order_world

from dunning_pipeline.errors import DunningError
from dunning_pipeline.explain_order import DECISIONS, MEANINGS, explain_order
from dunning_pipeline.tables import ORDER_REASONS

FIRST_DAY = date(2026, 11, 16)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OrderWorld]:
    """#1031 was edited and told about on the first day, again on the second, and paid on the third."""
    with order_world(tmp_path) as found:
        found.shop.place("#1031", "50.00")
        found.run()
        found.pass_time(minutes=1)
        found.shop.add_item("#1031", "12.50")
        found.shop.add_item("#1031", "3.00", app="Shopify Web")
        for _ in range(2):
            found.pass_time(minutes=1)
            found.run()
            found.pass_time(days=1)
        found.shop.pay("#1031")
        found.pass_time(minutes=1)
        found.run()
        yield found


def story(world: OrderWorld, day: date, order: str = "#1031") -> dict[str, tuple[str, ...]]:
    return {step.title: step.sentences for step in explain_order(world.settings, order, day)}


def test_the_story_tells_edits_observations_series_decisions_and_events(world: OrderWorld) -> None:
    told = story(world, FIRST_DAY + timedelta(days=2))
    (order,) = told["The order"]
    assert order.startswith("#1031 (5000000001) of storefront: 0.00 EUR of 70.40 EUR are outstanding")
    assert told["What was done to it"] == (
        "2026-11-16 09:31:00: order_edit by customer_portal through Cleverific, which counts.",
        "2026-11-16 09:31:00: order_edit by other through Shopify Web, which does not count: "
        "order_reminders.edited_by is customer_portal.",
    )
    assert [sentence.split(": ", 1)[1] for sentence in told["What was seen of it"]] == [
        "0.00 EUR outstanding (paid, unfulfilled).",
        "15.50 EUR outstanding (partially_paid, unfulfilled).",
        "0.00 EUR outstanding (paid, unfulfilled).",
    ]
    (series,) = told["Series"]
    assert "paid, 2 sent, the last at 2026-11-17 09:33:00." in series
    assert [sentence.split(": ")[1] for sentence in told[DECISIONS]] == [
        *("event 1 of series 1 goes.", "waiting", "event 2 of series 1 goes.", "waiting", "no_balance"),
    ]
    assert [sentence.rsplit(" ", 1)[1] for sentence in told["Events"]] == ["accepted.", "accepted."]


def test_a_past_day_is_told_by_what_was_known_at_its_end(world: OrderWorld) -> None:
    told = story(world, FIRST_DAY)
    assert told[DECISIONS][-1] == (
        "2026-11-16 09:32:00: waiting: the last event was sent not long enough ago (rule 8.2); "
        "the next event is due at 2026-11-17 09:32:00."
    )
    assert len(told["Events"]) == 1


def test_an_order_is_known_by_its_id_too_and_an_unknown_one_is_named(world: OrderWorld) -> None:
    assert explain_order(world.settings, "5000000001", FIRST_DAY)
    with pytest.raises(DunningError, match="there is no order '#9' in source"):
        explain_order(world.settings, "#9", FIRST_DAY)


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ORDER_REASONS)


def test_an_edit_says_why_it_does_not_count(world: OrderWorld) -> None:
    world.policy = world.policy.replace("2026-01-01T00:00:00Z", "2026-11-16T08:31:01Z")
    world.shop.place("#2001E", "50.00")
    world.pass_time(minutes=1)
    world.run()
    assert story(world, FIRST_DAY)["What was done to it"] == (
        "2026-11-16 09:31:00: order_edit by customer_portal through Cleverific, which does not count: "
        "edits do from 2026-11-16 09:31:01 on (order_reminders.start_at).",
        "2026-11-16 09:31:00: order_edit by other through Shopify Web, which does not count: "
        "order_reminders.edited_by is customer_portal.",
    )
    (placed,) = story(world, FIRST_DAY + timedelta(days=3), "#2001E")["What was done to it"]
    assert placed.endswith("does not count: no order is known that this one was created in place of.")
