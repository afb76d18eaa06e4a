"""A batch sent while something goes wrong at Klaviyo, one fault after the other, end to end (RULES 9.3)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr
from support import MovingClock, settings_at
from test_outbox import POLICY_TEXT, empty_warehouse, freeze, reminders
from test_sending import TODAY

from dunning_pipeline.outbox import Outbox
from dunning_pipeline.resources.klaviyo import MOST_ATTEMPTS, Klaviyo, Unreachable
from dunning_pipeline.resources.rate_limits import NO_LIMITS, RateLimits
from dunning_pipeline.sandbox.klaviyo import (
    ALL_SCOPES,
    DEFAULT_KEY,
    FAULTS,
    Fault,
    KlaviyoAccount,
    running,
)
from dunning_pipeline.sending import Report, send_batch

IDS = [f"r-{number}" for number in range(1, 7)]
PER_REQUEST = 2
WRITING = {"events:write"}


class Impatient(requests.Session):
    """A session that gives up after a fifth of a second."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{**options, "timeout": (1.0, 0.2)})


@dataclass
class Sender:
    """A frozen batch of six reminders that go two by two, and the account they go to."""

    outbox: Outbox
    account: KlaviyoAccount
    clock: MovingClock
    home: Path
    url: str

    def send(self) -> Report:
        settings = settings_at(self.home, POLICY_TEXT, self.clock, {"KLAVIYO_URL": self.url})
        klaviyo = Klaviyo(
            self.url,
            SecretStr(DEFAULT_KEY),
            self.clock.sleep,
            random=lambda: 1.0,
            session=Impatient(),
            limiter=RateLimits(NO_LIMITS),
        )
        settings = replace(settings, events_per_request=PER_REQUEST)
        report = send_batch(None, self.outbox, settings, klaviyo=klaviyo)
        self.clock.advance(minutes=1)
        return report

    def outcomes(self, reminder_id: str) -> list[str]:
        rows = self.outbox.warehouse.fetch(
            "select outcome from dunning.sent_history where reminder_id = $id and outcome <> 'attempting'"
            " order by attempt, outcome = 'unknown' desc",
            {"id": reminder_id},
        )
        return rows["outcome"].tolist()

    def open_attempts(self) -> int:
        return len(self.outbox.open_attempts(TODAY))

    def recorded(self) -> list[str]:
        """The ids of what Klaviyo recorded, in its order."""
        return [event.unique_id for event in self.account.events]


@pytest.fixture
def clock() -> MovingClock:
    clock = MovingClock()
    clock.move_to(TODAY)
    return clock


@pytest.fixture
def account(clock: MovingClock) -> KlaviyoAccount:
    return KlaviyoAccount({DEFAULT_KEY: WRITING}, clock=clock, rates=None)


@pytest.fixture
def sender(tmp_path: Path, account: KlaviyoAccount, clock: MovingClock) -> Iterator[Sender]:
    outbox = Outbox(empty_warehouse(tmp_path / "warehouse.duckdb"), "invoice")
    freeze(outbox, "batch", reminders(IDS), at=clock())
    with running(account) as url:
        yield Sender(outbox, account, clock, tmp_path, url)


RETRIED = {
    "429": "not_delivered",
    **dict.fromkeys(("500", "502", "503", "504", "503 as a page", "504 after acceptance"), "unknown"),
    **dict.fromkeys(("slow", "silent before acceptance", "silent after acceptance"), "unknown"),
    **dict.fromkeys(("answer lost after acceptance", "answer cut short after acceptance"), "unknown"),
    **dict.fromkeys(("reset before acceptance", "reset after acceptance"), "unknown"),
}
"""What is recorded of an attempt that met a fault, where the same request goes again."""


@pytest.mark.parametrize("name", RETRIED)
def test_a_chunk_that_met_a_fault_goes_again_in_the_same_run_and_is_recorded_once(sender: Sender, name: str) -> None:
    sender.account.faults.plan([None, FAULTS[name]])
    report = sender.send()
    assert (report.accepted, report.left, report.error) == (len(IDS), 0, None)
    assert sorted(sender.recorded()) == IDS
    assert sender.outcomes("r-1") == ["accepted"]
    assert sender.outcomes("r-3") == sender.outcomes("r-4") == [RETRIED[name], "accepted"]
    assert sender.outcomes("r-5") == ["accepted"]


def test_a_chunk_that_waits_for_its_next_try_holds_up_no_other(sender: Sender) -> None:
    sender.account.faults.plan([Fault.status(503), Fault.status(503)])
    sender.send()
    assert sender.recorded()[:2] == ["r-5", "r-6"]
    assert sorted(sender.recorded()[2:]) == ["r-1", "r-2", "r-3", "r-4"]
    assert sender.outcomes("r-1") == sender.outcomes("r-3") == ["unknown", "accepted"]


@pytest.mark.parametrize("name", ["503", "504 after acceptance"])
def test_what_was_never_answered_is_sent_identically_by_the_next_run(sender: Sender, name: str) -> None:
    sender.account.faults.when(lambda _: FAULTS[name])
    report = sender.send()
    assert (report.left, report.accepted) == (len(IDS), 0)
    assert sender.open_attempts()
    sender.account.faults.clear()
    assert sender.send().left == 0
    assert sorted(sender.recorded()) == IDS
    assert len({sent for sent in sender.account.bodies if b"r-1" in sent}) == 1
    assert sender.open_attempts() == 0


