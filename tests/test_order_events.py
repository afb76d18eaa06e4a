"""Which events about orders defer reminders of the invoice side, and whose (RULES 5.4, 8.9), as the history tells."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pytest
from support import MovingClock, settings_at

from dunning_pipeline import sql
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.scratch import scratch_to_decide
from dunning_pipeline.tables import CUSTOMER_KEYS, CUSTOMER_LINKS, CUSTOMERS, ORDERS, SENT_HISTORY, Table

DAY = date(2026, 11, 16)
YESTERDAY = DAY - timedelta(days=1)
Attempt = tuple[date, str]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A warehouse in which the customer 7 of billing is the one who ordered."""
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    billed(warehouse, 7, "ada@shop.test")
    ordered(warehouse, "O1", "S1", "ada@shop.test")
    return warehouse


def frame(table: Table, rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([{**dict.fromkeys(table.column_names), **row} for row in rows], columns=[*table.column_names])


def billed(warehouse: Warehouse, key: int, email: str | None, source: str = "billing", customer_id: str = "") -> None:
    """A customer of billing."""
    row = {"customer_id": customer_id or f"C{key}", "customer_key": key, "email": email, "source": source}
    warehouse.append(CUSTOMERS, frame(CUSTOMERS, [row]))
    warehouse.append(CUSTOMER_KEYS, pd.DataFrame([row])[["customer_id", "customer_key"]])


def ordered(warehouse: Warehouse, order_id: str, customer_id: str | None, email: str | None) -> None:
    """An order in the shop; without a customer it is a guest's."""
    row = {"order_id": order_id, "customer_id": customer_id, "email": email, "source": "shop", "order_key": 1}
    amounts = {"name": "#1", "currency": "EUR", "total_minor": 1, "outstanding_minor": 1}
    warehouse.append(ORDERS, frame(ORDERS, [row | amounts]))


def linked(warehouse: Warehouse, person_id: str, *customers: str) -> None:
    """Customers that are one person; C7 has the key 7, those of the shop have others."""
    keys = {name: int(name[1:]) if name.startswith("C") else 1000 + int(name[1:]) for name in customers}
    rows = [{"customer_id": name, "person_id": person_id, "source": "crm", "customer_key": keys[name]} for name in keys]
    warehouse.append(CUSTOMER_LINKS, frame(CUSTOMER_LINKS, rows))


def attempted(
    warehouse: Warehouse,
    *attempts: Attempt,
    reminder_id: str = "R1",
    stream: str = "order",
    order_id: str = "O1",
    customer_id: str | None = "S1",
) -> None:
    """Writes attempts in order: the day of each, and its outcomes with commas between."""
    identity = {"reminder_id": reminder_id, "stream": stream, "batch_id": "b", "occurrence": 1}
    identity |= {"order_id": order_id, "customer_id": customer_id}
    rows = [
        {**identity, "attempt": number, "outcome": outcome}
        | {"contact_on": day, "attempted_at": datetime.combine(day, time(8), UTC)}
        for number, (day, outcomes) in enumerate(attempts, start=1)
        for outcome in outcomes.split(",")
    ]
    warehouse.append(SENT_HISTORY, frame(SENT_HISTORY, rows))


def events(warehouse: Warehouse, last: date = DAY) -> list[tuple[int, date]]:
    """Key of the customer, and day, of each event."""
    rows = warehouse.fetch(sql.load("order_events"), {"last": last})
    return sorted(zip(rows["customer_key"], rows["contact_on"].dt.date, strict=True))


def days(warehouse: Warehouse, last: date = DAY) -> list[date]:
    found = events(warehouse, last)
    assert {key for key, _ in found} <= {7}
    return [day for _, day in found]


def reached(warehouse: Warehouse, order_id: str = "O1", customer_id: str | None = "S1") -> list[int]:
    """Keys of the customers of billing that an event about an order reaches."""
    attempted(warehouse, (DAY, "attempting,accepted"), order_id=order_id, customer_id=customer_id)
    return [key for key, _ in events(warehouse)]


@pytest.mark.parametrize("outcomes", ["attempting,accepted", "attempting,unknown,accepted", "accepted"])
def test_an_accepted_event_counts(warehouse: Warehouse, outcomes: str) -> None:
    attempted(warehouse, (DAY, outcomes))
    assert days(warehouse) == [DAY]


@pytest.mark.parametrize("outcomes", ["attempting", "attempting,unknown"])
def test_an_event_that_was_perhaps_accepted_counts(warehouse: Warehouse, outcomes: str) -> None:
    attempted(warehouse, (DAY, outcomes))
    assert days(warehouse) == [DAY]


@pytest.mark.parametrize("outcomes", ["attempting,rejected", "attempting,unknown,not_delivered", "dropped"])
def test_an_event_that_reached_nobody_does_not_count(warehouse: Warehouse, outcomes: str) -> None:
    attempted(warehouse, (DAY, outcomes))
    assert days(warehouse) == []


def test_an_attempt_without_an_outcome_counts_though_the_next_one_was_rejected(warehouse: Warehouse) -> None:
    attempted(warehouse, (YESTERDAY, "attempting,unknown"), (DAY, "attempting,rejected"))
    assert days(warehouse) == [YESTERDAY]


def test_several_events_of_a_day_are_one_row(warehouse: Warehouse) -> None:
    attempted(warehouse, (DAY, "attempting,accepted"))
    attempted(warehouse, (DAY, "attempting,accepted"), reminder_id="R2")
    assert days(warehouse) == [DAY]


def test_events_of_later_days_and_reminders_about_invoices_do_not_count(warehouse: Warehouse) -> None:
    attempted(warehouse, (DAY, "attempting,accepted"))
    attempted(warehouse, (YESTERDAY, "attempting,accepted"), reminder_id="R2", stream="invoice")
    assert days(warehouse, YESTERDAY) == []


# The same person by the address (RULES 8.9)


@pytest.mark.parametrize("email", ["Ada@Shop.Test", " ada@shop.test ", "ADA@SHOP.TEST"])
def test_upper_case_and_blanks_make_no_other_address(warehouse: Warehouse, email: str) -> None:
    ordered(warehouse, "O2", None, email)
    assert reached(warehouse, "O2", None) == [7]


@pytest.mark.parametrize("email", [None, "", " "])
def test_without_an_address_nobody_is_the_same(warehouse: Warehouse, email: str | None) -> None:
    billed(warehouse, 8, email)
    ordered(warehouse, "O2", "S2", email)
    assert reached(warehouse, "O2", "S2") == []


def test_an_address_of_two_customers_of_billing_is_of_neither(warehouse: Warehouse) -> None:
    billed(warehouse, 8, "ADA@shop.test")
    assert reached(warehouse) == []


def test_an_address_of_two_customers_of_the_shop_is_of_neither(warehouse: Warehouse) -> None:
    ordered(warehouse, "O2", "S2", "Ada@shop.test")
    ordered(warehouse, "O3", None, "ada@shop.test")
    assert reached(warehouse) == []
    assert reached(warehouse, "O3", None) == []


def test_several_orders_of_a_customer_and_of_guests_with_one_address_are_one_persons(warehouse: Warehouse) -> None:
    ordered(warehouse, "O2", "S1", "ada@shop.test")
    ordered(warehouse, "O3", None, "ada@shop.test")
    assert [reached(warehouse, order, customer) for order, customer in (("O1", "S1"), ("O2", "S1"), ("O3", None))] == [
        [7]
    ] * 3


def test_an_address_counts_as_it_is_now(warehouse: Warehouse) -> None:
    assert reached(warehouse) == [7]
    with warehouse.transaction() as connection:
        connection.execute("update source.customers set email = 'new@shop.test'")
    assert events(warehouse) == []
    with warehouse.transaction() as connection:
        connection.execute("update source.orders set email = 'New@shop.test'")
    assert events(warehouse) == [(7, DAY)]


def test_equal_ids_of_two_systems_are_not_the_same_customer(warehouse: Warehouse) -> None:
    ordered(warehouse, "O2", "C7", "bela@shop.test")
    assert reached(warehouse, "O2", "C7") == []


def test_equal_ids_of_one_system_are_the_same_customer_whatever_the_address(warehouse: Warehouse) -> None:
    billed(warehouse, 8, "bela@shop.test", source="shop", customer_id="S1")
    assert reached(warehouse) == [8]


# The same person by links (RULES 8.9)


def test_a_linked_person_may_be_several_customers_on_either_side(warehouse: Warehouse) -> None:
    billed(warehouse, 8, None)
    ordered(warehouse, "O2", "S2", None)
    linked(warehouse, "ada", "C7", "C8", "S1", "S2")
    assert [key for key in reached(warehouse, "O2", "S2") if key < 1000] == [7, 8]


def test_a_link_goes_before_an_address(warehouse: Warehouse) -> None:
    billed(warehouse, 8, "bela@shop.test")
    linked(warehouse, "ada", "C8", "S1")
    assert [key for key in reached(warehouse) if key < 1000] == [8]


@pytest.mark.parametrize("customers", [("S1",), ("C7",), ("S1", "C9")], ids=str)
def test_a_customer_that_is_linked_is_known_by_links_only(warehouse: Warehouse, customers: tuple[str, ...]) -> None:
    linked(warehouse, "somebody", *customers)
    assert 7 not in reached(warehouse)


def test_a_guest_with_the_address_of_a_linked_customer_is_that_customer(warehouse: Warehouse) -> None:
    billed(warehouse, 8, None)
    ordered(warehouse, "O2", None, "ada@shop.test")
    linked(warehouse, "ada", "C8", "S1")
    assert [key for key in reached(warehouse, "O2", None) if key < 1000] == [8]


def test_links_hold_for_an_order_that_is_no_longer_known(warehouse: Warehouse) -> None:
    linked(warehouse, "ada", "C7", "S9")
    assert [key for key in reached(warehouse, "gone", "S9") if key < 1000] == [7]
    assert reached(warehouse, "gone too", None) == reached(warehouse, "gone", "S9")


# The same by hand, and on a copy for some customers


@dataclass(frozen=True)
class Buyer:
    """Who ordered: an order with the customer's id in the shop, unless a guest's, and the address."""

    order_id: str
    customer_id: str | None
    email: str | None


@dataclass(frozen=True)
class Billed:
    """A customer of billing, or one that the shop tells, too."""

    key: int
    customer_id: str
    email: str | None
    source: str


@dataclass(frozen=True)
class World:
    """Customers and orders, and the person of each linked customer."""

    customers: Sequence[Billed]
    orders: Sequence[Buyer]
    links: dict[str, str]

    @classmethod
    def any(cls, chance: random.Random) -> "World":
        """A small one, so that addresses and ids collide."""
        emails = ["ada@x.test", "Ada@X.test", " bela@x.test", "clara@x.test", "dora@x.test", "", None]
        ids = [*(f"C{key}" for key in range(1, 6)), *(f"S{number}" for number in range(4))]
        told = [chance.choice(("billing", "billing", "shop")) for _ in range(5)]
        customers = [
            Billed(key, f"C{key}" if source == "billing" else f"S{key % 4}x{key}", chance.choice(emails), source)
            for key, source in enumerate(told, start=1)
        ]
        buyers = [*ids[5:], *(one.customer_id for one in customers if one.source == "shop"), None]
        orders = [Buyer(f"O{n}", chance.choice(buyers), chance.choice(emails)) for n in range(chance.randint(1, 6))]
        linked = chance.sample(ids, chance.choice((0, 0, 2, 4)))
        return cls(customers, orders, {name: chance.choice("PQ") for name in linked})

    def store(self, warehouse: Warehouse) -> None:
        for one in self.customers:
            billed(warehouse, one.key, one.email, one.source, one.customer_id)
        for order in self.orders:
            ordered(warehouse, order.order_id, order.customer_id, order.email)
            attempted(
                warehouse,
                (DAY, "accepted"),
                reminder_id=f"R{order.order_id}",
                order_id=order.order_id,
                customer_id=order.customer_id,
            )
        keys = {one.customer_id: one.key for one in self.customers}
        rows = [
            {"customer_id": name, "person_id": person, "source": "crm", "customer_key": keys.get(name, 1000 + number)}
            for number, (name, person) in enumerate(self.links.items())
        ]
        warehouse.append(CUSTOMER_LINKS, frame(CUSTOMER_LINKS, rows))

    def reached(self) -> set[int]:
        """Keys of the customers that events about all these orders reach."""
        return {key for order in self.orders for key in self.persons(order)}

    def persons(self, order: Buyer) -> set[int]:
        """Keys of the customers that are the person who ordered (RULES 8.9)."""
        email = address(order)
        known = {each.customer_id for each in self.orders if email and address(each) == email} - {None}
        buyer = order.customer_id or (min(known) if len(known) == 1 else None)
        if buyer in self.links:
            person = self.links[buyer]
            return {one.key for one in self.customers if self.links.get(one.customer_id) == person}
        own = {one.key for one in self.customers if (one.customer_id, one.source) == (buyer, "shop")}
        same = [one for one in self.customers if email and address(one) == email]
        if own or len(known) > 1 or len(same) != 1 or same[0].customer_id in self.links:
            return own
        return {same[0].key}


def address(of: Buyer | Billed) -> str:
    return (of.email or "").strip().lower()


@pytest.mark.parametrize("rounds", [12, pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_whoever_is_reached_is_the_same_by_hand_and_on_a_copy_for_some_customers(tmp_path: Path, rounds: int) -> None:
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    hits = 0
    for number in range(rounds):
        settings = settings_at(tmp_path / str(number), POLICY, MovingClock())
        warehouse, world = Warehouse(settings.warehouse_path), World.any(chance)
        world.store(warehouse)
        expected = world.reached()
        keys = {one.customer_id: one.key for one in world.customers}
        assert {key for key, _ in events(warehouse)} & {*keys.values()} == expected, world
        wanted = chance.sample([*keys], 2)
        with scratch_to_decide(settings, wanted) as scratch:
            found = {key for key, _ in events(scratch)}
        own = {keys[name] for name in wanted}
        assert found & own == expected & own, (wanted, world)
        hits += len(expected)
    assert hits


POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
"""
