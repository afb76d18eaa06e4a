"""What time it is. The only place that reads the system's clock; tests and the demo hand in a clock of their own."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

Clock = Callable[[], datetime]
"""Returns the present instant, aware of its time zone."""


def system_clock() -> datetime:
    """The present instant in UTC."""
    return datetime.now(UTC)


def today(clock: Clock, time_zone: ZoneInfo) -> date:
    """The calendar day that it is in `time_zone`, the as-of date of a live decision."""
    return clock().astimezone(time_zone).date()
