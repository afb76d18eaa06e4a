"""Turns a parsed body into events, or into the list of everything that is wrong with it.

Only rules that a body can break by itself; what depends on the account's state is not checked here.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from iso4217 import Currency

from dunning_pipeline.sandbox.klaviyo.errors import Problem, invalid
from dunning_pipeline.sandbox.klaviyo.records import IDENTIFIERS

MAX_EVENTS = 1000
MAX_PROPERTIES = 400
MAX_STRING_BYTES = 100 * 1024
MAX_CHARACTER_BYTES = 4
MAX_ARRAY_ITEMS = 4000
MAX_NESTING = 10
MAX_PROFILE_BYTES = 95 * 1024
MAX_METRIC_NAME = 127
MAX_UNIQUE_ID = 255
MAX_EMAIL = 99
MAX_EXTERNAL_ID = 255
MAX_AHEAD = timedelta(days=365)
EARLIEST_YEAR = 1990
BULK_POINTER = "/data/attributes/events-bulk-create/data"

_EVENT_KEYS = ("properties", "time", "value", "value_currency", "unique_id", "backfill", "metric")
_PROFILE_STRINGS = (
    *IDENTIFIERS[1:],
    "first_name",
    "last_name",
    "organization",
    "locale",
    "title",
    "image",
)
_PROFILE_KEYS = (*_PROFILE_STRINGS, "location", "properties", "meta")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_PHONE = re.compile(r"\+[1-9][0-9]{1,14}")
_EMAIL = re.compile(
    r"(?!\.)(?!.*\.\.)[^\s@<>(),;:\\\"\[\]]+(?<!\.)@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W_](?:[\w-]*[^\W_])"
)
_CURRENCIES = frozenset(currency.code for currency in Currency)


class _Absent:
    """Stands for a key that is missing, which null is not."""


_ABSENT = _Absent()


@dataclass(frozen=True)
class ProposedEvent:
    """A valid event, not recorded yet; `pointer` names its attributes in the request's body."""

    pointer: str
    metric: str
    identifiers: dict[str, str]
    properties: dict[str, Any]
    time: datetime
    value: float | None
    value_currency: str | None
    unique_id: str
    backfill: bool


def count_events(document: Any) -> int:
    """Return how many events a body carries, 0 when its shape does not allow counting."""
    try:
        data = document["data"]
        if data["type"] == "event":
            return 1
        entries = data["attributes"]["events-bulk-create"]["data"]
        return sum(len(entry["attributes"]["events"]["data"]) for entry in entries)
    except (KeyError, TypeError, IndexError):
        return 0


def parse_event(document: Any, now: datetime) -> list[ProposedEvent]:
    """Return the event of a POST /api/events body.

    Raises ApiError 400 with every problem (reference: Klaviyo events API, Create Event).
    """
    checker = _Checker(now)
    event = checker.event(checker.data(document, ""), "/data")
    return checker.result([event])


def parse_bulk(document: Any, now: datetime) -> list[ProposedEvent]:
    """Return the events of a POST /api/event-bulk-create-jobs body.

    Raises ApiError 400 with every problem of every entry (reference: Klaviyo events API, Bulk Create Events).
    """
    checker = _Checker(now)
    return checker.result(checker.bulk(document))


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


