"""Klaviyo's API as far as reminders need it: creation of events, look-up of recorded ones, proof of a key.

What is sent, to whom, whether at all and whether again is decided elsewhere; what errors mean, the form of bodies, the
limits and the pauses between attempts have modules of their own. Source: Klaviyo's API reference, revision 2026-07-15.
"""

import itertools
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pandas as pd
import requests
import urllib3
from pydantic import SecretStr

from dunning_pipeline.resources.klaviyo_addresses import is_loopback, shown
from dunning_pipeline.resources.klaviyo_bodies import (
    BULK_HEAD,
    BULK_TAIL,
    MOST_BYTES,
    MOST_EVENTS,
    bulk_body,
    single_body,
)
from dunning_pipeline.resources.klaviyo_errors import (
    ApiError,
    InvalidEvents,
    KeyRefused,
    KlaviyoError,
    OutcomeUnknown,
    RequestRefused,
    ScopeMissing,
    Throttled,
    Unreachable,
    UnreadableAnswer,
    error_of,
)
from dunning_pipeline.resources.klaviyo_retries import MOST_ATTEMPTS, MOST_SECONDS_WAITED, pause_before_retry
from dunning_pipeline.resources.rate_limits import RateLimits

__all__ = [
    "BULK_HEAD",
    "BULK_TAIL",
    "MEDIA_TYPE",
    "MOST_ATTEMPTS",
    "MOST_BYTES",
    "MOST_EVENTS",
    "MOST_SECONDS_WAITED",
    "MOST_THROTTLED_ATTEMPTS",
    "REVISION",
    "ApiError",
    "InvalidEvents",
    "KeyRefused",
    "Klaviyo",
    "KlaviyoError",
    "OutcomeUnknown",
    "RecordedEvent",
    "RequestRefused",
    "ScopeMissing",
    "Throttled",
    "Unreachable",
    "UnreadableAnswer",
    "pause_before_retry",
]

REVISION = "2026-07-15"
MEDIA_TYPE = "application/vnd.api+json"
TIMEOUT_SECONDS = (5.0, 60.0)
"""To connect, and between bytes of the answer."""
MOST_SECONDS_READ = 120.0
"""For the whole of an answer, however steadily it trickles in."""
MOST_BYTES_READ = 64 * 1024 * 1024
PAGE_SIZE = 200
MOST_THROTTLED_ATTEMPTS = MOST_ATTEMPTS

ACCEPTED = 202
FOUND = 200
CREATE_EVENT = "/api/events"
CREATE_EVENTS = "/api/event-bulk-create-jobs"
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)
"""Errors before a request leaves: what KLAVIYO_URL holds is no address."""


