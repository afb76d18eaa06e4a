"""Schedules: the daily batch, at `calendar.send_at` in the organisation's time zone."""

from zoneinfo import ZoneInfo

import dagster as dg

from dunning_pipeline.policy import Policy
from dunning_pipeline.runs import DAILY_JOB

FALLBACK_CRON = "30 8 * * *"


def daily_schedule(policy: Policy | None) -> dg.ScheduleDefinition:
    """Asks for the partition of the day of the tick. A tick made up for later asks for its own day, not today's,

    and such a day is decided but never sent (RULES 5.5, 9.2).
    """
    zone = policy.organisation.time_zone if policy else "UTC"

    @dg.schedule(
        name="daily_dunning_schedule",
        job_name=DAILY_JOB,
        cron_schedule=_cron(policy),
        execution_timezone=zone,
        description="Decides today's reminders once a day at calendar.send_at.",
    )
    def daily_dunning_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if policy is None:
            return dg.SkipReason("the policy is wrong: `dunning check` says where")
        day = context.scheduled_execution_time.astimezone(ZoneInfo(zone)).date().isoformat()
        return dg.RunRequest(run_key=day, partition_key=day)

    return daily_dunning_schedule


def _cron(policy: Policy | None) -> str:
    if policy is None:
        return FALLBACK_CRON
    at = policy.calendar.send_at
    return f"{at.minute} {at.hour} * * *"
