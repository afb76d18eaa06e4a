"""What the client looks up at Klaviyo: recorded events and the account, over the sandbox and over odd answers."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from support import MovingClock
from test_klaviyo import Server

from dunning_pipeline.resources.klaviyo import (
    KeyRefused,
    Klaviyo,
    KlaviyoError,
    RecordedEvent,
    RequestRefused,
    ScopeMissing,
    UnreadableAnswer,
)
from dunning_pipeline.resources.rate_limits import NO_LIMITS, RateLimits
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, create_app, serving

NOON = datetime(2025, 3, 12, 12, 0, tzinfo=UTC)
METRIC = "Invoice Reminder"
SERVER = Server()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with serving(SERVER) as SERVER.url:
        yield


def client(key: str = DEFAULT_KEY, **options: Any) -> Klaviyo:
    return Klaviyo(SERVER.url, SecretStr(key), **{"limiter": RateLimits(NO_LIMITS), "sleep": pytest.fail, **options})


def account(**options: Any) -> KlaviyoAccount:
    account = KlaviyoAccount(**{"clock": lambda: NOON, "rates": None, **options})
    SERVER.app = create_app(account)
    return account


def entry(reminder_id: str, at: datetime = NOON, metric: str = METRIC, **properties: object) -> str:
    event = {
        "properties": {"reminder_id": reminder_id, **properties},
        "time": at.isoformat(),
        "unique_id": reminder_id,
        "metric": {"data": {"type": "metric", "attributes": {"name": metric}}},
    }
    profile = {"data": {"type": "profile", "attributes": {"email": "ada@ada-ltd.com"}}}
    events = {"data": [{"type": "event", "attributes": event}]}
    return json.dumps({"type": "event-bulk-create", "attributes": {"profile": profile, "events": events}})


def answer_with(pages: Mapping[str, object]) -> list[str]:
    """Answers by path and, where it has one, cursor; returns the list of what is asked for, which grows."""
    asked: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        cursor = request.query_params.get("cursor")
        asked.append(request.url.path + (f"?{cursor}" if cursor else ""))
        await JSONResponse(pages[asked[-1]])(scope, receive, send)

    SERVER.app = app
    return asked


METRICS = {"data": [{"id": "M1", "attributes": {"name": METRIC}}], "links": {"next": None}}


def events(
    *properties: object, link: str | None = None, time: object = "2025-03-12 12:00:00+00:00"
) -> dict[str, object]:
    listed = [{"attributes": {"datetime": time, "event_properties": given}} for given in properties]
    return {"data": listed, "links": {"next": link}}


def test_the_events_of_a_metric_are_found_over_all_pages_of_metrics_and_events() -> None:
    account(largest_page=2)
    names = ["A", "B", "C", METRIC, "D"]
    client().create_events([entry(f"other-{name}", metric=name) for name in names if name != METRIC])
    client().create_events([entry(f"r-{n}", NOON + timedelta(seconds=n)) for n in range(5)])
    found = list(client().recorded_events(METRIC, NOON))
    assert found == [RecordedEvent(f"r-{n}", NOON + timedelta(seconds=n)) for n in range(5)]


def test_the_span_has_its_beginning_and_not_its_end_in_whatever_zone_it_is_given() -> None:
    account()
    client().create_events([entry(f"r-{n}", NOON + timedelta(minutes=n)) for n in range(5)])
    since = (NOON + timedelta(minutes=1)).astimezone(ZoneInfo("Asia/Kolkata"))
    until = (NOON + timedelta(minutes=3)).astimezone(ZoneInfo("America/New_York"))
    assert [event.reminder_id for event in client().recorded_events(METRIC, since, until)] == ["r-1", "r-2"]
    assert [event.reminder_id for event in client().recorded_events(METRIC, since)] == ["r-1", "r-2", "r-3", "r-4"]
    later = until + timedelta(microseconds=1)
    assert [event.reminder_id for event in client().recorded_events(METRIC, since, later)] == ["r-1", "r-2", "r-3"]


def test_a_metric_that_klaviyo_does_not_know_yet_has_no_events() -> None:
    served = account()
    client().create_events([entry("r-1", metric="Another")])
    assert list(client().recorded_events(METRIC, NOON)) == []
    assert [request.path for request in served.requests[1:]] == ["/api/metrics"]


def test_single_events_are_found_like_those_in_bulk() -> None:
    account()
    client().create_event(entry("r-1"))
    assert [event.reminder_id for event in client().recorded_events(METRIC, NOON)] == ["r-1"]


def test_events_show_late_and_in_disorder() -> None:
    clock = MovingClock(NOON)
    served = account(clock=clock)
    served.conditions.processing_seconds = (60, 600)
    client().create_events([entry(f"r-{n}") for n in range(20)])
    seen: list[str] = []
    assert list(client().recorded_events(METRIC, NOON)) == []
    for _ in range(20):
        clock.advance(seconds=30)
        visible = [event.reminder_id for event in client().recorded_events(METRIC, NOON)]
        seen += [reminder_id for reminder_id in visible if reminder_id not in seen]
    accepted = [event.unique_id for event in served.events]
    assert sorted(seen) == sorted(accepted)
    assert seen != accepted


def test_an_event_is_known_by_its_id_or_by_the_property_and_others_are_passed_over() -> None:
    answer_with(
        {
            "/api/metrics": METRICS,
            "/api/events": events({"$event_id": "r-1"}, {"reminder_id": "r-2"}, {"$event_id": 1741780800}, {}, None),
        }
    )
    assert [event.reminder_id for event in client().recorded_events(METRIC, NOON)] == ["r-1", "r-2"]


@pytest.mark.parametrize(
    ("scopes", "missing"),
    [
        (("events:write",), "metrics:read"),
        (("events:write", "metrics:read"), "events:read"),
        (("events:write", "events:read"), "metrics:read"),
    ],
)
def test_a_scope_that_is_missing_is_named_and_is_no_wrong_key(scopes: tuple[str, ...], missing: str) -> None:
    account(keys={"pk_narrow": scopes})
    client("pk_narrow").create_events([entry("r-1")])
    with pytest.raises(ScopeMissing, match=f"403 .*lacks the scope {missing}.*the key is good, but lacks a scope"):
        list(client("pk_narrow").recorded_events(METRIC, NOON))
    with pytest.raises(KeyRefused, match=r"401 .*it does not know the key"):
        list(client("pk_wrong").recorded_events(METRIC, NOON))


@pytest.mark.parametrize(
    "link",
    ["https://evil.test/api/events?cursor=2", "http://127.0.0.1.evil.test/", "/api/events?cursor=2", "{}evil.test/", 7],
)
def test_the_key_follows_no_link_to_another_host(link: object) -> None:
    link = link.replace("{}", SERVER.url) if isinstance(link, str) else link
    asked = answer_with(
        {"/api/metrics": METRICS, "/api/events": {**events({"reminder_id": "r-1"}), "links": {"next": link}}}
    )
    found = client().recorded_events(METRIC, NOON)
    assert next(found).reminder_id == "r-1"
    with pytest.raises(UnreadableAnswer, match="next page for /api/events is not below"):
        next(found)
    assert asked == ["/api/metrics", "/api/events"]


def test_pages_that_go_in_a_circle_end() -> None:
    link = f"{SERVER.url}/api/events?cursor=2"
    page = events({"reminder_id": "r-1"}, link=link)
    answer_with({"/api/metrics": METRICS, "/api/events": page, "/api/events?2": page})
    with pytest.raises(UnreadableAnswer, match="circle"):
        list(client().recorded_events(METRIC, NOON))


@pytest.mark.parametrize(
    "document", [[], {}, {"data": None}, {"data": {"id": "M1"}}, "text", None, {"errors": []}], ids=repr
)
def test_an_answer_of_another_shape_is_no_empty_list(document: object) -> None:
    answer_with({"/api/metrics": document, "/api/accounts": document})
    for look_up in (lambda: list(client().recorded_events(METRIC, NOON)), client().account):
        with pytest.raises(UnreadableAnswer):
            look_up()


@pytest.mark.parametrize("time", [None, "yesterday", 7])
def test_an_event_without_a_readable_time_is_an_unreadable_answer(time: object) -> None:
    answer_with({"/api/metrics": METRICS, "/api/events": events({"reminder_id": "r-1"}, time=time)})
    with pytest.raises(UnreadableAnswer, match="time"):
        list(client().recorded_events(METRIC, NOON))


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ({"id": "ABC", "attributes": {"contact_information": {"organization_name": "Ada Ltd"}}}, "Ada Ltd"),
        ({"id": "ABC", "attributes": {"contact_information": None}}, "ABC"),
        ({"id": "ABC"}, "ABC"),
        ({}, "without a name"),
        (None, "without a name"),
    ],
)
def test_an_account_is_named_as_well_as_it_can_be(resource: object, name: str) -> None:
    answer_with({"/api/accounts": {"data": [resource]}})
    assert client().account() == name


def test_no_redirect_is_followed() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"data": []}, 302, {"Location": f"{SERVER.url}/api/accounts"})(scope, receive, send)

    SERVER.app = app
    with pytest.raises(RequestRefused, match="302"):
        client().account()


def test_look_ups_keep_to_the_limits_too() -> None:
    account()
    slept: list[float] = []
    limiter = RateLimits({"GET /api/metrics": {1: 1, 60: 2}}, clock=lambda: 0.0, sleep=slept.append)
    klaviyo = client(limiter=limiter)
    for _ in range(3):
        list(klaviyo.recorded_events(METRIC, NOON))
    assert slept == pytest.approx([1.05, 60.05])


def test_every_error_is_one_of_klaviyos() -> None:
    assert issubclass(UnreadableAnswer, KlaviyoError)
