"""The send sensor: its decision for every case, gathered from a real instance, and evaluated as the daemon does."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from support import MovingClock, settings_at

from dunning_pipeline.policy import PolicyError, parse_policy
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.runs import (
    BACKFILL_TAG,
    BATCH_TAG,
    DAILY_JOB,
    DRY_RUN,
    NEEDS_CONFIRMATION,
    PARTITION_TAG,
    SEND,
    SEND_JOB,
    STARTED_BY_HAND_TAG,
    batch_is_live,
)
from dunning_pipeline.sensors import Send, SendView, decide_send, gather_send_view, send_reminders_sensor
from dunning_pipeline.settings import Settings

TODAY = date(2025, 3, 12)
REMINDERS = dg.AssetKey(["dunning", "reminders"])
SENT_HISTORY = dg.AssetKey(["dunning", "sent_history"])
DECISIONS = dg.AssetKey(["dunning", "decisions"])
POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: 2024-01-01}
workflows: [{name: standard, default: true, actions: [{name: first, day: 1}]}]
sending: {live: true}
"""
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
STARTED, CANCELED = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELED


@dataclass
class Records:
    """An instance with the runs that a test writes into it, and what the sensor says of them."""

    instance: dg.DagsterInstance
    settings: Settings

    def daily(
        self,
        status: dg.DagsterRunStatus = SUCCESS,
        day: date = TODAY,
        live: bool | None = True,
        unusual: str | None = None,
    ) -> str:
        """A run of daily_dunning that made a batch, live unless told otherwise, or none; returns its id."""
        run = dg.DagsterRun(DAILY_JOB, str(uuid.uuid4()), status=status, tags={PARTITION_TAG: day.isoformat()})
        return add_with_batch(self.instance, run, live, unusual)

    def send(self, batch_id: str, status: dg.DagsterRunStatus) -> None:
        """A run of send_reminders for a batch, over now if its status says so."""
        run = dg.DagsterRun(SEND_JOB, str(uuid.uuid4()), tags={BATCH_TAG: batch_id})
        self.instance.add_run(run)
        event = dg.DagsterEvent(_EVENTS[status].value, SEND_JOB)
        self.instance.report_dagster_event(event, run.run_id)

    def send_from_launch_pad(self, batch_id: str, left: int) -> None:
        """A run of send_reminders that somebody started by hand, without a tag, and that left so many."""
        run = dg.DagsterRun(SEND_JOB, str(uuid.uuid4()), status=SUCCESS)
        self.instance.add_run(run)
        made = dg.AssetMaterialization(SENT_HISTORY, metadata={"batch_id": batch_id, "left": left})
        materialize(self.instance, run, made)

    def answer(self, later: float = 3600) -> dg.RunRequest | dg.SkipReason:
        """What the sensor decides `later` seconds from now, from what is there."""
        return decide_send(gather_send_view(self.instance, self.settings, system_clock().timestamp() + later))


_EVENTS = {
    SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
    FAILURE: dg.DagsterEventType.RUN_FAILURE,
    CANCELED: dg.DagsterEventType.RUN_CANCELED,
    STARTED: dg.DagsterEventType.RUN_START,
}


def add_with_batch(
    instance: dg.DagsterInstance, run: dg.DagsterRun, live: bool | None, unusual: str | None = None
) -> str:
    """Adds a run to Dagster's records, with the batch that it made of its day (None: none); returns its id."""
    instance.add_run(run)
    if live is not None:
        metadata = {"live": live, **({NEEDS_CONFIRMATION: unusual} if unusual else {})}
        materialize(instance, run, dg.AssetMaterialization(REMINDERS, None, metadata, run.tags[PARTITION_TAG]))
    return run.run_id


def materialize(instance: dg.DagsterInstance, run: dg.DagsterRun, made: dg.AssetMaterialization) -> None:
    """Adds a materialisation by a run to Dagster's records."""
    event = dg.DagsterEvent(
        dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        run.job_name,
        event_specific_data=StepMaterializationData(made),
    )
    instance.report_dagster_event(event, run.run_id)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    clock = MovingClock(datetime(2025, 3, 12, 8, 45, tzinfo=UTC))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Records(instance, settings_at(tmp_path, POLICY, clock))


