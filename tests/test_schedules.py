"""The daily schedule: which day a tick asks for, and when it ticks."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from support import MovingClock, settings_at

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.policy import Policy, parse_policy
from dunning_pipeline.runs import DAILY_JOB
from dunning_pipeline.schedules import daily_schedule


def policy(zone: str = "Europe/Paris", send_at: str = "08:30") -> Policy:
    return parse_policy(
        f"""
organisation: {{time_zone: {zone}, base_currency: EUR, first_day: 2020-01-01}}
calendar: {{send_at: "{send_at}"}}
workflows: [{{name: standard, default: true, actions: [{{name: first, day: 1}}]}}]
"""
    )


def answer(schedule: dg.ScheduleDefinition, at: datetime) -> object:
    """What the schedule says when it ticks at an instant."""
    with dg.build_schedule_context(scheduled_execution_time=at) as context:
        return schedule(context)


def asked_for(schedule: dg.ScheduleDefinition, at: datetime) -> str:
    request = answer(schedule, at)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key is not None
    assert request.run_key == request.partition_key
    return request.partition_key


@pytest.mark.parametrize(
    ("zone", "instant", "day"),
    [
        ("Europe/Paris", datetime(2025, 3, 12, 7, 30), "2025-03-12"),
        ("Europe/Paris", datetime(2025, 3, 12, 22, 59, 59), "2025-03-12"),
        ("Europe/Paris", datetime(2025, 3, 12, 23, 0), "2025-03-13"),
        ("Europe/Paris", datetime(2025, 3, 29, 23, 0), "2025-03-30"),
        ("Europe/Paris", datetime(2025, 3, 30, 21, 59), "2025-03-30"),
        ("Europe/Paris", datetime(2025, 3, 30, 22, 0), "2025-03-31"),
        ("Europe/Paris", datetime(2025, 10, 25, 22, 0), "2025-10-26"),
        ("Europe/Paris", datetime(2025, 10, 26, 22, 59), "2025-10-26"),
        ("Europe/Paris", datetime(2025, 10, 26, 23, 0), "2025-10-27"),
        ("America/Los_Angeles", datetime(2025, 3, 12, 6, 30), "2025-03-11"),
        ("Pacific/Auckland", datetime(2025, 3, 12, 11, 0), "2025-03-13"),
        ("UTC", datetime(2025, 12, 31, 23, 59), "2025-12-31"),
    ],
)
def test_a_tick_asks_for_the_local_day_of_the_tick(zone: str, instant: datetime, day: str) -> None:
    assert asked_for(daily_schedule(policy(zone)), instant.replace(tzinfo=UTC)) == day


@pytest.mark.parametrize(
    ("send_at", "cron"), [("08:30", "30 8 * * *"), ("00:00", "0 0 * * *"), ("23:05", "5 23 * * *")]
)
def test_it_ticks_at_the_policys_time_in_the_organisations_zone(send_at: str, cron: str) -> None:
    schedule = daily_schedule(policy("America/New_York", send_at))
    assert schedule.cron_schedule == cron
    assert schedule.execution_timezone == "America/New_York"


@pytest.mark.parametrize("send_at", ["00:00", "02:30", "08:30", "23:30"])
@pytest.mark.parametrize("first", [date(2025, 3, 28), date(2025, 10, 24)])
def test_each_day_is_asked_for_once_when_the_clocks_change(send_at: str, first: date) -> None:
    schedule = daily_schedule(policy(send_at=send_at))
    start = datetime.combine(first, datetime.min.time(), ZoneInfo("Europe/Paris")).timestamp()
    ticks = schedule_execution_time_iterator(start, str(schedule.cron_schedule), schedule.execution_timezone)
    days = [asked_for(schedule, at) for at in islice(ticks, 6)]
    assert days == [(first + timedelta(days=n)).isoformat() for n in range(6)]


def test_a_tick_made_up_for_later_asks_for_its_own_day() -> None:
    missed = datetime(2025, 3, 10, 8, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert asked_for(daily_schedule(policy()), missed) == "2025-03-10"


def test_with_a_wrong_policy_it_skips_and_says_so() -> None:
    skipped = answer(daily_schedule(None), datetime(2025, 3, 12, tzinfo=UTC))
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "the policy is wrong: `dunning check` says where"


def test_the_daemon_starts_the_partition_of_the_day(tmp_path: Path) -> None:
    clock = MovingClock(datetime(2025, 3, 12, 7, 30, tzinfo=UTC))
    repository = build_defs(settings_at(tmp_path, policy().text, clock)).get_repository_def()
    schedule = repository.get_schedule_def("daily_dunning_schedule")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_schedule_context(
            instance=instance, scheduled_execution_time=clock(), repository_def=repository
        ) as context,
    ):
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.tags["dagster/partition"] == "2025-03-12"


def test_it_starts_the_daily_job_and_ships_stopped() -> None:
    schedule = daily_schedule(policy())
    assert (schedule.name, schedule.job_name) == ("daily_dunning_schedule", DAILY_JOB)
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
