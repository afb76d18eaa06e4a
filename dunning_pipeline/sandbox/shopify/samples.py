"""Sample orders: seeded, and dated relative to a moment that is handed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from dunning_pipeline.sandbox.shopify.orders import PORTAL, STANDARD, Agreement, Customer, Item, Order, shipped, sold

FIRST_NUMBER = 1001
_NAMES = ("Ada", "Bela", "Clara", "Deniz", "Emil", "Fatou", "Goran", "Hana", "Ines", "Jonas")
_FAMILIES = ("Albrecht", "Brunner", "Castillo", "Dubois", "Eriksen", "Fischer", "Garnier", "Horvat")
_ITEMS = (("Linen shirt", 5900), ("Wool scarf", 3450), ("Canvas bag", 2990), ("Leather belt", 4500), ("Socks", 890))
_CURRENCIES = ("EUR", "EUR", "EUR", "USD", "GBP")


def sample_orders(count: int, now: datetime, seed: int = 0, edited: float = 0.1) -> Iterator[Order]:
    """So many orders of the last fifty days, oldest change first; the share `edited` of them has been edited.

    Most are paid; of the edited ones half have an outstanding balance. Edit windows are open until they are closed.
    """
    random = Random(seed)
    span = timedelta(days=50)
    for place in range(count):
        created = (now - span + span * place / max(count, 1)).replace(microsecond=0)
        order = _placed(FIRST_NUMBER + place, created, random)
        if random.random() < edited:
            _edit(order, created + timedelta(minutes=20), random)
        yield order


def _placed(number: int, created: datetime, random: Random) -> Order:
    person = random.randrange(5_000)
    name = f"{_NAMES[person % len(_NAMES)]} {_FAMILIES[person % len(_FAMILIES)]}"
    customer = Customer(7_000_000 + person, name, f"person{person}@shop.dev" if random.random() < 0.97 else None)
    order = Order(
        number=number + 5_000_000_000,
        name=f"#{number}",
        customer=customer if random.random() < 0.98 else None,
        currency=random.choice(_CURRENCIES),
        items=[Item(*random.choice(_ITEMS)) for _ in range(random.randint(1, 3))],
        shipping_minor=490,
        created_at=created,
        updated_at=created,
        locale=random.choice(("en", "de", "fr", None)),
    )
    sales = (*map(sold, order.items), shipped(STANDARD, order.shipping_minor))
    order.agreements.append(Agreement(number * 100, "ORDER", created, "Online Store", sales))
    order.received_minor = order.total_minor
    if random.random() < 0.6:
        order.fulfilment = "FULFILLED"
    return order


def _edit(order: Order, at: datetime, random: Random) -> None:
    item = Item(*random.choice(_ITEMS))
    order.items.append(item)
    order.fulfilment = "UNFULFILLED"
    number = order.agreements[-1].number + 1
    app = random.choice((PORTAL, PORTAL, "Shopify Web"))
    order.agreements.append(Agreement(number, "ORDER_EDIT", at, app, (sold(item),)))
    order.updated_at = at
    if random.random() < 0.5:
        order.received_minor = order.total_minor
