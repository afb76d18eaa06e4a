"""What a Klaviyo account keeps: events, profiles, metrics and the log of requests.

Plain data and look-ups; the rules of the API and HTTP live elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

IDENTIFIERS = ("id", "email", "phone_number", "external_id", "anonymous_id", "_kx")
"""What a profile can be found by, in the order in which they are tried."""


@dataclass(frozen=True)
class RecordedEvent:
    """An event after its 202. Times are aware UTC; `time` is whole seconds.

    `unique_id` is the one sent, or the time in seconds since the epoch when none was. `profile_id` and
    `metric_id` are empty for a dropped event, which leaves no trace in the account. Endpoints that read show it from
    `visible_at` on.
    """

    event_id: str
    received_at: datetime
    time: datetime
    metric: str
    metric_id: str
    profile_id: str
    email: str | None
    phone_number: str | None
    external_id: str | None
    properties: dict[str, Any]
    value: float | None
    value_currency: str | None
    unique_id: str
    backfill: bool
    sequence: int
    visible_at: datetime


@dataclass(frozen=True)
class RequestRecord:
    """One request to the API; `events` is the number of events in its `body` (decompressed), accepted or not.

    `status` is the account's answer, which the client did not see where `fault` names what went wrong; 0 is none.
    """

    at: datetime
    method: str
    path: str
    query: str
    status: int
    events: int
    fault: str | None = None
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Metric:
    """A metric, created by the first event that names it."""

    metric_id: str
    name: str
    created: datetime
    sequence: int


@dataclass
class Profile:
    """A profile, created by the first event that names one of its identifiers."""

    profile_id: str
    created: datetime
    updated: datetime
    sequence: int
    identifiers: dict[str, str] = field(default_factory=dict)
    last_event: datetime | None = None


class ProfileIndex:
    """Profiles, found by any of their identifiers."""

    def __init__(self) -> None:
        self._profiles: list[Profile] = []
        self._by_identifier: dict[tuple[str, str], Profile] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def all(self) -> list[Profile]:
        """Return the profiles in order of creation."""
        return list(self._profiles)

    def find(self, identifiers: Mapping[str, str]) -> Profile | None:
        """Return the profile of the first identifier that is known, None when none is."""
        return next((p for key in lookup_keys(identifiers) if (p := self._by_identifier.get(key))), None)

    def find_or_create(self, identifiers: Mapping[str, str], now: datetime) -> Profile:
        """Return the matching profile with the new identifiers merged in, or a new one."""
        profile = self.find(identifiers) or self._create(identifiers, now)
        for key in lookup_keys(identifiers):
            if key[0] != "id":
                self._assign(profile, key, identifiers[key[0]], now)
        return profile

    def _create(self, identifiers: Mapping[str, str], now: datetime) -> Profile:
        number = len(self._profiles) + 1
        profile_id = identifiers.get("id") or f"01SANDBOX{number:017d}"
        profile = Profile(profile_id, now, now, number)
        self._profiles.append(profile)
        self._by_identifier["id", profile_id] = profile
        return profile

    def _assign(self, profile: Profile, key: tuple[str, str], value: str, now: datetime) -> None:
        name = key[0]
        # An identifier that belongs to another profile stays there: merging profiles is a separate operation.
        if self._by_identifier.setdefault(key, profile) is not profile:
            return
        previous = profile.identifiers.get(name)
        if previous == value:
            return
        if previous is not None and _lookup_key(name, previous) != key:
            del self._by_identifier[_lookup_key(name, previous)]
        profile.identifiers[name] = value
        profile.updated = now


def lookup_keys(identifiers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the (name, value) pairs to look a profile up by, strongest first; e-mail ignores case."""
    return [_lookup_key(name, identifiers[name]) for name in IDENTIFIERS if identifiers.get(name)]


def _lookup_key(name: str, value: str) -> tuple[str, str]:
    return (name, value.lower() if name == "email" else value)
