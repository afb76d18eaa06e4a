"""Sensors: `send_reminders_sensor` asks for the sending of today's batch. It never opens the warehouse."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from dagster import ResourceParam

from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.errors import DunningError
from dunning_pipeline.jobs import send_run_config, send_tags
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.runs import BATCH_TAG, NEEDS_CONFIRMATION, SEND_JOB
from dunning_pipeline.sending import may_send
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import REMINDERS, SENT_HISTORY

PAUSES_SECONDS = (60, 600)
"""Between a failed send and the next try of the same batch; after one try more the sensor gives up."""

INTERVAL_SECONDS = 30
BATCHES_LOOKED_AT = 20


@dataclass(frozen=True)
class Send:
    """A run of send_reminders: its status, and for how many seconds it has been over (0 while it is not)."""

    status: dg.DagsterRunStatus
    over_for: float = 0.0


@dataclass(frozen=True)
class SendView:
    """What the sensor sees: why sending is off (None: it is on), today's newest live batch, its run and its sends.

    `unusual` says why the batch waits for somebody to confirm it; `sent` that a run, whoever started it, left nothing
    of it unsent.
    """

    today: date
    refusal: str | None
    batch_id: str | None = None
    daily: dg.DagsterRunStatus | None = None
    sends: Sequence[Send] = ()
    unusual: str | None = None
    sent: bool = False


def decide_send(view: SendView) -> dg.RunRequest | dg.SkipReason:
    """Asks for a send of today's newest live batch until one has succeeded; gives up after three failures.

    A failed send is asked for again under a new run key, a finished one is not.
    """
    if view.refusal:
        return dg.SkipReason(view.refusal)
    if view.batch_id is None:
        return dg.SkipReason(f"no daily_dunning run of today ({view.today}) has made a live batch yet")
    if view.daily is not dg.DagsterRunStatus.SUCCESS:
        return dg.SkipReason(
            f"the daily_dunning run {view.batch_id}, which made today's newest batch, has not succeeded "
            f"({view.daily.value if view.daily else 'unknown'}): it is never sent; if it failed, run it again"
        )
    if any(send.status not in _FINISHED for send in view.sends):
        return dg.SkipReason(f"batch {view.batch_id} is being sent")
    if view.sent or any(send.status is dg.DagsterRunStatus.SUCCESS for send in view.sends):
        return dg.SkipReason(f"batch {view.batch_id} of today ({view.today}) was sent already")
    if view.unusual:
        return dg.SkipReason(view.unusual)
    return _try_again(view.batch_id, view.sends)


def _try_again(batch_id: str, failures: Sequence[Send]) -> dg.RunRequest | dg.SkipReason:
    tries = len(failures)
    if tries > len(PAUSES_SECONDS):
        return dg.SkipReason(
            f"batch {batch_id} failed to be sent {tries} times: look at the runs of {SEND_JOB}, and run the job by "
            "hand or daily_dunning again when it is mended"
        )
    if tries and min(send.over_for for send in failures) < PAUSES_SECONDS[tries - 1]:
        return dg.SkipReason(
            f"batch {batch_id} failed to be sent: it is tried again {PAUSES_SECONDS[tries - 1]} s after that"
        )
    return dg.RunRequest(run_key=f"{batch_id}:{tries}", run_config=send_run_config(batch_id), tags=send_tags(batch_id))


def gather_send_view(instance: dg.DagsterInstance, settings: Settings, now: float) -> SendView:
    """What `decide_send` needs, from Dagster's own records only; `now` is in seconds since 1970, as theirs are."""
    try:
        refusal, today = may_send(settings), settings.today()
    except DunningError as error:
        return SendView(date.min, f"the policy is wrong: {error}")
    batch = None if refusal else _newest_live_batch(instance, today)
    if batch is None:
        return SendView(today, refusal)
    batch_id, unusual = batch
    daily = instance.get_run_by_id(batch_id)
    status = daily.status if daily else None
    sends = _sends(instance, batch_id, now)
    return SendView(today, None, batch_id, status, sends, unusual, _is_sent(instance, batch_id))


def _newest_live_batch(instance: dg.DagsterInstance, today: date) -> tuple[str, str | None] | None:
    """The batch that `dunning/reminders` materialised last for today and called live, and why it needs confirmation.

    Its id is that of its run.
    """
    of_today = dg.AssetRecordsFilter(asset_key(REMINDERS), asset_partitions=[today.isoformat()])
    for record in instance.fetch_materializations(of_today, limit=BATCHES_LOOKED_AT).records:
        materialization = record.asset_materialization
        if materialization and (live := materialization.metadata.get("live")) and live.value is True:
            unusual = materialization.metadata.get(NEEDS_CONFIRMATION)
            return record.run_id, str(unusual.value) if unusual else None
    return None


def _is_sent(instance: dg.DagsterInstance, batch_id: str) -> bool:
    """Whether a run left nothing of the batch; somebody may have started it without the sensor's tag."""
    for record in instance.fetch_materializations(asset_key(SENT_HISTORY), limit=BATCHES_LOOKED_AT).records:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        told = {name: metadata[name].value for name in ("batch_id", "left") if name in metadata}
        if told == {"batch_id": batch_id, "left": 0}:
            return True
    return False


def _sends(instance: dg.DagsterInstance, batch_id: str, now: float) -> list[Send]:
    records = instance.get_run_records(dg.RunsFilter(job_name=SEND_JOB, tags={BATCH_TAG: batch_id}))
    return [Send(record.dagster_run.status, now - record.end_time if record.end_time else 0.0) for record in records]


_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


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
    return decide_send(gather_send_view(context.instance, settings, system_clock().timestamp()))
