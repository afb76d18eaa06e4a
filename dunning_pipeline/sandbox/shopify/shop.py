"""One shop: its orders with what can happen to them, its apps' tokens, and how it answers queries.

The time is handed in and nothing is served here; the schema, what its fields yield and what a query costs have modules
of their own.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from graphql import DocumentNode, ExecutionResult, GraphQLError, GraphQLSyntaxError, execute_sync, parse, validate

from dunning_pipeline.sandbox.klaviyo.faults import Fault, Faults
from dunning_pipeline.sandbox.serving import Answer
from dunning_pipeline.sandbox.shopify.bucket import MOST_COST, Bucket, Costs
from dunning_pipeline.sandbox.shopify.faults import ERROR_BESIDE_DATA, FIELD_EMPTY
from dunning_pipeline.sandbox.shopify.orders import (
    EDIT_WINDOW,
    EXPRESS,
    PORTAL,
    STANDARD,
    Agreement,
    Customer,
    Item,
    Order,
    Sale,
    next_name,
    no_longer_shipped,
    shipped,
    sold,
    taken_out,
)
from dunning_pipeline.sandbox.shopify.resolving import Root, order_gid, type_of
from dunning_pipeline.sandbox.shopify.samples import sample_orders
from dunning_pipeline.sandbox.shopify.schema import shopify_schema

DEFAULT_TOKEN = "shpat_sandbox"
DEFAULT_CLIENT = ("sandbox-app", "shpss_sandbox")
"""Id and secret of the app that is given tokens."""
TOKEN_LASTS = timedelta(seconds=86_399)
VERSIONS = ("2025-10", "2026-01", "2026-04", "2026-07", "2026-10")
"""Versions that are served, oldest first. Fixed, so that the sandbox does not expire."""
ALL_SCOPES = frozenset({"read_orders", "read_customers", "read_all_orders"})
VISIBLE = timedelta(days=60)
"""How old an order may be that is seen without read_all_orders."""
KEPT_REQUESTS = 1_000
SAMPLE_ORDERS = 200

_GRAPHQL, _GRANT = "graphql.json", "/admin/oauth/access_token"


@dataclass(frozen=True)
class Received:
    """A request that came in, and what it was answered."""

    at: datetime
    path: str
    status: int
    query: str = ""
    cost: int = 0
    error: str = ""
    fault: str = ""


@dataclass
class Conditions:
    """How the shop behaves besides its answers; may be changed at any moment. Seconds.

    `clock_skew` is how far its clock is ahead. `without` are fields of orders that its schema does not have.
    `newer`: the version that it answers with whatever it is asked for; empty: the one it is asked for.
    """

    latency: float = 0.0
    clock_skew: timedelta = timedelta()
    without: frozenset[str] = frozenset()
    newer: str = ""


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


class ShopifyShop:
    """The shop. Thread-safe; `orders` are by their name as it is shown, such as `#1031`.

    Args:
        orders: to begin with.
        clock: the present instant; tokens, edits and the bucket go by it.
        token: the access token that is accepted.
        client: id and secret of the app that may ask for a token.
        scopes: what tokens may read.
        bucket: how much may be asked; None: as much as one likes.

    `points` are those that queries have cost so far.
    """

    def __init__(
        self,
        orders: Iterable[Order] = (),
        *,
        clock: Callable[[], datetime] = utc_now,
        token: str = DEFAULT_TOKEN,
        client: tuple[str, str] = DEFAULT_CLIENT,
        scopes: frozenset[str] = ALL_SCOPES,
        bucket: Bucket | None = None,
    ) -> None:
        self.faults = Faults()
        self.conditions = Conditions()
        self.scopes = scopes
        self.points = 0
        self.bucket = bucket or Bucket(maximum=1e12, restore_rate=1e12, available=1e12)
        self._clock = clock
        self._client = client
        self._tokens: dict[str, datetime | None] = {token: None}
        self._lock = threading.RLock()
        self._orders = {order.name: order for order in orders}
        self._by_gid = {order_gid(order): order for order in self._orders.values()}
        self._sorted: list[Order] | None = None
        self._numbers = max((order.number for order in self._orders.values()), default=5_000_000_000)
        self._agreements = max((each.number for order in self.orders for each in order.agreements), default=0)
        self._received: deque[Received] = deque(maxlen=KEPT_REQUESTS)
        self._granted = 0

    # What can happen to orders. Each of these is a change that Shopify would date now.

    def place(
        self,
        name: str,
        *prices: str,
        email: str | None = "ada@shop.dev",
        customer: Customer | None = None,
        currency: str = "EUR",
        paid: bool = True,
        app: str | None = "Online Store",
    ) -> Order:
        """A new order of items at these prices, in major units, with shipping at 4.90."""
        with self._lock:
            now = self.now()
            self._numbers += 1
            items = [Item(f"Item {place}", _minor(price)) for place, price in enumerate(prices or ("50.00",), start=1)]
            buyer = customer or Customer(7_000_000_000 + self._numbers, "Ada Albrecht", email)
            order = Order(self._numbers, name, buyer, currency, items, 490, now, now, edit_until=now + EDIT_WINDOW)
            order.received_minor = order.total_minor if paid else 0
            self._orders[name] = self._by_gid[order_gid(order)] = order
            self._agree(order, "ORDER", app, *map(sold, items), shipped(STANDARD, order.shipping_minor))
            return order

    def add_item(self, name: str, *prices: str, app: str | None = PORTAL) -> Order:
        """Somebody adds items to an order, one at 10.00 and through the customer portal unless told otherwise."""
        with self._lock:
            order = self._editable(name, app)
            last = len(order.items)
            items = [Item(f"Item {place}", _minor(price)) for place, price in enumerate(prices or ("10.00",), last + 1)]
            order.items += items
            return self._agree(order, "ORDER_EDIT", app, *map(sold, items))

    def remove_item(self, name: str, app: str | None = PORTAL) -> Order:
        """Somebody takes the last item off an order, so that a refund is owed if it was paid."""
        with self._lock:
            order = self._editable(name, app)
            if not order.items:
                raise ValueError(f"order {name} has no item left")
            return self._agree(order, "ORDER_EDIT", app, taken_out(order.items.pop()))

    def change_address(self, name: str, shipping: str = "15.00", app: str | None = PORTAL) -> Order:
        """Somebody changes the address to one with another shipping rate."""
        with self._lock:
            order = self._editable(name, app)
            before, order.shipping_minor = order.shipping_minor, _minor(shipping)
            sales = no_longer_shipped(before), shipped(EXPRESS, order.shipping_minor)
            return self._agree(order, "ORDER_EDIT", app, *sales)

    def refund(self, name: str, amount: str | None = None, app: str | None = None) -> Order:
        """Money goes back to the customer: so much, or what is owed to them."""
        with self._lock:
            order = self._known(name)
            minor = _minor(amount) if amount else max(0, -order.outstanding_minor)
            order.received_minor -= minor
            order.refunded_minor += minor
            return self._agree(order, "REFUND", app, Sale("ADJUSTMENT", None, None, -minor))

    def pay(self, name: str, amount: str | None = None) -> Order:
        """The customer pays: so much, or all that is outstanding."""
        with self._lock:
            order = self._known(name)
            order.received_minor += _minor(amount) if amount else max(0, order.outstanding_minor)
            return self._changed(order)

    def fulfil(self, name: str, *, partly: bool = False) -> Order:
        """The order leaves the warehouse, wholly or partly."""
        with self._lock:
            order = self._known(name)
            order.fulfilment = "PARTIALLY_FULFILLED" if partly else "FULFILLED"
            return self._changed(order)

    def cancel(self, name: str) -> Order:
        """The order is cancelled."""
        with self._lock:
            order = self._known(name)
            order.cancelled_at = self.now()
            return self._changed(order)

    def close_edit_window(self, name: str) -> Order:
        """The customer may no longer edit the order. Shopify does not know of it, so nothing is dated."""
        with self._lock:
            order = self._known(name)
            order.edit_until = self.now()
            return order

    def recreate(self, name: str, price: str = "10.00", app: str | None = PORTAL) -> Order:
        """An order is cancelled and created anew with an item more: #1031 becomes #1031A. What was paid goes along."""
        with self._lock:
            old = self.cancel(name)
            prices = [f"{item.price_minor / 100:.2f}" for item in old.items]
            new = self.place(
                next_name(name), *prices, price, customer=old.customer, currency=old.currency, paid=False, app=app
            )
            new.shipping_minor, new.locale = old.shipping_minor, old.locale
            new.received_minor, old.received_minor = old.received_minor, 0
            return self._changed(new)

    def delete(self, name: str) -> None:
        """The order is gone: nobody can read it any more."""
        with self._lock:
            order = self._orders.pop(name)
            del self._by_gid[order_gid(order)]
            self._sorted = None

    # What tests and the page look at.

    def now(self) -> datetime:
        """The time by the shop's clock."""
        return self._clock() + self.conditions.clock_skew

    @property
    def orders(self) -> list[Order]:
        """All orders, by the time of their last change."""
        with self._lock:
            return list(self._by_update())

    @property
    def received(self) -> Sequence[Received]:
        """The latest requests, oldest first."""
        with self._lock:
            return list(self._received)

    def order(self, name: str) -> Order:
        """The order of a name. Raises ValueError when there is none."""
        with self._lock:
            return self._known(name)

    def revoke_tokens(self) -> None:
        """Tokens that were granted are no longer accepted, before their time."""
        with self._lock:
            self._tokens = {token: until for token, until in self._tokens.items() if until is None}

    # How it answers.

    def handle(self, path: str, headers: Mapping[str, str], body: bytes, fault: Fault | None = None) -> Answer:
        """Answers a POST and notes it down; header names are in lower case."""
        with self._lock:
            query, cost, error = "", 0, ""
            if fault is not None and not fault.accepted:
                answer = Answer(fault.code or 0, {})
            elif path == _GRANT:
                answer = self._grant(headers, body)
            elif path.startswith("/admin/api/") and path.endswith(_GRAPHQL):
                answer, query, cost, error = self._graphql(path.split("/")[3], headers, body, fault)
            else:
                answer = _json(404, {"errors": "Not Found"})
            name = fault.name if fault else ""
            self._received.append(Received(self.now(), path, answer.status, query, cost, error, name))
            if fault is not None and fault.code is not None:
                return Answer(fault.code, dict(fault.headers), fault.body)
            return answer

    def visible(self) -> Sequence[Order]:
        """The orders that a token sees, by their last change."""
        found = self._by_update()
        if "read_all_orders" in self.scopes:
            return found
        oldest = self.now() - VISIBLE
        return [order for order in found if order.created_at >= oldest]

    def by_gid(self, gid: str) -> Order | None:
        """The order of an id, if a token sees it."""
        found = self._by_gid.get(gid)
        seen = found and ("read_all_orders" in self.scopes or found.created_at >= self.now() - VISIBLE)
        return found if seen else None

    def may_read_customers(self) -> bool:
        """Whether tokens may read customers."""
        return "read_customers" in self.scopes

    def _grant(self, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            fields = json.loads(body)
        except ValueError:
            fields = dict(parse_qsl(body.decode(errors="replace")))
        if fields.get("grant_type") != "client_credentials":
            return _json(400, {"error": "unsupported_grant_type"})
        if (fields.get("client_id"), fields.get("client_secret")) != self._client:
            return _json(400, {"error": "invalid_client", "error_description": "client authentication failed"})
        self._granted += 1
        token = f"shpat_granted_{self._granted}"
        self._tokens[token] = self.now() + TOKEN_LASTS
        seconds = int(TOKEN_LASTS.total_seconds())
        return _json(200, {"access_token": token, "scope": ",".join(sorted(self.scopes)), "expires_in": seconds})

    def _graphql(
        self, version: str, headers: Mapping[str, str], body: bytes, fault: Fault | None
    ) -> tuple[Answer, str, int, str]:
        token = headers.get("x-shopify-access-token", "")
        until = self._tokens.get(token)
        if token not in self._tokens or (until is not None and until <= self.now()):
            return _json(401, {"errors": "[API] Invalid API key or access token (unrecognized login)"}), "", 0, "401"
        # A version that is no longer served is answered in the oldest that is.
        served = self.conditions.newer or max(version, VERSIONS[0])
        if not self.conditions.newer and served not in VERSIONS:
            return _json(404, {"errors": "Not Found"}), "", 0, "404"
        document, cost = self._answered(body, fault)
        error = "; ".join(str(each.get("message")) for each in document.get("errors", []))
        name = next(iter(document.get("data") or {}), "")
        return _json(200, document, {"X-Shopify-API-Version": served}), name, cost, error

    def _answered(self, body: bytes, fault: Fault | None) -> tuple[dict[str, Any], int]:
        """What a query yields, as JSON, and what it cost."""
        try:
            asked = json.loads(body)
            text, variables = str(asked["query"]), dict(asked.get("variables") or {})
        except (ValueError, KeyError, TypeError):
            return {"errors": [{"message": "Required parameter missing or invalid"}]}, 0
        document, problems = _parsed(text, self.conditions.without)
        if document is None:
            return {"errors": problems}, 0
        costs = Costs(document, variables)
        requested, now = costs.requested(), self.now().timestamp()
        if requested > MOST_COST:
            return {"errors": [_too_costly(requested)]}, 0
        if not self.bucket.take(requested, now):
            told = self._cost(requested, None, now)
            return {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], **told}, 0
        schema = shopify_schema(self.conditions.without)
        result = execute_sync(schema, document, Root(self), variable_values=variables, type_resolver=type_of)
        actual = costs.actual(result.data)
        self.bucket.give_back(requested - actual)
        self.points += actual
        return {**_told(result, fault), **self._cost(requested, actual, now)}, actual

    def _cost(self, requested: int, actual: int | None, now: float) -> dict[str, Any]:
        cost = {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": self.bucket.status(now)}
        return {"extensions": {"cost": cost}}

    def _by_update(self) -> list[Order]:
        if self._sorted is None:
            self._sorted = sorted(self._orders.values(), key=lambda order: (order.updated_at, order.number))
        return self._sorted

    def _known(self, name: str) -> Order:
        if name not in self._orders:
            raise ValueError(f"order {name!r} is not known; orders are named as they are shown, such as #1031")
        return self._orders[name]

    def _editable(self, name: str, app: str | None) -> Order:
        order = self._known(name)
        if order.cancelled_at is not None:
            raise ValueError(f"order {name} is cancelled")
        if app == PORTAL and not order.edit_window_open(self.now()):
            raise ValueError(f"the edit window of order {name} is closed")
        return order

    def _agree(self, order: Order, reason: str, app: str | None, *sales: Sale) -> Order:
        self._agreements += 1
        order.agreements.append(Agreement(self._agreements, reason, self.now(), app, sales))
        return self._changed(order)

    def _changed(self, order: Order) -> Order:
        # Shopify dates changes in whole seconds.
        order.updated_at = self.now().replace(microsecond=0)
        self._sorted = None
        return order


def sample_shop(orders: int = SAMPLE_ORDERS, clock: Callable[[], datetime] = utc_now) -> ShopifyShop:
    """A shop with so many sample orders and the bucket of Shopify's standard plan."""
    bucket = Bucket(at=clock().timestamp())
    return ShopifyShop(sample_orders(orders, clock()), clock=clock, bucket=bucket)


@lru_cache(maxsize=64)
def _parsed(text: str, without: frozenset[str]) -> tuple[DocumentNode | None, list[dict[str, Any]]]:
    """A query that fits the schema, or what is wrong with it in Shopify's words."""
    try:
        document = parse(text)
    except GraphQLSyntaxError as error:
        return None, [{"message": error.message, "extensions": {"code": "parse_error"}}]
    wrong = validate(shopify_schema(without), document)
    return (None, [_in_shopifys_words(error) for error in wrong]) if wrong else (document, [])


def _in_shopifys_words(error: GraphQLError) -> dict[str, Any]:
    words = error.message.split("'")
    if error.message.startswith("Cannot query field"):
        field_name, type_name = words[1], words[3]
        extensions = {"code": "undefinedField", "typeName": type_name, "fieldName": field_name}
        return {"message": f"Field '{field_name}' doesn't exist on type '{type_name}'", "extensions": extensions}
    return {"message": error.message, "extensions": {"code": "invalid"}}


def _too_costly(requested: int) -> dict[str, Any]:
    message = f"Query cost is {requested}, which exceeds the single query max cost limit ({MOST_COST})."
    return {"message": message, "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested, "maxCost": MOST_COST}}


def _told(result: ExecutionResult, fault: Fault | None) -> dict[str, Any]:
    data: Any = result.data
    errors: list[Any] = [error.formatted for error in result.errors or []]
    if fault is ERROR_BESIDE_DATA and data and "orders" in data:
        data["orders"]["nodes"] = data["orders"]["nodes"][:-1]
        path = ["orders", "nodes", len(data["orders"]["nodes"])]
        errors = [{"message": "Something went wrong for ada@shop.dev", "path": path}]
    if fault is FIELD_EMPTY and data and data.get("orders", {}).get("nodes"):
        data["orders"]["nodes"][0]["totalOutstandingSet"] = None
    return {"data": data, **({"errors": errors} if errors else {})}


def _json(status: int, document: object, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(document).encode()
    return Answer(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body)


def _minor(amount: str) -> int:
    """Cents of an amount. Raises ValueError for what is none."""
    whole, _, decimals = amount.strip().partition(".")
    if not (whole + decimals).lstrip("-").isdigit() or len(decimals) > 2:
        raise ValueError(f"{amount!r} is no amount such as 10.00")
    return int(whole + decimals.ljust(2, "0"))
