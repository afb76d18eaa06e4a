"""When an action may go: RULES.md section 5 and the trigger dates of 4.1. All delays are calendar days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import holidays
import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class WorkingDays:
    """The working days of each row (RULES 5.3): `calendars[of_row[i]]` are those of row i."""

    calendars: Sequence[np.busdaycalendar]
    of_row: np.ndarray

    @classmethod
    def of(cls, policy: Policy, country: "pd.Series[str]", years: range) -> "WorkingDays":
        """The organisation's working days, or those of each row's country where the policy says so.

        Args:
            policy: its calendar: days of the week, holidays of a country and subdivision, `by_customer_country`.
            country: ISO 3166 code of each row; read only with `by_customer_country`. A country that is empty or
                unknown gets the organisation's holidays.
            years: the years whose holidays matter.
        """
        rule = policy.calendar.holidays
        week = [day in policy.calendar.working_days for day in WEEK]
        own = np.busdaycalendar(week, _holidays(rule.country, rule.subdivision, years))
        if not rule.by_customer_country:
            return cls([own], np.zeros(len(country), dtype="int64"))
        known = [code for code in country.dropna().unique() if code in supported_countries()]
        calendars = [own, *(np.busdaycalendar(week, _holidays(code, None, years)) for code in known)]
        return cls(calendars, pd.Index(known).get_indexer(pd.Index(country)) + 1)

    def includes(self, day: date) -> np.ndarray:
        """Whether reminders may leave on `day`, for each row."""
        open_today = np.array([np.is_busday(np.datetime64(day), busdaycal=calendar) for calendar in self.calendars])
        return open_today[self.of_row]

    def forward(self, days: np.ndarray) -> np.ndarray:
        """Each row's day itself if it is a working day, else the next one; NaT stays NaT. Takes datetime64[D]."""
        return self._offset(days, 0)

    def before(self, days: np.ndarray) -> np.ndarray:
        """The last working day before each row's day. Takes datetime64[D]."""
        return self._offset(days, -1)

    def _offset(self, days: np.ndarray, offset: int) -> np.ndarray:
        moved = np.empty(len(days), dtype="datetime64[D]")
        for number, calendar in enumerate(self.calendars):
            rows = self.of_row == number
            moved[rows] = np.busday_offset(days[rows], offset, roll="forward", busdaycal=calendar)
        return moved


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


def trigger_dates(anchor: np.ndarray, day: np.ndarray, calendar: WorkingDays) -> np.ndarray:
    """Anchor + day, moved back for an action before the anchor that would otherwise be lost (RULES 4.1).

    Args:
        anchor: datetime64[D]; NaT gives NaT.
        day: int64, days after the anchor, negative before it.
        calendar: working days.
    """
    trigger = anchor + day
    lost = (day < 0) & (calendar.forward(trigger) >= anchor)
    return np.where(lost, calendar.before(trigger), trigger)


def earliest_contact(last_contact: np.ndarray, delay: np.ndarray, as_of: date) -> np.ndarray:
    """Day from which the minimum contact delay allows the next contact (RULES 5.1); NaT without a last contact.

    The delay counts as at least 1 when the last contact is on `as_of` itself (RULES 6).
    """
    return last_contact + np.where(last_contact == np.datetime64(as_of), np.maximum(delay, 1), delay)


def latest_of(*days: np.ndarray) -> np.ndarray:
    """The latest of several days row by row; NaT counts as no day."""
    return np.fmax.reduce(days)
