"""Pulling shops: orders, their edits and what was seen of them come in one stream and are kept portion by portion.

Unlike a table (pulling.py), which comes whole or not at all: a shop takes as long as its throttle says, so that a pull
that breaks off keeps what it has written, and the next one goes on from there. Reading is resources/shopify.py's.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dunning_pipeline.errors import DunningError, TooManyRejectedRows
from dunning_pipeline.policy import Mapping, ShopifySource, resolve, resolve_secret
from dunning_pipeline.pulling import staging_folder
from dunning_pipeline.resources.changes import note_change
from dunning_pipeline.resources.loading import Loader, Pulled, refuse_too_many
from dunning_pipeline.resources.parties import parties_of
from dunning_pipeline.resources.progress import Progress, fetch_progress, text_hash
from dunning_pipeline.resources.readers import shops
from dunning_pipeline.resources.shopify import EDIT_COLUMNS, ORDER_COLUMNS, Page, Row, ShopReader
from dunning_pipeline.resources.shopify_api import (
    MOST_ATTEMPTS,
    TIMEOUT_SECONDS,
    AppCredentials,
    ShopifyApi,
    StaticToken,
)
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Staged, stage
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.resources.watermarks import Watermark, highest
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS, ORDERS, Table

PORTION_ORDERS = 2_000
PORTION_SECONDS = 20.0
"""After so many orders, or so long, what was read is written: as much is read again at most after a pull broke off."""

LOOKED_UP_TOGETHER = 250
"""Orders that are asked for by their ids before what came of it is written."""

_IDENTITY = Mapping()
_COLUMNS = {ORDERS.name: ORDER_COLUMNS, ORDER_EDITS.name: EDIT_COLUMNS}


@dataclass(frozen=True)
class TableCounts:
    """Rows of a table over all portions of a pull."""

    pulled: int = 0
    written: int = 0
    duplicates: int = 0
    rejected: int = 0

    def __add__(self, other: "TableCounts") -> "TableCounts":
        return TableCounts(
            self.pulled + other.pulled,
            self.written + other.written,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
        )

    @classmethod
    def of(cls, staged: Staged, rejected: int) -> "TableCounts":
        """Of what was staged, so much being rejected in the end."""
        return cls(staged.pulled, staged.pulled - staged.duplicates - rejected, staged.duplicates, rejected)


@dataclass
class ShopPull:
    """What a pull of shops came to.

    `unmapped` counts edits by the titles of apps that no party is given for; `failed` has the error of each shop that
    did not answer as it should (SourceError), or of which a portion lost too many orders (TooManyRejectedRows).
    """

    orders: TableCounts = field(default_factory=TableCounts)
    edits: TableCounts = field(default_factory=TableCounts)
    unmapped: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    failed: dict[str, DunningError] = field(default_factory=dict)


@dataclass(frozen=True)
class _Portion:
    """Some pages together; `newest` is the time of the last change of the orders read so far."""

    read_at: datetime
    orders: list[Row]
    edits: list[Row]
    newest: datetime | None


def pull_shops(
    settings: Settings,
    warehouse: Warehouse,
    run_id: str,
    *,
    full: bool = False,
    portion_orders: int = PORTION_ORDERS,
) -> ShopPull:
    """Pulls what changed in every shop of the policy: orders, their edits, and observations of the orders.

    `full` reads every order that is visible, whatever was pulled before; `portion_orders` are written together.

    Raises:
        SourceError: a shop did not answer, or not as it should; the portions before are kept, and the other shops.
        TooManyRejectedRows: a portion lost too many orders; likewise.
    """
    pulled = try_shops(settings, warehouse, run_id, full=full, portion_orders=portion_orders)
    for error in pulled.failed.values():
        raise error
    return pulled


def try_shops(
    settings: Settings,
    warehouse: Warehouse,
    run_id: str,
    *,
    full: bool = False,
    portion_orders: int = PORTION_ORDERS,
) -> ShopPull:
    """`pull_shops`, but what went wrong is in `ShopPull.failed`."""
    total = ShopPull()
    for name, source in shops(settings.policy).items():
        try:
            reader = shop_reader(name, source, settings)
        except DunningError as error:
            total.failed[name] = error
            continue
        try:
            _pull_shop(settings, warehouse, _Shop(name, source, reader, portion_orders), run_id, total, full=full)
        except DunningError as error:
            total.failed[name] = error
        finally:
            total.requests += reader.api.requests
    return total


def look_up_orders(
    settings: Settings, warehouse: Warehouse, run_id: str, orders: pd.DataFrame
) -> dict[str, DunningError]:
    """Reads orders by their ids as they are now, some at a time; what can no longer be read is missing from now on.

    Args:
        settings: the policy, the clock.
        warehouse: where they are kept.
        run_id: the run.
        orders: source (a shop), order_id.

    Returns:
        The error of each shop that did not answer as it should; what it answered before is kept.
    """
    failed: dict[str, DunningError] = {}
    known = shops(settings.policy)
    for name, of_shop in orders.groupby("source")["order_id"]:
        try:
            shop = _Shop(str(name), known[str(name)], shop_reader(str(name), known[str(name)], settings))
            for start in range(0, len(of_shop), LOOKED_UP_TOGETHER):
                _look_up(settings, warehouse, shop, run_id, of_shop.iloc[start : start + LOOKED_UP_TOGETHER].tolist())
        except DunningError as error:
            failed[str(name)] = error
    return failed


def shop_reader(
    name: str,
    source: ShopifySource,
    settings: Settings,
    *,
    attempts: int = MOST_ATTEMPTS,
    timeout: tuple[float, float] = TIMEOUT_SECONDS,
) -> ShopReader:
    """The reader of a shop. Raises MissingVariable when a `${VAR}` of it is not set, SourceError for a wrong domain."""
    credentials: StaticToken | AppCredentials
    if source.token is not None:
        credentials = StaticToken(resolve_secret(source.token, settings.environment))
    else:
        credentials = AppCredentials(
            resolve(str(source.client_id), settings.environment),
            resolve_secret(str(source.client_secret), settings.environment),
        )
    shop = resolve(source.shop, settings.environment)
    api = ShopifyApi(
        name, shop, source.api_version, credentials, sleep=settings.sleep, attempts=attempts, timeout=timeout
    )
    return ShopReader(api, settings.clock)


@dataclass(frozen=True)
class _Shop:
    name: str
    source: ShopifySource
    reader: ShopReader
    portion_orders: int = PORTION_ORDERS

    @property
    def settings_hash(self) -> str:
        """Of what says which orders are read and what becomes of them; parties are told anew with every pull."""
        return text_hash(f"{self.source.shop}\n{self.source.id_prefix}\n{self.source.since}")


def _pull_shop(
    settings: Settings, warehouse: Warehouse, shop: _Shop, run_id: str, total: ShopPull, *, full: bool
) -> None:
    with warehouse.transaction() as connection:
        before = fetch_progress(connection, shop.name, ORDERS.name)
    reached = before.watermark if before and before.settings_hash == shop.settings_hash and not full else None
    since = _from(reached, shop.source)
    continues = False
    for portion in portions(shop.reader.pages(since), shop.portion_orders):
        with staging_folder(settings.home, run_id, ORDERS) as folder:
            _write(settings, warehouse, shop, run_id, folder, portion, reached, total, continues=continues)
        continues = True


def _look_up(settings: Settings, warehouse: Warehouse, shop: _Shop, run_id: str, order_ids: Sequence[str]) -> None:
    prefix = shop.source.id_prefix or ""
    page, gone = shop.reader.by_ids([order_id.removeprefix(prefix) for order_id in order_ids])
    with warehouse.transaction() as connection:
        before = fetch_progress(connection, shop.name, ORDERS.name)
    with staging_folder(settings.home, run_id, ORDERS) as folder:
        portion, reached = _together([page], None), before.watermark if before else None
        _write(settings, warehouse, shop, run_id, folder, portion, reached, ShopPull(), continues=True)
    with warehouse.transaction() as connection:
        connection.execute(
            "update source.orders set missing_since = $day where list_contains($gone, order_id)",
            {"day": settings.today(), "gone": [prefix + order_id for order_id in gone]},
        )


def _from(reached: Watermark | None, source: ShopifySource) -> datetime | None:
    if reached is None:
        day = source.since
        return datetime.fromisoformat(f"{day}T00:00:00+00:00") if day else None
    since = reached.less(source.overlap)
    assert isinstance(since, datetime), "the watermark of a shop is a time"
    return since


def portions(
    pages: Iterable[Page],
    most: int = PORTION_ORDERS,
    seconds: float = PORTION_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[_Portion]:
    """Pages put together until they are enough to be written; at least one portion, were it empty."""
    newest: datetime | None = None
    waiting: list[Page] = []
    began = clock()
    for page in pages:
        waiting.append(page)
        newest = max([moment for moment in (newest, _newest(page.orders)) if moment], default=None)
        if sum(len(each.orders) for each in waiting) >= most or clock() - began >= seconds:
            yield _together(waiting, newest)
            waiting, began = [], clock()
    if waiting:
        yield _together(waiting, newest)


def _together(pages: Sequence[Page], newest: datetime | None) -> _Portion:
    orders = [row for page in pages for row in page.orders]
    edits = [row for page in pages for row in page.edits]
    # As of the first page: a later order has changed before that, or tells itself when it changed.
    return _Portion(pages[0].read_at, orders, edits, newest)


def _newest(orders: Sequence[Row]) -> datetime | None:
    return max((datetime.fromisoformat(str(order["updated_at"])) for order in orders), default=None)


def _write(
    settings: Settings,
    warehouse: Warehouse,
    shop: _Shop,
    run_id: str,
    folder: Path,
    portion: _Portion,
    reached: Watermark | None,
    total: ShopPull,
    *,
    continues: bool,
) -> None:
    """Orders, edits, observations and watermark of a portion, in one short transaction."""
    watermark = highest([portion.newest], reached)
    known, parties = [*settings.policy.sources], parties_of(settings.policy)

    def loader(table: Table) -> Loader:
        return Loader(warehouse, table, run_id, portion.read_at, settings.today(), known, parties=parties)

    def pulled(table: Table, rows: Sequence[Row]) -> Pulled:
        staged = _staged(shop, settings, table, rows, folder)
        progress = Progress(shop.settings_hash, _COLUMNS[table.name], watermark)
        return Pulled(staged, progress, newest_at=portion.read_at, continues=continues)

    edits, orders = pulled(ORDER_EDITS, portion.edits), pulled(ORDERS, portion.orders)
    try:
        with warehouse.transaction() as connection:
            # Edits first: an order that was edited since is observed, however it looks.
            loaded_edits = loader(ORDER_EDITS).load_part(connection, edits)
            rejected = loader(ORDERS).load_part(connection, orders).rejected
            note_change(connection, ORDERS.qualified, run_id)
            stored = _stored(connection, shop.name)
            most = settings.policy.quality.max_rejected
            refuse_too_many(ORDERS, stored + rejected.num_rows, rejected, most)
    except TooManyRejectedRows:
        with warehouse.transaction() as connection:
            loader(ORDERS).store_rejected(connection, shop.name, rejected, beside_earlier=continues)
        raise
    total.orders += TableCounts.of(orders.staged, rejected.num_rows)
    total.edits += TableCounts.of(edits.staged, loaded_edits.rejected.num_rows)
    total.unmapped += loaded_edits.unmapped


def _staged(shop: _Shop, settings: Settings, table: Table, rows: Sequence[Row], folder: Path) -> Staged:
    raw = folder / f"{table.name}.parquet"
    schema = pa.schema([(column, pa.string()) for column in _COLUMNS[table.name]])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), raw)
    time_zone = shop.source.time_zone or settings.policy.organisation.time_zone
    return stage(shop.name, table, _IDENTITY, raw, REJECTS_SCHEMA.empty_table(), time_zone, shop.source.id_prefix)


def _stored(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    """Orders of a shop in the warehouse: of few that changed a single bad one is no large share."""
    ((count,),) = connection.execute("select count(*) from source.orders where source = ?", [source]).fetchall()
    return int(count)
