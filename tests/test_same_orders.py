"""A shop's story told by every system that orders can be in: the same series, decisions and events after each step."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from databases import KINDS, database
from order_world import POLICY, order_world
from support import MovingClock, settings_at

from dunning_pipeline.order_run import remind_about_orders
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import KlaviyoAccount, running
from dunning_pipeline.sandbox.shopify import Order, ShopifyShop
from dunning_pipeline.sandbox.shopify.orders import Sale

STAFF = "Shopify Web"


def placed(shop: ShopifyShop) -> None:
    for number in range(1, 6):
        shop.place(f"#103{number}", "50.00")
    shop.place("#1036", "20.00", paid=False)
    shop.place("#1037", "20.00", email=None)
    shop.place("#1038", "75.50", currency="USD")


def edited(shop: ShopifyShop) -> None:
    shop.add_item("#1031", "12.50")
    shop.add_item("#1032", "9.99", app=STAFF)
    shop.add_item("#1033")
    shop.pay("#1033")
    shop.remove_item("#1034")
    shop.refund("#1034")
    for name in ("#1035", "#1037", "#1038"):
        shop.change_address(name)


def edited_by_others_and_partly_paid(shop: ShopifyShop) -> None:
    shop.pay("#1031", "5.00")
    shop.change_address("#1032")
    shop.change_address("#1036")
    shop.fulfil("#1035", partly=True)
    shop.add_item("#1035", app=STAFF)
    shop.pay("#1038")


def created_anew_and_edited_again(shop: ShopifyShop) -> None:
    shop.recreate("#1031", "4.00")
    shop.add_item("#1038", "3.00")


def nothing(_: ShopifyShop) -> None:
    """Only time passes."""


def ended(shop: ShopifyShop) -> None:
    shop.pay("#1031A")
    shop.cancel("#1032")
    shop.fulfil("#1035")


def created_anew_once_more(shop: ShopifyShop) -> None:
    shop.recreate("#1031A", "30.00")
    shop.refund("#1033", "5.00", app="Cleverific")


def partly_paid(shop: ShopifyShop) -> None:
    shop.pay("#1036", "1.00")


STORY: Sequence[tuple[float, Callable[[ShopifyShop], None]]] = [
    (0, placed),
    (1, edited),
    (2, edited_by_others_and_partly_paid),
    (5, created_anew_and_edited_again),
    (24, nothing),
    (2, ended),
    (1, created_anew_once_more),
    (25, partly_paid),
]
"""Hours that pass, and what happens then."""

ORDERS = (
    *("order_id", "name", "customer_id", "customer_name", "email", "language", "currency", "total", "outstanding"),
    *("received", "financial_status", "fulfillment_status", "created_at", "cancelled_at", "pay_url", "status_url"),
    "updated_at",
)
EDITS = ("edit_id", "order_id", "edited_at", "edited_by", "kind", "changes")
KINDS_OF_EDITS = {"ORDER_EDIT": "OrderEditAgreement", "REFUND": "RefundAgreement", "ORDER": "OrderAgreement"}
Content = Mapping[str, list[dict[str, Any]]]


def content(orders: Sequence[Order]) -> Content:
    """What an order system would hold of a shop's orders, and of what was done to those that were edited."""
    return {
        "orders": [order_of(order) for order in orders],
        "order_edits": [
            edit for order in orders if order.edited or order.name[-1].isalpha() for edit in edits_of(order)
        ],
    }


def order_of(order: Order) -> dict[str, Any]:
    assert order.customer
    owed = order.outstanding_minor > 0 and order.cancelled_at is None
    values = (
        *(str(order.number), order.name, str(order.customer.number), order.customer.name, order.customer.email),
        *(
            order.locale,
            order.currency,
            *map(major, (order.total_minor, order.outstanding_minor, order.received_minor)),
        ),
        *(order.financial_status.lower(), order.fulfilment.lower(), moment(order.created_at)),
        moment(order.cancelled_at) if order.cancelled_at else None,
        f"https://shop.dev/orders/{order.number}/pay" if owed else None,
        *(f"https://shop.dev/orders/{order.number}/status", moment(order.updated_at)),
    )
    return dict(zip(ORDERS, values, strict=True))


def created_anew(order: Order) -> bool:
    """Whether it was created in place of another, which counts as an edit (RULES 8.5)."""
    return order.name[-1].isalpha()


def edits_of(order: Order) -> Iterator[dict[str, Any]]:
    for agreement in order.agreements:
        if agreement.reason != "ORDER" or created_anew(order):
            kind = "replacement" if agreement.reason == "ORDER" else agreement.reason.lower()
            party = "customer_portal" if agreement.app == "Cleverific" else "other"
            edit_id = f"{KINDS_OF_EDITS[agreement.reason]}/{agreement.number}"
            changed = [change_of(sale) for sale in agreement.sales] if kind != "replacement" else None
            changes = json.dumps(changed) if changed is not None else None
            values = (edit_id, str(order.number), moment(agreement.happened_at), party, kind, changes)
            yield dict(zip(EDITS, values, strict=True))


def change_of(sale: Sale) -> dict[str, Any]:
    kind = sale.line.capitalize()
    title = sale.title if sale.line == "PRODUCT" else f"{kind}: {sale.title}" if sale.title else kind
    return {"title": title, "quantity": sale.quantity, "amount": sale.amount_minor / 100}


def major(minor: int) -> str:
    return f"{minor / 100:.2f}"