def sentence(answer: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


def asked_for(answer: dg.RunRequest | dg.SkipReason) -> tuple[str, str]:
    """The batch and the run key of a request."""
    assert isinstance(answer, dg.RunRequest)
    batch_id = answer.tags[BATCH_TAG]
    assert answer.run_config == {"ops": {"send": {"config": {"batch_id": batch_id}}}}
    return batch_id, str(answer.run_key)


def view(
    *sends: dg.DagsterRunStatus,
    refusal: str | None = None,
    batch_id: str | None = "b",
    daily: dg.DagsterRunStatus | None = SUCCESS,
    over_for: float = 3600,
) -> SendView:
    return SendView(TODAY, refusal, batch_id, daily, [Send(status, over_for) for status in sends])


@pytest.mark.parametrize(
    ("sends", "key"),
    [((), "b:0"), ((FAILURE,), "b:1"), ((CANCELED,), "b:1"), ((FAILURE, CANCELED), "b:2")],
)
def test_a_batch_is_asked_for_until_it_was_sent(sends: tuple[dg.DagsterRunStatus, ...], key: str) -> None:
    assert asked_for(decide_send(view(*sends))) == ("b", key)


@pytest.mark.parametrize(
    ("sends", "over_for", "pause"),
    [
        ((FAILURE,), 59.9, 60),
        ((FAILURE,), 60, None),
        ((FAILURE, CANCELED), 599.9, 600),
        ((FAILURE, CANCELED), 600, None),
    ],
)
def test_between_failures_there_is_a_pause(
    sends: tuple[dg.DagsterRunStatus, ...], over_for: float, pause: int | None
) -> None:
    answer = decide_send(view(*sends, over_for=over_for))
    if pause is None:
        assert asked_for(answer) == ("b", f"b:{len(sends)}")
    else:
        assert sentence(answer) == f"batch b failed to be sent: it is tried again {pause} s after that"


def test_a_batch_of_unusual_size_is_not_asked_for_until_somebody_confirmed_it() -> None:
    unusual = replace(view(), unusual="batch b would send too much; confirm it")
    assert sentence(decide_send(unusual)) == "batch b would send too much; confirm it"
    assert "was sent already" in sentence(decide_send(replace(unusual, sent=True)))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (view(refusal="sending is off"), "sending is off"),
        (view(refusal="sending is off", batch_id=None), "sending is off"),
        (view(batch_id=None), "no daily_dunning run of today (2025-03-12) has made a live batch yet"),
        (
            view(daily=FAILURE),
            "the daily_dunning run b, which made today's newest batch, has not succeeded (FAILURE): "
            "it is never sent; if it failed, run it again",
        ),
        (
            view(daily=None),
            "the daily_dunning run b, which made today's newest batch, has not succeeded (unknown): "
            "it is never sent; if it failed, run it again",
        ),
        (view(SUCCESS), "batch b of today (2025-03-12) was sent already"),
        (view(SUCCESS, FAILURE), "batch b of today (2025-03-12) was sent already"),
        (view(FAILURE, FAILURE, FAILURE, SUCCESS), "batch b of today (2025-03-12) was sent already"),
        (
            view(FAILURE, CANCELED, FAILURE),
            "batch b failed to be sent 3 times: look at the runs of send_reminders, "
            "and run the job by hand or daily_dunning again when it is mended",
        ),
    ],
)
def test_a_skip_says_why(seen: SendView, words: str) -> None:
    assert sentence(decide_send(seen)) == words


@pytest.mark.parametrize(
    "status", [status for status in dg.DagsterRunStatus if status not in (SUCCESS, FAILURE, CANCELED)]
)
def test_while_a_send_is_under_way_no_other_is_asked_for(status: dg.DagsterRunStatus) -> None:
    assert sentence(decide_send(view(FAILURE, status))) == "batch b is being sent"


def test_before_the_first_run_there_is_nothing_to_send(records: Records) -> None:
    assert "has made a live batch yet" in sentence(records.answer())


