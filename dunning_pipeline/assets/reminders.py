"""`dunning/reminders`: today's batch with its frozen bodies. Any other day is only decided, never made into a batch."""

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

import dagster as dg
import duckdb
import pandas as pd
from dagster import ResourceParam

from dunning_pipeline import sql
from dunning_pipeline.assets.customers import fetch_customers
from dunning_pipeline.assets.metadata import PREVIEW_ROWS, column_schema, counts_table, preview
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.checks import check_size, size_spec
from dunning_pipeline.errors import DunningError, WarehouseError
from dunning_pipeline.guards import why_unusual
from dunning_pipeline.outbox import PIECE_ROWS, Batch, Outbox, Piece
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.decisions import STREAM, usable_identifiers
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.owed import chaseable_invoices
from dunning_pipeline.rules.reminders import reminder_events
from dunning_pipeline.runs import NEEDS_CONFIRMATION, batch_is_live
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import (
    BALANCES,
    CUSTOMERS,
    DECISIONS,
    INVOICES,
    OPEN_INVOICES,
    ORDER_SERIES,
    REMINDERS,
    SENT_HISTORY,
    Table,
)


def build_reminders_asset(partitions: dg.PartitionsDefinition, upstream: Set[dg.AssetKey]) -> dg.AssetsDefinition:
    """The asset that freezes today's batch. Its `batch_id` is the id of the run.

    Args:
        partitions: the days.
        upstream: every other asset of the daily run, all of which a live batch needs.
    """

    @dg.asset(
        key=asset_key(REMINDERS),
        group_name="dunning",
        description=f"{REMINDERS.meaning} Made for today only: no other day is ever sent.",
        kinds={"duckdb", "pandas"},
        deps=[asset_key(table) for table in (DECISIONS, OPEN_INVOICES, CUSTOMERS, INVOICES)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[size_spec(asset_key(REMINDERS))],
        metadata={"dagster/column_schema": column_schema(REMINDERS)},
    )
    def reminders(
        context: dg.AssetExecutionContext,
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> dg.MaterializeResult:
        days, today = Days.of(context), settings.today()
        if days != Days(today, today):
            note = f"no batch is made of {days}: only today ({today}) is ever sent"
            return dg.MaterializeResult(
                metadata={"dagster/row_count": 0, "note": note}, check_results=[check_size(asset_key(REMINDERS), None)]
            )
        warehouse.longest_hold()
        live = batch_is_live(settings.policy, context.run, {asset_key(REMINDERS), *upstream})
        batch = Batch(context.run.run_id, STREAM, today, size=0, live=live, state="planned" if live else "dry_run")
        figures, outbox = Figures(), Outbox(warehouse, STREAM)
        pieces = map(figures.seen, reminder_pieces(warehouse, settings, days, context.run.run_id if live else None))
        batch = outbox.freeze_pieces(batch, pieces, settings.policy, settings.clock())
        unusual = why_unusual(outbox, batch, settings.policy.sending)
        held = warehouse.longest_hold()
        publish(context, warehouse)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": batch.size,
                "batch_id": batch.batch_id,
                "live": live,
                **({NEEDS_CONFIRMATION: unusual} if live and unusual else {}),
                "by_action": counts_table(dict(figures.by_action.most_common())),
                "refused": counts_table(dict(figures.refused.most_common())),
                "preview": preview(figures.first),
                "longest_lock_seconds": held,
            },
            check_results=[check_size(asset_key(REMINDERS), unusual)],
        )

    return reminders


