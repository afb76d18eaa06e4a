"""Replays: what a policy would have sent over a range of days, and how two of them compare. Nothing is ever sent.

The rules decide in memory (`rules/calendar_queue.py`); here what they need is read and what they find is written, to
`dunning.replays` and `dunning.replay_reminders` and nowhere else; and there it is listed and deleted again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.assets.customers import fetch_customers
from dunning_pipeline.errors import DunningError, InvalidRows
from dunning_pipeline.outbox import store_policy
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy, load_policy
from dunning_pipeline.resources.contacts import fetch_contacts
from dunning_pipeline.resources.unsettled import Unsettled
from dunning_pipeline.resources.warehouse import Warehouse, append, declared_rows, fetch
from dunning_pipeline.rules.calendar_queue import Replay, replay
from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.ladder import Ladders
from dunning_pipeline.rules.standing import Records, Texts
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import MANUAL, REPLAYS


@dataclass(frozen=True)
class Summary:
    """A replay in figures.

    `chaseable_customers` had something chaseable on one of the days; of these `never_reached` got no reminder.
    `by_day`: reminders by day, for days that have any. `by_action`: reminders by workflow and action, in this order.
    `by_customer`: how many customers got so many reminders.
    """

    replay_id: str
    first: date
    last: date
    policy_hash: str
    reminders: int
    chaseable_customers: int
    never_reached: int
    by_day: dict[date, int]
    by_action: dict[tuple[str, ...], int]
    by_customer: dict[int, int]

    @property
    def reached(self) -> int:
        """Customers that got a reminder."""
        return sum(self.by_customer.values())


@dataclass(frozen=True)
class Differences:
    """What two replays of the same days have in common; the same reminder on another day was moved."""

    same_day: int
    moved: int
    only_one: int
    only_other: int
    customers_only_one: int
    customers_only_other: int


@dataclass(frozen=True)
class Judgement:
    """A replay, and beside it another one to judge it by."""

    summary: Summary
    other: Summary | None = None
    differences: Differences | None = None


def judge(
    settings: Settings,
    warehouse: Warehouse,
    days: Days,
    policy_file: Path | None = None,
    against: str | None = None,
    run_id: str | None = None,
) -> Judgement:
    """Replays a policy, and compares it with another policy or an earlier replay.

    Args:
        settings: the surroundings; their policy is replayed where no other is named.
        warehouse: what is replayed, and where the replay is stored.
        days: the days.
        policy_file: the policy to replay.
        against: id of a replay of the same days, or a policy file, which is replayed too.
        run_id: the Dagster run, if it is one.

    Raises:
        PolicyError: a policy file is missing or wrong.
        DunningError: the days cannot be derived, `against` is nothing of the kind, or there is nothing to replay yet.
    """
    if days.first > days.last:
        raise DunningError(f"the first day ({days.first}) is after the last one ({days.last})")
    for day in (days.first, days.last):
        settings.require_derivable(day)
    policy = load_policy(policy_file) if policy_file else settings.policy
    if not warehouse.path.exists():
        raise DunningError("there is nothing to replay yet: run `dunning run`, which pulls it")
    earlier = _earlier(warehouse, against, days) if against else None
    compared = load_policy(Path(against)) if against and not earlier else None
    replay_id = _replay(warehouse, settings, policy, days, run_id)
    if not against:
        return Judgement(summary(warehouse, replay_id))
    other = earlier or _replay(warehouse, settings, compared or policy, days, run_id)
    return Judgement(summary(warehouse, replay_id), summary(warehouse, other), differences(warehouse, replay_id, other))


def _earlier(warehouse: Warehouse, against: str, days: Days) -> str | None:
    """The replay that is meant, or None where it is a policy file."""
    stored = warehouse.fetch("select first_day, last_day from dunning.replays where replay_id = $id", {"id": against})
    if stored.empty:
        if not Path(against).exists():
            raise DunningError(f"'{against}' is neither the id of a replay (see dunning.replays) nor a policy file")
        return None
    first, last = (stored[name].iloc[0].date() for name in ("first_day", "last_day"))
    if Days(first, last) != days:
        raise DunningError(f"replay {against} is of {first} to {last}, not of {days.first} to {days.last}")
    return against


def _replay(warehouse: Warehouse, settings: Settings, policy: Policy, days: Days, run_id: str | None) -> str:
    # A policy that is only tried out need not say where the data comes from.
    sources = [*(policy.sources or settings.policy.sources)]
    return run_replay(warehouse, policy, days, sources, settings.clock(), run_id)


def run_replay(
    warehouse: Warehouse, policy: Policy, days: Days, sources: list[str], now: datetime, run_id: str | None = None
) -> str:
    """Replays a policy over past days and stores what it would have sent.

    Args:
        warehouse: what was pulled and recorded by hand; contacts before the first day are the real ones.
        policy: the policy to judge.
        days: the days, none of them in the future.
        sources: names of the sources whose invoices count.
        now: the instant that is noted with the replay.
        run_id: the Dagster run, if it is one.

    Returns:
        The id of the replay.
    """
    records = read_records(warehouse, policy, days, sources)
    replay_id = uuid4().hex[:12]
    write_replay(warehouse, replay_id, replay(records, policy, days.first, days.last), policy, days, now, run_id)
    return replay_id


def read_records(warehouse: Warehouse, policy: Policy, days: Days, sources: list[str]) -> Records:
    """What a replay of some days is made from, as `run_replay` reads it."""
    last = {"last": days.last}
    with warehouse.transaction() as connection:
        base_currency = policy.organisation.base_currency
        unsettled = Unsettled.of(connection, days.first, days.last, [*sources, MANUAL], base_currency)
        invoices, payments = unsettled.fetch(connection)
        # What is looked up and grouped by customer then lies side by side.
        invoices = invoices.sort_values("customer_key", ignore_index=True)
        customers = fetch_customers(connection, policy, invoices["customer_key"])
        keys = customers["customer_key"].to_numpy()
        return Records(
            invoices=invoices,
            texts=_texts(warehouse),
            payments=payments,
            pauses=fetch(connection, sql.load("pauses"), last),
            promises=fetch(connection, sql.load("promises"), last),
            assignments=fetch(connection, sql.load("assignments"), last),
            contacts=fetch_contacts(connection, policy, days.first, days.last, keys, invoices),
            order_events=fetch(connection, sql.load("order_events"), last),
            customers=customers,
        )


def _texts(warehouse: Warehouse) -> Texts:
    def texts_of(invoice_keys: np.ndarray) -> pd.DataFrame:
        with warehouse.transaction() as connection:
            connection.register("wanted_invoices", pa.table({"invoice_key": invoice_keys}))
            texts = fetch(connection, sql.load("invoice_texts"))
        places = pd.Index(texts["invoice_key"]).get_indexer(pd.Index(invoice_keys))
        ordered: pd.DataFrame = texts.iloc[places].reset_index(drop=True)
        return ordered

    return texts_of


def write_replay(
    warehouse: Warehouse,
    replay_id: str,
    replayed: Replay,
    policy: Policy,
    days: Days,
    now: datetime,
    run_id: str | None = None,
) -> None:
    """Stores a replay with its policy, all or nothing."""
    reached = replayed.reminders["customer_key"].unique()
    row = {
        "replay_id": replay_id,
        "first_day": pd.Timestamp(days.first),
        "last_day": pd.Timestamp(days.last),
        "policy_hash": policy.hash,
        "reminders": len(replayed.reminders),
        "chaseable_customers": len(replayed.chased),
        "never_reached": int(np.isin(replayed.chased, reached, invert=True).sum()),
        "created_at": now,
        "run_id": run_id,
    }
    head = declared_rows(REPLAYS, pd.DataFrame([row]))
    rows = _named(replayed.reminders, policy)
    with warehouse.transaction() as connection:
        store_policy(connection, policy, now)
        append(connection, REPLAYS, head)
        _insert(connection, replay_id, rows)


def _named(reminders: pd.DataFrame, policy: Policy) -> pa.Table:
    """The reminders with names of workflows and actions, as codes that DuckDB takes for texts."""
    names = [action.name for workflow in policy.workflows for action in workflow.actions]
    codes, labels = pd.factorize(np.array(names, dtype=object))
    workflow, position = reminders["workflow"].to_numpy(), reminders["position"].to_numpy()
    named = reminders.drop(columns="position").assign(
        workflow=labelled(workflow, [each.name for each in policy.workflows]),
        action=labelled(codes[Ladders.of(policy).start[workflow] + position], labels),
        action_position=position + 1,
    )
    return pa.Table.from_pandas(named, preserve_index=False)


def _insert(connection: duckdb.DuckDBPyConnection, replay_id: str, rows: pa.Table) -> None:
    connection.register("replayed", rows)
    ((written,),) = connection.execute(sql.load("insert_replay_reminders"), {"replay_id": replay_id}).fetchall()
    connection.unregister("replayed")
    if written != rows.num_rows:
        raise InvalidRows(f"dunning.replay_reminders: {rows.num_rows - written} reminders are about unknown ids")


def summary(warehouse: Warehouse, replay_id: str) -> Summary:
    """The figures of a stored replay."""
    which = {"replay_id": replay_id}
    mine = "from dunning.replay_reminders where replay_id = $replay_id"
    with warehouse.transaction() as connection:
        head = fetch(connection, "select * from dunning.replays where replay_id = $replay_id", which).iloc[0]
        by_day = fetch(connection, f"select remind_on, count(*) as n {mine} group by all order by all", which)
        by_action = fetch(
            connection,
            f"select workflow, action, count(*) as n {mine} group by workflow, action, action_position"
            " order by workflow, action_position",
            which,
        )
        by_customer = fetch(
            connection,
            f"select reminders, count(*) as n from (select count(*) as reminders {mine} group by customer_id)"
            " group by all order by all",
            which,
        )
    return Summary(
        replay_id=replay_id,
        first=head["first_day"].date(),
        last=head["last_day"].date(),
        policy_hash=head["policy_hash"],
        reminders=int(head["reminders"]),
        chaseable_customers=int(head["chaseable_customers"]),
        never_reached=int(head["never_reached"]),
        by_day=dict(zip(by_day["remind_on"].dt.date, by_day["n"].tolist(), strict=True)),
        by_action=dict(
            zip(zip(by_action["workflow"], by_action["action"], strict=True), by_action["n"].tolist(), strict=True)
        ),
        by_customer=dict(zip(by_customer["reminders"].tolist(), by_customer["n"].tolist(), strict=True)),
    )


def differences(warehouse: Warehouse, one: str, other: str) -> Differences:
    """What two stored replays of the same days have in common."""
    row = warehouse.fetch(sql.load("compare_replays"), {"one": one, "other": other}).iloc[0]
    return Differences(**{name: int(row[name]) for name in row.index})


@dataclass(frozen=True)
class Stored:
    """A replay that is kept: its days, how many reminders it has, the start of its policy's hash, when it was made."""

    replay_id: str
    first: date
    last: date
    reminders: int
    policy_hash: str
    created_at: datetime


