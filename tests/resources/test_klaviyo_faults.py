"""The client against every fault of the sandbox, over loopback HTTP: what it says, and what the account knows."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from test_klaviyo import Server, entry

from dunning_pipeline.resources.klaviyo import (
    InvalidEvents,
    KeyRefused,
    Klaviyo,
    KlaviyoError,
    OutcomeUnknown,
    RequestRefused,
    Throttled,
    Unreachable,
    pause_before_retry,
)
from dunning_pipeline.resources.rate_limits import NO_LIMITS, RateLimits
from dunning_pipeline.sandbox.klaviyo import (
    DEFAULT_KEY,
    FAULTS,
    UNLIMITED,
    Fault,
    KlaviyoAccount,
    Switch,
    create_app,
    serving,
)

NOON = datetime(2025, 3, 12, 12, 0, tzinfo=UTC)

EXPECTED: dict[str, tuple[type[KlaviyoError] | None, str, bool]] = {
    "429": (Throttled, "Klaviyo answered 429 (throttled: ", True),
    "500": (OutcomeUnknown, "Klaviyo answered 500 (error: Something went wrong.)", True),
    "502": (OutcomeUnknown, "Klaviyo answered 502 ", True),
    "503": (OutcomeUnknown, "Klaviyo answered 503 ", True),
    "504": (OutcomeUnknown, "Klaviyo answered 504 ", True),
    "503 as a page": (OutcomeUnknown, "Klaviyo answered 503 (no reason given)", True),
    "504 after acceptance": (OutcomeUnknown, "Klaviyo answered 504 ", True),
    "slow": (OutcomeUnknown, "lost: ReadTimeout", True),
    "silent before acceptance": (OutcomeUnknown, "lost: ReadTimeout", True),
    "silent after acceptance": (OutcomeUnknown, "lost: ReadTimeout", True),
    "answer lost after acceptance": (OutcomeUnknown, "lost: the connection broke", True),
    "answer cut short after acceptance": (OutcomeUnknown, "lost: ChunkedEncodingError", True),
    "reset before acceptance": (OutcomeUnknown, "lost: the connection broke", True),
    "reset after acceptance": (OutcomeUnknown, "lost: the connection broke", True),
    "400 at 0": (InvalidEvents, "Klaviyo answered 400 (invalid: Invalid email address., at /data/", False),
    "400 without pointers": (InvalidEvents, "Klaviyo answered 400 (invalid: Invalid email address.)", False),
    "401": (KeyRefused, "Klaviyo answered 401 (not_authenticated: ", False),
}
"""By fault: the error, the beginning or end of what it says, and whether the request may go again."""


class Impatient(requests.Session):
    """A session that waits a fifth of a second where the client would wait a minute."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{**options, "timeout": (1.0, 0.2)})


SERVER = Server()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with serving(SERVER) as SERVER.url:
        yield


@pytest.fixture
def account() -> KlaviyoAccount:
    account = KlaviyoAccount(clock=lambda: NOON, rates=None)
    SERVER.app = create_app(account)
    return account


def client(url: str | None = None, **options: Any) -> Klaviyo:
    limiter = RateLimits(NO_LIMITS)
    return Klaviyo(url or SERVER.url, SecretStr(DEFAULT_KEY), session=Impatient(), limiter=limiter, **options)


def test_every_fault_is_expected_to_be_something() -> None:
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_for_what_it_is_and_the_same_request_again_records_the_event_once(
    account: KlaviyoAccount, name: str, single: bool
) -> None:
    fault, (kind, says, again) = FAULTS[name], EXPECTED[name]
    klaviyo = client()

    def send() -> None:
        if single:
            klaviyo.create_event(entry())
        else:
            klaviyo.create_events([entry()])

    account.faults.plan([fault])
    assert kind is not None
    with pytest.raises(KlaviyoError) as raised:
        send()
    assert type(raised.value) is kind
    assert says in str(raised.value)
    assert len(account.events) == (1 if fault.accepted else 0)
    assert (pause_before_retry(1, raised.value, lambda: 0.5) is not None) is again
    send()
    assert [event.unique_id for event in account.events] == ["r-1"]
    assert len(account.discarded) == (1 if fault.accepted else 0)
    assert [request.fault for request in account.requests] == [name, None]
    assert account.requests[0].body == account.requests[1].body


@pytest.mark.parametrize("name", [name for name, (_, _, again) in EXPECTED.items() if again])
def test_a_look_up_is_repeated_where_it_may_pass(account: KlaviyoAccount, name: str) -> None:
    client().create_events([entry()])
    slept: list[float] = []
    account.faults.plan([FAULTS[name], FAULTS[name]], "GET")
    found = list(client(sleep=slept.append, random=lambda: 0.5).recorded_events("Invoice Reminder", NOON))
    assert [event.reminder_id for event in found] == ["r-1"]
    assert slept == ([1, 1] if name == "429" else [0.5, 1.0])


@pytest.mark.parametrize("fault", [Fault.unauthorized(), Fault.invalid(), Fault.status(404)])
def test_a_look_up_that_cannot_pass_is_not_repeated(account: KlaviyoAccount, fault: Fault) -> None:
    account.faults.plan([fault], "GET")
    with pytest.raises(KlaviyoError):
        client(sleep=pytest.fail).account()
    assert len(account.requests) == 1


