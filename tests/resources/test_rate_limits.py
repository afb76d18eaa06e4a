"""The limiter against a server with fixed windows, in simulated time: nothing here waits."""

from dataclasses import dataclass, field
from random import Random

import pytest

from dunning_pipeline.resources.rate_limits import (
    MOST_SECONDS_BLOCKED,
    NO_LIMITS,
    RateLimits,
    decimal_seconds,
    whole_seconds,
)
from dunning_pipeline.sandbox.klaviyo import RateLimit
from dunning_pipeline.sandbox.klaviyo.limits import RateLimiter

BULK = "POST /api/event-bulk-create-jobs"
SINGLE = "POST /api/events"
TRUE_LIMITS = {BULK: RateLimit(10, 150), SINGLE: RateLimit(350, 3500)}


@dataclass
class Time:
    """Seconds that pass when somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Server:
    """An account whose windows begin `phase` seconds before the client's time does; `headers` can be kept back."""

    rate: RateLimit
    phase: float = 0.0
    tells: bool = True
    statuses: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._limiter = RateLimiter(self.rate)

    def answer(self, now: float) -> tuple[int, dict[str, str]]:
        wait = self._limiter.take(now + self.phase)
        self.statuses.append((now, 429 if wait else 202))
        if wait:
            return 429, {"Retry-After": str(wait)}
        return 202, self._limiter.headers(now + self.phase) if self.tells else {}

    def accepted(self, since: float = 0.0) -> int:
        return sum(status == 202 and at >= since for at, status in self.statuses)

    def worst_minute(self) -> int:
        """Most 429s within any minute."""
        refused = [at for at, status in self.statuses if status == 429]
        return max((sum(at <= other < at + 60 for other in refused) for at in refused), default=0)


def send(limits: RateLimits, server: Server, time: Time, endpoint: str, latencies: tuple[float, float]) -> int:
    """One request over a line that takes its time, there and back."""
    limits.acquire(endpoint)
    there, back = latencies
    time.now += there
    status, headers = server.answer(time.now)
    time.now += back
    limits.answered(endpoint, status, headers)
    return status


def limits_at(time: Time, **options: object) -> RateLimits:
    return RateLimits(**options, clock=time, sleep=time.sleep)  # type: ignore[arg-type]


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("phase", [0.0, 0.3, 12.9, 29.5, 41.0, 59.95])
@pytest.mark.parametrize("endpoint", [BULK, SINGLE])
def test_nearly_all_of_the_allowed_rate_is_used_wherever_the_windows_begin(
    endpoint: str, phase: float, tells: bool
) -> None:
    time, server, random = Time(1000.0), Server(TRUE_LIMITS[endpoint], phase, tells), Random(7)
    limits = limits_at(time)
    fastest = 0.001 if endpoint == SINGLE else 0.02
    while time.now < 1000 + 5 * 60:
        send(limits, server, time, endpoint, (random.uniform(fastest, 4 * fastest), random.uniform(fastest, fastest)))
    allowed = 5 * server.rate.per_minute
    assert server.accepted() >= 0.95 * allowed
    assert server.worst_minute() <= 1
    assert server.accepted(since=1000 + 2 * 60) >= 0.95 * allowed * 3 / 5


@pytest.mark.parametrize("seed", range(5))
def test_two_processes_that_share_an_account_learn_of_each_other(seed: int) -> None:
    random = Random(seed)
    server = Server(TRUE_LIMITS[BULK], random.uniform(0, 60))
    clocks = [Time(), Time(random.uniform(0, 20))]
    processes = [(clock, limits_at(clock)) for clock in clocks]
    for clock, limits in processes:
        limits.acquire(BULK)
        clock.now += 0.04
    while min(clock.now for clock in clocks) < 5 * 60:
        clock, limits = min(processes, key=lambda process: process[0].now)
        status, headers = server.answer(clock.now)
        clock.now += random.uniform(0.02, 0.08)
        limits.answered(BULK, status, headers)
        limits.acquire(BULK)
        clock.now += random.uniform(0.02, 0.08)
    assert server.accepted() >= 0.95 * 5 * 150
    assert server.worst_minute() <= 6, "three each"


def test_a_small_batch_goes_as_fast_as_the_burst_allows() -> None:
    time, server = Time(), Server(TRUE_LIMITS[BULK], 17.3)
    limits = limits_at(time)
    for _ in range(100):
        assert send(limits, server, time, BULK, (0.02, 0.02)) == 202
    assert time.now < 11.5