def moment(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class Outcome:
    """What a run came to: all series, the latest decision about each order, what Klaviyo recorded so far."""

    series: pd.DataFrame
    decisions: pd.DataFrame
    events: list[Mapping[str, Any]]

    @classmethod
    def of(cls, warehouse: Warehouse, account: KlaviyoAccount) -> "Outcome":
        told = "columns(lambda name: name <> 'run_id' and name not like '%_key')"
        latest = "qualify row_number() over (partition by order_id order by decided_at desc) = 1"
        events = [event.properties for event in account.events]
        return cls(
            warehouse.fetch(f"select {told} from dunning.order_series order by all"),
            warehouse.fetch(f"select {told} from dunning.order_decisions {latest} order by all"),
            sorted(events, key=lambda event: (event["sent_on"], event["reminder_id"])),
        )


@dataclass(frozen=True)
class Step:
    """What the systems hold at an instant, and what a run over the shop came to then."""

    at: datetime
    content: Content
    outcome: Outcome


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """The story as Shopify tells it."""
    steps = []
    with order_world(tmp_path_factory.mktemp("shop")) as world:
        for hours, act in STORY:
            world.pass_time(hours=hours)
            act(world.shop)
            world.pass_time(seconds=20)
            at, held = world.clock.now, content(world.shop.orders)
            world.run()
            steps.append(Step(at, held, Outcome.of(world.front.warehouse, world.account)))
    return steps


@dataclass
class Company:
    """The order side over a system whose content is replaced, with an account and a clock of its own."""

    home: Path
    source: str
    fill: Callable[[Content, datetime], None]
    environment: Mapping[str, str] = field(default_factory=dict)
    clock: MovingClock = field(default_factory=MovingClock)

    def outcomes(self, story: Sequence[Step]) -> Iterator[Outcome]:
        """What a run comes to after each step."""
        policy = POLICY[: POLICY.index("sources:")] + self.source
        account = KlaviyoAccount(clock=self.clock)
        with running(account) as url:
            settings = settings_at(self.home, policy, self.clock, {**self.environment, "KLAVIYO_URL": url})
            warehouse = Warehouse(settings.warehouse_path)
            for number, step in enumerate(story):
                self.clock.now = step.at
                self.fill(step.content, step.at)
                remind_about_orders(settings, warehouse, f"run-{number}")
                yield Outcome.of(warehouse, account)


def assert_same(company: Company, story: Sequence[Step]) -> None:
    for number, (step, outcome) in enumerate(zip(story, company.outcomes(story), strict=True)):
        pd.testing.assert_frame_equal(outcome.series, step.outcome.series, obj=f"series after step {number}")
        pd.testing.assert_frame_equal(outcome.decisions, step.outcome.decisions, obj=f"decisions after step {number}")
        assert outcome.events == step.outcome.events


IN_A_DATABASE = """\
sources:
  orders:
    kind: sql
    url: "${ORDERS_DATABASE_URL}"
    time_zone: UTC
    tables: {orders: {table: orders, watermark: updated_at}, order_edits: {table: order_edits, watermark: edited_at}}
"""
IN_FILES = """\
sources:
  orders: {kind: files, time_zone: UTC, tables: {orders: orders.csv, order_edits: order_edits.csv}}
"""
MOMENT = {"sqlite": "text", "postgresql": "timestamp", "mariadb": "datetime"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_of_orders_gives_the_same_series_as_the_shop(kind: str, story: list[Step], tmp_path: Path) -> None:
    def fill(held: Content, _: datetime) -> None:
        with engine.begin() as connection:
            for table, columns in (("orders", ORDERS), ("order_edits", EDITS)):
                connection.execute(sa.text(f"delete from {table}"))
                values = ", ".join(f":{column}" for column in columns)
                if held[table]:
                    connection.execute(sa.text(f"insert into {table} values ({values})"), held[table])

    with database(kind, tmp_path) as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            for table, columns in (("orders", ORDERS), ("order_edits", EDITS)):
                typed = [f"{name} {MOMENT[kind] if name.endswith('_at') else 'varchar(200)'}" for name in columns]
                connection.execute(sa.text(f"create table {table} ({', '.join(typed)})"))
        assert_same(Company(tmp_path / "home", IN_A_DATABASE, fill, {"ORDERS_DATABASE_URL": url}), story)


def test_files_of_orders_give_the_same_series_as_the_shop(story: list[Step], tmp_path: Path) -> None:
    def fill(held: Content, at: datetime) -> None:
        for table, columns in (("orders", ORDERS), ("order_edits", EDITS)):
            path = tmp_path / f"{table}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(held[table])
            # Files tell by their time of when they are.
            os.utime(path, (at.timestamp(), at.timestamp()))

    assert_same(Company(tmp_path, IN_FILES, fill), story)


def test_the_story_has_all_that_could_be_decided_differently(story: list[Step]) -> None:
    decisions = pd.concat([step.outcome.decisions for step in story])
    series = pd.concat([step.outcome.series for step in story])
    reasons = {"no_qualifying_edit", "no_balance", "fulfilled", "cancelled", "replaced", "waiting"}
    assert set(decisions["reason"].dropna()) == reasons | {"no_contact_address"}
    assert set(series["state"]) == {"open", "paid", "fulfilled", "cancelled", "replaced"}
    assert series["series"].max() == 2
    assert max(event["occurrence"] for event in story[-1].outcome.events) >= 3