@pytest.mark.parametrize("status", [FAILURE, STARTED, CANCELED, dg.DagsterRunStatus.NOT_STARTED])
def test_a_daily_run_that_has_not_succeeded_is_not_sent(records: Records, status: dg.DagsterRunStatus) -> None:
    batch_id = records.daily(status)
    words = f"the daily_dunning run {batch_id}, which made today's newest batch, has not succeeded ({status.value})"
    assert words in sentence(records.answer())


def test_a_successful_daily_run_of_today_is_sent(records: Records) -> None:
    batch_id = records.daily()
    answer = records.answer()
    assert asked_for(answer) == (batch_id, f"{batch_id}:0")
    assert isinstance(answer, dg.RunRequest)
    assert answer.tags == {BATCH_TAG: batch_id}


def test_a_send_under_way_is_seen(records: Records) -> None:
    batch_id = records.daily()
    records.send(batch_id, STARTED)
    assert sentence(records.answer()) == f"batch {batch_id} is being sent"


def test_a_batch_that_was_sent_is_not_asked_for_again(records: Records) -> None:
    batch_id = records.daily()
    records.send(batch_id, SUCCESS)
    assert "was sent already" in sentence(records.answer())


def test_a_failed_send_is_asked_for_under_a_new_key(records: Records) -> None:
    batch_id = records.daily()
    for number in range(3):
        assert asked_for(records.answer()) == (batch_id, f"{batch_id}:{number}")
        records.send(batch_id, FAILURE)
    assert f"batch {batch_id} failed to be sent 3 times" in sentence(records.answer())


def test_a_batch_of_unusual_size_waits_until_somebody_sent_all_of_it_by_hand(records: Records) -> None:
    batch_id = records.daily(unusual="too much; confirm it")
    assert sentence(records.answer()) == "too much; confirm it"
    records.send_from_launch_pad("another batch", left=0)
    records.send_from_launch_pad(batch_id, left=1)
    assert sentence(records.answer()) == "too much; confirm it"
    records.send_from_launch_pad(batch_id, left=0)
    assert "was sent already" in sentence(records.answer())


def test_sends_of_another_batch_do_not_count(records: Records) -> None:
    older = records.daily()
    for _ in range(3):
        records.send(older, FAILURE)
    newer = records.daily()
    assert asked_for(records.answer()) == (newer, f"{newer}:0")


def test_after_a_failure_the_pauses_are_counted_from_its_end(records: Records) -> None:
    batch_id = records.daily()
    records.send(batch_id, FAILURE)
    assert "it is tried again 60 s after that" in sentence(records.answer(later=30))
    assert asked_for(records.answer(later=90)) == (batch_id, f"{batch_id}:1")
    records.send(batch_id, CANCELED)
    assert "it is tried again 600 s after that" in sentence(records.answer(later=300))
    assert asked_for(records.answer(later=700)) == (batch_id, f"{batch_id}:2")


@pytest.mark.parametrize("live", [False, None])
def test_a_run_that_made_no_live_batch_is_not_sent(records: Records, live: bool | None) -> None:
    records.daily(live=live)
    assert "has made a live batch yet" in sentence(records.answer())


@pytest.mark.parametrize("live", [False, None])
def test_such_runs_do_not_hide_an_older_one_that_may_be_sent(records: Records, live: bool | None) -> None:
    batch_id = records.daily()
    records.daily(live=live)
    assert asked_for(records.answer()) == (batch_id, f"{batch_id}:0")


def test_an_older_batch_is_never_sent_in_place_of_the_newest_one(records: Records) -> None:
    records.daily()
    newest = records.daily(FAILURE)
    assert f"the daily_dunning run {newest}, which made today's newest batch" in sentence(records.answer())


def run_of(job: str = DAILY_JOB, **options: Any) -> dg.DagsterRun:
    return dg.DagsterRun(job, str(uuid.uuid4()), **options)


