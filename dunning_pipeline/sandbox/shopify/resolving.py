"""What the fields of the schema yield for the orders of the stand-in."""

from __future__ import annotations

import base64
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from graphql import GraphQLError, GraphQLResolveInfo

from dunning_pipeline.rules.money import known_currencies
from dunning_pipeline.sandbox.shopify.orders import Agreement, Customer, Order, Sale

MOST_ON_A_PAGE = 250
SHOP_CURRENCY, SHOP_RATE = "EUR", Decimal("0.9")
"""What the shop keeps its books in, and what a unit of any other currency is worth there."""

_TYPES = {"ORDER": "OrderAgreement", "ORDER_EDIT": "OrderEditAgreement", "REFUND": "RefundAgreement"}
_SALE_TYPES = {"PRODUCT": "ProductSale", "SHIPPING": "ShippingLineSale", "ADJUSTMENT": "AdjustmentSale"}
_TERM = re.compile(r"updated_at:(>=|>|<=|<)'?([0-9T:+Z.-]+)'?")


class Catalogue(Protocol):
    """The orders that are visible to a token, and what it may see of them."""

    def visible(self) -> Sequence[Order]:
        """Those that may be seen, by their last change."""

    def by_gid(self, gid: str) -> Order | None:
        """The order of an id."""

    def may_read_customers(self) -> bool:
        """Whether customers may be seen."""


class Root:
    """The fields of Query. graphql-core calls them with the arguments by name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def orders(self, info: GraphQLResolveInfo, **asked: Any) -> dict[str, Any]:
        """A page of orders, by the time of their last change or of their creation."""
        by_update = asked.get("sortKey") == "UPDATED_AT"
        found: Sequence[Order] = self._catalogue.visible()
        if not by_update:
            found = sorted(found, key=lambda order: (order.created_at, order.number))
        found = _searched(found, asked.get("query"), ordered=by_update)
        if asked.get("reverse"):
            found = found[::-1]
        keys = _Keys(found, by_update=by_update, reverse=bool(asked.get("reverse")))
        return _connection(found, keys, asked, lambda order: _Order(order, self._catalogue))

    def order(self, info: GraphQLResolveInfo, id: str) -> _Order | None:
        """One order, or null."""
        found = self._catalogue.by_gid(id)
        return _Order(found, self._catalogue) if found else None

    def node(self, info: GraphQLResolveInfo, id: str) -> _Order | None:
        """One order by its id, or null."""
        return self.order(info, id)

    def nodes(self, info: GraphQLResolveInfo, ids: list[str]) -> list[_Order | None]:
        """Orders by their ids; null where there is none."""
        if len(ids) > MOST_ON_A_PAGE:
            raise GraphQLError(f"The input array size of {len(ids)} is greater than the maximum allowed of 250.")
        return [self.order(info, gid) for gid in ids]


class _Keys:
    """What orders are sorted by, as a sequence that is not made before it is asked for."""

    def __init__(self, orders: Sequence[Order], *, by_update: bool, reverse: bool) -> None:
        self._orders, self._by_update, self._reverse = orders, by_update, reverse

    def of(self, order: Order) -> str:
        moment = order.updated_at if self._by_update else order.created_at
        return f"{moment.timestamp():017.3f}:{order.number:020d}"

    def after(self, cursor: str) -> int:
        """Place of the first order behind a cursor, whether its own order is still there or not."""
        if self._reverse:
            return len(self._orders) - bisect_left(self._orders[::-1], cursor, key=self.of)
        return bisect_right(self._orders, cursor, key=self.of)


def _connection(found: Sequence[Any], keys: _Keys, asked: Mapping[str, Any], wrap: Any) -> dict[str, Any]:
    first = asked.get("first")
    if not isinstance(first, int) or not 1 <= first <= MOST_ON_A_PAGE:
        raise GraphQLError("you must provide one of first or last, from 1 to 250")
    start = keys.after(_decoded(asked["after"])) if asked.get("after") else 0
    page = found[start : start + first]
    cursors = [_encoded(keys.of(each)) for each in page]
    return _paged([wrap(each) for each in page], cursors, start, len(found))


def _by_place(found: Sequence[Any], first: int | None, after: str | None) -> dict[str, Any]:
    """A page of what stays in its order, with the place as cursor."""
    start = int(_decoded(after)) + 1 if after else 0
    if not first or not 1 <= first <= MOST_ON_A_PAGE:
        raise GraphQLError("you must provide one of first or last, from 1 to 250")
    page = found[start : start + first]
    return _paged(page, [_encoded(str(start + place)) for place in range(len(page))], start, len(found))


def _paged(page: Sequence[Any], cursors: Sequence[str], start: int, total: int) -> dict[str, Any]:
    """A connection: what is on the page, and whether there is more."""
    return {
        "nodes": page,
        "edges": [{"cursor": cursor, "node": each} for cursor, each in zip(cursors, page, strict=True)],
        "pageInfo": {
            "hasNextPage": start + len(page) < total,
            "hasPreviousPage": start > 0,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def _searched(orders: Sequence[Order], text: str | None, *, ordered: bool) -> Sequence[Order]:
    """Those that a search text names; like Shopify it does not mind terms that it does not know."""
    for operator, written in _TERM.findall(text or ""):
        moment = datetime.fromisoformat(written if "T" in written else f"{written}T00:00:00Z")
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if operator == ">=" and ordered:
            orders = orders[bisect_left(orders, moment, key=lambda order: order.updated_at) :]
        else:
            orders = [order for order in orders if _compared(order.updated_at, operator, moment)]
    return orders


def _compared(value: datetime, operator: str, bound: datetime) -> bool:
    return {">=": value >= bound, ">": value > bound, "<=": value <= bound, "<": value < bound}[operator]


class _Order:
    """An order as its GraphQL type tells it."""

    def __init__(self, order: Order, catalogue: Catalogue) -> None:
        self._order, self._catalogue = order, catalogue
        self.id = order_gid(order)
        self.name = order.name
        self.phone = order.phone
        self.edited = order.edited
        self.createdAt, self.updatedAt = told(order.created_at), told(order.updated_at)
        self.cancelledAt = told(order.cancelled_at) if order.cancelled_at else None
        self.customerLocale = order.locale
        self.currencyCode, self.presentmentCurrencyCode = SHOP_CURRENCY, order.currency
        self.displayFinancialStatus = order.financial_status
        self.displayFulfillmentStatus = order.fulfilment
        self.statusPageUrl = f"https://shop.dev/orders/{order.number}/status"
        self.totalOutstandingSet = _bag(order.outstanding_minor, order.currency)
        self.currentTotalPriceSet = _bag(order.total_minor, order.currency)
        self.totalReceivedSet = _bag(order.received_minor, order.currency)
        owed = order.outstanding_minor > 0 and order.cancelled_at is None
        link = f"https://shop.dev/orders/{order.number}/pay" if owed else None
        self.paymentCollectionDetails = {"additionalPaymentCollectionUrl": link}

    def email(self, info: GraphQLResolveInfo) -> str | None:
        """The address given with the order."""
        return self._order.customer.email if self._order.customer else None

    def customer(self, info: GraphQLResolveInfo) -> dict[str, Any] | None:
        """Who ordered; refused to a token without read_customers."""
        if not self._catalogue.may_read_customers():
            raise GraphQLError(
                "Access denied for customer field. Required access: `read_customers` access scope.",
                extensions={"code": "ACCESS_DENIED", "requiredAccess": "`read_customers` access scope."},
            )
        return _customer(self._order.customer)

    def agreements(self, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None) -> Any:
        """What was agreed, oldest first."""
        currency = self._order.currency
        return _by_place([_agreement(each, currency) for each in self._order.agreements], first, after)


def order_gid(order: Order) -> str:
    """`gid://shopify/Order/5000001031`."""
    return f"gid://shopify/Order/{order.number}"


def told(moment: datetime) -> str:
    """A time as Shopify tells it: in UTC, in whole seconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def type_of(value: Any, *_: Any) -> str:
    """The name of the GraphQL type of an object behind an interface."""
    return "Order" if isinstance(value, _Order) else str(value["__typename"])


