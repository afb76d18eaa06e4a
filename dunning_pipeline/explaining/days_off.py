"""Which days are off, and what for, in words. When reminders may go is decided in rules/timing.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import holidays

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules.timing import supported_countries

LANGUAGE = "en_US"
"""Of the holidays' names, where the country's have any in it."""


@dataclass(frozen=True)
class DaysOff:
    """The days off of a customer: its country's where the policy says so, else the organisation's (RULES 5.3)."""

    policy: Policy
    country: str | None

    def why(self, value: date) -> str | None:
        """`a Saturday`, the name of a holiday, or None for a working day."""
        if value.weekday() not in self.policy.calendar.working_weekdays:
            return f"a {value:%A}"
        return self._holidays(value.year).get(value)

    def next_working_day(self, value: date) -> date:
        """The day itself if it is a working day, else the next one."""
        while self.why(value):
            value += timedelta(days=1)
        return value

    def _holidays(self, year: int) -> Mapping[date, str]:
        rule = self.policy.calendar.holidays
        if rule.by_customer_country and self.country in supported_countries() - {rule.country}:
            return _named(self.country, None, year)
        return _named(rule.country, rule.subdivision, year) if rule.country else {}


@cache
def _named(country: str, subdivision: str | None, year: int) -> Mapping[date, str]:
    named: Mapping[date, str] = holidays.country_holidays(country, subdiv=subdivision, years=year, language=LANGUAGE)
    return named
