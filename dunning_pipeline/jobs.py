"""Jobs: `daily_dunning` pulls and decides, `send_reminders` sends the batch it left; `order_reminders` does both for
edited orders; `replay` tries policies out."""

from collections.abc import Generator, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
from dagster import ResourceParam

from dunning_pipeline.assets.metadata import Metadata, preview
from dunning_pipeline.assets.orders import ORDER_SERIES_KEY, series_figures
from dunning_pipeline.assets.reminders import publish
from dunning_pipeline.assets.source import OF_ORDERS_KEYS, asset_key, warn_of_unmapped
from dunning_pipeline.errors import DunningError
from dunning_pipeline.history import Written, keep_history, require_whole_history
from dunning_pipeline.order_run import ORDERING, OrderRun, remind_about_orders, states_text
from dunning_pipeline.outbox import outbox_of
from dunning_pipeline.partitions import Days
from dunning_pipeline.replay import Judgement, Summary, judge
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import (
    BATCH_TAG,
    DAILY_JOB,
    LONG_RUN,
    NEEDS_CONFIRMATION,
    ORDER_JOB,
    POLICY_HASH,
    REPLAY_JOB,
    SEND_JOB,
    SOURCE_STATES,
)
from dunning_pipeline.sending import Report, send_batch
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS, ORDERS, SENT_HISTORY

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

ORDER_SIDE_KEYS = OF_ORDERS_KEYS | {ORDER_SERIES_KEY}
"""Assets that the daily run leaves alone."""

MOST_SECONDS_DECIDING = 4 * 60 * 60
MOST_SECONDS_SENDING = 30 * 60
"""A send whose host died counts as failed after this time, and is asked for again."""
PUBLISHED_SECONDS = 10 * 60
"""How old the copy for readers may be before an order run renews it."""


def daily_job() -> "UnresolvedAssetJobDefinition":
    """Everything of the invoice side, from the sources to today's batch. It sends nothing."""
    return dg.define_asset_job(
        DAILY_JOB,
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(*ORDER_SIDE_KEYS),
        description="Pulls every source, derives the decisions of a day and, for today, freezes the batch.",
        tags={"dagster/max_runtime": str(MOST_SECONDS_DECIDING), **LONG_RUN},
    )


class SendConfig(dg.Config):
    """What to send: a batch id, or nothing for the newest live batch.

    `confirm`: lets a batch go that is held because it is unusually large; it must be named by `batch_id`.
    """

    batch_id: str | None = None
    confirm: bool = False