def _customer(customer: Customer | None) -> dict[str, Any] | None:
    if customer is None:
        return None
    return {
        "id": f"gid://shopify/Customer/{customer.number}",
        "displayName": customer.name,
        "defaultEmailAddress": {"emailAddress": customer.email} if customer.email else None,
    }


def _agreement(agreement: Agreement, currency: str) -> dict[str, Any]:
    kind = _TYPES[agreement.reason]
    app = {"id": f"gid://shopify/App/{sum(agreement.app.encode())}", "title": agreement.app} if agreement.app else None
    return {
        "__typename": kind,
        "id": f"gid://shopify/{kind}/{agreement.number}",
        "happenedAt": told(agreement.happened_at),
        "reason": agreement.reason,
        "app": app,
        "sales": _sales(agreement, currency),
    }


def _sales(agreement: Agreement, currency: str) -> Callable[..., dict[str, Any]]:
    def sales(info: GraphQLResolveInfo, first: int | None = None, after: str | None = None) -> dict[str, Any]:
        """What was sold or taken back, in the order of the agreement."""
        number = agreement.number * 1_000
        return _by_place([_sale(each, number + i, currency) for i, each in enumerate(agreement.sales)], first, after)

    return sales


def _sale(sale: Sale, number: int, currency: str) -> dict[str, Any]:
    kind = _SALE_TYPES[sale.line]
    return {
        "__typename": kind,
        "id": f"gid://shopify/{kind}/{number}",
        "actionType": sale.action,
        "lineType": sale.line,
        "quantity": sale.quantity,
        "totalAmount": _bag(sale.amount_minor, currency),
        "lineItem": {"id": f"gid://shopify/LineItem/{number}", "name": sale.title, "title": sale.title},
        "shippingLine": {"id": f"gid://shopify/ShippingLine/{number}", "title": sale.title} if sale.title else None,
    }


def _bag(minor: int, currency: str) -> dict[str, dict[str, str]]:
    digits = known_currencies()[currency]
    amount = Decimal(minor).scaleb(-digits)
    shop = amount if currency == SHOP_CURRENCY else (amount * SHOP_RATE).quantize(Decimal("0.01"))
    return {
        "shopMoney": {"amount": _decimal(shop), "currencyCode": SHOP_CURRENCY},
        "presentmentMoney": {"amount": _decimal(amount), "currencyCode": currency},
    }


def _decimal(amount: Decimal) -> str:
    """As Shopify writes amounts: without the zeros at the end, but with one decimal at least."""
    text = format(amount, "f")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decoded(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor.encode()).decode()
    except ValueError:
        raise GraphQLError("Invalid cursor for current pagination sort.") from None
