"""Sensors: `send_reminders_sensor` asks for the sending of today's batch, `order_edits_sensor` for runs of the order
side. They never open the warehouse.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import takewhile

import dagster as dg
from dagster import ResourceParam

from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.errors import DunningError
from dunning_pipeline.jobs import send_run_config, send_tags
from dunning_pipeline.order_polling import order_sources, version
from dunning_pipeline.order_run import ORDERING, SourceState, states_from, why_no_orders
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import (
    BATCH_TAG,
    NEEDS_CONFIRMATION,
    ORDER_JOB,
    ORDER_REASON_TAG,
    POLICY_HASH,
    SEND_JOB,
    SOURCE_STATES,
)
from dunning_pipeline.sending import may_send
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_SERIES, REMINDERS, SENT_HISTORY
from dunning_pipeline.threads import side_by_side

PAUSES_SECONDS = (60, 600)
"""Between a failed send and the next try of the same batch; after one try more the sensor gives up."""

INTERVAL_SECONDS = 30
BATCHES_LOOKED_AT = 20
RUNS_LOOKED_AT = 20


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


ORDER_INTERVAL_SECONDS = 10
STARTING_SECONDS = 60
"""Within so long after its start a run has taken its lock, if it was not killed before."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=10)
"""Between a failed order run and the next: twice as long after each, for as long as they fail. One that was killed has
failed too, and must not hold events back for longer than a minute."""
POLLED_EVERY = timedelta(minutes=10)
"""How often a source is pulled that cannot be asked whether anything has changed."""
PULLED_AGAIN_AFTER = timedelta(minutes=1)
"""When a source is pulled again that could be asked, and not pulled."""
LONGEST_UNPULLED = timedelta(hours=1)
"""How long a source goes unpulled that shows no change: one that it does not show is found then at the latest."""


@dataclass(frozen=True)
class OrdersView:
    """What the sensor of the order side sees.

    `refusal`: why it does nothing (None: it works). `last`: what the latest run left of each source. `showing`: what
    each source shows now, `unreadable`: why others could not be asked. `failures`: how many runs in a row failed, and
    `failed_for` how long ago the latest did. `unusual`: why what is due waits for somebody to confirm it. `live`:
    whether due events would be sent.
    """

    now: datetime
    policy_hash: str = ""
    refusal: str | None = None
    underway: bool = False
    last: Mapping[str, SourceState] | None = None
    last_policy_hash: str = ""
    showing: Mapping[str, str | None] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    failed_for: timedelta = timedelta()
    unusual: str | None = None
    live: bool = False


def decide_order_run(view: OrdersView) -> dg.RunRequest | dg.SkipReason:
    """Asks for a run when orders changed or an event is due; never for two at once."""
    if view.refusal:
        return dg.SkipReason(view.refusal)
    if view.underway:
        return dg.SkipReason(f"a run of {ORDER_JOB} is under way")
    pause = min(FIRST_PAUSE * 2 ** max(view.failures - 1, 0), LONGEST_PAUSE)
    if view.failures and view.failed_for < pause:
        return dg.SkipReason(
            f"the last {view.failures} runs of {ORDER_JOB} failed: look at the latest; it is tried again "
            f"{pause.total_seconds():.0f} s after it, and no edit is lost meanwhile"
        )
    reason = _why_run(view)
    if reason:
        return dg.RunRequest(tags={ORDER_REASON_TAG: reason})
    return dg.SkipReason("; ".join(_why_not(view)))


def _why_run(view: OrdersView) -> str | None:
    """Why a run is due, in a few words; None if it is not."""
    if view.last is None or view.policy_hash != view.last_policy_hash:
        return "first run by this policy" if view.showing or not view.unreadable else None
    for name, shown in view.showing.items():
        reason = _why_pull(name, shown, view)
        if reason:
            return reason
    return "tried again" if view.failures else None


def _why_pull(name: str, shown: str | None, view: OrdersView) -> str | None:
    state = (view.last or {}).get(name)
    if state is None:
        return f"{name} is new"
    since = view.now - state.pulled_at
    if state.failed:
        return f"{name} could not be pulled" if since >= PULLED_AGAIN_AFTER else None
    if shown is not None and shown != state.version:
        return f"{name} changed"
    if state.next_due_at is not None and state.next_due_at <= view.now and view.live and not view.unusual:
        return f"an event about an order of {name} is due"
    every = POLLED_EVERY if shown is None else LONGEST_UNPULLED
    return f"{name} is pulled every {every}" if since >= every else None


def _why_not(view: OrdersView) -> Iterator[str]:
    states = view.last or {}
    for name, error in view.unreadable.items():
        known = f"its orders are known as of {states[name].pulled_at:%Y-%m-%d %H:%M} UTC; " if name in states else ""
        yield f"{name} could not be asked, {known}nothing is sent about them until it answers: {error}"
    for name in view.showing:
        if name in states and states[name].failed:
            yield f"{name} could not be pulled, which is tried every {PULLED_AGAIN_AFTER}: {states[name].failed}"
    if view.unusual:
        yield view.unusual
    if view.showing:
        due = min((state.next_due_at for state in states.values() if state.next_due_at), default=None)
        then = f"the next event is due at {due:%Y-%m-%d %H:%M:%S} UTC" if due else "no event is due"
        yield f"no order has changed; {then if view.live else then + ', and sending.live is false'}"


