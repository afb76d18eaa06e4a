"""Watermarks: how far an incremental pull came, in values of the source's own clock or counter.

How rows are read belongs to the readers, where a watermark is kept to loading.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from dunning_pipeline.errors import SourceError

Value = datetime | date | int | Decimal | str
"""What a database gives for a column or expression that tells the newest change."""

_PARSERS: dict[str, Callable[[str], Value]] = {
    "time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "number": Decimal,
    "text": str,
}


@dataclass(frozen=True)
class Watermark:
    """The highest value pulled so far. A time without a zone is of the source's."""

    value: Value

    @classmethod
    def parse(cls, text: str) -> "Watermark":
        """The watermark that `str` wrote. Raises SourceError for anything else."""
        kind, _, value = text.partition(" ")
        try:
            return cls(_PARSERS[kind](value))
        except (KeyError, ValueError, ArithmeticError):
            raise SourceError(f"'{text}' is no watermark, such as 'time 2026-11-22T09:00:00+00:00'") from None

    def __str__(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, date) else str(self.value)
        return f"{_kind(self.value)} {value}"

    def less(self, overlap: timedelta) -> Value:
        """The value to pull from: earlier by an overlap, because a transaction may commit after a later one.

        Numbers, and texts that are no times, have no distance in time: they are pulled from the value itself on.
        """
        match self.value:
            case datetime() as moment:
                return moment - overlap
            case date() as day:
                return day - _whole_days(overlap)
            case str() as text if written := _moment(text):
                return _like(text, written, overlap)
            case value:
                return value

    def capped(self, now: datetime, time_zone: str) -> "Watermark":
        """The same, but not after `now`: a row of the future would keep later changes from being pulled."""
        match self.value:
            case datetime() as moment:
                return Watermark(min(moment, _like_moment(moment, now, time_zone)))
            case date() as day:
                return Watermark(min(day, now.astimezone(ZoneInfo(time_zone)).date()))
            case str() as text if written := _moment(text):
                latest = _like_moment(written, now, time_zone)
                return self if written <= latest else Watermark(_like(text, latest, timedelta()))
            case _:
                return self


def highest(values: Iterable[object], so_far: Watermark | None) -> Watermark | None:
    """The highest of some values, empty ones left out, and of what was seen before.

    Raises:
        SourceError: a value is neither a time, a date, a number nor text, or they are of several kinds.
    """
    found: list[Any] = [value for value in values if value is not None]
    for value in found:
        if not isinstance(value, Value) or isinstance(value, bool):
            raise SourceError(
                f"the watermark yields {value!r}; allowed is what orders exactly: times, dates, whole numbers, text"
            )
    seen = found if so_far is None else [so_far.value, *found]
    try:
        return Watermark(max(seen)) if seen else None
    except TypeError:
        kinds = ", ".join(sorted({_kind(value) for value in seen}))
        raise SourceError(f"the watermark yields values that cannot be compared: {kinds}") from None


def _kind(value: object) -> str:
    match value:
        case datetime():
            return "time"
        case date():
            return "date"
        case int() | Decimal():
            return "number"
        case _:
            return "text"


def _like_moment(moment: datetime, now: datetime, time_zone: str) -> datetime:
    """Now, in the zone of a moment; without one where the moment has none."""
    return now.astimezone(moment.tzinfo) if moment.tzinfo else now.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _like(text: str, moment: datetime, overlap: timedelta) -> str:
    """A moment less an overlap, written like `text`, so that texts go on ordering like times."""
    if len(text) == len("2026-11-22"):
        return (moment - _whole_days(overlap)).date().isoformat()
    earlier = (moment - overlap).isoformat(text[10], "microseconds" if "." in text else "seconds")
    return earlier.replace("+00:00", "Z") if text.endswith("Z") else earlier


def _whole_days(overlap: timedelta) -> timedelta:
    return timedelta(days=-(-overlap // timedelta(days=1)))