class _Checker:
    """Walks a body and collects its problems; a method returns None for what cannot be used."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._problems: list[Problem] = []

    def result(self, events: list[ProposedEvent | None]) -> list[ProposedEvent]:
        if self._problems:
            raise invalid(self._problems)
        return [event for event in events if event is not None]

    def bulk(self, document: Any) -> list[ProposedEvent | None]:
        wrapper = "events-bulk-create"
        job = self._resource(self.data(document, ""), "/data", "event-bulk-create-job", (wrapper,), (wrapper,))
        if job is None:
            return []
        entries = self._list(self.data(job.get(wrapper, _ABSENT), f"/data/attributes/{wrapper}"), BULK_POINTER)
        if max(len(entries), count_events(document)) > MAX_EVENTS:
            self._add(BULK_POINTER, f"At most {MAX_EVENTS} events are allowed in one request.")
            return []
        return [event for n, entry in enumerate(entries) for event in self._entry(entry, f"{BULK_POINTER}/{n}")]

    def event(self, data: Any, pointer: str) -> ProposedEvent | None:
        keys = (*_EVENT_KEYS, "profile")
        attributes = self._resource(data, pointer, "event", keys, ("properties", "metric", "profile"))
        if attributes is None:
            return None
        pointer = f"{pointer}/attributes"
        identifiers = self._profile(attributes.get("profile", _ABSENT), f"{pointer}/profile")
        return self._attributes(attributes, pointer, identifiers, backfill=False)

    def data(self, wrapper: Any, pointer: str) -> Any:
        """Return what a JSON:API wrapper `{"data": …}` holds."""
        outer = self._object(wrapper, pointer, ("data",), ("data",))
        return _ABSENT if outer is None else outer.get("data", _ABSENT)

    def _entry(self, entry: Any, pointer: str) -> list[ProposedEvent | None]:
        keys = ("backfill", "profile", "events")
        attributes = self._resource(entry, pointer, "event-bulk-create", keys, ("profile", "events"))
        if attributes is None:
            return []
        pointer = f"{pointer}/attributes"
        backfill = self._flag(attributes, "backfill", pointer)
        identifiers = self._profile(attributes.get("profile", _ABSENT), f"{pointer}/profile")
        events_pointer = f"{pointer}/events/data"
        events = self._list(self.data(attributes.get("events", _ABSENT), f"{pointer}/events"), events_pointer)
        return [
            self._bulk_event(event, f"{events_pointer}/{n}", identifiers, backfill or False)
            for n, event in enumerate(events)
        ]

    def _bulk_event(
        self, data: Any, pointer: str, identifiers: dict[str, str] | None, backfill: bool
    ) -> ProposedEvent | None:
        attributes = self._resource(data, pointer, "event", _EVENT_KEYS, ("properties", "metric"))
        if attributes is None:
            return None
        return self._attributes(attributes, f"{pointer}/attributes", identifiers, backfill)

    def _attributes(
        self, attributes: dict[str, Any], pointer: str, identifiers: dict[str, str] | None, backfill: bool
    ) -> ProposedEvent | None:
        metric = self._metric(attributes.get("metric", _ABSENT), f"{pointer}/metric")
        properties = self._properties(attributes.get("properties", _ABSENT), f"{pointer}/properties")
        time = self._time(attributes, pointer)
        own_backfill = self._flag(attributes, "backfill", pointer)
        value = self._value(attributes, pointer)
        currency = self._currency(attributes, pointer)
        unique_id = self._unique_id(attributes, pointer)
        if metric is None or properties is None or time is None or identifiers is None:
            return None
        return ProposedEvent(
            pointer=pointer,
            metric=metric,
            identifiers=identifiers,
            properties=properties,
            time=time,
            value=value,
            value_currency=currency,
            unique_id=unique_id or str(int(time.timestamp())),
            backfill=backfill if own_backfill is None else own_backfill,
        )

    def _metric(self, wrapper: Any, pointer: str) -> str | None:
        data = self.data(wrapper, pointer)
        attributes = self._resource(data, f"{pointer}/data", "metric", ("name", "service"), ("name",))
        if attributes is None:
            return None
        pointer = f"{pointer}/data/attributes"
        self._string(attributes, "service", pointer)
        name = attributes.get("name", _ABSENT)
        if name is _ABSENT:
            return None
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_METRIC_NAME:
            self._add(f"{pointer}/name", f"A metric's name must be text of 1 to {MAX_METRIC_NAME} characters.")
            return None
        return name

    def _profile(self, wrapper: Any, pointer: str) -> dict[str, str] | None:
        data = self.data(wrapper, pointer)
        pointer = f"{pointer}/data"
        attributes = self._resource(data, pointer, "profile", _PROFILE_KEYS, extra=("id", "meta"))
        if attributes is None:
            return None
        self._profile_size(data, pointer)
        self._profile_objects(attributes, f"{pointer}/attributes")
        strings = {key: self._string(attributes, key, f"{pointer}/attributes") for key in _PROFILE_STRINGS}
        self._identifier_formats(strings, f"{pointer}/attributes")
        given = {"id": self._string(data, "id", pointer), **strings}
        identifiers = {key: value for key in IDENTIFIERS if (value := given[key])}
        if not identifiers:
            allowed = "id, email, phone_number or external_id"
            self._add(f"{pointer}/attributes", f"A profile needs at least one identifier: {allowed}.")
        return identifiers

    def _profile_size(self, data: dict[str, Any], pointer: str) -> None:
        size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_PROFILE_BYTES:
            self._add(pointer, f"The profile has {size} bytes, at most {MAX_PROFILE_BYTES} are allowed.")

    def _profile_objects(self, attributes: dict[str, Any], pointer: str) -> None:
        for key in ("location", "properties", "meta"):
            value = attributes.get(key)
            if value is not None and not isinstance(value, dict):
                self._add(f"{pointer}/{key}", "Must be an object.")

    def _identifier_formats(self, strings: dict[str, str | None], pointer: str) -> None:
        email, phone, external = strings["email"], strings["phone_number"], strings["external_id"]
        if email is not None and (len(email) > MAX_EMAIL or not _EMAIL.fullmatch(email)):
            self._add(
                f"{pointer}/email",
                f"{email!r} is not a valid e-mail address of up to {MAX_EMAIL} characters.",
            )
        if phone is not None and not _PHONE.fullmatch(phone):
            self._add(f"{pointer}/phone_number", f"{phone!r} is not a phone number in E.164 format.")
        if external is not None and len(external) > MAX_EXTERNAL_ID:
            self._add(f"{pointer}/external_id", f"At most {MAX_EXTERNAL_ID} characters are allowed.")

    def _properties(self, properties: Any, pointer: str) -> dict[str, Any] | None:
        if properties is _ABSENT:
            return None
        if not isinstance(properties, dict):
            self._add(pointer, "Must be an object.")
            return None
        if len(properties) > MAX_PROPERTIES:
            self._add(pointer, f"{len(properties)} properties, at most {MAX_PROPERTIES} are allowed.")
        self._property_value(properties, pointer, 1)
        return properties

    def _property_value(self, value: Any, pointer: str, depth: int) -> None:
        if isinstance(value, str):
            if len(value.encode()) > MAX_STRING_BYTES:
                self._add(pointer, f"A string may have at most {MAX_STRING_BYTES} bytes.")
        elif isinstance(value, dict | list):
            self._container(value, pointer, depth)

    def _container(self, value: dict[str, Any] | list[Any], pointer: str, depth: int) -> None:
        if depth > MAX_NESTING:
            self._add(pointer, f"Properties may be nested at most {MAX_NESTING} levels deep.")
            return
        if isinstance(value, list) and len(value) > MAX_ARRAY_ITEMS:
            self._add(pointer, f"{len(value)} items, at most {MAX_ARRAY_ITEMS} are allowed in an array.")
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if _may_be_too_large(item):
                self._property_value(item, f"{pointer}/{_escape(str(key))}", depth + 1)

    def _time(self, attributes: dict[str, Any], pointer: str) -> datetime | None:
        given = attributes.get("time")
        if given is None:
            return self._now.replace(microsecond=0)
        time = _parse_time(given)
        if time is None:
            self._add(f"{pointer}/time", f"{given!r} is not an ISO 8601 date and time with an offset.")
        elif time.year < EARLIEST_YEAR or time > self._now + MAX_AHEAD:
            self._add(f"{pointer}/time", f"{given!r} is before {EARLIEST_YEAR} or more than 1 year ahead.")
        return time

    def _value(self, attributes: dict[str, Any], pointer: str) -> float | None:
        value = attributes.get("value")
        if value is None or _is_number(value):
            return value
        self._add(f"{pointer}/value", "Must be a number.")
        return None

    def _currency(self, attributes: dict[str, Any], pointer: str) -> str | None:
        currency = self._string(attributes, "value_currency", pointer)
        if currency is not None and currency not in _CURRENCIES:
            self._add(f"{pointer}/value_currency", f"{currency!r} is not an ISO 4217 currency code.")
        return currency

    def _unique_id(self, attributes: dict[str, Any], pointer: str) -> str | None:
        unique_id = self._string(attributes, "unique_id", pointer)
        if unique_id is not None and not 1 <= len(unique_id) <= MAX_UNIQUE_ID:
            self._add(f"{pointer}/unique_id", f"Must have 1 to {MAX_UNIQUE_ID} characters.")
        return unique_id

    def _string(self, attributes: dict[str, Any], key: str, pointer: str) -> str | None:
        value = attributes.get(key)
        if value is None or isinstance(value, str):
            return value
        self._add(f"{pointer}/{key}", "Must be text.")
        return None

    def _flag(self, attributes: dict[str, Any], key: str, pointer: str) -> bool | None:
        value = attributes.get(key)
        if value is None or isinstance(value, bool):
            return value
        self._add(f"{pointer}/{key}", "Must be true or false.")
        return None

    def _list(self, value: Any, pointer: str) -> list[Any]:
        if value is _ABSENT:
            return []
        if isinstance(value, list) and value:
            return value
        self._add(pointer, "Must be an array with at least one item.")
        return []

    def _resource(
        self,
        data: Any,
        pointer: str,
        kind: str,
        allowed: tuple[str, ...],
        required: tuple[str, ...] = (),
        *,
        extra: tuple[str, ...] = (),
    ) -> dict[str, Any] | None:
        """Return the attributes of a resource object `{"type": kind, "attributes": {…}}`."""
        resource = self._object(data, pointer, ("type", "attributes", *extra), ("type", "attributes"))
        if resource is None:
            return None
        if resource.get("type", kind) != kind:
            self._add(f"{pointer}/type", f"Must be {kind!r}.")
        return self._object(resource.get("attributes", _ABSENT), f"{pointer}/attributes", allowed, required)

    def _object(
        self, value: Any, pointer: str, allowed: tuple[str, ...], required: tuple[str, ...]
    ) -> dict[str, Any] | None:
        if value is _ABSENT:
            return None
        if not isinstance(value, dict):
            self._add(pointer, "Must be an object.")
            return None
        for key in required:
            if key not in value:
                self._add(f"{pointer}/{key}", f"{key!r} is required.")
        for key in value:
            if key not in allowed:
                self._add(f"{pointer}/{_escape(key)}", f"{key!r} is not a field here.")
        return value

    def _add(self, pointer: str, detail: str) -> None:
        self._problems.append(Problem(detail, pointer=pointer))


def _may_be_too_large(value: Any) -> bool:
    """Whether a property must be looked at: most are short texts and numbers, for which a pointer need not be made."""
    if isinstance(value, str):
        return len(value) * MAX_CHARACTER_BYTES > MAX_STRING_BYTES
    return isinstance(value, dict | list)


def _parse_time(given: Any) -> datetime | None:
    if not isinstance(given, str) or not _TIME.fullmatch(given):
        return None
    try:
        return datetime.fromisoformat(given).astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
