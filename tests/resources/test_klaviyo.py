"""The client against the sandbox and against small servers that misbehave, all over loopback HTTP."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from support import MovingClock

from dunning_pipeline.resources.klaviyo import (
    BULK_HEAD,
    BULK_TAIL,
    MEDIA_TYPE,
    REVISION,
    InvalidEvents,
    Klaviyo,
    KlaviyoError,
    OutcomeUnknown,
    RequestRefused,
    Throttled,
    Unreachable,
)
from dunning_pipeline.resources.rate_limits import NO_LIMITS, RateLimits
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, RateLimit, create_app, serving

BULK = "/api/event-bulk-create-jobs"
KEY = "pk_0123456789abcdef"
NOON = datetime(2025, 3, 12, 12, 0, tzinfo=UTC)


def entry(number: int = 1, email: str = "ada@ada-ltd.test") -> str:
    event = {
        "properties": {"reminder_id": f"r-{number}"},
        "time": NOON.isoformat(),
        "value": 12.5,
        "value_currency": "EUR",
        "unique_id": f"r-{number}",
        "metric": {"data": {"type": "metric", "attributes": {"name": "Invoice Reminder"}}},
    }
    profile = {"data": {"type": "profile", "attributes": {"email": email}}}
    events = {"data": [{"type": "event", "attributes": event}]}
    return json.dumps({"type": "event-bulk-create", "attributes": {"profile": profile, "events": events}})


def client(url: str, key: str = DEFAULT_KEY, **options: Any) -> Klaviyo:
    """A client that is held up by no limits of its own, unless told so."""
    return Klaviyo(url, SecretStr(key), **{"limiter": RateLimits(NO_LIMITS), **options})


class Server:
    """The server of all tests of this module: whatever application is `app` at the moment answers."""

    app: ASGIApp
    url: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


SERVER = Server()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with serving(SERVER) as SERVER.url:
        yield


@contextmanager
def sandbox(**options: Any) -> Iterator[tuple[str, KlaviyoAccount]]:
    """An account of the sandbox answers."""
    account = KlaviyoAccount(**{"clock": lambda: NOON, "rates": None, **options})
    SERVER.app = create_app(account)
    yield SERVER.url, account


@contextmanager
def answering(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Every request gets the same answer; their headers are kept, with the method, the path and the client's port."""
    seen: list[dict[str, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        line = {":method": request.method, ":path": request.url.path, ":port": str(scope["client"][1])}
        seen.append({**line, **request.headers})
        await Response(body, status, headers)(scope, receive, send)

    SERVER.app = app
    yield SERVER.url, seen


@contextmanager
def connecting(treat: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request off each connection and lets `treat` do with the connection what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    treat(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def errors(*entries: dict[str, object]) -> bytes:
    return json.dumps({"errors": list(entries)}).encode()


class Impatient(requests.Session):
    """A session that waits a fifth of a second where the client would wait a minute."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{**options, "timeout": (1.0, 0.2)})


def test_a_bulk_request_with_all_its_events_is_accepted() -> None:
    with sandbox() as (url, account):
        client(url).create_events([entry(1), entry(2, "bob@bob-ltd.test")])
    (request,) = account.requests
    assert (request.method, request.path, request.status, request.events) == ("POST", BULK, 202, 2)
    assert [event.unique_id for event in account.events] == ["r-1", "r-2"]


def test_bodies_travel_as_they_are() -> None:
    with sandbox() as (url, account):
        client(url).create_events([entry(1), entry(2, "élodie@ada-ltd.test")])
    assert account.bodies == [f"{BULK_HEAD}{entry(1)},{entry(2, 'élodie@ada-ltd.test')}{BULK_TAIL}".encode()]


def test_a_request_carries_the_key_the_revision_and_the_media_type() -> None:
    with answering(202) as (url, seen):
        client(url, KEY).create_events([entry()])
    (request,) = seen
    assert request["authorization"] == f"Klaviyo-API-Key {KEY}"
    assert request["revision"] == REVISION
    assert request["content-type"] == request["accept"] == MEDIA_TYPE
    assert (request[":method"], request[":path"]) == ("POST", BULK)


def test_a_slash_at_the_end_of_the_url_does_no_harm() -> None:
    with sandbox() as (url, account):
        client(f"{url}/").create_events([entry()])
    assert account.requests[0].path == BULK


def test_when_throttled_it_says_at_once_how_long_to_wait() -> None:
    body = errors({"code": "throttled", "detail": "expected to be available in 7 s"})
    with answering(429, body, {"Retry-After": "7"}) as (url, seen), pytest.raises(Throttled, match="in 7 s") as raised:
        client(url, sleep=pytest.fail).create_events([entry()])
    assert len(seen) == 1
    assert (raised.value.status, raised.value.retry_after) == (429, 7)
    assert isinstance(raised.value, RequestRefused)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Wed, 12 Mar 2025 12:00:00 GMT"}])
def test_without_a_number_of_seconds_a_throttled_request_waits_for_one(headers: dict[str, str]) -> None:
    with answering(429, b"", headers) as (url, _), pytest.raises(Throttled) as raised:
        client(url).create_events([entry()])
    assert raised.value.retry_after == 1


def test_the_sandbox_throttles_as_its_limits_say() -> None:
    clock = MovingClock(NOON + timedelta(seconds=20))
    with sandbox(clock=clock, rates={f"POST {BULK}": RateLimit(per_second=10, per_minute=1)}) as (url, account):
        klaviyo = client(url)
        klaviyo.create_events([entry(1)])
        with pytest.raises(Throttled) as raised:
            klaviyo.create_events([entry(2)])
        clock.advance(seconds=raised.value.retry_after)
        klaviyo.create_events([entry(2)])
    assert raised.value.retry_after == 40
    assert [request.status for request in account.requests] == [202, 429, 202]


def test_a_wrong_key_refuses_the_request_in_words_without_the_key() -> None:
    with sandbox() as (url, account), pytest.raises(RequestRefused, match="not_authenticated") as raised:
        client(url, KEY).create_events([entry()])
    assert account.events == []
    assert raised.value.status == 401
    assert KEY not in str(raised.value) + repr(raised.value) + repr(raised.value.errors)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "missing_scope"), (403, "permission_denied"), (404, "not_found"), (410, "gone"), (413, "too_large")],
)
def test_errors_of_the_request_or_the_key_are_no_errors_of_events(status: int, code: str) -> None:
    with (
        answering(status, errors({"code": code, "detail": "no"})) as (url, _),
        pytest.raises(RequestRefused, match=code),
    ):
        client(url).create_events([entry()])


def test_a_400_without_klaviyos_words_is_no_error_of_events() -> None:
    with answering(400, b"<html>Bad Request</html>") as (url, _), pytest.raises(RequestRefused, match="400"):
        client(url).create_events([entry()])


@pytest.mark.parametrize("status", [200, 204, 302])
def test_only_202_means_accepted(status: int) -> None:
    with (
        answering(status, headers={"Location": "/elsewhere"}) as (url, seen),
        pytest.raises(RequestRefused, match=str(status)),
    ):
        client(url).create_events([entry()])
    assert len(seen) == 1


def test_invalid_events_are_named_by_their_place() -> None:
    bodies = [entry(1), entry(2, "nobody"), entry(3), entry(4, "no one@nowhere")]
    with sandbox() as (url, account), pytest.raises(InvalidEvents, match="invalid") as raised:
        client(url).create_events(bodies)
    assert account.events == []
    assert {error.event for error in raised.value.errors} == {1, 3}
    assert raised.value.status == 400


def test_an_error_elsewhere_in_the_body_names_no_event() -> None:
    pointers = ["/data/type", "/data/attributes/events-bulk-create/data", None]
    body = errors(*({"code": "invalid", "detail": "no", "source": {"pointer": pointer}} for pointer in pointers))
    with answering(400, body) as (url, _), pytest.raises(InvalidEvents) as raised:
        client(url).create_events([entry()])
    assert [error.event for error in raised.value.errors] == [None, None, None]


def test_a_refused_connection_never_sent_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match=f"http://127.0.0.1:{port} cannot be reached: connection refused"):
        client(f"http://127.0.0.1:{port}").create_events([entry()])


@pytest.mark.parametrize("url", ["127.0.0.1:1", "htp://127.0.0.1", "http://", "a.klaviyo.com"])
def test_a_wrong_url_never_sent_anything(url: str) -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        client(url).create_events([entry()])


def test_a_key_that_fits_no_header_never_sent_anything() -> None:
    with sandbox() as (url, account), pytest.raises(Unreachable) as raised:
        client(url, f"{KEY}\nX: y").create_events([entry()])
    assert account.requests == []
    assert KEY not in str(raised.value)


def test_after_a_reset_the_outcome_is_unknown() -> None:
    with connecting(reset) as url, pytest.raises(OutcomeUnknown, match="the connection broke") as raised:
        client(url).create_events([entry()])
    assert raised.value.status is None


def test_after_an_answer_cut_short_the_outcome_is_unknown() -> None:
    def cut_short(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n123")

    with connecting(cut_short) as url, pytest.raises(OutcomeUnknown):
        client(url).create_events([entry()])


def test_after_a_time_out_the_outcome_is_unknown() -> None:
    over = threading.Event()
    with connecting(lambda _: over.wait(5) and None) as url:
        with pytest.raises(OutcomeUnknown, match="lost: ReadTimeout"):
            client(url, session=Impatient()).create_events([entry()])
        over.set()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_after_a_5xx_with_a_web_page_the_outcome_is_unknown(status: int) -> None:
    with answering(status, b"<html><h1>Sorry</h1></html>") as (url, _), pytest.raises(OutcomeUnknown) as raised:
        client(url).create_events([entry()])
    assert raised.value.status == status
    assert raised.value.errors == ()
    assert str(raised.value) == f"Klaviyo answered {status} (no reason given)"


def test_an_error_names_klaviyos_request() -> None:
    body = errors({"code": "invalid", "detail": "no"})
    with (
        answering(403, body, {"X-Klaviyo-Req-Id": "req-42"}) as (url, _),
        pytest.raises(KlaviyoError, match="request req-42"),
    ):
        client(url).create_events([entry()])


def test_a_key_shows_the_name_of_its_account() -> None:
    with sandbox() as (url, account):
        assert client(url).account() == "Klaviyo sandbox"
    assert account.requests[0].path == "/api/accounts"


def test_a_key_without_the_scope_is_told_from_a_wrong_one() -> None:
    with (
        sandbox(keys={KEY: {"events:write"}}) as (url, _),
        pytest.raises(RequestRefused, match="lacks the scope") as raised,
    ):
        client(url, KEY).account()
    assert raised.value.status == 403


def test_the_key_is_in_no_text_of_the_client() -> None:
    klaviyo = client("http://127.0.0.1", KEY)
    assert KEY not in repr(klaviyo) + str(klaviyo) + f"{klaviyo}"


def test_one_client_keeps_its_connection() -> None:
    with answering(202) as (url, seen):
        klaviyo = client(url)
        klaviyo.create_events([entry(1)])
        klaviyo.create_events([entry(2)])
    first, second = seen
    assert first[":port"] == second[":port"]
