"""When an action may go: RULES.md section 5 and the trigger dates of 4.1. All delays are calendar days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, reduce

import holidays
import numpy as np
import pandas as pd

from dunning_pipeline.policy import ContactCap, Policy

AsOf = date | np.datetime64 | np.ndarray
"""The as-of date: one for all rows, or a datetime64[D] for each."""

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Calendars:
    """Working days by number of the calendar: counted once for a range of days, then looked up."""

    def __init__(self, calendars: Sequence[np.busdaycalendar]) -> None:
        self._calendars = calendars
        self._tables: dict[int, tuple[int, np.ndarray]] = {}

    def moved(self, days: np.ndarray, calendar: np.ndarray, offset: int) -> np.ndarray:
        """Each day moved forward to a working day of its calendar, and by `offset` working days from there.

        Takes datetime64[D]; NaT stays NaT.
        """
        numbers = days.astype("int64")
        last = numbers.max(initial=_NOT_A_DAY)
        if last == _NOT_A_DAY:
            return days
        start, table = self._table(int(np.fmin.reduce(days).astype("int64")), int(last), offset)
        place = np.maximum(numbers, start) - start
        return table[0, place] if len(table) == 1 else table[calendar, place]

    def _table(self, first: int, last: int, offset: int) -> tuple[int, np.ndarray]:
        """A day before all others, which stands for NaT, and the moved days by calendar and days since that one."""
        if offset in self._tables:
            start, table = self._tables[offset]
            if start < first and last < start + table.shape[1]:
                return start, table
            first, last = min(first, start + 1), max(last, start + table.shape[1] - 1)
        days = np.arange(first - 1, last + 1).astype("datetime64[D]")
        days[0] = np.datetime64("NaT")
        table = np.stack([np.busday_offset(days, offset, roll="forward", busdaycal=each) for each in self._calendars])
        self._tables[offset] = first - 1, table
        return self._tables[offset]


_NOT_A_DAY = np.datetime64("NaT").astype("int64")


@dataclass(frozen=True)
class WorkingDays:
    """The working days of each row (RULES 5.3): those of calendar number `of_row[i]` are row i's."""

    calendars: Calendars
    of_row: np.ndarray

    @classmethod
    def of(cls, policy: Policy, country: "pd.Series[str]", years: range) -> "WorkingDays":
        """The organisation's working days, or those of each row's country where the policy says so.

        Args:
            policy: its calendar: days of the week, holidays of a country and subdivision, `by_customer_country`.
            country: ISO 3166 code of each row; read only with `by_customer_country`. A country that is empty, unknown
                or the organisation's own gets the organisation's holidays, those of its subdivision included.
            years: the years whose holidays matter.
        """
        rule = policy.calendar.holidays
        week = [day in policy.calendar.working_days for day in WEEK]
        own = np.busdaycalendar(week, _holidays(rule.country, rule.subdivision, years))
        if not rule.by_customer_country:
            return cls(Calendars([own]), np.zeros(len(country), dtype="int64"))
        known = [code for code in country.dropna().unique() if code in supported_countries() - {rule.country}]
        calendars = [own, *(np.busdaycalendar(week, _holidays(code, None, years)) for code in known)]
        return cls(Calendars(calendars), pd.Index(known).get_indexer(pd.Index(country)) + 1)

    def take(self, rows: np.ndarray) -> "WorkingDays":
        """The working days of some of the rows."""
        return WorkingDays(self.calendars, self.of_row[rows])

    def includes(self, day: AsOf) -> np.ndarray:
        """Whether reminders may leave on `day`, for each row."""
        days = np.broadcast_to(np.asarray(day, dtype="datetime64[D]"), self.of_row.shape)
        return self.forward(days) == days

    def forward(self, days: np.ndarray) -> np.ndarray:
        """Each row's day itself if it is a working day, else the next one; NaT stays NaT. Takes datetime64[D]."""
        return self.calendars.moved(days, self.of_row, 0)

    def before(self, days: np.ndarray) -> np.ndarray:
        """The last working day before each row's day. Takes datetime64[D]."""
        return self.calendars.moved(days, self.of_row, -1)


def years_around(days: np.ndarray, policy: Policy) -> range:
    """The years in which a trigger or a next due date can lie, a year on either side included.

    Args:
        days: all anchors and as-of dates, as datetime64[D] or NaT.
        policy: its actions and repetitions.
    """
    repeats = [workflow.repeat_last.every for workflow in policy.workflows if workflow.repeat_last]
    reach = max([*repeats, *(abs(action.day) for workflow in policy.workflows for action in workflow.actions), 0])
    first, last = np.fmin.reduce(days, initial=_FAR), np.fmax.reduce(days, initial=_LONG_AGO)
    return range(_year(first - reach) - 1, _year(last + reach) + 2)


_LONG_AGO, _FAR = np.datetime64("1970-01-01"), np.datetime64("2100-01-01")


def _year(day: np.datetime64) -> int:
    return int(day.astype("datetime64[Y]").astype("int64")) + 1970


@cache
def supported_countries() -> frozenset[str]:
    """ISO 3166 codes of the countries whose holidays are known."""
    return frozenset(holidays.list_supported_countries(include_aliases=False))


def _holidays(country: str | None, subdivision: str | None, years: range) -> list[date]:
    if country is None:
        return []
    return [day for year in years for day in _holidays_of_year(country, subdivision, year)]


@cache
def _holidays_of_year(country: str, subdivision: str | None, year: int) -> tuple[date, ...]:
    return tuple(holidays.country_holidays(country, subdiv=subdivision, years=year))


def day_numbers(dates: pd.Series) -> np.ndarray:
    """Days since 1970; an empty date precedes all others."""
    return dates.to_numpy().astype("datetime64[D]").astype("int64")


def trigger_dates(anchor: np.ndarray, day: np.ndarray, calendar: WorkingDays) -> np.ndarray:
    """Anchor + day, moved back for an action before the anchor that would otherwise be lost (RULES 4.1).

    Args:
        anchor: datetime64[D]; NaT gives NaT.
        day: int64, days after the anchor, negative before it.
        calendar: working days.
    """
    trigger = anchor + day
    before = np.flatnonzero(day < 0)
    calendar = calendar.take(before)
    lost = calendar.forward(trigger[before]) >= anchor[before]
    trigger[before[lost]] = calendar.take(lost).before(trigger[before[lost]])
    return trigger


def earliest_contact(last_contact: np.ndarray, delay: np.ndarray, as_of: AsOf) -> np.ndarray:
    """Day from which the minimum contact delay allows the next contact (RULES 5.1); NaT without a last contact.

    The delay counts as at least 1 when the last contact is on `as_of` itself (RULES 6).
    """
    today = last_contact == np.asarray(as_of, dtype="datetime64[D]")
    return last_contact + np.where(today, np.maximum(delay, 1), delay)


def deferred_until(order_event: np.ndarray, due: np.ndarray, cap: ContactCap) -> np.ndarray:
    """Day from which the contact cap defers a reminder no more (RULES 5.4); NaT without an order event.

    Args:
        order_event: day of the customer's latest event about an order.
        due: day on which the reminder would go otherwise.
        cap: for how long it waits.
    """
    return np.minimum(order_event + cap.days, due + cap.max_deferral)


def latest_of(*days: np.ndarray) -> np.ndarray:
    """The latest of several days row by row; NaT counts as no day."""
    return reduce(np.fmax, days)
