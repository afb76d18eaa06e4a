"""The Klaviyo stand-in over real HTTP on loopback, with the time handed in."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from starlette.types import Receive, Scope, Send

from dunning_pipeline.sandbox.klaviyo import (
    DEFAULT_RATES,
    KlaviyoAccount,
    RateLimit,
    create_app,
    running,
    serving,
)

SCHEMA = Path(__file__).parents[3] / "shared/reference/klaviyo-events.schema.json"
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
BULK_DATA = "/data/attributes/events-bulk-create/data"
JSON_API = "application/vnd.api+json"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Klaviyo:
    """One account behind the server that all tests of this module share."""

    def __init__(self, url: str, session: requests.Session, expose: Callable[[KlaviyoAccount], None]) -> None:
        self.url = url
        self.clock = Clock()
        self._session = session
        self._expose = expose
        self.use()

    def use(self, **arguments: Any) -> KlaviyoAccount:
        self.account = KlaviyoAccount(clock=self.clock, **{"rates": None, **arguments})
        self._expose(self.account)
        return self.account

    def send(
        self, method: str, path: str, headers: dict[str, str | None] | None = None, **more: Any
    ) -> requests.Response:
        usual = {"Authorization": "Klaviyo-API-Key pk_sandbox", "revision": "2026-07-15", "Accept": JSON_API}
        if method == "POST":
            usual["Content-Type"] = JSON_API
        given = {**usual, **(headers or {})}
        return self._session.request(method, self.url + path, headers=given, timeout=5, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.send("GET", path, **more)

    def post(self, document: Any, path: str = "/api/events", **more: Any) -> requests.Response:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.send("POST", path, data=data, **more)

    def bulk(self, *entries: Any, **more: Any) -> requests.Response:
        return self.post(bulk_document(*entries), "/api/event-bulk-create-jobs", **more)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, requests.Session, Callable[[KlaviyoAccount], None]]]:
    exposed: list[Any] = [None]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await exposed[0](scope, receive, send)

    def expose(account: KlaviyoAccount) -> None:
        exposed[0] = create_app(account)

    with serving(app) as url, requests.Session() as session:
        yield url, session, expose


@pytest.fixture
def klaviyo(server: tuple[str, requests.Session, Callable[[KlaviyoAccount], None]]) -> Klaviyo:
    return Klaviyo(*server)


def attributes(**changes: Any) -> dict[str, Any]:
    return {
        "properties": {
            "reminder_id": "r-1",
            "customer_name": "Ada Ltd",
            "workflow": "Gentle",
            "action": "first",
        },
        "time": "2026-11-22T11:00:00+00:00",
        "value": 1234.56,
        "value_currency": "USD",
        "unique_id": "r-1",
        "metric": metric("Invoice Reminder"),
        **changes,
    }


def metric(name: Any) -> dict[str, Any]:
    return {"data": {"type": "metric", "attributes": {"name": name}}}


def profile(**identifiers: Any) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": identifiers or {"email": "ada@ada-ltd.com"}}}


def single(who: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {"data": {"type": "event", "attributes": {**attributes(**changes), "profile": who or profile()}}}


def entry(who: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    events = {"data": [{"type": "event", "attributes": attributes(**changes)}]}
    return {"type": "event-bulk-create", "attributes": {"profile": who or profile(), "events": events}}


def bulk_document(*entries: Any) -> dict[str, Any]:
    job = {"events-bulk-create": {"data": list(entries)}}
    return {"data": {"type": "event-bulk-create-job", "attributes": job}}


def pointers(response: requests.Response) -> list[str]:
    return [error["source"]["pointer"] for error in response.json()["errors"]]


def only_error(response: requests.Response) -> dict[str, Any]:
    (error,) = response.json()["errors"]
    assert error["id"] == response.headers["X-Klaviyo-Req-Id"]
    assert error["status"] == response.status_code
    assert error["title"]
    assert error["detail"]
    return dict(error)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


# Authentication and headers


def test_a_single_event_is_accepted_with_an_empty_202_and_recorded(klaviyo: Klaviyo) -> None:
    response = klaviyo.post(single())
    assert (response.status_code, response.content) == (202, b"")
    assert response.headers["Cid"] == "SANDBX"
    assert response.headers["X-Klaviyo-Req-Id"]
    (event,) = klaviyo.account.events
    assert event.metric == "Invoice Reminder"
    assert event.email == "ada@ada-ltd.com"
    assert event.properties["reminder_id"] == "r-1"
    assert (event.value, event.value_currency, event.unique_id) == (1234.56, "USD", "r-1")
    assert (event.time, event.received_at) == (NOON - timedelta(hours=1), NOON)
    assert event.backfill is False


def test_a_bulk_request_is_accepted_with_an_empty_202_and_every_event_recorded(klaviyo: Klaviyo) -> None:
    response = klaviyo.bulk(*[entry(unique_id=f"r-{n}") for n in range(1000)])
    assert (response.status_code, response.content, response.headers["Cid"]) == (202, b"", "SANDBX")
    assert [event.unique_id for event in klaviyo.account.events] == [f"r-{n}" for n in range(1000)]


@pytest.mark.parametrize("value", [None, "", "Klaviyo-API-Key pk_wrong", "Bearer pk_sandbox", "Klaviyo-API-Key "])
def test_a_missing_or_wrong_key_is_refused_with_401(klaviyo: Klaviyo, value: str | None) -> None:
    response = klaviyo.post(single(), headers={"Authorization": value})
    assert response.status_code == 401
    assert only_error(response)["code"] == "not_authenticated"
    assert response.headers["Content-Type"] == JSON_API
    assert "pk_" not in response.text
    assert klaviyo.account.events == []


def test_a_key_without_the_scope_is_refused_with_403_that_names_it(klaviyo: Klaviyo) -> None:
    klaviyo.use(keys={"pk_sandbox": {"events:write"}})
    assert klaviyo.post(single()).status_code == 202
    for path in ("accounts", "events", "metrics", "profiles"):
        response = klaviyo.get(f"/api/{path}")
        assert response.status_code == 403
        assert f"{path}:read" in only_error(response)["detail"]
    klaviyo.use(keys={"pk_sandbox": {"accounts:read"}})
    assert klaviyo.get("/api/accounts").status_code == 200
    assert klaviyo.bulk(entry()).status_code == 403


@pytest.mark.parametrize(
    ("revision", "status"),
    [
        (None, 400),
        ("latest", 400),
        ("2026-07-14", 400),
        ("2031-01-15", 400),
        ("2024-07-15", 410),
        ("2024-10-15", 202),
        ("2026-10-15", 202),
    ],
)
def test_the_revision_must_be_a_supported_one(klaviyo: Klaviyo, revision: str | None, status: int) -> None:
    response = klaviyo.post(single(), headers={"revision": revision})
    assert response.status_code == status
    if status != 202:
        assert "revision" in only_error(response)["detail"].lower()


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
def test_another_content_type_is_refused_with_415(klaviyo: Klaviyo, content_type: str | None) -> None:
    response = klaviyo.post(single(), headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert only_error(response)["code"] == "unsupported_media_type"


def test_gzip_is_understood_and_other_encodings_are_refused_with_415(klaviyo: Klaviyo) -> None:
    packed = gzip.compress(json.dumps(single()).encode())
    assert klaviyo.post(packed, headers={"Content-Encoding": "gzip"}).status_code == 202
    assert klaviyo.post(packed, headers={"Content-Encoding": "br"}).status_code == 415
    assert klaviyo.post(packed[:-12], headers={"Content-Encoding": "gzip"}).status_code == 400
    assert klaviyo.post(single(), headers={"Content-Encoding": "gzip"}).status_code == 400
    assert json.loads(klaviyo.account.bodies[0]) == single()


def test_unknown_paths_are_404_and_other_methods_405(klaviyo: Klaviyo) -> None:
    assert only_error(klaviyo.get("/api/nothing"))["status"] == 404
    assert klaviyo.get("/elsewhere").status_code == 404
    response = klaviyo.send("DELETE", "/api/events")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST, GET"


def test_a_slash_at_the_end_of_a_path_changes_nothing(klaviyo: Klaviyo) -> None:
    assert klaviyo.post(single(), "/api/events/").status_code == 202


# Size


def test_a_body_of_exactly_5_mb_is_accepted_and_one_byte_more_is_413(klaviyo: Klaviyo) -> None:
    body = json.dumps(single()).encode()
    assert klaviyo.post(body + b" " * (5242880 - len(body))).status_code == 202
    response = klaviyo.post(body + b" " * (5242881 - len(body)))
    assert response.status_code == 413
    assert only_error(response)["code"] == "payload_too_large"


def test_the_5_mb_count_after_decompression(klaviyo: Klaviyo) -> None:
    packed = gzip.compress(b" " * 50_000_000, compresslevel=1)
    assert klaviyo.post(packed, headers={"Content-Encoding": "gzip"}).status_code == 413


def test_1001_events_in_one_request_are_refused_as_a_whole(klaviyo: Klaviyo) -> None:
    response = klaviyo.bulk(*[entry(unique_id=f"r-{n}") for n in range(1001)])
    assert response.status_code == 400
    assert pointers(response) == [BULK_DATA]
    assert klaviyo.account.events == []


# Validation

LONG = "x" * 102_400

ACCEPTED: dict[str, dict[str, Any]] = {
    "no time": single(time=None),
    "Z as offset": single(time="2026-11-22T11:00:00Z"),
    "a fraction": single(time="2026-11-22T11:00:00.123456789+05:30"),
    "almost a year ahead": single(time="2027-11-22T11:59:59+00:00"),
    "a whole number": single(value=5),
    "zero": single(value=0),
    "no value": single(value=None, value_currency=None),
    "a long unique_id": single(unique_id="u" * 255),
    "a long metric name": single(metric=metric("m" * 127)),
    "400 properties": single(properties={f"p{n}": n for n in range(400)}),
    "no properties": single(properties={}),
    "a long string": single(properties={"text": LONG}),
    "a long array": single(properties={"list": [0] * 4000}),
    "10 levels": single(properties=nested(10)),
    "only an external id": single(profile(external_id="c-1")),
    "only a phone number": single(profile(phone_number="+4930901820")),
    "a long e-mail address": single(profile(email="e" * 89 + "@abcde.com")),
    "an accented e-mail address": single(profile(email="jürgen@müller.de")),
    "null identifiers beside one": single(profile(email="ada@ada-ltd.com", phone_number=None)),
    "only a profile id": single({"data": {"type": "profile", "id": "01ABC", "attributes": {}}}),
    "a profile of almost 95 KB": single(profile(email="a@b.com", properties={"note": "n" * 97_000})),
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a day as time": (single(time="2026-11-22"), "/time"),
    "no offset": (single(time="2026-11-22T11:00:00"), "/time"),
    "no such month": (single(time="2026-13-22T11:00:00Z"), "/time"),
    "a number as time": (single(time=1795345200), "/time"),
    "more than a year ahead": (single(time="2027-11-22T12:00:01+00:00"), "/time"),
    "long ago": (single(time="1989-12-31T23:59:59+00:00"), "/time"),
    "text as value": (single(value="12.50"), "/value"),
    "true as value": (single(value=True), "/value"),
    "a value beyond numbers": (single(value=10**400), "/value"),
    "an unknown currency": (single(value_currency="ZZZ"), "/value_currency"),
    "a lower-case currency": (single(value_currency="usd"), "/value_currency"),
    "an empty unique_id": (single(unique_id=""), "/unique_id"),
    "a unique_id too long": (single(unique_id="u" * 256), "/unique_id"),
    "a number as unique_id": (single(unique_id=7), "/unique_id"),
    "an empty metric name": (single(metric=metric("")), "/metric/data/attributes/name"),
    "a metric name too long": (single(metric=metric("m" * 128)), "/metric/data/attributes/name"),
    "no metric": (single(metric=None), "/metric"),
    "a metric without data": (single(metric={}), "/metric/data"),
    "a wrong type": (
        single(metric={"data": {"type": "m", "attributes": {"name": "x"}}}),
        "/metric/data/type",
    ),
    "401 properties": (single(properties={f"p{n}": n for n in range(401)}), "/properties"),
    "a list as properties": (single(properties=[]), "/properties"),
    "a string too long": (single(properties={"a/b~c": LONG + "x"}), "/properties/a~1b~0c"),
    "bytes, not characters": (single(properties={"text": "é" * 51_201}), "/properties/text"),
    "an array too long": (single(properties={"list": [0] * 4001}), "/properties/list"),
    "11 levels": (single(properties=nested(11)), "/properties" + "/in" * 10),
    "text as backfill": (single(backfill="yes"), "/backfill"),
    "an unknown field": (single(colour="red"), "/colour"),
    "no e-mail address": (single(profile(email="ada")), "/profile/data/attributes/email"),
    "two dots": (single(profile(email="a..b@c.com")), "/profile/data/attributes/email"),
    "100 characters": (single(profile(email="e" * 92 + "@abc.com")), "/profile/data/attributes/email"),
    "a national number": (
        single(profile(phone_number="030 901820")),
        "/profile/data/attributes/phone_number",
    ),
    "no identifier": (single(profile(first_name="Ada")), "/profile/data/attributes"),
    "null as only identifier": (single(profile(email=None)), "/profile/data/attributes"),
    "an unknown profile field": (single(profile(email="a@b.de", age=3)), "/profile/data/attributes/age"),
    "a profile over 95 KB": (
        single(profile(email="a@b.com", properties={"note": "n" * 97_280})),
        "/profile/data",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_limits_allow_is_accepted(klaviyo: Klaviyo, case: str) -> None:
    response = klaviyo.post(ACCEPTED[case])
    assert (response.status_code, response.text) == (202, "")
    assert len(klaviyo.account.events) == 1


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_a_rule_is_refused_with_a_pointer_to_it(klaviyo: Klaviyo, case: str) -> None:
    document, pointer = REFUSED[case]
    response = klaviyo.post(document)
    assert response.status_code == 400
    error = only_error(response)
    assert (error["code"], error["source"]["pointer"]) == ("invalid", f"/data/attributes{pointer}")
    assert klaviyo.account.events == []


@pytest.mark.parametrize("missing", ["properties", "metric", "profile"])
def test_a_missing_required_field_is_named(klaviyo: Klaviyo, missing: str) -> None:
    document = single()
    del document["data"]["attributes"][missing]
    assert pointers(klaviyo.post(document)) == [f"/data/attributes/{missing}"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"data": 1}',
        b'{"data": {}}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        json.dumps(single(value=float("nan"))).encode(),
        json.dumps(single(properties={"x": "\ud800"})).encode(),
    ],
)
def test_a_body_that_is_no_event_is_refused_with_400(klaviyo: Klaviyo, body: bytes) -> None:
    for path in ("/api/events", "/api/event-bulk-create-jobs"):
        response = klaviyo.post(body, path)
        assert response.status_code == 400
        assert response.json()["errors"][0]["code"] == "invalid"


def test_all_problems_of_a_bulk_request_are_listed_and_nothing_is_accepted(klaviyo: Klaviyo) -> None:
    bad_event = entry(unique_id="r-1", value="much", value_currency="ZZZ")
    response = klaviyo.bulk(entry(unique_id="r-0"), bad_event, entry(profile(email="nobody"), unique_id="r-2"))
    assert response.status_code == 400
    event = f"{BULK_DATA}/1/attributes/events/data/0/attributes"
    assert pointers(response) == [
        f"{event}/value",
        f"{event}/value_currency",
        f"{BULK_DATA}/2/attributes/profile/data/attributes/email",
    ]
    ids = {error["id"] for error in response.json()["errors"]}
    assert ids == {response.headers["X-Klaviyo-Req-Id"]}
    assert (klaviyo.account.events, klaviyo.account.metrics, klaviyo.account.profiles) == ([], [], [])


def test_an_empty_bulk_request_is_refused(klaviyo: Klaviyo) -> None:
    assert pointers(klaviyo.bulk()) == [BULK_DATA]


def test_a_bulk_entry_of_the_wrong_shape_is_named_by_its_index(klaviyo: Klaviyo) -> None:
    assert pointers(klaviyo.bulk(entry(), 7)) == [f"{BULK_DATA}/1"]
    assert pointers(klaviyo.bulk({"type": "event-bulk-create", "attributes": {}})) == [
        f"{BULK_DATA}/0/attributes/profile",
        f"{BULK_DATA}/0/attributes/events",
    ]


def test_an_account_takes_200_metrics_and_not_one_more(klaviyo: Klaviyo) -> None:
    entries = [entry(metric=metric(f"Metric {n}")) for n in range(201)]
    response = klaviyo.bulk(*entries)
    name = "attributes/events/data/0/attributes/metric/data/attributes/name"
    assert pointers(response) == [f"{BULK_DATA}/200/{name}"]
    assert klaviyo.account.metrics == []
    assert klaviyo.bulk(*entries[:200]).status_code == 202
    assert len(klaviyo.account.metrics) == 200
    assert pointers(klaviyo.post(single(metric=metric("Metric 200")))) == [
        "/data/attributes/metric/data/attributes/name"
    ]
    assert klaviyo.post(single(unique_id="r-2", metric=metric("Metric 7"))).status_code == 202


# Time, backfill, repetition


def test_the_time_is_truncated_to_the_second_and_defaults_to_now(klaviyo: Klaviyo) -> None:
    klaviyo.clock.advance(0.9)
    klaviyo.post(single(time="2026-11-22T12:00:00.999+01:00"))
    klaviyo.post(single(time=None, unique_id="r-2"))
    assert [event.time for event in klaviyo.account.events] == [NOON - timedelta(hours=1), NOON]
    assert klaviyo.account.events[1].received_at == NOON + timedelta(seconds=0.9)


def test_backfill_is_stored_from_the_event_or_its_bulk_entry(klaviyo: Klaviyo) -> None:
    whole = entry(unique_id="r-1")
    whole["attributes"]["backfill"] = True
    except_one = deepcopy(whole)
    except_one["attributes"]["events"]["data"][0]["attributes"].update(unique_id="r-2", backfill=False)
    klaviyo.bulk(whole, except_one)
    klaviyo.post(single(unique_id="r-3", backfill=True))
    assert [event.backfill for event in klaviyo.account.events] == [True, False, True]


def test_a_unique_id_recorded_earlier_is_accepted_and_discarded(klaviyo: Klaviyo) -> None:
    klaviyo.post(single(value=1))
    assert klaviyo.post(single(value=2)).status_code == 202
    assert klaviyo.bulk(entry(value=3), entry(value=4, unique_id="r-2")).status_code == 202
    assert [event.value for event in klaviyo.account.events] == [1, 4]
    assert [event.value for event in klaviyo.account.discarded] == [2, 3]


def test_the_same_unique_id_is_another_event_for_another_profile_or_metric(klaviyo: Klaviyo) -> None:
    other = profile(email="bo@ada-ltd.com")
    assert klaviyo.bulk(entry(), entry(other), entry(metric=metric("Order"))).status_code == 202
    assert len(klaviyo.account.events) == 3


def test_a_unique_id_twice_in_one_bulk_request_fails_the_request(klaviyo: Klaviyo) -> None:
    both = profile(email="ada@ada-ltd.com", external_id="c-1")
    same = entry(profile(external_id="c-1"))
    response = klaviyo.bulk(entry(unique_id="r-0"), entry(both), same, entry(profile(email="ADA@ada-ltd.com")))
    assert response.status_code == 400
    unique_id = "attributes/events/data/0/attributes/unique_id"
    assert pointers(response) == [f"{BULK_DATA}/2/{unique_id}", f"{BULK_DATA}/3/{unique_id}"]
    assert klaviyo.account.events == []


def test_without_a_unique_id_one_event_per_second_counts(klaviyo: Klaviyo) -> None:
    for second in ("00", "00", "01"):
        klaviyo.post(single(unique_id=None, time=f"2026-11-22T11:00:{second}Z"))
    assert [event.time.second for event in klaviyo.account.events] == [0, 1]
    assert klaviyo.account.events[0].unique_id == str(int((NOON - timedelta(hours=1)).timestamp()))


@pytest.mark.parametrize("domain", ["example.com", "Example.ORG", "example.net", "test.com"])
def test_undeliverable_addresses_are_accepted_and_dropped(klaviyo: Klaviyo, domain: str) -> None:
    assert klaviyo.post(single(profile(email=f"ada@{domain}"))).status_code == 202
    account = klaviyo.account
    assert (account.events, account.profiles, account.metrics) == ([], [], [])
    assert [event.unique_id for event in account.dropped] == ["r-1"]


# Profiles


def test_profiles_are_matched_by_any_identifier_and_updated(klaviyo: Klaviyo) -> None:
    account = klaviyo.account
    klaviyo.post(single(profile(email="ada@ada-ltd.com", external_id="c-1"), unique_id="1"))
    klaviyo.post(single(profile(email="ADA@ada-ltd.com", phone_number="+4930901820"), unique_id="2"))
    klaviyo.post(single(profile(external_id="c-1", email="new@ada-ltd.com"), unique_id="3"))
    klaviyo.post(single(profile(phone_number="+4930901820"), unique_id="4"))
    (only,) = account.profiles
    klaviyo.post(single({"data": {"type": "profile", "id": only.profile_id, "attributes": {}}}, unique_id="5"))
    assert {event.profile_id for event in account.events} == {only.profile_id}
    assert account.events[4].email == "new@ada-ltd.com"
    klaviyo.post(single(profile(email="ada@ada-ltd.com"), unique_id="6"))
    assert len(account.profiles) == 2


def test_an_identifier_stays_with_the_profile_that_has_it(klaviyo: Klaviyo) -> None:
    klaviyo.post(single(profile(external_id="c-1"), unique_id="1"))
    klaviyo.post(single(profile(email="ada@ada-ltd.com"), unique_id="2"))
    klaviyo.post(single(profile(email="ada@ada-ltd.com", external_id="c-1"), unique_id="3"))
    first, second = klaviyo.account.profiles
    assert first.identifiers == {"external_id": "c-1"}
    assert klaviyo.account.events[2].profile_id == second.profile_id


# Rate limits


def test_answers_carry_the_rate_limit_headers_and_throttled_ones_only_retry_after(klaviyo: Klaviyo) -> None:
    klaviyo.use(rates={"POST /api/events": RateLimit(2, 3)})
    klaviyo.clock.advance(20.25)
    first = klaviyo.post(single(unique_id="1"))
    assert first.headers["RateLimit-Limit"] == "2, 2;w=1, 3;w=60"
    assert (first.headers["RateLimit-Remaining"], first.headers["RateLimit-Reset"]) == ("1", "1")
    refused = klaviyo.post({})
    assert (refused.status_code, refused.headers["RateLimit-Remaining"]) == (400, "0")
    throttled = klaviyo.post(single(unique_id="2"))
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "1")
    assert only_error(throttled)["code"] == "throttled"
    assert not [name for name in throttled.headers if name.lower().startswith("ratelimit")]
    assert len(klaviyo.account.events) == 1


def test_the_windows_are_fixed_and_start_afresh(klaviyo: Klaviyo) -> None:
    klaviyo.use(rates={"POST /api/events": RateLimit(2, 3)})

    def status(n: int) -> int:
        return klaviyo.post(single(unique_id=str(n))).status_code

    klaviyo.clock.advance(0.9)
    assert [status(n) for n in range(3)] == [202, 202, 429]
    klaviyo.clock.advance(0.1)
    assert [status(n) for n in range(3, 5)] == [202, 429]
    assert klaviyo.post(single()).headers["Retry-After"] == "59"
    klaviyo.clock.advance(58.9)
    assert klaviyo.post(single()).headers["Retry-After"] == "1"
    klaviyo.clock.advance(0.1)
    assert status(6) == 202


def test_the_default_limits_are_the_documented_ones_per_endpoint(klaviyo: Klaviyo) -> None:
    klaviyo.use(rates=DEFAULT_RATES)
    assert klaviyo.post(single()).headers["RateLimit-Limit"] == "350, 350;w=1, 3500;w=60"
    assert klaviyo.get("/api/metrics").headers["RateLimit-Limit"] == "10, 10;w=1, 150;w=60"
    assert [klaviyo.get("/api/accounts").status_code for _ in range(2)] == [200, 429]
    statuses = [klaviyo.bulk(entry()).status_code for _ in range(11)]
    assert statuses == [202] * 10 + [429]


def test_keys_of_one_account_share_its_limits_and_strangers_use_nothing_up(klaviyo: Klaviyo) -> None:
    klaviyo.use(keys={"pk_a": {"accounts:read"}, "pk_b": {"accounts:read"}}, rates=DEFAULT_RATES)

    def status(key: str) -> int:
        return klaviyo.get("/api/accounts", headers={"Authorization": f"Klaviyo-API-Key {key}"}).status_code

    assert [status("pk_c"), status("pk_a"), status("pk_b")] == [401, 200, 429]


def test_limits_can_be_switched_off(klaviyo: Klaviyo) -> None:
    responses = [klaviyo.get("/api/accounts") for _ in range(20)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit-Limit" not in responses[0].headers


# Reading


def pages(klaviyo: Klaviyo, path: str, **params: str) -> Iterator[list[dict[str, Any]]]:
    response = klaviyo.get(path, params=params)
    while True:
        assert response.status_code == 200, response.text
        document = response.json()
        yield document["data"]
        following = document["links"]["next"]
        if following is None:
            return
        assert following.startswith(klaviyo.url + path)
        response = klaviyo.get(following.removeprefix(klaviyo.url))


def unique_ids(page: list[dict[str, Any]]) -> list[str]:
    return [event["attributes"]["event_properties"]["$event_id"] for event in page]


def fill(klaviyo: Klaviyo, count: int) -> None:
    times = [(NOON - timedelta(minutes=count - n)).isoformat() for n in range(count)]
    klaviyo.bulk(*[entry(unique_id=f"r-{n}", time=moment) for n, moment in enumerate(times)])


def test_an_event_comes_back_with_its_unique_id_as_event_id(klaviyo: Klaviyo) -> None:
    klaviyo.post(single())
    response = klaviyo.get("/api/events")
    assert response.headers["Content-Type"] == JSON_API
    (event,) = response.json()["data"]
    assert event["type"] == "event"
    assert event["attributes"]["event_properties"]["$event_id"] == "r-1"
    assert event["attributes"]["event_properties"]["reminder_id"] == "r-1"
    assert event["attributes"]["timestamp"] == int((NOON - timedelta(hours=1)).timestamp())
    assert event["relationships"]["metric"]["data"]["id"] == klaviyo.account.metrics[0].metric_id
    assert event["relationships"]["profile"]["data"]["id"] == klaviyo.account.profiles[0].profile_id


def test_events_are_paged_in_either_order_until_next_is_null(klaviyo: Klaviyo) -> None:
    fill(klaviyo, 7)
    found = [unique_ids(page) for page in pages(klaviyo, "/api/events", sort="datetime", **{"page[size]": "3"})]
    assert found == [["r-0", "r-1", "r-2"], ["r-3", "r-4", "r-5"], ["r-6"]]
    found = [unique_ids(page) for page in pages(klaviyo, "/api/events", **{"page[size]": "4"})]
    assert found == [["r-6", "r-5", "r-4", "r-3"], ["r-2", "r-1", "r-0"]]


def test_pages_neither_repeat_nor_skip_when_events_arrive_in_between(klaviyo: Klaviyo) -> None:
    fill(klaviyo, 4)
    walk = pages(klaviyo, "/api/events", sort="-datetime", **{"page[size]": "2"})
    assert unique_ids(next(walk)) == ["r-3", "r-2"]
    klaviyo.post(single(unique_id="new", time=None))
    assert unique_ids(next(walk)) == ["r-1", "r-0"]


def test_events_of_the_same_second_are_paged_completely(klaviyo: Klaviyo) -> None:
    klaviyo.bulk(*[entry(unique_id=f"r-{n}") for n in range(5)])
    found = [unique_ids(page) for page in pages(klaviyo, "/api/events", sort="datetime", **{"page[size]": "2"})]
    assert found == [["r-0", "r-1"], ["r-2", "r-3"], ["r-4"]]


def test_events_are_filtered_by_metric_and_time(klaviyo: Klaviyo) -> None:
    fill(klaviyo, 4)
    klaviyo.post(single(unique_id="other", metric=metric("Order"), time=None))
    by_name = {each.name: each.metric_id for each in klaviyo.account.metrics}
    since = (NOON - timedelta(minutes=2)).isoformat()
    of_metric = f'equals(metric_id,"{by_name["Invoice Reminder"]}")'

    def found(text: str) -> list[str]:
        return [i for page in pages(klaviyo, "/api/events", filter=text, sort="datetime") for i in unique_ids(page)]

    assert found(f"and({of_metric},greater-or-equal(datetime,{since}))") == ["r-2", "r-3"]
    assert found(of_metric) == ["r-0", "r-1", "r-2", "r-3"]
    assert found(f"greater-than(datetime,{since})") == ["r-3", "other"]
    assert found(f"less-than(datetime,{since.replace('+00:00', 'Z')})") == ["r-0", "r-1"]
    assert found('equals(metric_id,"none")') == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("filter", ""),
        ("filter", "equals(metric_id,M00001)"),
        ("filter", 'equals(colour,"red")'),
        ("filter", 'or(equals(metric_id,"a"),equals(metric_id,"b"))'),
        ("filter", "greater-or-equal(datetime,yesterday)"),
        ("filter", 'and(equals(metric_id,"a")'),
        ("sort", "value"),
        ("page[size]", "0"),
        ("page[size]", "201"),
        ("page[size]", "many"),
        ("page[cursor]", "???"),
        ("page[cursor]", "WzFd"),
        ("include", "profile"),
    ],
)
def test_a_bad_parameter_is_refused_with_400_that_names_it(klaviyo: Klaviyo, parameter: str, value: str) -> None:
    response = klaviyo.get("/api/events", params={parameter: value})
    assert response.status_code == 400
    assert only_error(response)["source"] == {"parameter": parameter}


def test_metrics_and_profiles_are_listed_in_pages_no_larger_than_the_account_gives(klaviyo: Klaviyo) -> None:
    klaviyo.use(largest_page=2)
    names = ["A", "B", "C"]
    klaviyo.bulk(*[entry(profile(external_id=name), metric=metric(name)) for name in names])
    found = [[each["attributes"]["name"] for each in page] for page in pages(klaviyo, "/api/metrics")]
    assert found == [["A", "B"], ["C"]]
    walk = pages(klaviyo, "/api/profiles", **{"page[size]": "100"})
    assert [[each["attributes"]["external_id"] for each in page] for page in walk] == [["A", "B"], ["C"]]


def test_profiles_are_filtered_and_show_subscriptions_on_request(klaviyo: Klaviyo) -> None:
    klaviyo.bulk(entry(profile(email="a@ada-ltd.com")), entry(profile(email="b@ada-ltd.com")))
    params = {"filter": 'equals(email,"b@ada-ltd.com")', "additional-fields[profile]": "subscriptions"}
    ((only,),) = list(pages(klaviyo, "/api/profiles", **params))
    assert only["attributes"]["email"] == "b@ada-ltd.com"
    assert only["attributes"]["subscriptions"]["email"]["marketing"]["suppression"] == []
    ((first, _),) = list(pages(klaviyo, "/api/profiles"))
    assert "subscriptions" not in first["attributes"]


def test_the_account_names_itself_as_the_one_that_takes_events(klaviyo: Klaviyo) -> None:
    klaviyo.use(account_id="ABC123")
    (account,) = klaviyo.get("/api/accounts").json()["data"]
    assert (account["type"], account["id"]) == ("account", "ABC123")
    assert klaviyo.post(single()).headers["Cid"] == "ABC123"


# Looking at it


def test_requests_and_bodies_are_kept_for_tests(klaviyo: Klaviyo) -> None:
    klaviyo.bulk(entry(unique_id="1"), entry(unique_id="2"))
    klaviyo.post(single(value="much"))
    klaviyo.post(b"{")
    klaviyo.get("/api/events", params={"page[size]": "5"})
    log = [(each.method, each.path, each.status, each.events) for each in klaviyo.account.requests]
    assert log == [
        ("POST", "/api/event-bulk-create-jobs", 202, 2),
        ("POST", "/api/events", 400, 1),
        ("POST", "/api/events", 400, 0),
        ("GET", "/api/events", 200, 0),
    ]
    assert klaviyo.account.requests[3].query == "page%5Bsize%5D=5"
    expected = [bulk_document(entry(unique_id="1"), entry(unique_id="2")), single(value="much")]
    assert [json.loads(body) for body in klaviyo.account.bodies] == expected


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_the_page_shows_what_was_received_newest_first(klaviyo: Klaviyo) -> None:
    klaviyo.post(single(unique_id="older"))
    order = {"occurrence": 3, "customer_name": "Bo & Co"}
    klaviyo.post(single(profile(email="bo@ada-ltd.com"), unique_id="newer", properties=order))
    klaviyo.post(single(value="much"))
    response = klaviyo.get("/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    page = response.text
    for text in ("Ada Ltd", "Gentle / first", "1,234.56 USD", "ada@ada-ltd.com", "Bo &amp; Co", "<td>3</td>"):
        assert text in page
    assert "<b>2</b>events recorded" in page
    assert '<td class="number">400</td>' in page
    assert "&quot;occurrence&quot;: 3" in page
    assert page.index("newer") < page.index("older")
    assert not [request for request in klaviyo.account.requests if request.path == ""]


def test_the_page_escapes_html_and_shows_no_secret(klaviyo: Klaviyo) -> None:
    evil = "<script>alert(1)</script>"
    named = dict.fromkeys(("customer_name", "workflow", "action", "occurrence", evil), evil)
    klaviyo.post(single(profile(external_id=evil), properties=named, unique_id=evil, metric=metric(evil)))
    klaviyo.get(f"/{evil}")
    response = klaviyo.get("/")
    tags = Tags()
    tags.feed(response.text)
    assert "script" not in tags.seen
    assert "details" in tags.seen
    assert "alert(1)" in response.text
    assert "pk_sandbox" not in response.text
    assert "script-src" not in response.headers["Content-Security-Policy"]
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_page_of_an_empty_account_says_so(klaviyo: Klaviyo) -> None:
    assert klaviyo.get("/").text.count("None yet.") == 2


# Serving


def test_running_serves_on_loopback_only_and_stops_promptly() -> None:
    logging_before = logging.getLogger("uvicorn").handlers[:]
    account = KlaviyoAccount()
    with running(account) as url, requests.Session() as session:
        host, port = url.removeprefix("http://").split(":")
        assert host == "127.0.0.1"
        assert session.get(url, timeout=5).status_code == 200
        started = time.monotonic()
    assert time.monotonic() - started < 1
    assert logging.getLogger("uvicorn").handlers == logging_before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()


def test_a_port_can_be_asked_for_and_a_taken_one_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), running(KlaviyoAccount(), port):
            pass
    with running(KlaviyoAccount(), port) as url:
        assert url == f"http://127.0.0.1:{port}"


# Against the schema


@cache
def definition(name: str) -> dict[str, Any]:
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.name} is not beside the project")
    return dict(json.loads(SCHEMA.read_text())["$defs"][name])


def strict(name: str) -> Draft202012Validator:
    return Draft202012Validator(definition(name))


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_sandbox_accepts_the_strict_schema_accepts(case: str) -> None:
    strict("EventCreateQueryV2Strict").validate(ACCEPTED[case])
    who = ACCEPTED[case]["data"]["attributes"]["profile"]
    changes = {key: value for key, value in ACCEPTED[case]["data"]["attributes"].items() if key != "profile"}
    strict("EventsBulkCreateJobStrict").validate(bulk_document(entry(who, **changes)))


FILLED_IN: dict[str, Any] = {
    "email": "ada@ada-ltd.com",
    "phone_number": "+4930901820",
    "value_currency": "EUR",
    "time": "2026-11-22T11:00:00Z",
}


def fullest(schema: dict[str, Any], key: str = "") -> Any:
    """Return an instance that uses every property a schema offers."""
    if "enum" in schema:
        return schema["enum"][0]
    if "oneOf" in schema:
        return fullest(schema["oneOf"][0])
    kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if kind == "object":
        return {name: fullest(inner, name) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [fullest(schema["items"])]
    return {"string": FILLED_IN.get(key, "text"), "number": 1.5, "boolean": False}[kind]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("EventCreateQueryV2Strict", "/api/events"),
        ("EventsBulkCreateJobStrict", "/api/event-bulk-create-jobs"),
    ],
)
def test_an_event_with_every_field_of_the_strict_schema_is_accepted(klaviyo: Klaviyo, name: str, path: str) -> None:
    document = fullest(definition(name))
    strict(name).validate(document)
    response = klaviyo.post(document, path)
    assert (response.status_code, response.text) == (202, "")


SCHEMA_CANNOT_TELL = {
    "no such month",
    "more than a year ahead",
    "long ago",
    "an unknown currency",
    "a string too long",
    "bytes, not characters",
    "an array too long",
    "11 levels",
    "two dots",
    "null as only identifier",
    "a profile over 95 KB",
    "a value beyond numbers",
}


@pytest.mark.parametrize("case", sorted(set(REFUSED) - SCHEMA_CANNOT_TELL))
def test_what_the_strict_schema_refuses_the_sandbox_refuses_too(case: str) -> None:
    assert not strict("EventCreateQueryV2Strict").is_valid(REFUSED[case][0])
