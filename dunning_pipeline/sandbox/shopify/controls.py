"""What a person can do on the stand-in's page: something to an order, faults of the next requests, conditions.

Fields arrive as texts of a form; a wrong one is a ValueError whose message names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from dunning_pipeline.sandbox.shopify.faults import FAULTS, GRANT, QUERY
from dunning_pipeline.sandbox.shopify.shop import ShopifyShop

MOST_TIMES = 10_000

ACTIONS: Mapping[str, Callable[[ShopifyShop, str, str | None], object]] = {
    "add an item": lambda shop, name, amount: shop.add_item(name, amount or "10.00"),
    "add an item as staff": lambda shop, name, amount: shop.add_item(name, amount or "10.00", app="Shopify Web"),
    "take an item off": lambda shop, name, _: shop.remove_item(name),
    "change the address": lambda shop, name, amount: shop.change_address(name, amount or "15.00"),
    "pay": lambda shop, name, amount: shop.pay(name, amount),
    "refund": lambda shop, name, amount: shop.refund(name, amount),
    "fulfil": lambda shop, name, _: shop.fulfil(name),
    "fulfil partly": lambda shop, name, _: shop.fulfil(name, partly=True),
    "cancel": lambda shop, name, _: shop.cancel(name),
    "close the edit window": lambda shop, name, _: shop.close_edit_window(name),
    "cancel and create anew": lambda shop, name, amount: shop.recreate(name, amount or "10.00"),
    "place": lambda shop, name, amount: shop.place(name, *([amount] if amount else [])),
}
"""What can happen to an order, by the words of the page; amounts are optional."""


def apply_action(shop: ShopifyShop, fields: Mapping[str, str]) -> None:
    """Does something to an order: `order` (its name), `action` (of ACTIONS), `amount` in major units."""
    name, action = fields.get("order", "").strip(), fields.get("action", "")
    if action not in ACTIONS:
        raise ValueError(f"action {action!r} is not known; allowed: {', '.join(ACTIONS)}")
    if action == "place" and (not name or name in {order.name for order in shop.orders}):
        raise ValueError(f"order {name!r} cannot be placed: its name is empty or taken")
    ACTIONS[action](shop, name, fields.get("amount", "").strip() or None)


def apply_faults(shop: ShopifyShop, fields: Mapping[str, str]) -> None:
    """Plans a fault for the next requests: `fault` (of FAULTS; none: forget all), `times`, `of` (queries, grants)."""
    name = fields.get("fault", "")
    if not name:
        shop.faults.clear()
        return
    if name not in FAULTS:
        raise ValueError(f"fault {name!r} is not known; allowed: {', '.join(FAULTS)}")
    times = _number("times", fields.get("times", "1"), MOST_TIMES)
    shop.faults.plan([FAULTS[name]] * int(times), GRANT if fields.get("of") == "grants" else QUERY)


def apply_conditions(shop: ShopifyShop, fields: Mapping[str, str]) -> None:
    """Sets `latency` and `skew` in seconds, `rate` (points a second; empty: no limit) and `without` (a field gone)."""
    latency = _number("latency", fields.get("latency") or "0", 60)
    skew = _number("skew", fields.get("skew") or "0", 400 * 86_400, least=-400 * 86_400)
    rate = _number("rate", fields.get("rate") or "1e12", 1e12, least=1)
    shop.conditions.latency = latency
    shop.conditions.clock_skew = timedelta(seconds=skew)
    shop.conditions.without = frozenset(filter(None, [fields.get("without", "").strip()]))
    shop.bucket.maximum = shop.bucket.available = 20 * rate
    shop.bucket.restore_rate = rate


def _number(name: str, text: str, most: float, least: float = 0) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise ValueError(f"{name} {text!r} is not a number from {least:g} to {most:g}")
    return number
