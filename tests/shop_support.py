"""What tests of the order side hand in: a shop of the sandbox served over HTTP, and a pipeline that pulls from it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import SecretStr
from support import MovingClock, settings_at

from dunning_pipeline.pulling_shops import ShopPull, pull_shops
from dunning_pipeline.resources.shopify import ShopReader
from dunning_pipeline.resources.shopify_api import ShopifyApi, StaticToken
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.shopify import DEFAULT_CLIENT, DEFAULT_TOKEN, Order, ShopifyShop, running
from dunning_pipeline.settings import Settings

POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: "2026-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
sources:
  storefront:
    kind: shopify
    shop: "${SHOPIFY_SHOP}"
    token: "${SHOPIFY_TOKEN}"
    edited_by_apps: {customer_portal: [Cleverific]}
"""
VERSION = "2026-10"
TABLES = ("orders", "order_edits", "order_observations", "rejected_rows", "watermarks")


@dataclass
class Naps:
    """A sleep that takes no time but moves a clock, and keeps for how long it was asked."""

    clock: MovingClock
    taken: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.clock.advance(seconds=seconds)


@dataclass
class Storefront:
    """A served shop and the pipeline that pulls from it, on one moving clock."""

    home: Path
    shop: ShopifyShop
    url: str
    clock: MovingClock
    naps: Naps

    def settings(self, policy: str = POLICY) -> Settings:
        app, secret = DEFAULT_CLIENT
        environment = {"SHOPIFY_SHOP": self.url, "SHOPIFY_TOKEN": DEFAULT_TOKEN, "APP": app, "APP_SECRET": secret}
        return replace(settings_at(self.home, policy, self.clock, environment), sleep=self.naps)

    def pull(self, policy: str = POLICY, *, full: bool = False, run_id: str = "run") -> ShopPull:
        return pull_shops(self.settings(policy), self.warehouse, run_id, full=full)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home / "warehouse.duckdb")

    def rows(self, columns: str, table: str = "orders", order: str = "all") -> list[list[Any]]:
        found = self.warehouse.fetch(f"select {columns} from source.{table} order by {order}")
        return [[None if pd.isna(value) else value for value in row] for row in found.to_numpy().tolist()]

    def api(self, token: str = DEFAULT_TOKEN, **options: Any) -> ShopifyApi:
        """A client whose pauses move the clock."""
        given = {"sleep": self.naps, "clock": lambda: self.clock().timestamp(), "random": lambda: 1.0, **options}
        version = given.pop("version", VERSION)
        credentials = given.pop("credentials", StaticToken(SecretStr(token)))
        return ShopifyApi("storefront", given.pop("shop", self.url), version, credentials, **given)

    def reader(self, api: ShopifyApi | None = None) -> ShopReader:
        return ShopReader(api or self.api(), self.clock)


@contextmanager
def storefront(home: Path, orders: Iterable[Order] = (), **options: Any) -> Iterator[Storefront]:
    """A storefront; `options` are the shop's."""
    clock = MovingClock()
    shop = ShopifyShop(orders, clock=clock, **options)
    with running(shop) as url:
        yield Storefront(home, shop, url, clock, Naps(clock))


def stored(warehouse: Warehouse) -> dict[str, pd.DataFrame]:
    """What the tables of the order side hold, in one order. Integer keys may differ: they are given as orders come."""
    return {
        name: warehouse.fetch(f"select columns(lambda c: c not like '%_key') from source.{name} order by all")
        for name in TABLES
    }


def assert_same(left: Warehouse, right: Warehouse, without: tuple[str, ...] = ()) -> None:
    expected = stored(right)
    for name, frame in stored(left).items():
        dropped = [column for column in without if column in frame]
        pd.testing.assert_frame_equal(frame.drop(columns=dropped), expected[name].drop(columns=dropped), obj=name)