def test_events_that_a_refusal_names_are_rejected_and_the_others_of_the_request_go(sender: Sender) -> None:
    sender.account.faults.plan([None, Fault.invalid([1])])
    report = sender.send()
    assert report.outcomes == {"accepted": 5, "rejected": 1}
    assert sender.outcomes("r-3") == ["not_delivered", "accepted"]
    assert sender.outcomes("r-4") == ["rejected"]
    assert sorted(sender.recorded()) == [one for one in IDS if one != "r-4"]


def test_a_refusal_without_names_is_narrowed_event_by_event_after_the_other_chunks(sender: Sender) -> None:
    sender.account.faults.plan([Fault.invalid(), None, None, Fault.invalid()])
    report = sender.send()
    assert report.outcomes == {"accepted": 5, "rejected": 1}
    assert sender.recorded() == ["r-3", "r-4", "r-5", "r-6", "r-2"]
    assert [request.path for request in sender.account.requests][-1] == "/api/events"


def test_a_key_revoked_in_the_middle_ends_the_run_and_rejects_nobody(sender: Sender) -> None:
    sender.account.faults.plan([None, Fault.unauthorized()])
    report = sender.send()
    assert "Klaviyo answered 401" in str(report.error)
    assert (report.requests, report.outcomes) == (2, {"accepted": 2, "not_delivered": 2})
    assert sender.outcomes("r-5") == []
    assert sender.send().left == 0
    assert sorted(sender.recorded()) == IDS


def test_a_storm_of_429_is_waited_out(sender: Sender) -> None:
    sender.account.faults.plan([Fault.throttled(3)] * (MOST_ATTEMPTS - 1))
    assert sender.send().left == 0
    assert sender.clock.slept == [3.0] * (MOST_ATTEMPTS - 1)
    assert sender.recorded() == IDS


def test_where_nobody_listens_the_run_ends_after_some_tries_and_nothing_is_unknown(sender: Sender) -> None:
    sender.url = "http://127.0.0.1:1"
    report = sender.send()
    assert isinstance(report.error, Unreachable)
    assert (report.requests, report.outcomes) == (MOST_ATTEMPTS, {"not_delivered": PER_REQUEST})
    assert len(sender.clock.slept) == MOST_ATTEMPTS - 1
    assert sum(sender.clock.slept) <= 1 + 2 + 4 + 8
    assert sender.open_attempts() == 0


@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(hours=-3)])
def test_a_clock_that_goes_wrong_at_the_other_end_loses_nothing(sender: Sender, ahead: timedelta) -> None:
    sender.account.conditions.clock_skew = ahead
    sender.account.faults.plan([FAULTS["504 after acceptance"]] * 2)
    assert sender.send().left == 0
    assert sorted(sender.recorded()) == IDS


@pytest.fixture
def reading(sender: Sender, clock: MovingClock) -> Iterator[Sender]:
    """The same with a key that may read events, and nothing but lost answers at first."""
    account = KlaviyoAccount({DEFAULT_KEY: ALL_SCOPES}, clock=clock, rates=None)
    account.faults.when(lambda _: FAULTS["504 after acceptance"])
    with running(account) as url:
        yield replace(sender, account=account, url=url)


def posts(sender: Sender) -> int:
    return len([request for request in sender.account.requests if request.method == "POST"])


def test_what_may_have_been_accepted_is_looked_up_before_anything_goes_again(reading: Sender) -> None:
    reading.send()
    reading.account.faults.clear()
    before = posts(reading)
    report = reading.send()
    assert (report.already, report.left, report.requests) == (len(IDS), 0, 0)
    assert posts(reading) == before
    assert reading.outcomes("r-1").count("accepted") == 1
    days = reading.outbox.warehouse.fetch(
        "select a.attempted_at = f.attempted_at and a.contact_on = f.contact_on as same"
        " from dunning.sent_history as f join dunning.sent_history as a using (reminder_id, attempt)"
        " where f.outcome = 'accepted' and a.outcome = 'attempting'"
    )
    assert days["same"].tolist() == [True] * len(IDS)


def test_what_does_not_show_yet_is_sent_again_identically(reading: Sender) -> None:
    reading.account.conditions.processing_seconds = (600.0, 800.0)
    reading.send()
    reading.account.faults.clear()
    report = reading.send()
    assert (report.already, report.accepted, report.left) == (0, len(IDS), 0)
    assert sorted(reading.recorded()) == IDS


def test_events_that_show_in_disorder_are_found_one_by_one(reading: Sender) -> None:
    reading.account.conditions.processing_seconds = (0.0, 300.0)
    reading.send()
    reading.account.faults.clear()
    reading.clock.advance(minutes=1)
    report = reading.send()
    assert report.already + report.accepted == len(IDS)
    assert sorted(reading.recorded()) == IDS


def test_what_does_not_show_after_a_quarter_of_an_hour_was_not_delivered_and_goes_again(reading: Sender) -> None:
    reading.account.faults.when(lambda _: FAULTS["503"])
    reading.send()
    reading.account.faults.clear()
    reading.clock.advance(minutes=15)
    report = reading.send()
    assert report.accepted == len(IDS)
    tried = len(reading.outcomes("r-1")) // 2
    assert sorted(reading.outcomes("r-1")) == sorted(["accepted", *["not_delivered", "unknown"] * tried])
    assert sorted(reading.recorded()) == IDS


def test_a_look_up_that_fails_leaves_the_same_to_be_sent_again(reading: Sender) -> None:
    reading.send()
    reading.account.faults.clear()
    reading.account.faults.when(lambda _: FAULTS["503"], method="GET")
    report = reading.send()
    assert (report.accepted, report.left) == (len(IDS), 0)
    assert sorted(reading.recorded()) == IDS
