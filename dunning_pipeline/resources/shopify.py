"""Reads orders, with what was done to them after they were placed, off a Shopify shop, page by page.

How Shopify is asked, and what its errors mean, belongs in shopify_api.py; what the texts mean, in staging.py. Nothing
here is written.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, NamedTuple

from dunning_pipeline.resources.clock import Clock
from dunning_pipeline.resources.shopify_api import MOST_COST, Document, FieldGone, ShopifyApi, TooCostly

FIRST_PAGE = 50
"""Orders of the first page; the answer tells what one costs, and so how many fit into the next."""
MOST_ON_A_PAGE = 250
FIRST_DETAILS = 7
AGREEMENTS, SALES = 4, 5
"""Agreements that are read with their order, and sales with their agreement; of the few with more the rest is asked."""
MOST_SALES = 150
"""Sales of one agreement that are read at most: as many as fit into a query."""

ORDER_FIELDS = """
fragment OrderFields on Order {
  id name email phone edited createdAt updatedAt cancelledAt customerLocale
  displayFinancialStatus displayFulfillmentStatus statusPageUrl
  totalOutstandingSet { presentmentMoney { amount currencyCode } }
  currentTotalPriceSet { presentmentMoney { amount currencyCode } }
  totalReceivedSet { presentmentMoney { amount currencyCode } }
  paymentCollectionDetails { additionalPaymentCollectionUrl }
  customer { id displayName defaultEmailAddress { emailAddress } }
}
"""

ORDERS_QUERY = f"""
query Orders($first: Int!, $after: String, $changed: String) {{
  orders(first: $first, after: $after, query: $changed, sortKey: UPDATED_AT) {{
    nodes {{ ...OrderFields }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
{ORDER_FIELDS}"""

SALE_FIELDS = """
fragment Sold on SaleConnection {
  nodes {
    lineType quantity totalAmount { presentmentMoney { amount } }
    ... on ProductSale { lineItem { name } }
    ... on ShippingLineSale { shippingLine { title } }
  }
  pageInfo { hasNextPage }
}
"""


def _agreement(sales: int) -> str:
    """An agreement with so many sales; not of that which placed the order, for this changed nothing."""
    kinds = ("OrderEditAgreement", "RefundAgreement", "ReturnAgreement")
    sold = " ".join(f"... on {kind} {{ sales(first: {sales}) {{ ...Sold }} }}" for kind in kinds)
    return f"id happenedAt reason app {{ title }} {sold}"


_AGREEMENTS = f"edges {{ cursor node {{ {_agreement(SALES)} }} }} pageInfo {{ hasNextPage endCursor }}"

EDITS_QUERY = f"""
query EditedOrders($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on Order {{ ...OrderFields agreements(first: {AGREEMENTS}) {{ {_AGREEMENTS} }} }} }}
}}
{ORDER_FIELDS}{SALE_FIELDS}"""

ORDERS_BY_ID_QUERY = f"""
query OrdersById($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on Order {{ ...OrderFields }} }}
}}
{ORDER_FIELDS}"""

MORE_EDITS_QUERY = f"""
query MoreEdits($id: ID!, $first: Int!, $after: String) {{
  order(id: $id) {{ agreements(first: $first, after: $after) {{ {_AGREEMENTS} }} }}
}}
{SALE_FIELDS}"""

SALES_QUERY = f"""
query Sales($id: ID!, $after: String) {{
  order(id: $id) {{ agreements(first: 1, after: $after) {{ nodes {{ {_agreement(MOST_SALES)} }} }} }}
}}
{SALE_FIELDS}"""

NEWEST_QUERY = """
query Newest($changed: String) {
  orders(first: 10, query: $changed, sortKey: UPDATED_AT, reverse: true) {
    nodes { id updatedAt displayFinancialStatus displayFulfillmentStatus cancelledAt }
  }
}
"""

_FIRST_SIZES = {ORDERS_QUERY: FIRST_PAGE, EDITS_QUERY: FIRST_DETAILS, ORDERS_BY_ID_QUERY: FIRST_PAGE}

ORDER_COLUMNS = (
    *("order_id", "name", "customer_id", "customer_name", "email", "phone", "language", "currency", "total"),
    *("outstanding", "received", "financial_status", "fulfillment_status", "created_at", "cancelled_at"),
    *("pay_url", "status_url", "updated_at"),
)
EDIT_COLUMNS = ("edit_id", "order_id", "edited_at", "app_title", "kind", "changes")

_ORDER_GID = "gid://shopify/Order/"

_RECREATED = re.compile(r".*\d[A-Z]")
"""The name of an order that was created in place of another: #1031A for #1031 (RULES 8.5)."""

Row = dict[str, str | None]


@dataclass(frozen=True)
class Page:
    """Some orders and their edits as rows of text by column, as they were at `read_at` or later."""

    read_at: datetime
    orders: list[Row]
    edits: list[Row]


