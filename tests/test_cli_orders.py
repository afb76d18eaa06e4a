"""`dunning orders`: wrong usage, a dry run, sending, and the story of an order, as they are typed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from order_world import POLICY, OrderWorld, order_world
from support import Command, dunning_command


@pytest.fixture
def dunning(capsys: pytest.CaptureFixture[str]) -> Command:
    return dunning_command(capsys)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrderWorld]:
    """A shop with an edited order, and the environment of somebody who types commands."""
    with order_world(tmp_path, POLICY) as found:
        settings = found.settings
        for name, value in {**settings.environment, "DUNNING_HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DUNNING_POLICY", str(settings.policy_file))
        found.shop.place("#1031", "50.00")
        found.shop.add_item("#1031", "12.50")
        yield found


def test_a_dry_run_decides_and_sends_nothing_and_send_sends(world: OrderWorld, dunning: Command) -> None:
    code, printed, _ = dunning("orders", "run")
    assert (code, world.events()) == (0, [])
    assert "remind" in printed
    code, printed, _ = dunning("orders", "run", "--send")
    assert (code, world.told()) == (0, [("#1031", 1)])
    assert "accepted" in printed
    code, printed, _ = dunning("orders", "explain", "#1031")
    assert code == 0
    assert "event 1 of series 1 goes." in printed


def test_confirming_without_sending_is_wrong_usage(world: OrderWorld, dunning: Command) -> None:
    code, _, error = dunning("orders", "run", "--confirm")
    assert code == 2
    assert "add --send" in error


def test_sending_while_it_is_switched_off_is_refused(world: OrderWorld, dunning: Command) -> None:
    world.settings.policy_file.write_text(POLICY.replace("live: true", "live: false"))
    code, _, error = dunning("orders", "run", "--send")
    assert (code, world.events()) == (1, [])
    assert "sending.live is false" in error


def test_a_shop_that_does_not_answer_is_named(
    world: OrderWorld, dunning: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPIFY_TOKEN", "shpat_wrong")
    code, _, error = dunning("orders", "run")
    assert code == 1
    assert "storefront" in error
