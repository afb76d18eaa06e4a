"""The policy that everybody decides by: one workflow of four actions, French holidays, five days between contacts."""

from datetime import date, timedelta
from functools import cache

import holidays

from dunning_pipeline.policy import Policy, parse_policy

WORKFLOW, DELAY, COUNTRY = "standard", 5, "FR"
LADDER = {"almost_due": -3, "reminder_1": 1, "reminder_2": 8, "final_notice": 21}
"""Days after the due date by action."""

FIRST_DAY, LAST_DAY = date(2023, 1, 1), date(2029, 12, 31)
"""Around every day that a decision can meet."""

ACTIONS = "\n".join(f"      - {{name: {name}, day: {day}}}" for name, day in LADDER.items())
TEXT = f"""
organisation: {{time_zone: Europe/Paris, base_currency: EUR}}
calendar: {{holidays: {{country: {COUNTRY}}}}}
sources: {{benchmark: {{kind: files, tables: {{customers: customers.csv}}}}}}
workflows:
  - name: {WORKFLOW}
    default: true
    minimum_contact_delay: {DELAY}
    actions:
{ACTIONS}
"""


@cache
def policy() -> Policy:
    """The policy as the pipeline reads it."""
    return parse_policy(TEXT)


@cache
def working_days() -> dict[date, tuple[date, date]]:
    """Each day with the next working day from it on, and the last one before it."""
    days = [FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days)]
    off = holidays.country_holidays(COUNTRY, years=range(FIRST_DAY.year, LAST_DAY.year + 1))
    working = {day for day in days if day.weekday() < 5 and day not in off}

    def to_working(day: date, step: int) -> date:
        while day not in working and FIRST_DAY <= day <= LAST_DAY:
            day += timedelta(days=step)
        return day

    return {day: (to_working(day, 1), to_working(day - timedelta(days=1), -1)) for day in days}