def publish(context: dg.AssetExecutionContext | dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """Renews the copy for readers. That it cannot be written must not undo what was decided or sent."""
    try:
        warehouse.publish()
    except (OSError, WarehouseError, duckdb.Error) as error:
        context.log.error(f"the published copy of the warehouse could not be written: {error}")


@dataclass
class Figures:
    """What is told of a batch, gathered while its pieces pass."""

    by_action: "Counter[str]" = field(default_factory=Counter)
    refused: "Counter[str]" = field(default_factory=Counter)
    first: pd.DataFrame = field(default_factory=pd.DataFrame)

    def seen(self, piece: Piece) -> Piece:
        """The piece, counted."""
        reminders, _ = piece
        self.by_action.update(reminders["action"])
        self.refused.update(reminders["refusal"].dropna())
        shown = reminders.drop(columns=["body", "order_id", "first_edit_id"]).head(PREVIEW_ROWS - len(self.first))
        self.first = pd.concat([self.first, shown], ignore_index=True) if len(shown) else self.first
        return piece


def reminder_pieces(
    warehouse: Warehouse, settings: Settings, days: Days, run_id: str | None, most: int = PIECE_ROWS
) -> Iterator[Piece]:
    """The reminders of a day with the exact event of each (RULES 7), and the decisions of its customers.

    Some customers at a time, at most `most`, so that memory does not grow with their number; at least one piece.

    Raises:
        DunningError: some of the rows were derived by another run than `run_id` (None: any run's will do), or the
            day was derived again meanwhile.
    """
    parameters = {"first": days.first, "last": days.last, "most": most}
    ranges = warehouse.frugally(lambda connection: fetch(connection, sql.load("customer_ranges"), parameters))
    for first_key, last_key, decided in ranges.itertuples(index=False, name=None):
        yield _reminder_piece(warehouse, settings, days, run_id, (int(first_key), int(last_key)), int(decided))


def _reminder_piece(
    warehouse: Warehouse, settings: Settings, days: Days, run_id: str | None, keys: tuple[int, int], decided: int
) -> Piece:
    """`reminder_pieces` of the customers whose key lies between two; `decided` is how many decisions they had."""

    def read(connection: duckdb.DuckDBPyConnection) -> tuple[pd.DataFrame, ...]:
        decisions, *figures = (
            _fetch_between(connection, table, days, keys) for table in (DECISIONS, OPEN_INVOICES, BALANCES)
        )
        customers = fetch_customers(connection, settings.policy, decisions["customer_key"])
        return decisions, *figures, customers, fetch(connection, sql.load("pay_urls"), _between(days, keys))

    decisions, open_invoices, balances, customers, pay_urls = warehouse.frugally(read)
    if run_id is not None:
        _require_own_rows(run_id, decisions, open_invoices, balances)
    if len(decisions) != decided:
        raise DunningError(f"{days} was derived again while its reminders were made; run daily_dunning for today again")
    remind = decisions[decisions["decision"] == "remind"]
    listed = chaseable_invoices(open_invoices, balances).merge(pay_urls, on="invoice_key", validate="1:1")
    events = reminder_events(
        remind, listed, _people(customers, settings.policy), settings.policy, days.first, settings.clock()
    )
    ids = ["reminder_id", "customer_id", "customer_key", "carrying_invoice_id", "invoice_key"]
    columns = [*ids, "level", "workflow", "action", "occurrence"]
    none = pd.Series(None, remind.index, dtype="str")
    of_orders = {"order_id": none, "first_edit_id": none}
    return remind[columns].assign(**of_orders, body=events["body"], refusal=events["refusal"]), decisions


def _fetch_between(
    connection: duckdb.DuckDBPyConnection, table: Table, days: Days, keys: tuple[int, int]
) -> pd.DataFrame:
    query = (
        f"select * from {table.qualified}"
        " where as_of between $first and $last and customer_key between $first_key and $last_key"
    )
    frame = fetch(connection, query, _between(days, keys))
    return frame.astype({"currency": CURRENCY}) if "currency" in frame else frame


def _between(days: Days, keys: tuple[int, int]) -> dict[str, object]:
    return {"first": days.first, "last": days.last, "first_key": keys[0], "last_key": keys[1]}


def _require_own_rows(run_id: str, *frames: pd.DataFrame) -> None:
    others = pd.concat([frame["run_id"] for frame in frames])
    others = others[others != run_id]
    if len(others):
        raise DunningError(
            f"run {others.iloc[0]} derived the same day while this run did; run daily_dunning for today again"
        )


def _people(customers: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    return customers[["customer_key", "name", "language"]].join(usable_identifiers(customers, policy))


def sent_history_spec() -> dg.AssetSpec:
    """`dunning/sent_history` is drawn, but no materialisation or backfill can send: only the send jobs write it."""
    return dg.AssetSpec(
        asset_key(SENT_HISTORY),
        group_name="dunning",
        description=f"{SENT_HISTORY.meaning} Written by send_reminders and order_reminders, jobs that sensors start.",
        kinds={"duckdb"},
        deps=[asset_key(REMINDERS), asset_key(ORDER_SERIES)],
        metadata={"dagster/column_schema": column_schema(SENT_HISTORY)},
    )