class Newest(NamedTuple):
    """An order that changed last. The shop dates in whole seconds: its states tell changes within one apart."""

    order_id: str
    updated_at: datetime
    states: tuple[str | None, ...]


@dataclass
class ShopReader:
    """Reads a shop. `clock`: the present instant."""

    api: ShopifyApi
    clock: Clock
    _sizes: dict[str, int] = field(default_factory=lambda: dict(_FIRST_SIZES))
    _costs: dict[str, float] = field(default_factory=dict)

    def pages(self, since: datetime | date | None) -> Iterator[Page]:
        """The orders that changed at or after `since`, those that changed first before the others.

        An order that changes meanwhile comes again, on a later page. One with edits is read a second time together with
        them, so that a page never shows an edit without the balance that it left.

        Raises:
            ShopifyError: as its kinds say.
        """
        changed, after = changed_since(since), None
        while True:
            read_at = self.clock()
            answer, _ = self._sized(ORDERS_QUERY, partial(_page_variables, after, changed))
            with _needing_fields(self.api):
                more, after = _next(answer["orders"]["pageInfo"])
                page = self._page(read_at, answer["orders"]["nodes"])
            yield page
            if not more:
                return

    def by_ids(self, order_ids: Sequence[str]) -> tuple[Page, list[str]]:
        """Some orders as they are now, without their edits, and the ids of those that can no longer be read."""
        read_at, wanted = self.clock(), [f"{_ORDER_GID}{order_id}" for order_id in order_ids]
        with _needing_fields(self.api):
            orders = [order_row(node) for node in self._by_ids(ORDERS_BY_ID_QUERY, wanted)]
        found = {order["order_id"] for order in orders}
        return Page(read_at, orders, []), [order_id for order_id in order_ids if order_id not in found]

    def newest(self, since: datetime | date | None) -> list[Newest]:
        """The orders that changed last, at or after `since`; ten at most, in one cheap request."""
        answer, _ = self.api.query(NEWEST_QUERY, {"changed": changed_since(since)})
        with _needing_fields(self.api):
            return [_newest(node) for node in answer["orders"]["nodes"]]

    def _page(self, read_at: datetime, listed: Sequence[Document]) -> Page:
        with_edits = [node["id"] for node in listed if node["edited"] or _RECREATED.fullmatch(node["name"])]
        detailed = list(self._with_edits(with_edits))
        # What was there a moment ago and is no longer is unknown, so that not even its first reading is taken over.
        plain = [node for node in listed if node["id"] not in set(with_edits)]
        return Page(
            read_at,
            [order_row(node) for node in (*plain, *detailed)],
            [edit for node in detailed for edit in self._edits(node)],
        )

    def _with_edits(self, ids: Sequence[str]) -> Iterator[Document]:
        return self._by_ids(EDITS_QUERY, ids)

    def _by_ids(self, document: str, ids: Sequence[str]) -> Iterator[Document]:
        read = 0
        while rest := ids[read:]:
            answer, size = self._sized(document, partial(_id_variables, rest), len(rest))
            yield from (node for node in answer["nodes"] if node)
            read += size

    def _edits(self, order: Document) -> Iterator[Row]:
        """What was done to an order after it was placed; that it was placed, where that was in place of another."""
        for agreement in self._agreements(order):
            reason = str(agreement["reason"]).lower()
            if reason == "order":
                if not _RECREATED.fullmatch(order["name"]):
                    continue
                reason = "replacement"
            yield {
                "edit_id": agreement["id"].removeprefix("gid://shopify/"),
                "order_id": _id(order["id"]),
                "edited_at": agreement["happenedAt"],
                "app_title": (agreement.get("app") or {}).get("title"),
                "kind": reason,
                "changes": _changes(agreement),
            }

    def _agreements(self, order: Document) -> Iterator[Document]:
        agreements, before = order["agreements"], None
        while True:
            for edge in agreements["edges"]:
                yield self._with_sales(order["id"], before, edge["node"])
                before = edge["cursor"]
            more, after = _next(agreements["pageInfo"])
            if not more:
                return
            asked = {"id": order["id"], "first": 4 * AGREEMENTS, "after": after}
            answer, _ = self.api.query(MORE_EDITS_QUERY, asked)
            if answer["order"] is None:
                return
            agreements = answer["order"]["agreements"]

    def _with_sales(self, order_id: str, before: str | None, agreement: Document) -> Document:
        """The agreement behind the cursor `before`, with all that was sold if not all of it came along."""
        if not ("sales" in agreement and agreement["sales"]["pageInfo"]["hasNextPage"]):
            return agreement
        answer, _ = self.api.query(SALES_QUERY, {"id": order_id, "after": before})
        found = answer["order"]["agreements"]["nodes"] if answer["order"] else []
        return next((node for node in found if node["id"] == agreement["id"]), agreement)

    def _sized(
        self, document: str, variables: Callable[[int], dict[str, Any]], most: int = MOST_ON_A_PAGE
    ) -> tuple[Document, int]:
        """Asks for as many at once as fit into a query, and no more than there are; tells for how many.

        Less when it costs too much, more when it is cheap.
        """
        while True:
            size = min(self._sizes[document], most)
            try:
                answer, cost = self.api.query(document, variables(size), self._costs.get(document, 0) * size)
            except TooCostly:
                if size == 1:
                    raise
                self._sizes[document] = size // 2
                self._costs.pop(document, None)
                continue
            if cost:
                self._costs[document] = cost / size
                room = min(MOST_COST, self.api.throttle.maximum)
                self._sizes[document] = max(1, min(MOST_ON_A_PAGE, int(room * size / cost)))
            return answer, size