def test_a_look_up_is_given_up_after_a_few_attempts(account: KlaviyoAccount) -> None:
    slept: list[float] = []
    account.faults.when(lambda _: Fault.status(503), "GET")
    with pytest.raises(OutcomeUnknown, match="503"):
        list(client(sleep=slept.append, random=lambda: 1.0).recorded_events("Invoice Reminder", NOON))
    assert (len(account.requests), slept) == (5, [1, 2, 4, 8])


def test_the_account_is_asked_for_once(account: KlaviyoAccount) -> None:
    account.faults.when(lambda _: Fault.status(503), "GET")
    with pytest.raises(OutcomeUnknown, match="503"):
        client(sleep=pytest.fail).account()
    assert len(account.requests) == 1


def test_a_storm_of_429s_is_waited_for_as_told(account: KlaviyoAccount) -> None:
    slept: list[float] = []
    account.faults.plan(
        [Fault.throttled(7), Fault.throttled(None), Fault.throttled("Wed, 12 Mar 2025 12:00:00 GMT")], "GET"
    )
    assert list(client(sleep=slept.append).recorded_events("Invoice Reminder", NOON)) == []
    assert slept == [7, 1, 1]


def test_events_named_by_pointers_are_told(account: KlaviyoAccount) -> None:
    account.faults.plan([Fault.invalid([0, 2])])
    with pytest.raises(InvalidEvents) as raised:
        client().create_events([entry(1), entry(2), entry(3)])
    assert [error.event for error in raised.value.errors] == [0, 2]


def test_an_id_that_is_twice_in_a_request_refuses_all_of_it(account: KlaviyoAccount) -> None:
    with pytest.raises(InvalidEvents, match="r-1") as raised:
        client().create_events([entry(1), entry(2), entry(1)])
    assert [error.event for error in raised.value.errors] == [2]
    assert account.events == []


def test_while_klaviyo_is_switched_off_nothing_leaves_and_afterwards_the_same_client_goes_on() -> None:
    account = KlaviyoAccount(clock=lambda: NOON, rates=None)
    with Switch(account) as switch:
        klaviyo = client(switch.url)
        klaviyo.create_events([entry(1)])
        switch.off()
        with pytest.raises((Unreachable, OutcomeUnknown)):
            klaviyo.create_events([entry(2)])
        with pytest.raises(Unreachable, match="connection refused") as raised:
            klaviyo.create_events([entry(2)])
        assert pause_before_retry(1, raised.value, lambda: 0.5) == 0.5
        switch.on()
        klaviyo.create_events([entry(2)])
    assert [event.unique_id for event in account.events] == ["r-1", "r-2"]


def test_a_clock_that_is_wrong_at_klaviyo_changes_nothing(account: KlaviyoAccount) -> None:
    apart = datetime(2024, 12, 1, tzinfo=UTC) - NOON
    account.conditions.clock_skew = apart
    klaviyo = client()
    klaviyo.create_events([entry()])
    (found,) = klaviyo.recorded_events("Invoice Reminder", NOON)
    assert found.time == NOON
    assert account.requests[0].at == NOON + apart


def test_a_clock_more_than_a_year_behind_makes_klaviyo_refuse_the_event_by_name(account: KlaviyoAccount) -> None:
    account.conditions.clock_skew = datetime(2023, 1, 1, tzinfo=UTC) - NOON
    with pytest.raises(InvalidEvents, match="more than 1 year ahead") as raised:
        client().create_events([entry()])
    assert [error.event for error in raised.value.errors] == [0]


def test_a_client_that_is_told_of_no_limits_keeps_to_none() -> None:
    SERVER.app = create_app(KlaviyoAccount(clock=lambda: NOON, rates=UNLIMITED))
    klaviyo = Klaviyo(SERVER.url, SecretStr(DEFAULT_KEY), sleep=pytest.fail)
    for number in range(12):
        klaviyo.create_events([entry(number)])


def test_a_page_where_json_is_due_is_an_unreadable_answer(account: KlaviyoAccount) -> None:
    account.faults.plan([Fault.status(200, html=True)], "GET")
    with pytest.raises(KlaviyoError, match="not what it should be"):
        client().account()


def test_a_firewalls_403_says_nothing_about_the_key(account: KlaviyoAccount) -> None:
    account.faults.plan([Fault.status(403, html=True)], "GET")
    with pytest.raises(RequestRefused) as raised:
        client().account()
    assert type(raised.value) is RequestRefused


INSTANT = sorted(set(FAULTS) - {"slow", "silent before acceptance", "silent after acceptance"})


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from([None, *INSTANT]), max_size=6), single=st.booleans())
def test_whatever_happens_on_the_way_trying_again_records_each_event_once(
    names: list[str | None], single: bool
) -> None:
    account = KlaviyoAccount(clock=lambda: NOON, rates=None)
    SERVER.app = create_app(account)
    account.faults.plan([FAULTS[name] if name else None for name in names])
    klaviyo = client()
    accepted = False
    while not accepted:
        with contextlib.suppress(KlaviyoError):
            if single:
                klaviyo.create_event(entry())
            else:
                klaviyo.create_events([entry()])
            accepted = True
    assert [event.unique_id for event in account.events] == ["r-1"]