def test_limits_that_are_larger_or_smaller_than_known_are_learned() -> None:
    for rate in (RateLimit(1000, 60_000), RateLimit(2, 60)):
        time, server = Time(), Server(rate, 3.2)
        limits = limits_at(time)
        while time.now < 180:
            send(limits, server, time, BULK, (0.0005, 0.0005) if rate.per_second > 100 else (0.05, 0.05))
        assert server.accepted() >= 0.95 * min(3 * rate.per_minute, 3 * 60_000)
        assert server.worst_minute() <= 1


def test_after_a_429_nothing_goes_before_it_may() -> None:
    time = Time()
    limits = limits_at(time)
    limits.acquire(BULK)
    limits.answered(BULK, 429, {"Retry-After": "7"})
    limits.acquire(BULK)
    assert time.slept == [7]


@pytest.mark.parametrize(("told", "waited"), [(None, 1), ("Wed, 12 Mar 2025 12:00:00 GMT", 1), ("86400", 120)])
def test_a_429_without_a_usable_number_waits_for_a_bounded_time(told: str | None, waited: float) -> None:
    assert MOST_SECONDS_BLOCKED == 120
    time = Time()
    limits = limits_at(time)
    limits.answered(BULK, 429, {"Retry-After": told} if told else {})
    limits.acquire(BULK)
    assert time.slept == [waited]


def test_what_others_left_of_the_minute_is_all_that_goes_before_it_ends() -> None:
    time = Time()
    limits = limits_at(time)
    limits.acquire(BULK)
    limits.answered(BULK, 202, {"RateLimit-Remaining": "2", "RateLimit-Reset": "40"})
    for _ in range(2):
        limits.acquire(BULK)
        limits.answered(BULK, None, {})
    assert time.slept == []
    limits.acquire(BULK)
    assert time.slept == [40]


def test_requests_without_an_answer_count_like_others() -> None:
    time = Time()
    limits = limits_at(time)
    for _ in range(10):
        limits.acquire(BULK)
        limits.answered(BULK, None, {})
    assert time.slept == []
    limits.acquire(BULK)
    assert sum(time.slept) == pytest.approx(1.05)


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit-Limit": "many", "RateLimit-Remaining": "-1", "RateLimit-Reset": "soon"},
        {"RateLimit-Limit": "0;w=1, 0;w=60", "RateLimit-Remaining": "0"},
        {"RateLimit-Limit": "", "RateLimit-Reset": "30"},
        {"RateLimit-Limit": "9" * 500 + ";w=1", "RateLimit-Remaining": "٣", "RateLimit-Reset": "٣"},
    ],
)
def test_headers_that_make_no_sense_change_nothing(headers: dict[str, str]) -> None:
    time = Time()
    limits = limits_at(time)
    for _ in range(10):
        limits.acquire(BULK)
        limits.answered(BULK, 202, headers)
    assert time.slept == []


def test_a_window_of_which_nothing_is_left_is_never_waited_for_longer_than_it_lasts() -> None:
    time = Time()
    limits = limits_at(time)
    limits.answered(BULK, 202, {"RateLimit-Remaining": "0", "RateLimit-Reset": "999999"})
    limits.acquire(BULK)
    assert time.slept == [60]


def test_endpoints_have_limits_of_their_own_and_unknown_ones_none() -> None:
    time = Time()
    limits = limits_at(time)
    limits.answered(BULK, 429, {"Retry-After": "30"})
    for endpoint in (SINGLE, "GET /api/accounts"):
        limits.acquire(endpoint)
        limits.answered(endpoint, 200, {})
    assert time.slept == []


def test_limits_can_be_switched_off() -> None:
    time = Time()
    limits = limits_at(time, limits=NO_LIMITS)
    for _ in range(1000):
        limits.acquire(BULK)
        limits.answered(BULK, 429, {"Retry-After": "30"})
    assert time.slept == []


@pytest.mark.parametrize(("text", "number"), [("7", 7), (" 7 ", 7), ("7.5", None), ("-7", None), ("", None)])
def test_headers_hold_whole_seconds_or_nothing(text: str, number: int | None) -> None:
    assert whole_seconds(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("2.0", 2.0), (" 7 ", 7.0), ("-7", None), ("inf", None), ("Thu, 26 Nov 2026", None), (None, None)],
)
def test_seconds_may_have_a_fraction(text: str | None, number: float | None) -> None:
    assert decimal_seconds(text) == number
