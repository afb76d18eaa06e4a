"""The one partitions definition: a partition is an as-of day in the organisation's time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from dagster import AssetExecutionContext, DailyPartitionsDefinition

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules.standing import Window

FALLBACK_FIRST_DAY = "2020-01-01"


def daily_partitions(policy: Policy | None) -> DailyPartitionsDefinition:
    """Days from `organisation.first_day` to today, which a morning run decides (`end_offset=1`)."""
    return DailyPartitionsDefinition(
        start_date=policy.organisation.first_day.isoformat() if policy else FALLBACK_FIRST_DAY,
        timezone=policy.organisation.time_zone if policy else "UTC",
        end_offset=1,
    )


@dataclass(frozen=True)
class Days:
    """A window of as-of days, both ends included: one day in a daily run, many in a backfill."""

    first: date
    last: date

    @classmethod
    def of(cls, context: AssetExecutionContext) -> "Days":
        """The days of the run's partition time window."""
        window = context.partition_time_window
        return cls(window.start.date(), window.end.date() - timedelta(days=1))

    @property
    def window(self) -> Window:
        """The same days as the rules want them."""
        return Window.of(self.first, self.last)

    def chunks(self, size: int) -> "Iterator[Days]":
        """Windows of at most `size` days that make up this one, in order."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield Days(self.first + timedelta(days=start), self.first + timedelta(days=stop - 1))

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1))

    def __len__(self) -> int:
        return (self.last - self.first).days + 1