def gather_orders_view(instance: dg.DagsterInstance, settings: Settings, now: float) -> OrdersView:
    """What `decide_order_run` needs, from Dagster's records and one cheap request to each source.

    `now` is in seconds since 1970, as Dagster's records have it.
    """
    at = settings.clock()
    try:
        policy, refusal = settings.policy, why_no_orders(settings)
    except DunningError as error:
        return OrdersView(at, refusal=f"the policy is wrong: {error}")
    if refusal:
        return OrdersView(at, refusal=refusal)
    runs = instance.get_run_records(dg.RunsFilter(job_name=ORDER_JOB), limit=RUNS_LOOKED_AT)
    if any(_is_underway(record, settings, now) for record in runs):
        return OrdersView(at, underway=True)
    left = _left_by_order_runs(instance)
    latest_id, metadata = next(iter(left.items()), ("", {}))
    last = states_from(str(metadata[SOURCE_STATES].value)) if metadata else None
    is_of_today = any(settings.is_today(state.pulled_at) for state in (last or {}).values())
    waits = NEEDS_CONFIRMATION in metadata and is_of_today and not _is_sent(instance, latest_id)
    unusual = str(metadata[NEEDS_CONFIRMATION].value) if waits else None
    failed = _failures(runs, {run_id for run_id, told in left.items() if NEEDS_CONFIRMATION in told})
    showing, unreadable = _ask_sources(settings)
    return OrdersView(
        now=at,
        policy_hash=policy.hash,
        last=last,
        last_policy_hash=str(metadata[POLICY_HASH].value) if metadata else "",
        showing=showing,
        unreadable=unreadable,
        failures=len(failed),
        failed_for=timedelta(seconds=now - (failed[0].end_time or now)) if failed else timedelta(),
        unusual=unusual,
        live=policy.sending.live,
    )


def _left_by_order_runs(instance: dg.DagsterInstance) -> dict[str, Mapping[str, dg.MetadataValue]]:
    """What the latest runs of the order side left, the latest first; those that only decided left nothing."""
    records = instance.fetch_materializations(asset_key(ORDER_SERIES), limit=RUNS_LOOKED_AT).records
    left = {record.run_id: record.asset_materialization.metadata for record in records if record.asset_materialization}
    return {run_id: metadata for run_id, metadata in left.items() if SOURCE_STATES in metadata}


_ON_ITS_WAY = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


def _is_underway(record: dg.RunRecord, settings: Settings, now: float) -> bool:
    """Whether a run is not over. One that was killed looks so for minutes, but has given its lock back."""
    if record.dagster_run.status in _FINISHED:
        return False
    warehouse = Warehouse(settings.warehouse_path)
    if warehouse.is_taken(ORDERING):
        return True
    has_had_it = warehouse.latest_at(ORDERING) == record.dagster_run.run_id
    if record.dagster_run.status not in _ON_ITS_WAY:
        return True
    return not has_had_it and now - record.update_timestamp.timestamp() < STARTING_SECONDS


def _failures(records: Sequence[dg.RunRecord], waiting: Collection[str]) -> list[dg.RunRecord]:
    """The latest runs as far as they failed, the latest first; one that was killed counts once Dagster knows of it.

    Those in `waiting` did their work, and failed to tell that somebody has to confirm what is due.
    """
    over = [record for record in records if record.dagster_run.status in _FINISHED]
    return list(takewhile(lambda record: _has_failed(record.dagster_run, waiting), over))


def _has_failed(run: dg.DagsterRun, waiting: Collection[str]) -> bool:
    return run.status is not dg.DagsterRunStatus.SUCCESS and run.run_id not in waiting


def _ask_sources(settings: Settings) -> tuple[dict[str, str | None], dict[str, str]]:
    """What each source shows, and why others could not be asked: a failed read is not an empty shop.

    All are asked at once, so that those that hang hold the tick up no longer than one does.
    """
    showing: dict[str, str | None] = {}
    unreadable: dict[str, str] = {}

    def ask(name: str) -> None:
        try:
            showing[name] = version(name, settings)
        except DunningError as error:
            unreadable[name] = str(error)

    sources = order_sources(settings.policy)
    side_by_side(ask, sources, threads=len(sources))
    return {name: showing[name] for name in sources if name in showing}, unreadable


@dg.sensor(
    name="order_edits_sensor",
    job_name=ORDER_JOB,
    minimum_interval_seconds=ORDER_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Asks for order_reminders when an order changed, or an event about one is due.",
)
def order_edits_sensor(
    context: dg.SensorEvaluationContext, settings: ResourceParam[Settings]
) -> dg.RunRequest | dg.SkipReason:
    """Gathers and decides."""
    return decide_order_run(gather_orders_view(context.instance, settings, system_clock().timestamp()))