@pytest.mark.parametrize(
    ("run", "live"),
    [
        (run_of(), True),
        (run_of(asset_selection=frozenset()), True),
        (run_of(tags={STARTED_BY_HAND_TAG: SEND}), True),
        (run_of(tags={STARTED_BY_HAND_TAG: DRY_RUN}), False),
        (run_of(tags={BACKFILL_TAG: "abcdef"}), False),
        (run_of(asset_selection=frozenset([REMINDERS])), False),
        (run_of(asset_selection=frozenset([REMINDERS, DECISIONS])), True),
        (run_of(parent_run_id="1234", root_run_id="1234"), False),
        (run_of("__ASSET_JOB"), False),
    ],
    ids=[
        "daily",
        "daily in process",
        "run --send",
        "dry run",
        "backfill",
        "some assets",
        "all assets by name",
        "re-execution",
        "other job",
    ],
)
def test_only_a_whole_first_daily_run_makes_a_live_batch(run: dg.DagsterRun, live: bool) -> None:
    assert batch_is_live(parse_policy(POLICY), run, {REMINDERS, DECISIONS}) is live
    assert not batch_is_live(parse_policy(POLICY.replace("live: true", "live: false")), run, set())


@pytest.mark.parametrize("days", [-1, 1])
def test_a_run_of_another_day_is_not_sent(records: Records, days: int) -> None:
    records.daily(day=TODAY + timedelta(days=days))
    assert "no daily_dunning run of today (2025-03-12)" in sentence(records.answer())


def test_today_is_the_day_in_the_organisations_time_zone(records: Records) -> None:
    clock = MovingClock(datetime(2025, 3, 12, 22, 59, tzinfo=UTC))
    records.settings = replace(records.settings, clock=clock)
    batch_id = records.daily()
    assert asked_for(records.answer()) == (batch_id, f"{batch_id}:0")
    clock.advance(minutes=1)
    assert "no daily_dunning run of today (2025-03-13)" in sentence(records.answer())


def test_the_newest_of_two_runs_of_today_wins(records: Records) -> None:
    older, newer = records.daily(), records.daily()
    assert asked_for(records.answer()) == (newer, f"{newer}:0")
    records.send(newer, SUCCESS)
    assert newer in sentence(records.answer())
    assert older not in sentence(records.answer())


def test_a_policy_that_is_not_live_is_said(records: Records, tmp_path: Path) -> None:
    clock = MovingClock(datetime(2025, 3, 12, 8, 45, tzinfo=UTC))
    records.settings = settings_at(tmp_path, POLICY.replace("live: true", "live: false"), clock)
    records.daily()
    assert sentence(records.answer()) == "sending.live is false in the policy: this is a dry run, nothing is sent"


def test_a_missing_key_is_said(records: Records) -> None:
    records.settings = replace(records.settings, environment={})
    records.daily()
    assert sentence(records.answer()) == "the environment variable KLAVIYO_API_KEY is not set"


def wrong_policy() -> PolicyError:
    with pytest.raises(PolicyError) as raised:
        parse_policy(POLICY.replace("live: true", "live: perhaps"), "dunning.yaml")
    return raised.value


def test_a_wrong_policy_is_said(records: Records) -> None:
    records.settings = replace(records.settings, loaded=wrong_policy())
    words = sentence(records.answer())
    assert words.startswith("the policy is wrong: dunning.yaml:4: sending.live:")


def test_the_sensor_ships_stopped_and_starts_the_send_job() -> None:
    assert send_reminders_sensor.name == "send_reminders_sensor"
    assert send_reminders_sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert [target.job_name for target in send_reminders_sensor.targets] == [SEND_JOB]


def test_the_daemon_gets_the_same_answer(records: Records) -> None:
    context = dg.build_sensor_context(instance=records.instance, resources={"settings": records.settings})
    skipped = send_reminders_sensor.evaluate_tick(context)
    assert "has made a live batch yet" in str(skipped.skip_message)
    assert not skipped.run_requests

    batch_id = records.daily()
    (request,) = send_reminders_sensor.evaluate_tick(context).run_requests or []
    assert request.run_key == f"{batch_id}:0"
    assert request.tags[BATCH_TAG] == batch_id


def test_the_sensor_never_opens_the_warehouse(records: Records) -> None:
    records.daily()
    records.answer()
    assert not records.settings.warehouse_path.exists()
