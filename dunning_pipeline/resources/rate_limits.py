"""Keeps requests within an API's fixed windows, and learns from what its answers say about them.

Knows endpoints by name only; nothing is sent or retried here. Clock and sleep are handed in.
"""

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

KLAVIYO_LIMITS: Mapping[str, Mapping[int, int]] = {
    "POST /api/events": {1: 350, 60: 3500},
    "POST /api/event-bulk-create-jobs": {1: 10, 60: 150},
    "GET /api/events": {1: 350, 60: 3500},
    "GET /api/metrics": {1: 10, 60: 150},
}
"""Requests by seconds of window, per account and endpoint (reference: Klaviyo, rate limits)."""

NO_LIMITS: Mapping[str, Mapping[int, int]] = {}

MARGIN_SECONDS = 0.05
"""Added to each window: two clocks never run at quite the same speed."""
MOST_SECONDS_BLOCKED = 120.0
CAREFUL_SECONDS = 60.0

_THROTTLED = 429
_PER_WINDOW = re.compile(r"(\d{1,9})\s*;\s*w=(\d{1,5})\b")


class RateLimits:
    """The limits of an account as one process sees them; used by one thread at a time.

    Where a server's window begins is unknown. So a request goes only when fewer than the limit were *answered*
    within any window's length before it: then no window of the server, wherever it begins, holds more than its limit.
    That leaves the burst of a small batch as fast as it may be, and costs a large one no more than a latency a minute.
    Other processes that use the same account show in the answers' headers, which are heeded as well.
    """

    def __init__(
        self,
        limits: Mapping[str, Mapping[int, int]] = KLAVIYO_LIMITS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoints = {name: _Endpoint.with_limits(windows) for name, windows in limits.items()}
        self._clock = clock
        self._sleep = sleep

    def wait(self, endpoint: str) -> None:
        """Sleeps until a request to `endpoint` ("METHOD /path") may leave; not at all where it has no limits."""
        known = self._endpoints.get(endpoint)
        wait = known.wait(self._clock()) if known else 0.0
        if wait > 0:
            self._sleep(wait)

    def acquire(self, endpoint: str) -> None:
        """Waits, and counts the request, which leaves then."""
        self.wait(endpoint)
        if known := self._endpoints.get(endpoint):
            known.spend()

    def answered(self, endpoint: str, status: int | None, headers: Mapping[str, str]) -> None:
        """Takes note of an answer and its headers; `status` is None where none came.

        Args:
            headers: looked up as `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` and `Retry-After`.
                What cannot be read is ignored.
        """
        known = self._endpoints.get(endpoint)
        if known is None:
            return
        now = self._clock()
        if status == _THROTTLED:
            known.block(now, whole_seconds(headers.get("Retry-After")))
            return
        known.count(now)
        known.learn(now, headers)


@dataclass
class _Window:
    """One window: when the requests within its length were answered, and what the server said is left of it."""

    seconds: int
    limit: int
    answered: deque[float] = field(default_factory=deque)
    left: int = 0
    resets_at: float = float("-inf")

    def wait(self, now: float, most: int) -> float:
        """Seconds until fewer than `most` were answered within the window's length."""
        span = self.seconds + MARGIN_SECONDS
        while self.answered and self.answered[0] <= now - span:
            self.answered.popleft()
        own = self.answered[-most] + span - now if len(self.answered) >= most else 0.0
        told = self.resets_at - now if self.left <= 0 else 0.0
        return max(own, told, 0.0)


@dataclass
class _Endpoint:
    """The windows of an endpoint, the shortest first.

    Whoever was throttled although it kept to the limits shares the account: it halves its bursts for a minute, again
    each time it happens, but never below a pace at which the longest window can be used up.
    """

    windows: list[_Window]
    blocked_until: float = float("-inf")
    halved: int = 0
    halved_until: float = float("-inf")

    @classmethod
    def with_limits(cls, limits: Mapping[int, int]) -> "_Endpoint":
        return cls([_Window(seconds, limits[seconds]) for seconds in sorted(limits)])

    def wait(self, now: float) -> float:
        if now >= self.halved_until:
            self.halved = 0
        shortest, longest = self.windows[0], self.windows[-1]
        slowest = math.ceil(longest.limit * shortest.seconds / longest.seconds)
        burst = max(shortest.limit >> self.halved, min(slowest, shortest.limit))
        waits = [shortest.wait(now, burst), *(window.wait(now, window.limit) for window in self.windows[1:])]
        return max(self.blocked_until - now, *waits)

    def spend(self) -> None:
        for window in self.windows:
            window.left -= 1

    def count(self, now: float) -> None:
        for window in self.windows:
            window.answered.append(now)

    def block(self, now: float, seconds: int | None) -> None:
        self.blocked_until = now + min(1.0 if seconds is None else seconds, MOST_SECONDS_BLOCKED)
        self.halved += 1
        self.halved_until = self.blocked_until + CAREFUL_SECONDS

    def learn(self, now: float, headers: Mapping[str, str]) -> None:
        """Takes over limits that differ from ours, and what is left where others use the account too."""
        told = {int(length): int(limit) for limit, length in _PER_WINDOW.findall(headers.get("RateLimit-Limit") or "")}
        for window in self.windows:
            window.limit = told.get(window.seconds) or window.limit
        left = whole_seconds(headers.get("RateLimit-Remaining"))
        reset = whole_seconds(headers.get("RateLimit-Reset"))
        if left is None or reset is None:
            return
        # The headers do not say which window they describe. One that lasts longer than the burst window is another;
        # a shorter rest costs a second at most, whichever it is.
        window = next((window for window in self.windows if reset <= window.seconds), self.windows[-1])
        window.left, window.resets_at = left, now + min(reset, window.seconds)


def whole_seconds(text: str | None) -> int | None:
    """The whole number of a header, None where it is absent or something else (a proxy's date, a fraction)."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text.strip()) else None


def decimal_seconds(text: str | None) -> float | None:
    """The seconds of a header, whole or with a fraction; None where it is absent or something else, such as a date."""
    return float(text) if text and re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text.strip()) else None
