"""Sensors: `send_reminders_sensor` asks for the sending of today's batch. It never opens the warehouse."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from dagster import ResourceParam

from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.errors import DunningError
from dunning_pipeline.jobs import send_run_config, send_tags
from dunning_pipeline.runs import (
    BACKFILL_TAG,
    BATCH_TAG,
    DAILY_JOB,
    PARTITION_TAG,
    SEND_JOB,
    STARTED_BY_HAND_TAG,
)
from dunning_pipeline.sending import may_send
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import REMINDERS

MOST_FAILURES = 3
INTERVAL_SECONDS = 30
RUNS_LOOKED_AT = 50


@dataclass(frozen=True)
class SendView:
    """What the sensor sees of today: why sending is off (None: it is on), the newest eligible batch, its sends."""

    today: date
    refusal: str | None
    batch_id: str | None
    sends: Sequence[dg.DagsterRunStatus]


def decide_send(view: SendView) -> dg.RunRequest | dg.SkipReason:
    """Asks for a send of today's newest batch until one has succeeded; gives up after three failures.

    A failed send is asked for again under a new run key, a finished one is not (DESIGN, Sending is an act).
    """
    if view.refusal:
        return dg.SkipReason(view.refusal)
    if view.batch_id is None:
        return dg.SkipReason(f"no daily_dunning run of today ({view.today}) has succeeded yet")
    if any(not _finished(status) for status in view.sends):
        return dg.SkipReason(f"batch {view.batch_id} is being sent")
    if dg.DagsterRunStatus.SUCCESS in view.sends:
        return dg.SkipReason(f"batch {view.batch_id} of today ({view.today}) was sent already")
    if len(view.sends) >= MOST_FAILURES:
        return dg.SkipReason(
            f"batch {view.batch_id} failed to be sent {len(view.sends)} times: look at the runs of {SEND_JOB}, "
            "and run the job by hand or daily_dunning again when it is mended"
        )
    return dg.RunRequest(
        run_key=f"{view.batch_id}:{len(view.sends)}",
        run_config=send_run_config(view.batch_id),
        tags=send_tags(view.batch_id),
    )


def gather_send_view(instance: dg.DagsterInstance, settings: Settings) -> SendView:
    """What `decide_send` needs, from Dagster's own records only."""
    try:
        refusal, today = may_send(settings), settings.today()
    except DunningError as error:
        return SendView(date.min, f"the policy is wrong: {error}", None, ())
    if refusal:
        return SendView(today, refusal, None, ())
    batch_id = _newest_eligible_run(instance, today)
    return SendView(today, None, batch_id, _sends(instance, batch_id) if batch_id else ())


def _newest_eligible_run(instance: dg.DagsterInstance, today: date) -> str | None:
    """The newest successful daily run of today's partition that was no backfill and not started by hand.

    A run of only some of the job's assets counts if it made a batch.
    """
    runs = instance.get_runs(
        dg.RunsFilter(
            job_name=DAILY_JOB,
            tags={PARTITION_TAG: today.isoformat()},
            statuses=[dg.DagsterRunStatus.SUCCESS],
        ),
        limit=RUNS_LOOKED_AT,
    )
    eligible = (run for run in runs if not {BACKFILL_TAG, STARTED_BY_HAND_TAG} & run.tags.keys() and _made_batch(run))
    return next((run.run_id for run in eligible), None)


def _made_batch(run: dg.DagsterRun) -> bool:
    return not run.asset_selection or asset_key(REMINDERS) in run.asset_selection


def _sends(instance: dg.DagsterInstance, batch_id: str) -> list[dg.DagsterRunStatus]:
    runs = instance.get_runs(dg.RunsFilter(job_name=SEND_JOB, tags={BATCH_TAG: batch_id}))
    return [run.status for run in runs]


def _finished(status: dg.DagsterRunStatus) -> bool:
    return status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dg.sensor(
    name="send_reminders_sensor",
    job_name=SEND_JOB,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks for send_reminders when today's daily_dunning run has succeeded and sending.live is true.",
)
def send_reminders_sensor(
    context: dg.SensorEvaluationContext, settings: ResourceParam[Settings]
) -> dg.RunRequest | dg.SkipReason:
    """Gathers and decides."""
    return decide_send(gather_send_view(context.instance, settings))
