"""One run of the order side: pull what changed, decide, send what is due, and decide again what comes next (RULES 8).

Dagster's part is in jobs.py, when a run is due in sensors.py; how orders are decided and kept is ordering.py's.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd

from dunning_pipeline.errors import DunningError
from dunning_pipeline.guards import why_unusual
from dunning_pipeline.order_polling import order_sources, version
from dunning_pipeline.ordering import OrdersNow, decide_orders_now, keep_decided, order_pieces
from dunning_pipeline.outbox import Batch, Outbox
from dunning_pipeline.pulling_orders import PulledOrders, pull_orders
from dunning_pipeline.pulling_shops import look_up_orders
from dunning_pipeline.recheck import THE_DECISION, Recheck, look_at_orders
from dunning_pipeline.resources.readers import shops
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.order_series import STREAM
from dunning_pipeline.sending import Report, may_send, send_batch
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import DECISIONS

MOST_ASKED_FOR = 500
"""Orders due again that one run asks shops for: what a shop answers within some seconds."""

ORDERING = "reminding about orders"
"""What one process does at a time, by which a run that was killed is told from one that works."""


@dataclass(frozen=True)
class SourceState:
    """What a run leaves of a source for the sensor: what it showed before the pull, and when its next event is due.

    `version`: a text that differs once something has changed; empty where the source cannot tell that cheaply.
    `failed`: why it could not be read.
    """

    pulled_at: datetime
    version: str | None = None
    failed: str | None = None
    next_due_at: datetime | None = None


@dataclass
class OrderRun:
    """What one run came to. `error`: why not everything that is due was sent; `unusual`: why the batch waits."""

    pulled: PulledOrders
    live: bool
    policy_hash: str
    now: OrdersNow
    sources: dict[str, SourceState] = field(default_factory=dict)
    batch: Batch | None = None
    unusual: str | None = None
    report: Report | None = None


def remind_about_orders(
    settings: Settings,
    warehouse: Warehouse,
    run_id: str,
    *,
    send: bool = True,
    confirmed: bool = False,
    full: bool = False,
) -> OrderRun:
    """Does all of a run, which one process does at a time: callers hold the lock ORDERING.

    Where `sending.live` is false the batch is made, and cannot be sent.

    Args:
        settings: the policy, the clock, the key.
        warehouse: where everything is kept.
        run_id: also the id of the batch.
        send: false makes a batch that can never be sent.
        confirmed: whether the batch may go although it is unusually large.
        full: whether everything is pulled again.

    Raises:
        DunningError: order events are switched off, no source of orders could be read, or sending is refused.
    """
    policy = settings.policy
    refusal = why_no_orders(settings)
    if refusal:
        raise DunningError(refusal)
    pulled_at = settings.clock()
    versions = {name: _asked(name, settings) for name in order_sources(policy)}
    pulled = pull_orders(settings, warehouse, run_id, full=full)
    if len(pulled.failed) == len(versions):
        raise next(iter(pulled.failed.values()))
    ran = _decided(settings, warehouse, run_id, pulled, live=policy.sending.live and send)
    _send(ran, settings, warehouse, confirmed=confirmed)
    if ran.report:
        ran.now = decide_orders_now(warehouse, settings, live=ran.live)
        keep_decided(warehouse, ran.now, run_id)
    ran.sources = _states(ran, versions, pulled_at)
    return ran


def why_no_orders(settings: Settings) -> str | None:
    """Why the order side does not run with these settings, as a sentence; None when it does."""
    policy = settings.policy
    if not policy.order_reminders.enabled:
        return "order_reminders.enabled is false in the policy: no events about orders"
    if not order_sources(policy):
        return "no source of the policy feeds orders: a shop, or a source with the table orders, is needed"
    return may_send(settings) if policy.sending.live else None


def _asked(name: str, settings: Settings) -> str | None:
    """What a source shows before it is pulled; whether it can be read at all, the pull itself will tell."""
    try:
        return version(name, settings)
    except DunningError:
        return None


def _decided(settings: Settings, warehouse: Warehouse, run_id: str, pulled: PulledOrders, *, live: bool) -> OrderRun:
    now = decide_orders_now(warehouse, settings, live=live)
    now = _asked_for_repeated(settings, warehouse, run_id, now, pulled, live=live)
    keep_decided(warehouse, now, run_id)
    batch = freeze_due(settings, warehouse, run_id, now, live=live)
    return OrderRun(pulled, live, settings.policy.hash, now, batch=batch)


def _asked_for_repeated(
    settings: Settings, warehouse: Warehouse, run_id: str, now: OrdersNow, pulled: PulledOrders, *, live: bool
) -> OrdersNow:
    """Asks shops for the orders that are due again, and decides them by the answer (RULES 8.7).

    A shop tells what changed, and not what was deleted or is no longer visible. Not more than MOST_ASKED_FOR at once,
    so that first events need not wait; the others, and those of a shop that does not answer, go with the next run.
    """
    again = _repeated(now, settings)
    if again.empty:
        return now
    asked = again.head(MOST_ASKED_FOR)
    pulled.failed |= look_up_orders(settings, warehouse, run_id, asked)
    sure = asked.loc[~asked["source"].isin([*pulled.failed]), "order_key"]
    decided = decide_orders_now(warehouse, settings, live=live)
    return replace(decided, later=frozenset(_repeated(decided, settings)["order_key"]) - frozenset(sure))


def _repeated(now: OrdersNow, settings: Settings) -> pd.DataFrame:
    """Orders of shops whose next event is due and not their first: order_key, order_id, source."""
    again = now.due.loc[now.due["occurrence"] > 1, ["order_key"]]
    again = again.merge(now.orders[["order_key", "order_id", "source"]], on="order_key", validate="1:1")
    return again[again["source"].isin([*shops(settings.policy)])]


def freeze_due(settings: Settings, warehouse: Warehouse, run_id: str, now: OrdersNow, *, live: bool) -> Batch | None:
    """Freezes what is due as a batch; an empty one where nothing is but something older waits, which goes no more."""
    outbox = Outbox(warehouse, STREAM)
    newest = outbox.newest_live()
    if not len(now.due) and (newest is None or newest.state == "sent"):
        return None
    batch = Batch(run_id, STREAM, settings.today(), size=0, live=live, state="planned" if live else "dry_run")
    # Decisions about orders are kept as they were made already, in dunning.order_decisions.
    pieces = ((piece, DECISIONS.empty_frame()) for piece in order_pieces(warehouse, settings, now))
    return outbox.freeze_pieces(batch, pieces, settings.policy, settings.clock())


def _send(ran: OrderRun, settings: Settings, warehouse: Warehouse, *, confirmed: bool) -> None:
    if not (ran.live and ran.batch):
        return
    outbox = Outbox(warehouse, STREAM)
    ran.unusual = why_unusual(outbox, ran.batch, settings.policy.sending)
    if ran.unusual and not confirmed:
        return
    recheck = Recheck(partial(look_at_orders, ran.batch, warehouse, settings), THE_DECISION)
    ran.report = send_batch(ran.batch.batch_id, outbox, settings, confirmed=confirmed, recheck=recheck)


def _states(ran: OrderRun, versions: dict[str, str | None], pulled_at: datetime) -> dict[str, SourceState]:
    decisions = ran.now.decided.decisions
    sources = ran.now.orders.set_index("order_key")["source"].reindex(decisions["order_key"])
    due = decisions.groupby(sources.to_numpy())["next_due_at"].min()
    return {
        name: SourceState(
            pulled_at,
            text,
            str(ran.pulled.failed[name]) if name in ran.pulled.failed else None,
            due[name].to_pydatetime() if name in due and pd.notna(due[name]) else None,
        )
        for name, text in versions.items()
    }


def states_text(states: dict[str, SourceState]) -> str:
    """States of sources as JSON, for the metadata of a run."""
    return json.dumps({name: asdict(state) for name, state in states.items()}, default=datetime.isoformat)


def states_from(text: str) -> dict[str, SourceState]:
    """The reverse of `states_text`."""
    return {name: SourceState(**_with_times(state)) for name, state in json.loads(text).items()}


def _with_times(state: dict[str, Any]) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(state[name]) for name in ("pulled_at", "next_due_at") if state[name]}
    return state | times
