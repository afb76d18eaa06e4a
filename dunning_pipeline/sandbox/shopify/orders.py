"""Orders of the stand-in, and what can happen to them. Amounts in minor units of what the customer pays in.

What of them is told over GraphQL is in resolving.py; when it happens is handed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

PORTAL = "Cleverific"
"""Title of the app through which customers edit their orders."""
EDIT_WINDOW = timedelta(hours=24)
STANDARD, EXPRESS = "Standard", "Express"
"""Rates at which orders are shipped: when they are placed, and after a change of address."""


@dataclass(frozen=True)
class Customer:
    """Somebody who orders; one without an address cannot be written to."""

    number: int
    name: str
    email: str | None


@dataclass(frozen=True)
class Item:
    """A line of an order."""

    title: str
    price_minor: int


@dataclass(frozen=True)
class Sale:
    """What an agreement sells, or takes back: then quantity and amount are below zero.

    `line` is what it is of: PRODUCT, SHIPPING or ADJUSTMENT. `title` is empty where Shopify tells none.
    """

    line: str
    title: str | None
    quantity: int | None
    amount_minor: int

    @property
    def action(self) -> str:
        """What kind of action it is to Shopify."""
        return "RETURN" if self.amount_minor < 0 else "ORDER"


@dataclass(frozen=True)
class Agreement:
    """What was agreed at a moment: that it is ordered, edited or refunded, and through which app."""

    number: int
    reason: str
    happened_at: datetime
    app: str | None
    sales: tuple[Sale, ...] = ()


@dataclass
class Order:
    """An order as it is now."""

    number: int
    name: str
    customer: Customer | None
    currency: str
    items: list[Item]
    shipping_minor: int
    created_at: datetime
    updated_at: datetime
    received_minor: int = 0
    refunded_minor: int = 0
    locale: str | None = "en"
    phone: str | None = None
    fulfilment: str = "UNFULFILLED"
    cancelled_at: datetime | None = None
    edit_until: datetime | None = None
    deleted: bool = False
    agreements: list[Agreement] = field(default_factory=list)

    @property
    def total_minor(self) -> int:
        """The total after all edits."""
        return sum(item.price_minor for item in self.items) + self.shipping_minor

    @property
    def outstanding_minor(self) -> int:
        """What the customer owes; negative: what is to be refunded."""
        return self.total_minor - self.received_minor

    @property
    def edited(self) -> bool:
        """Whether it was edited after it was placed."""
        return any(agreement.reason == "ORDER_EDIT" for agreement in self.agreements)

    @property
    def financial_status(self) -> str:
        """How far it is paid, as Shopify displays it."""
        if self.refunded_minor:
            return "PARTIALLY_REFUNDED" if self.received_minor else "REFUNDED"
        if self.received_minor <= 0:
            return "PENDING"
        return "PAID" if self.outstanding_minor <= 0 else "PARTIALLY_PAID"

    def edit_window_open(self, now: datetime) -> bool:
        """Whether the customer may still edit it in the portal."""
        return self.edit_until is None or now < self.edit_until


def sold(item: Item) -> Sale:
    """That an item is ordered."""
    return Sale("PRODUCT", item.title, 1, item.price_minor)


def taken_out(item: Item) -> Sale:
    """That an item is no longer ordered."""
    return Sale("PRODUCT", item.title, -1, -item.price_minor)


def shipped(title: str, amount_minor: int) -> Sale:
    """That an order is shipped at a rate."""
    return Sale("SHIPPING", title, 1, amount_minor)


def no_longer_shipped(amount_minor: int) -> Sale:
    """That it is no longer shipped at a rate; Shopify does not tell at which."""
    return Sale("SHIPPING", None, -1, -amount_minor)


def next_name(name: str) -> str:
    """The name of an order that is created in place of another: #1031A for #1031, #1031B for #1031A."""
    letter = re.search(r"[A-Y]$", name)
    return name[:-1] + chr(ord(letter[0]) + 1) if letter else name + "A"
