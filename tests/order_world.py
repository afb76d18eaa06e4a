"""A shop whose customers edit their orders, and the pipeline that reminds them: stand-ins on loopback, one clock."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from shop_support import Storefront, storefront

from dunning_pipeline.order_run import OrderRun, remind_about_orders
from dunning_pipeline.sandbox.klaviyo import KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo import running as running_klaviyo
from dunning_pipeline.settings import Settings

POLICY = """\
organisation: {time_zone: Europe/Berlin, base_currency: EUR, first_day: "2026-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
order_reminders: {start_at: "2026-01-01T00:00:00Z"}
sending: {live: true}
sources:
  storefront:
    kind: shopify
    shop: "${SHOPIFY_SHOP}"
    token: "${SHOPIFY_TOKEN}"
    edited_by_apps: {customer_portal: [Cleverific]}
"""


@dataclass
class OrderWorld:
    """The shop, the account and the pipeline between them. `run` does what the job order_reminders does."""

    front: Storefront
    account: KlaviyoAccount
    url: str
    policy: str = POLICY
    runs: int = 0
    ran: list[OrderRun] = field(default_factory=list)

    @property
    def shop(self) -> Any:
        return self.front.shop

    @property
    def clock(self) -> Any:
        return self.front.clock

    @property
    def settings(self) -> Settings:
        settings = self.front.settings(self.policy)
        environment = {**settings.environment, "KLAVIYO_URL": self.url}
        return replace(settings, environment=environment, sleep=self.front.naps)

    def run(self, **options: Any) -> OrderRun:
        self.runs += 1
        ran = remind_about_orders(self.settings, self.front.warehouse, f"run-{self.runs}", **options)
        self.ran.append(ran)
        return ran

    def pass_time(self, **duration: float) -> None:
        """Lets the clock of both stand-ins and of the pipeline move on."""
        self.clock.advance(**duration)

    def events(self) -> list[Mapping[str, Any]]:
        """Properties of what Klaviyo recorded, oldest first."""
        return [event.properties for event in self.account.events]

    def told(self) -> list[tuple[str, int]]:
        """Order and occurrence of each event that Klaviyo recorded."""
        return [(event["order_name"], event["occurrence"]) for event in self.events()]

    def reason(self, name: str) -> str:
        """Why no event goes about an order, by the latest decision about it; `remind` if one does."""
        rows = self.front.warehouse.fetch(
            "select d.decision, d.reason from dunning.order_decisions as d join source.orders as o using (order_id)"
            " where o.name = $name order by decided_at desc limit 1",
            {"name": name},
        )
        row = rows.iloc[0]
        return str(row["decision"] if pd.isna(row["reason"]) else row["reason"])

    def series(self, columns: str = "state") -> list[list[Any]]:
        """Columns of the series, by order and number."""
        found = self.front.warehouse.fetch(
            f"select {columns} from dunning.order_series"
            " join (select order_id, name from source.orders) using (order_id) order by name, series"
        )
        return [[None if pd.isna(value) else value for value in row] for row in found.to_numpy().tolist()]


@contextmanager
def order_world(home: Path, policy: str = POLICY) -> Iterator[OrderWorld]:
    """A shop without orders, an account without events."""
    with storefront(home) as front:
        account = KlaviyoAccount(clock=front.clock)
        with running_klaviyo(account) as url:
            yield OrderWorld(front, account, url, policy)
