"""One Klaviyo account: its keys, state and rules, and how it answers each endpoint.

The time is handed in and nothing is served here; checking bodies, paging, rate limits, resource objects and
the page have modules of their own.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, TypeVar

from dunning_pipeline.sandbox.klaviyo.body import MEDIA_TYPE, Body, read_body
from dunning_pipeline.sandbox.klaviyo.conditions import Conditions
from dunning_pipeline.sandbox.klaviyo.errors import ApiError, Problem, invalid
from dunning_pipeline.sandbox.klaviyo.faults import Fault, Faults
from dunning_pipeline.sandbox.klaviyo.limits import DEFAULT_RATES, RateLimit, RateLimiter
from dunning_pipeline.sandbox.klaviyo.page import render
from dunning_pipeline.sandbox.klaviyo.reading import Listing, Query, bad_parameter
from dunning_pipeline.sandbox.klaviyo.records import (
    Metric,
    Profile,
    ProfileIndex,
    RecordedEvent,
    RequestRecord,
    lookup_keys,
)
from dunning_pipeline.sandbox.klaviyo.resources import (
    account_resource,
    event_resource,
    metric_resource,
    profile_resource,
)
from dunning_pipeline.sandbox.klaviyo.validation import ProposedEvent, count_events, parse_bulk, parse_event
from dunning_pipeline.sandbox.serving import Answer

T = TypeVar("T")

DEFAULT_KEY = "pk_sandbox"
ALL_SCOPES = frozenset({"events:write", "events:read", "metrics:read", "profiles:read", "accounts:read"})
REVISIONS = (
    "2024-10-15",
    "2025-01-15",
    "2025-04-15",
    "2025-07-15",
    "2025-10-15",
    "2026-01-15",
    "2026-04-15",
    "2026-07-15",
    "2026-10-15",
)
"""Revisions that are answered, oldest first. Fixed, so that the sandbox does not expire."""
MAX_METRICS = 200
UNDELIVERABLE_DOMAINS = ("example.com", "example.org", "example.net", "test.com")

_SCHEME = "Klaviyo-API-Key "
_LISTING_PARAMETERS = ("filter", "sort", "page[size]", "page[cursor]")

_EVENTS = Listing[RecordedEvent](
    sequence=lambda event: event.sequence,
    texts={"metric_id": lambda event: event.metric_id, "profile_id": lambda event: event.profile_id},
    times={
        "datetime": lambda event: event.time.timestamp(),
        "timestamp": lambda event: event.time.timestamp(),
    },
    default_size=200,
    max_size=200,
)
_METRICS = Listing[Metric](sequence=lambda metric: metric.sequence, texts={}, times={}, default_size=200, max_size=200)
_PROFILES = Listing[Profile](
    sequence=lambda profile: profile.sequence,
    texts={
        "id": lambda profile: profile.profile_id,
        "email": lambda profile: profile.identifiers.get("email"),
        "phone_number": lambda profile: profile.identifiers.get("phone_number"),
        "external_id": lambda profile: profile.identifiers.get("external_id"),
    },
    times={},
    default_size=20,
    max_size=100,
)


@dataclass(frozen=True)
class ApiRequest:
    """A request to the API: lower-case header names, no slash at the end of `path`, raw `body`."""

    method: str
    path: str
    query: Query
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class _Endpoint:
    scope: str
    answer: Callable[[ApiRequest, Body], Answer]


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


class KlaviyoAccount:
    """One Klaviyo account: what it accepts, what it has recorded and how it answers. Thread-safe.

    `keys` maps each private key to its scopes. `clock` returns aware UTC. `rates` maps "METHOD /path" to a
    limit; an endpoint that is not in it, or every endpoint when it is None, is not limited. `largest_page`
    caps every page, whatever size is asked for. `account_id` is the public id, answered as `Cid`. What goes wrong
    is planned in `faults`; latency, a wrong clock and late processing are set in `conditions`.
    """

    def __init__(
        self,
        keys: Mapping[str, Iterable[str]] | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
        rates: Mapping[str, RateLimit] | None = DEFAULT_RATES,
        largest_page: int = 200,
        account_id: str = "SANDBX",
    ) -> None:
        given = {DEFAULT_KEY: ALL_SCOPES} if keys is None else keys
        self._keys = {key: frozenset(scopes) for key, scopes in given.items()}
        self._system_clock = clock
        self._limiters = {name: RateLimiter(rate) for name, rate in (rates or {}).items()}
        self._largest_page = largest_page
        self._account_id = account_id
        self.faults = Faults()
        self.conditions = Conditions()
        self._lock = threading.RLock()
        self._events: list[RecordedEvent] = []
        self._dropped: list[RecordedEvent] = []
        self._discarded: list[RecordedEvent] = []
        self._requests: list[RequestRecord] = []
        self._bodies: list[bytes] = []
        self._metrics: dict[str, Metric] = {}
        self._profiles = ProfileIndex()
        self._seen: set[tuple[str, str, str]] = set()
        self._sequence = 0
        self._endpoints = self._declare_endpoints()

    @property
    def events(self) -> list[RecordedEvent]:
        """The recorded events, in the order in which they were received."""
        with self._lock:
            return list(self._events)

    @property
    def dropped(self) -> list[RecordedEvent]:
        """Events accepted with 202 and dropped, because mail to their address cannot be delivered."""
        with self._lock:
            return list(self._dropped)

    @property
    def discarded(self) -> list[RecordedEvent]:
        """Events accepted with 202 and discarded, because their unique_id had been recorded before."""
        with self._lock:
            return list(self._discarded)

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests to the API, in order, whatever their status."""
        with self._lock:
            return list(self._requests)

    @property
    def bodies(self) -> list[bytes]:
        """The decompressed JSON bodies of all POST requests, in order, whatever their status."""
        with self._lock:
            return list(self._bodies)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics, in order of creation."""
        with self._lock:
            return list(self._metrics.values())

    @property
    def profiles(self) -> list[Profile]:
        """The profiles, in order of creation."""
        with self._lock:
            return self._profiles.all()

    def handle(self, request: ApiRequest, fault: Fault | None = None) -> Answer:
        """Answer a request and log it. Never raises: every error becomes a JSON:API error document.

        With a `fault` that lets nothing through the request is only logged; the answer is then the fault's own.
        """
        body = read_body(request.headers, request.body) if request.method == "POST" else Body(b"")
        with self._lock:
            request_id = str(uuid.uuid4())
            if fault is None or fault.accepted:
                response = self._answer_or_error(request, body, request_id)
            else:
                response = Answer(fault.code or 0, {})
            self._log(request, body, response.status, fault)
            if fault is not None and fault.code is not None:
                response = Answer(fault.code, dict(fault.headers), fault.body)
            date = format_datetime(self._clock().astimezone(UTC), usegmt=True)
        headers = {"Date": date, "X-Klaviyo-Req-Id": request_id, **response.headers}
        return Answer(response.status, headers, response.body)

    def page(self) -> str:
        """Return the HTML page of what was received."""
        with self._lock:
            counts = {
                "events recorded": len(self._events),
                "repeated, discarded": len(self._discarded),
                "undeliverable, dropped": len(self._dropped),
                "profiles": len(self._profiles),
                "metrics": len(self._metrics),
                "requests": len(self._requests),
            }
            return render(self._events, self._requests, counts, self.faults.planned())

    def _declare_endpoints(self) -> dict[str, _Endpoint]:
        return {
            "POST /api/events": _Endpoint("events:write", self._create_event),
            "POST /api/event-bulk-create-jobs": _Endpoint("events:write", self._bulk_create_events),
            "GET /api/events": _Endpoint("events:read", self._get_events),
            "GET /api/metrics": _Endpoint("metrics:read", self._get_metrics),
            "GET /api/profiles": _Endpoint("profiles:read", self._get_profiles),
            "GET /api/accounts": _Endpoint("accounts:read", self._get_accounts),
        }

    def _answer_or_error(self, request: ApiRequest, body: Body, request_id: str) -> Answer:
        name = f"{request.method} {request.path}"
        try:
            response = self._answer(name, request, body)
        except ApiError as error:
            document = _document(error.document(request_id))
            headers = {"Content-Type": MEDIA_TYPE, **error.headers}
            response = Answer(error.status, headers, document)
        if response.status == 429 or name not in self._limiters:
            return response
        rate = self._limiters[name].headers(self._clock().timestamp())
        return Answer(response.status, {**rate, **response.headers}, response.body)

    def _answer(self, name: str, request: ApiRequest, body: Body) -> Answer:
        endpoint = self._endpoint(name, request)
        scopes = self._authenticate(request)
        self._throttle(name)
        _check_revision(request)
        if endpoint.scope not in scopes:
            raise _error(403, "permission_denied", "Permission denied.", f"The key lacks the scope {endpoint.scope}.")
        if body.error is not None:
            raise body.error
        return endpoint.answer(request, body)

    def _endpoint(self, name: str, request: ApiRequest) -> _Endpoint:
        if name in self._endpoints:
            return self._endpoints[name]
        methods = [known.split()[0] for known in self._endpoints if known.split()[1] == request.path]
        if not methods:
            raise _error(404, "not_found", "Not found.", f"There is no {request.path} here.")
        detail = f"{request.method} is not allowed here, allowed: {', '.join(methods)}."
        raise _error(405, "method_not_allowed", "Method not allowed.", detail, {"Allow": ", ".join(methods)})

    def _authenticate(self, request: ApiRequest) -> frozenset[str]:
        authorization = request.headers.get("authorization", "")
        scopes = self._keys.get(authorization.removeprefix(_SCHEME)) if authorization.startswith(_SCHEME) else None
        if scopes is None:
            # The key that was sent is not repeated: error documents end up in logs.
            detail = "Send the header Authorization: Klaviyo-API-Key <private key> with a key of this account."
            raise _error(401, "not_authenticated", "Authentication failed.", detail)
        return scopes

    def _throttle(self, name: str) -> None:
        limiter = self._limiters.get(name)
        wait = limiter.take(self._clock().timestamp()) if limiter else None
        if wait is not None:
            detail = f"The rate limit is reached, expected to be available in {wait} s."
            raise _error(429, "throttled", "Request was throttled.", detail, {"Retry-After": str(wait)})

    def _clock(self) -> datetime:
        return self._system_clock() + self.conditions.clock_skew

    def _log(self, request: ApiRequest, body: Body, status: int, fault: Fault | None) -> None:
        record = RequestRecord(
            at=self._clock(),
            method=request.method,
            path=request.path,
            query=request.query_string,
            status=status,
            events=count_events(body.document),
            fault=fault.name if fault else None,
            body=body.raw,
        )
        self._requests.append(record)
        if request.method == "POST" and body.error is None:
            self._bodies.append(body.raw)

    def _create_event(self, request: ApiRequest, body: Body) -> Answer:
        return self._accept(parse_event(body.document, self._clock()))

    def _bulk_create_events(self, request: ApiRequest, body: Body) -> Answer:
        events = parse_bulk(body.document, self._clock())
        problems = self._repeated_ids(events)
        if problems:
            raise invalid(problems)
        return self._accept(events)

    def _accept(self, events: Sequence[ProposedEvent]) -> Answer:
        problems = self._surplus_metrics(events)
        if problems:
            raise invalid(problems)
        for event in events:
            self._record(event)
        return Answer(202, {"Cid": self._account_id})

    def _repeated_ids(self, events: Sequence[ProposedEvent]) -> list[Problem]:
        owners: dict[tuple[str, str], str] = {}
        seen: set[tuple[str, str, str]] = set()
        problems = []
        for event in events:
            key = (self._owner(event, owners), event.metric, event.unique_id)
            if key in seen:
                detail = f"unique_id {event.unique_id!r} is repeated for the same profile and metric."
                problems.append(Problem(detail, pointer=f"{event.pointer}/unique_id"))
            seen.add(key)
        return problems

    def _owner(self, event: ProposedEvent, owners: dict[tuple[str, str], str]) -> str:
        """Return a name for an event's profile, which may be new: `owners` remembers those of the request."""
        keys = lookup_keys(event.identifiers)
        profile = self._profiles.find(event.identifiers)
        known = next((owners[key] for key in keys if key in owners), f"new profile {len(owners)}")
        owner = profile.profile_id if profile else known
        for key in keys:
            owners.setdefault(key, owner)
        return owner

    def _surplus_metrics(self, events: Sequence[ProposedEvent]) -> list[Problem]:
        names = set(self._metrics)
        problems = []
        for event in events:
            if event.metric in names:
                continue
            if len(names) < MAX_METRICS:
                names.add(event.metric)
                continue
            detail = f"The account has {MAX_METRICS} metrics, {event.metric!r} would be one more."
            problems.append(Problem(detail, pointer=f"{event.pointer}/metric/data/attributes/name"))
        return problems

    def _record(self, event: ProposedEvent) -> None:
        self._sequence += 1
        if _is_undeliverable(event.identifiers.get("email")):
            self._dropped.append(self._recorded(event, None, event.identifiers, metric_id=""))
            return
        profile = self._profiles.find_or_create(event.identifiers, self._clock())
        recorded = self._recorded(event, profile, profile.identifiers, self._metric_id(event.metric))
        key = (profile.profile_id, event.metric, event.unique_id)
        if key in self._seen:
            self._discarded.append(recorded)
            return
        self._seen.add(key)
        self._events.append(recorded)
        profile.last_event = max(event.time, profile.last_event or event.time)

    def _recorded(
        self, event: ProposedEvent, profile: Profile | None, identifiers: Mapping[str, str], metric_id: str
    ) -> RecordedEvent:
        return RecordedEvent(
            event_id=f"E{self._sequence:010d}",
            received_at=self._clock(),
            time=event.time,
            metric=event.metric,
            metric_id=metric_id,
            profile_id=profile.profile_id if profile else "",
            email=identifiers.get("email"),
            phone_number=identifiers.get("phone_number"),
            external_id=identifiers.get("external_id"),
            properties=event.properties,
            value=event.value,
            value_currency=event.value_currency,
            unique_id=event.unique_id,
            backfill=event.backfill,
            sequence=self._sequence,
            visible_at=self._clock() + self.conditions.processing_time(),
        )

    def _metric_id(self, name: str) -> str:
        if name not in self._metrics:
            number = len(self._metrics) + 1
            self._metrics[name] = Metric(f"M{number:05d}", name, self._clock(), number)
        return self._metrics[name].metric_id

    def _get_events(self, request: ApiRequest, body: Body) -> Answer:
        request.query.allow_only(*_LISTING_PARAMETERS)
        return self._list(_EVENTS, self._visible_events(), request.query, event_resource)

    def _get_metrics(self, request: ApiRequest, body: Body) -> Answer:
        request.query.allow_only("page[cursor]")
        known = {event.metric_id for event in self._visible_events()}
        metrics = [metric for metric in self._metrics.values() if metric.metric_id in known]
        return self._list(_METRICS, metrics, request.query, metric_resource)

    def _visible_events(self) -> list[RecordedEvent]:
        """What has been processed by now; an event counts as recorded from its 202 on."""
        now = self._clock()
        return [event for event in self._events if event.visible_at <= now]

    def _get_profiles(self, request: ApiRequest, body: Body) -> Answer:
        additional = "additional-fields[profile]"
        request.query.allow_only("filter", "page[size]", "page[cursor]", additional)
        fields = request.query.get(additional)
        if fields not in (None, "subscriptions"):
            raise bad_parameter(additional, "The sandbox supports here: subscriptions.")

        def resource(profile: Profile) -> dict[str, Any]:
            return profile_resource(profile, with_subscriptions=fields is not None)

        return self._list(_PROFILES, self._profiles.all(), request.query, resource)

    def _get_accounts(self, request: ApiRequest, body: Body) -> Answer:
        request.query.allow_only()
        account = account_resource(self._account_id)
        return _ok({"data": [account], "links": request.query.links(None)})

    def _list(
        self, listing: Listing[T], records: Sequence[T], query: Query, resource: Callable[[T], dict[str, Any]]
    ) -> Answer:
        page, cursor = listing.select(records, query, self._largest_page)
        return _ok({"data": [resource(record) for record in page], "links": query.links(cursor)})


def _check_revision(request: ApiRequest) -> None:
    revision = request.headers.get("revision", "")
    if revision in REVISIONS:
        return
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", revision, re.ASCII) and revision < REVISIONS[0]:
        detail = f"Revision {revision} is no longer supported, the oldest one is {REVISIONS[0]}."
        raise _error(410, "gone", "Revision retired.", detail)
    detail = f"The header 'revision' is {revision!r}, allowed: {', '.join(REVISIONS)}."
    raise invalid([Problem(detail)])


def _error(status: int, code: str, title: str, detail: str, headers: Mapping[str, str] | None = None) -> ApiError:
    return ApiError(status, code, title, [Problem(detail)], headers)


def _is_undeliverable(email: str | None) -> bool:
    return email is not None and email.lower().rpartition("@")[2] in UNDELIVERABLE_DOMAINS


def _ok(document: Mapping[str, Any]) -> Answer:
    return Answer(200, {"Content-Type": MEDIA_TYPE}, _document(document))


def _document(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
