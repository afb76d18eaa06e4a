"""Pulling orders and their edits from whatever feeds them: shops portion by portion, tables whole or not at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dunning_pipeline.errors import DunningError
from dunning_pipeline.order_polling import order_sources
from dunning_pipeline.pulling import pull
from dunning_pipeline.pulling_shops import ShopPull, TableCounts, try_shops
from dunning_pipeline.resources.loading import Loaded
from dunning_pipeline.resources.readers import shops
from dunning_pipeline.resources.staging import Staged
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS, ORDERS, Table


@dataclass
class PulledOrders:
    """What a pull of orders and edits came to; `failed` has the error of each source that could not be read.

    `unmapped` counts edits that count as `other`, by the text that tells who made them (RULES 8.1).
    """

    edits: TableCounts = field(default_factory=TableCounts)
    orders: TableCounts = field(default_factory=TableCounts)
    shops: ShopPull = field(default_factory=ShopPull)
    unmapped: Counter[str] = field(default_factory=Counter)
    failed: dict[str, DunningError] = field(default_factory=dict)


def pull_orders(settings: Settings, warehouse: Warehouse, run_id: str, *, full: bool = False) -> PulledOrders:
    """Pulls one source after the other, edits before orders; shops yield both. One that fails keeps no other back."""
    pulled, policy = PulledOrders(), settings.policy
    tables = [name for name in order_sources(policy) if name not in shops(policy)]

    def pulled_table(name: str, table: Table) -> TableCounts:
        try:
            staged, loaded = pull(settings, warehouse, table, run_id, full=full, only=name)
        except DunningError as error:
            pulled.failed[name] = error
            return TableCounts()
        pulled.unmapped += loaded.unmapped
        return counted(staged, loaded)

    for name in tables:
        pulled.edits += pulled_table(name, ORDER_EDITS)
        pulled.orders += pulled_table(name, ORDERS)
    pulled.shops = try_shops(settings, warehouse, run_id, full=full)
    pulled.edits += pulled.shops.edits
    pulled.orders += pulled.shops.orders
    pulled.unmapped += pulled.shops.unmapped
    pulled.failed |= pulled.shops.failed
    return pulled


def counted(staged: Sequence[Staged], loaded: Loaded) -> TableCounts:
    """What a pull of a table came to."""
    return TableCounts(
        pulled=sum(part.pulled for part in staged),
        written=loaded.written,
        duplicates=sum(part.duplicates for part in staged),
        rejected=loaded.rejected,
    )