@dataclass(frozen=True)
class RecordedEvent:
    """An event that Klaviyo holds: the id it was sent with, and its own time (not the one at which it arrived)."""

    reminder_id: str
    time: datetime


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Klaviyo:
    """An account, reached at `url` with a private key; used by one thread at a time.

    Creating events makes one request each time, never a second one: an attempt must be recorded before it is made.
    Look-ups change nothing, so they are repeated here (`pause_before_retry`).

    Args:
        url: Klaviyo's address, or the sandbox's. It must be https, except on this machine.
        key: the private key. It is in no message, and in no text of this object.
        sleep: how pauses and limits are waited for, here and by callers; seconds.
        clock: seconds from any start, never going back; for limits and time-outs.
        random: numbers from 0 to 1, for jitter.
        session: keeps the connection. What it says about certificates is not heeded: they are always verified,
            against REQUESTS_CA_BUNDLE where the environment sets it.
        limiter: waits for the account's limits, by default Klaviyo's; to be shared by all clients of an account.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        *,
        random: Callable[[], float] = random.random,
        session: requests.Session | None = None,
        limiter: RateLimits | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.sleep = sleep
        self._key = key
        self._clock = clock
        self._random = random
        self._session = requests.Session() if session is None else session
        self._limiter = RateLimits(clock=clock, sleep=sleep) if limiter is None else limiter

    def __repr__(self) -> str:
        return f"Klaviyo({shown(self.url)!r})"

    def wait(self, *, single: bool = False) -> None:
        """Sleeps until a request for events may leave, so that what is checked before it is checked just before it.

        Args:
            single: the request will be one of `create_event`, not of `create_events`.
        """
        self._limiter.wait(f"POST {CREATE_EVENT if single else CREATE_EVENTS}")

    def create_events(self, bodies: "Sequence[str] | pd.Series[str]") -> None:
        """Has events accepted (202) with one bulk request; `bodies` are entries of `events-bulk-create`.

        Raises:
            KlaviyoError: as its kinds say. After any but OutcomeUnknown nothing was accepted.
        """
        self._post(CREATE_EVENTS, bulk_body(bodies))

    def create_event(self, body: str) -> None:
        """Has one event accepted (202) by the endpoint for single events, which has limits of its own.

        Args:
            body: an entry of `events-bulk-create`, as for `create_events`.

        Raises:
            KlaviyoError: as for `create_events`; pointers are those of a bulk request with this event alone.
            ValueError: `body` is not such an entry.
        """
        self._post(CREATE_EVENT, single_body(body), of_single_event=True)

    def recorded_events(self, metric: str, since: datetime, until: datetime | None = None) -> Iterator[RecordedEvent]:
        """The events of a metric that Klaviyo holds, by their own time; what was accepted may show minutes later.

        Args:
            metric: its name. A metric that Klaviyo does not know yet has no events.
            since: aware; events of this instant are among them.
            until: aware; events of this instant are not among them. None: no end.

        Raises:
            ScopeMissing: the key lacks events:read or metrics:read.
            KlaviyoError: as its kinds say.
        """
        for metric_id in self._metric_ids(metric):
            terms = [f'equals(metric_id,"{metric_id}")', f"greater-or-equal(datetime,{_instant(since)})"]
            terms += [f"less-than(datetime,{_instant(until + timedelta(microseconds=999_999))})"] if until else []
            asked = {"filter": f"and({','.join(terms)})", "sort": "datetime", "page[size]": str(PAGE_SIZE)}
            for event in self._listed("/api/events", asked):
                recorded = _recorded_event(event)
                if recorded:
                    yield recorded

    def account(self) -> str:
        """The name of the account that the key belongs to; asked once, because somebody waits for it.

        Raises:
            KeyRefused: Klaviyo does not know the key.
            ScopeMissing: the key is good, but lacks accounts:read.
            KlaviyoError: as its kinds say.
        """
        account = next(self._listed("/api/accounts", {}, patiently=False), {})
        information = _mapping(_mapping(account.get("attributes")).get("contact_information"))
        return str(information.get("organization_name") or account.get("id") or "without a name")

    def _metric_ids(self, name: str) -> list[str]:
        """Integrations may use the same name, so it can be several; read before the first event is asked for."""
        metrics = self._listed("/api/metrics", {})
        return [str(metric.get("id")) for metric in metrics if _mapping(metric.get("attributes")).get("name") == name]

    def _listed(
        self, path: str, parameters: Mapping[str, str], *, patiently: bool = True
    ) -> Iterator[Mapping[str, object]]:
        """The resources of all pages."""
        url: str | None = self.url + path + ("?" + urlencode(parameters) if parameters else "")
        seen = set()
        while url is not None:
            seen.add(url)
            document = self._get(url, path, patiently=patiently)
            resources = document.get("data")
            if not isinstance(resources, list):
                raise UnreadableAnswer(f"Klaviyo's answer for {path} has no list of data")
            yield from map(_mapping, resources)
            url = self._next(_mapping(document.get("links")).get("next"), path)
            if url in seen:
                raise UnreadableAnswer(f"Klaviyo's pages for {path} go in a circle")

    def _next(self, link: object, path: str) -> str | None:
        """The next page, which must be on the same host: the key goes nowhere else."""
        if not link:
            return None
        if not isinstance(link, str) or not link.startswith(f"{self.url}/"):
            raise UnreadableAnswer(f"Klaviyo's next page for {path} is not below {shown(self.url)}")
        return link

    def _get(self, url: str, path: str, *, patiently: bool) -> Mapping[str, object]:
        """The document of one page."""
        answer = self._get_patiently(url, path) if patiently else self._request("GET", url, path)
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if answer.status != FOUND or not isinstance(document, dict):
            raise UnreadableAnswer(f"Klaviyo's answer for {path} is not what it should be (status {answer.status})")
        return document

    def _get_patiently(self, url: str, path: str) -> _Answer:
        for attempt in itertools.count(1):
            try:
                return self._request("GET", url, path)
            except KlaviyoError as error:
                pause = pause_before_retry(attempt, error, self._random)
                if pause is None:
                    raise
            self.sleep(pause)
        raise AssertionError("unreachable: the count has no end")

    def _post(self, path: str, body: bytes, *, of_single_event: bool = False) -> None:
        status = self._request("POST", self.url + path, path, body, of_single_event=of_single_event).status
        if status != ACCEPTED:
            raise RequestRefused(f"{shown(self.url)} answered {status}, and only {ACCEPTED} means accepted", status)

    def _request(
        self, method: str, url: str, path: str, body: bytes | None = None, *, of_single_event: bool = False
    ) -> _Answer:
        """One request within the limits. Raises KlaviyoError for all but 2xx."""
        self._refuse_unsafe()
        endpoint = f"{method} {path}"
        self._limiter.acquire(endpoint)
        answer = None
        try:
            answer = self._exchange(method, url, body)
        finally:
            status, headers = (answer.status, answer.headers) if answer else (None, {})
            self._limiter.answered(endpoint, status, headers)
        if not 200 <= answer.status < 300:
            key = self._key.get_secret_value()
            raise error_of(answer.status, answer.headers, answer.body, key, of_single_event=of_single_event)
        return answer

    def _refuse_unsafe(self) -> None:
        """Raises Unreachable for a key that fits no header, and before the key would be readable on the way."""
        if not re.fullmatch(r"[!-~]+", self._key.get_secret_value()):
            raise Unreachable("the Klaviyo key is empty or has characters that no key has; nothing was sent")
        if self.url.lower().startswith("http:") and not is_loopback(self.url):
            sentence = "it must be https, except on this machine; the key and addresses would be readable on the way"
            raise Unreachable(f"Klaviyo at {shown(self.url)} cannot be reached: {sentence}")

    def _exchange(self, method: str, url: str, body: bytes | None) -> _Answer:
        """Sends a request and reads its answer; tells errors before it left from those after."""
        headers = {"revision": REVISION, "Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}
        deadline = self._clock() + MOST_SECONDS_READ
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                auth=self._authorize,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
                verify=True,
                stream=True,
            ) as answer:
                return _Answer(answer.status_code, answer.headers, self._read(answer, deadline))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise self._lost(error) from None

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As `auth`, or requests would put a password of the user's .netrc in its place.
        request.headers["Authorization"] = f"Klaviyo-API-Key {self._key.get_secret_value()}"
        return request

    def _read(self, answer: requests.Response, deadline: float) -> bytes:
        """The body; nothing of one beyond any reason."""
        read = bytearray()
        for piece in answer.iter_content(65_536):
            read += piece
            if self._clock() > deadline:
                raise requests.ReadTimeout
            if len(read) > MOST_BYTES_READ:
                return b""
        return bytes(read)

    def _lost(self, error: Exception) -> KlaviyoError:
        """The error for an exchange without an answer: did the request leave?"""
        where = f"Klaviyo at {shown(self.url)} cannot be reached"
        if isinstance(error, _NO_ADDRESS):
            return Unreachable(f"{where}: this is no address like https://a.klaviyo.com")
        if _raised_in(error, "cert_verify"):
            return Unreachable(f"{where}: REQUESTS_CA_BUNDLE names no file with certificates")
        if any(isinstance(cause, ssl.SSLError) and _raised_in(cause, "do_handshake") for cause in _causes(error)):
            return Unreachable(f"{where}: TLS failed, or its certificate is not trusted")
        if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
            return Unreachable(f"{where}: {type(error).__name__}", temporary=True)
        for cause in _causes(error):
            if isinstance(cause, urllib3.exceptions.NewConnectionError):
                return Unreachable(f"{where}: {_reason(cause)}", temporary=True)
        broke = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)
        return OutcomeUnknown(f"Klaviyo's answer was lost: {'the connection broke' if broke else type(error).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error with those that requests and urllib3 wrapped in it.

    What was being handled when it was raised (`__context__`) is none of them: it may be of an earlier request.
    """
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException):
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None)]


