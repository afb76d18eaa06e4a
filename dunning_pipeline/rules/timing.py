"""When an action may go: RULES.md section 5 and the trigger dates of 4.1. All delays are calendar days."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from dunning_pipeline.policy import Policy

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class WorkingDays:
    """The organisation's working days (RULES 5.3): days of the week less holidays."""

    days: tuple[str, ...]
    holidays: tuple[date, ...] = ()

    @classmethod
    def of(cls, policy: Policy) -> "WorkingDays":
        """The working days that the policy's calendar sets."""
        return cls(tuple(policy.calendar.working_days))

    @cached_property
    def _calendar(self) -> np.busdaycalendar:
        return np.busdaycalendar([day in self.days for day in WEEK], list(self.holidays))

    def includes(self, day: date) -> bool:
        """Whether reminders may leave on `day`."""
        return bool(np.is_busday(np.datetime64(day), busdaycal=self._calendar))

    def forward(self, days: np.ndarray) -> np.ndarray:
        """Each day itself if it is a working day, else the next one; NaT stays NaT. Takes datetime64[D]."""
        return np.busday_offset(days, 0, roll="forward", busdaycal=self._calendar)

    def before(self, days: np.ndarray) -> np.ndarray:
        """The last working day before each day. Takes datetime64[D]."""
        return np.busday_offset(days, -1, roll="forward", busdaycal=self._calendar)


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