def stored_replays(warehouse: Warehouse) -> list[Stored]:
    """All replays, the newest first; none where there is no warehouse yet."""
    if not warehouse.path.exists():
        return []
    with warehouse.transaction() as connection:
        return _stored(connection)


def delete_replays(warehouse: Warehouse, ids: Collection[str] = (), keep: int | None = None) -> list[Stored]:
    """Deletes replays with their reminders, all or nothing. Their policies stay: batches may have been decided by them.

    Args:
        warehouse: where they are stored.
        ids: which to delete.
        keep: how many of the newest stay, of those that `ids` does not name; None: all of them.

    Returns:
        What was deleted, the newest first.

    Raises:
        DunningError: an id is that of no replay.
    """
    if not warehouse.path.exists():
        _require_known(ids, [])
        return []
    with warehouse.transaction() as connection:
        stored = _stored(connection)
        _require_known(ids, stored)
        spared = [one for one in stored if one.replay_id not in ids][:keep]
        deleted = [one for one in stored if one not in spared]
        for table in ("replay_reminders", "replays"):
            connection.execute(
                f"delete from dunning.{table} where list_contains($ids, replay_id)",
                {"ids": [one.replay_id for one in deleted]},
            )
    return deleted


def _stored(connection: duckdb.DuckDBPyConnection) -> list[Stored]:
    rows = fetch(
        connection,
        "select replay_id, first_day, last_day, reminders, policy_hash, created_at from dunning.replays"
        " order by created_at desc, replay_id",
    )
    days = (rows["first_day"].dt.date, rows["last_day"].dt.date)
    columns = (rows["replay_id"], *days, rows["reminders"].tolist(), rows["policy_hash"], rows["created_at"])
    return [Stored(*row) for row in zip(*columns, strict=True)]


def _require_known(ids: Collection[str], stored: Collection[Stored]) -> None:
    unknown = sorted(set(ids) - {one.replay_id for one in stored})
    if unknown:
        raise DunningError(f"'{unknown[0]}' is no replay; allowed: the ids that `dunning replays` lists")
