"""Rate limits in fixed windows, as Klaviyo applies them per account and endpoint.

Knows nothing of HTTP beyond the names of the headers; the time is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class RateLimit:
    """Requests allowed per second (burst) and per minute (steady)."""

    per_second: int
    per_minute: int


DEFAULT_RATES: Mapping[str, RateLimit] = MappingProxyType(
    {
        "POST /api/events": RateLimit(350, 3500),
        "POST /api/event-bulk-create-jobs": RateLimit(10, 150),
        "GET /api/events": RateLimit(350, 3500),
        "GET /api/metrics": RateLimit(10, 150),
        "GET /api/profiles": RateLimit(75, 700),
        "GET /api/accounts": RateLimit(1, 15),
    }
)
"""Limits per account (reference: Klaviyo API, rate limits)."""
UNLIMITED: Mapping[str, RateLimit] = MappingProxyType(dict.fromkeys(DEFAULT_RATES, RateLimit(10**6, 60 * 10**6)))
"""For clients that keep to Klaviyo's limits until they are told others: the headers tell them that there are none."""


@dataclass
class _FixedWindow:
    seconds: int
    limit: int
    _index: int = field(default=-1, init=False)
    _used: int = field(default=0, init=False)

    def remaining(self, now: float) -> int:
        self._roll(now)
        return self.limit - self._used

    def reset_after(self, now: float) -> int:
        """Return the whole seconds until the window ends, at least 1."""
        return max(1, math.ceil(self.seconds - now % self.seconds))

    def take(self, now: float) -> None:
        self._roll(now)
        self._used += 1

    def _roll(self, now: float) -> None:
        index = math.floor(now / self.seconds)
        if index != self._index:
            self._index, self._used = index, 0


class RateLimiter:
    """The two windows of one endpoint; `now` is in seconds since the epoch.

    Windows are aligned to the clock. A refused request uses up nothing.
    """

    def __init__(self, rate: RateLimit) -> None:
        self._burst = _FixedWindow(1, rate.per_second)
        self._steady = _FixedWindow(60, rate.per_minute)

    def take(self, now: float) -> int | None:
        """Count a request; return None, or the seconds to wait when it is over a limit."""
        windows = (self._burst, self._steady)
        waits = [window.reset_after(now) for window in windows if window.remaining(now) <= 0]
        if waits:
            return max(waits)
        for window in windows:
            window.take(now)
        return None

    def headers(self, now: float) -> dict[str, str]:
        """Return the RateLimit headers; Remaining and Reset describe the window closest to its limit."""
        tightest = min((self._burst, self._steady), key=lambda window: window.remaining(now))
        burst, steady = self._burst.limit, self._steady.limit
        return {
            "RateLimit-Limit": f"{burst}, {burst};w=1, {steady};w=60",
            "RateLimit-Remaining": str(tightest.remaining(now)),
            "RateLimit-Reset": str(tightest.reset_after(now)),
        }
