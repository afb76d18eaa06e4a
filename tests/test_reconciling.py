"""What was accepted here beside what Klaviyo holds, over the sandbox."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from support import MovingClock, settings_at
from test_outbox import POLICY_TEXT, body, empty_warehouse, freeze, reminders

from dunning_pipeline.errors import DunningError
from dunning_pipeline.outbox import Outbox, Result
from dunning_pipeline.reconciling import Reconciliation, reconcile
from dunning_pipeline.resources.klaviyo import Klaviyo
from dunning_pipeline.sandbox.klaviyo import ALL_SCOPES, DEFAULT_KEY, KlaviyoAccount, running
from dunning_pipeline.sending import send_batch
from dunning_pipeline.settings import Settings

TODAY = date(2025, 3, 12)
SENDER = "pk_sender"
MORNING = datetime(2025, 3, 12, 8, 30, tzinfo=UTC)


class Desk:
    """An outbox whose batches are sent to an account, some time ago."""

    def __init__(self, settings: Settings, clock: MovingClock) -> None:
        self.settings, self.clock = settings, clock
        self.outbox = Outbox(empty_warehouse(settings.warehouse_path), "invoice")

    def send(self, *ids: str) -> None:
        freeze(self.outbox, f"b-{ids}", reminders(ids), at=self.clock())
        assert send_batch(None, self.outbox, self.settings).left == 0

    def reconcile(self, since: date = TODAY, later: float = 60, key: str = DEFAULT_KEY) -> Reconciliation:
        self.clock.advance(minutes=later)
        environment = {**self.settings.environment, "KLAVIYO_API_KEY": key}
        return reconcile(replace(self.settings, environment=environment), self.outbox.warehouse, since)

    def create_elsewhere(self, reminder_id: str) -> None:
        """Somebody creates an event of the same metric past this history."""
        Klaviyo(self.settings.klaviyo_url, SecretStr(DEFAULT_KEY)).create_events([body(reminder_id)])

    def accept_only_here(self, reminder_id: str) -> None:
        """The history says accepted, and Klaviyo holds nothing."""
        freeze(self.outbox, f"b-{reminder_id}", reminders([reminder_id]), at=self.clock())
        pending = self.outbox.to_send(f"b-{reminder_id}")
        leave, _ = self.outbox.begin_attempts(f"b-{reminder_id}", pending, self.clock(), TODAY, 3)
        self.outbox.record_results(leave, Result("accepted", 202), self.clock(), TODAY)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = MovingClock(MORNING)
    account = KlaviyoAccount({DEFAULT_KEY: ALL_SCOPES, SENDER: ["events:write"]}, clock=clock, rates=None)
    with running(account) as url:
        yield Desk(settings_at(tmp_path, POLICY_TEXT, clock, {"KLAVIYO_URL": url}), clock)


def test_both_sides_agree_after_an_undisturbed_send(desk: Desk) -> None:
    desk.send("r-1", "r-2")
    found = desk.reconcile()
    assert found.agrees
    assert (found.accepted, found.held, found.settling) == (2, 2, 0)


def test_what_was_accepted_and_is_not_held_is_named(desk: Desk) -> None:
    desk.send("r-1")
    desk.accept_only_here("r-2")
    found = desk.reconcile()
    assert [(one.reminder_id, one.customer_id, one.contact_on) for one in found.missing_there] == [
        ("r-2", "c-r-2", TODAY)
    ]
    assert not found.unknown_here


def test_what_was_accepted_a_moment_ago_is_no_difference_yet(desk: Desk) -> None:
    desk.accept_only_here("r-1")
    found = desk.reconcile(later=10)
    assert found.agrees
    assert found.settling == 1


def test_what_is_held_and_unknown_here_is_named_with_what_is_known_of_it(desk: Desk) -> None:
    freeze(desk.outbox, "b-1", reminders(["r-1"]), at=desk.clock())
    desk.outbox.begin_attempts("b-1", desk.outbox.to_send("b-1"), desk.clock(), TODAY, 3)
    desk.create_elsewhere("r-1")
    desk.create_elsewhere("r-strange")
    found = desk.reconcile()
    assert [(one.reminder_id, one.outcome) for one in found.unknown_here] == [
        ("r-1", "attempting"),
        ("r-strange", None),
    ]


def test_only_days_from_the_given_one_on_are_compared(desk: Desk) -> None:
    desk.accept_only_here("r-1")
    desk.create_elsewhere("r-strange")
    found = desk.reconcile(since=TODAY + timedelta(days=1))
    assert found.agrees
    assert (found.accepted, found.held) == (0, 0)


def test_a_key_that_may_not_read_events_is_told(desk: Desk) -> None:
    with pytest.raises(DunningError, match="reconciling needs a key with the scopes events:read and metrics:read"):
        desk.reconcile(key=SENDER)


def test_without_a_key_nothing_is_asked(desk: Desk) -> None:
    with pytest.raises(DunningError, match="KLAVIYO_API_KEY is not set"):
        desk.reconcile(key="")