@dg.op(name="send", description="Sends a batch to Klaviyo and appends what came of it to dunning.sent_history.")
def send_op(
    context: dg.OpExecutionContext,
    config: SendConfig,
    warehouse: ResourceParam[Warehouse],
    settings: ResourceParam[Settings],
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Sends, and yields a materialisation of `dunning/sent_history` with what came of it.

    What came of it is in files before the run ends, however it ends; a run that was killed leaves that to the next.
    """
    warehouse.longest_hold()
    try:
        require_whole_history(warehouse)
        outbox = outbox_of(config.batch_id, warehouse)
        report = send_batch(config.batch_id, outbox, settings, confirmed=config.confirm)
    except DunningError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    finally:
        kept, unkept = _keep(warehouse, settings, context)
    history = warehouse.fetch(
        "select * from dunning.sent_history where batch_id = $batch_id order by attempted_at",
        {"batch_id": report.batch.batch_id},
    )
    # Yielded, because Dagster forgets what a step that fails has logged.
    yield dg.AssetMaterialization(
        asset_key(SENT_HISTORY),
        description=summary(report),
        metadata={
            "dagster/row_count": len(history),
            **_sent_figures(report),
            "history_files": ", ".join(kept.files) or "nothing new",
            "preview": preview(history),
            "longest_lock_seconds": warehouse.longest_hold(),
        },
    )
    publish(context, warehouse)
    _fail_where_some_are_left(report)
    if unkept:
        raise dg.Failure(f"{summary(report)}; {unkept}", allow_retries=False)
    yield dg.Output(None)


def _keep(
    warehouse: Warehouse, settings: Settings, context: dg.OpExecutionContext
) -> tuple[Written, DunningError | None]:
    """Writes what of the history is in no file yet. An error is logged and returned: what was sent stays sent."""
    try:
        kept = keep_history(warehouse, settings.clock())
    except DunningError as error:
        context.log.error(str(error))
        return Written(), error
    for name, problem in kept.damaged.items():
        context.log.warning(f"the file {name} of the history is {problem}; it is not used")
    return kept, None


def summary(report: Report) -> str:
    """What became of a batch, in a sentence."""
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(report.outcomes.items()))
    return (
        f"batch of {report.batch.as_of} with {report.batch.size} reminders: {outcomes or 'nothing to send'}, "
        f"{report.already} done before, {report.left} left"
    )


def _sent_figures(report: Report) -> Metadata:
    return {
        "batch_id": report.batch.batch_id,
        "as_of": report.batch.as_of.isoformat(),
        "size": report.batch.size,
        "already": report.already,
        **report.outcomes,
        "left": report.left,
        "unresolved": report.unresolved,
        "requests": report.requests,
    }


def _fail_where_some_are_left(report: Report) -> None:
    """A failed run is what a sensor asks for again, and a lost answer is resolved by sending again (RULES 9.3)."""
    if report.left:
        reason = report.error or "Klaviyo may have accepted what is left, which the next run sends once more"
        raise dg.Failure(f"{summary(report)}; {reason}", allow_retries=False)


@dg.job(
    name=SEND_JOB,
    description="Sends the newest live batch of today. Started by send_reminders_sensor when sending.live is true.",
    tags={"dagster/max_runtime": str(MOST_SECONDS_SENDING)},
)
def send_job() -> None:
    """One op: sending is an act, not a table."""
    send_op()


class OrderConfig(dg.Config):
    """`send`: false makes a dry run. `confirm`: lets the events go although they are unusually many. `full`: pulls
    everything again.
    """

    send: bool = True
    confirm: bool = False
    full: bool = False


@dg.op(
    name="remind_about_orders",
    description="Pulls what changed about orders, decides, sends the events that are due and records them.",
)
def order_op(
    context: dg.OpExecutionContext,
    config: OrderConfig,
    warehouse: ResourceParam[Warehouse],
    settings: ResourceParam[Settings],
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Does it, and yields a materialisation of each asset that it renewed."""
    warehouse.longest_hold()
    try:
        # Until it has left what the sensor goes by, or the sensor would ask for a run that has nothing to do.
        with warehouse.only_one(ORDERING, context.run_id):
            run, unkept = yield from _reminding(context, config, warehouse, settings)
    except DunningError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    warn_of_unmapped(context, run.pulled)
    for name, failure in run.pulled.failed.items():
        context.log.error(f"{name} could not be read; what was known of its orders stays: {failure}")
    publish_now_and_then(context, warehouse)
    if run.unusual and not config.confirm:
        raise dg.Failure(run.unusual, allow_retries=False)
    if run.report:
        _fail_where_some_are_left(run.report)
    if unkept:
        raise dg.Failure(str(unkept), allow_retries=False)
    yield dg.Output(None)


def _reminding(
    context: dg.OpExecutionContext, config: OrderConfig, warehouse: Warehouse, settings: Settings
) -> Generator[dg.AssetMaterialization, None, tuple[OrderRun, DunningError | None]]:
    """Returns what the run came to, and why its history could not be written to files."""
    try:
        require_whole_history(warehouse)
        run = remind_about_orders(
            settings, warehouse, context.run_id, send=config.send, confirmed=config.confirm, full=config.full
        )
    finally:
        _, unkept = _keep(warehouse, settings, context)
    # Yielded, because Dagster forgets what a step that fails has logged.
    yield from _materialized(run, warehouse.longest_hold())
    return run, unkept


def _materialized(run: OrderRun, held: float) -> Iterator[dg.AssetMaterialization]:
    for table, counts_of in ((ORDER_EDITS, run.pulled.edits), (ORDERS, run.pulled.orders)):
        yield dg.AssetMaterialization(asset_key(table), metadata=asdict(counts_of))
    yield dg.AssetMaterialization(
        ORDER_SERIES_KEY,
        metadata={
            **series_figures(run.now),
            SOURCE_STATES: states_text(run.sources),
            POLICY_HASH: run.policy_hash,
            "live": run.live,
            **({NEEDS_CONFIRMATION: run.unusual} if run.unusual else {}),
            "longest_lock_seconds": held,
        },
    )
    if run.report:
        yield dg.AssetMaterialization(
            asset_key(SENT_HISTORY),
            description=summary(run.report),
            metadata=_sent_figures(run.report),
        )


def publish_now_and_then(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """Renews the copy for readers unless it is new: orders are decided every few minutes, and the file may be large."""
    if warehouse.published_for() > PUBLISHED_SECONDS:
        publish(context, warehouse)


@dg.job(
    name=ORDER_JOB,
    description="Reminds of what edits of orders left to pay. Started by order_edits_sensor.",
    tags={"dagster/max_runtime": str(MOST_SECONDS_SENDING)},
)
def order_job() -> None:
    """One op: what is sent was pulled and decided a moment before."""
    order_op()


class ReplayConfig(dg.Config):
    """Which days to replay, as 2026-11-22, and what: files are found from where Dagster runs.

    `policy`: a policy file; the one in force by default. `against`: a policy file, or the id of an earlier replay.
    """

    start: str
    end: str
    policy: str | None = None
    against: str | None = None


@dg.op(name="replay_policy", description="Replays a policy over past days into dunning.replay_reminders.")
def replay_op(
    context: dg.OpExecutionContext,
    config: ReplayConfig,
    warehouse: ResourceParam[Warehouse],
    settings: ResourceParam[Settings],
) -> dg.Output[None]:
    """Replays, and tells the figures as metadata of the run's only output."""
    warehouse.longest_hold()
    policy = Path(config.policy) if config.policy else None
    try:
        days = Days(_day(config.start), _day(config.end))
        judged = judge(settings, warehouse, days, policy, config.against, context.run.run_id)
    except DunningError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    held = warehouse.longest_hold()
    publish(context, warehouse)
    return dg.Output(None, metadata={**replay_figures(judged), "longest_lock_seconds": held})


def replay_figures(judged: Judgement) -> Metadata:
    """A replay in figures, and how another one beside it differs."""
    figures = _figures(judged.summary)
    if judged.other:
        figures |= {f"other_{name}": value for name, value in _figures(judged.other).items()}
    if judged.differences:
        figures |= asdict(judged.differences)
    return figures


def _figures(replay: Summary) -> dict[str, Any]:
    by_action = pd.DataFrame(replay.by_action.items(), columns=["action", "reminders"])
    by_customer = pd.DataFrame(replay.by_customer.items(), columns=["reminders", "customers"])
    by_day = pd.DataFrame(replay.by_day.items(), columns=["day", "reminders"])
    by_action["action"] = [": ".join(names) for names in replay.by_action]
    return {
        "replay_id": replay.replay_id,
        "policy_hash": replay.policy_hash,
        "reminders": replay.reminders,
        "customers_reached": replay.reached,
        "chaseable_customers": replay.chaseable_customers,
        "never_reached": replay.never_reached,
        "by_day": preview(by_day, len(by_day)),
        "by_action": preview(by_action, len(by_action)),
        "by_customer": preview(by_customer, len(by_customer)),
    }


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DunningError(f"'{text}' is no date of the form 2026-11-22") from None


@dg.job(
    name=REPLAY_JOB,
    description="What a policy would have sent over past days; contacts nobody.",
    tags={"dagster/max_runtime": str(MOST_SECONDS_DECIDING), **LONG_RUN},
)
def replay_job() -> None:
    """One op: what it makes is thrown away or kept by its id, and belongs to no day."""
    replay_op()


def send_run_config(batch_id: str, *, confirm: bool = False) -> dict[str, object]:
    """Run config that sends one batch, also an unusually large one if somebody confirms it."""
    config: dict[str, object] = {"batch_id": batch_id}
    return {"ops": {"send": {"config": {**config, "confirm": True} if confirm else config}}}


def order_run_config(*, send: bool = True, confirm: bool = False, full: bool = False) -> dict[str, object]:
    """Run config of order_reminders."""
    return {"ops": {"remind_about_orders": {"config": {"send": send, "confirm": confirm, "full": full}}}}


def send_tags(batch_id: str) -> dict[str, str]:
    """Tags by which the sensor finds the sends of a batch."""
    return {BATCH_TAG: batch_id}