def _newest(node: Document) -> Newest:
    states = node["displayFinancialStatus"], node["displayFulfillmentStatus"], node["cancelledAt"]
    return Newest(_id(node["id"]), datetime.fromisoformat(node["updatedAt"]), states)


def _page_variables(after: str | None, changed: str | None, size: int) -> dict[str, Any]:
    return {"first": size, "after": after, "changed": changed}


def _id_variables(ids: Sequence[str], size: int) -> dict[str, Any]:
    return {"ids": ids[:size]}


def changed_since(since: datetime | date | None) -> str | None:
    """Shopify's search text for orders that changed at or after a moment or a day (UTC)."""
    if since is None:
        return None
    if isinstance(since, datetime):
        return f"updated_at:>='{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'"
    return f"updated_at:>='{since.isoformat()}T00:00:00Z'"


def order_row(node: Document) -> Row:
    """An order as a row of texts. Raises KeyError or TypeError where a field is missing that never is."""
    customer, collection = node["customer"] or {}, node["paymentCollectionDetails"] or {}
    outstanding = node["totalOutstandingSet"]["presentmentMoney"]
    return {
        "order_id": _id(node["id"]),
        "name": node["name"],
        "customer_id": _id(customer["id"]) if customer else None,
        "customer_name": customer.get("displayName"),
        "email": node["email"] or (customer.get("defaultEmailAddress") or {}).get("emailAddress"),
        "phone": node["phone"],
        "language": node["customerLocale"],
        "currency": outstanding["currencyCode"],
        "total": node["currentTotalPriceSet"]["presentmentMoney"]["amount"],
        "outstanding": outstanding["amount"],
        "received": node["totalReceivedSet"]["presentmentMoney"]["amount"],
        "financial_status": _lower(node["displayFinancialStatus"]),
        "fulfillment_status": _lower(node["displayFulfillmentStatus"]),
        "created_at": node["createdAt"],
        "cancelled_at": node["cancelledAt"],
        "pay_url": collection.get("additionalPaymentCollectionUrl"),
        "status_url": node["statusPageUrl"],
        "updated_at": node["updatedAt"],
    }


def _changes(agreement: Document) -> str | None:
    """What an agreement changed, as `source.order_edits` has it; None for one that placed an order.

    Shopify tells what is taken out or given back by quantities and amounts below zero, so that all of them add up.
    """
    if "sales" not in agreement:
        return None
    return f"[{', '.join(_change(sale) for sale in agreement['sales']['nodes'])}]"


def _change(sale: Document) -> str:
    # Written by hand, so that the amount stays the decimal that it is.
    title, quantity = json.dumps(_title(sale), ensure_ascii=False), json.dumps(sale["quantity"])
    amount = sale["totalAmount"]["presentmentMoney"]["amount"]
    return f'{{"title": {title}, "quantity": {quantity}, "amount": {amount}}}'


def _title(sale: Document) -> str:
    """Of an item its name; of shipping that of its rate too, where Shopify tells it; else what kind of line it is."""
    if "lineItem" in sale:
        return str(sale["lineItem"]["name"])
    what = str(sale["lineType"]).replace("_", " ").capitalize()
    shipping = sale.get("shippingLine")
    return f"{what}: {shipping['title']}" if shipping else what


@contextmanager
def _needing_fields(api: ShopifyApi) -> Iterator[None]:
    """A field that is missing, or empty where it never is, as FieldGone."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise FieldGone(
            f"source {api.name}: Shopify's answer lacks a field that is needed ({error}); nothing of it was taken over."
            f" Its schema differs from version {api.version}"
        ) from error


def _next(page_info: Document) -> tuple[bool, str | None]:
    return bool(page_info["hasNextPage"]), page_info["endCursor"]


def _id(gid: str) -> str:
    """The number at the end of `gid://shopify/Order/123`."""
    return gid.rpartition("/")[2]


def _lower(status: str | None) -> str | None:
    return status.lower() if status else None