def _reason(error: urllib3.exceptions.NewConnectionError) -> str:
    """Why there is no connection, in the operating system's words: `connection refused`, `name or service …`."""
    below = error.__cause__
    return (below.strerror if isinstance(below, OSError) and below.strerror else "no connection").lower()


def _raised_in(error: BaseException, function: str) -> bool:
    """Whether a function of that name is on the way to where the error was raised."""
    place = error.__traceback__
    while place is not None:
        if place.tb_frame.f_code.co_name == function:
            return True
        place = place.tb_next
    return False


def _recorded_event(event: Mapping[str, object]) -> RecordedEvent | None:
    """An event of ours; None for one that somebody else sent without an id."""
    attributes = _mapping(event.get("attributes"))
    properties = _mapping(attributes.get("event_properties"))
    reminder_id = properties.get("reminder_id") or properties.get("$event_id")
    if not isinstance(reminder_id, str):
        return None
    return RecordedEvent(reminder_id, _moment(attributes))


def _moment(attributes: Mapping[str, object]) -> datetime:
    given = attributes.get("datetime")
    try:
        moment = datetime.fromisoformat(str(given))
    except ValueError:
        raise UnreadableAnswer(f"Klaviyo's answer has an event with the time {given!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _instant(moment: datetime) -> str:
    """As filters take it: in whole seconds, as the times of events are."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
