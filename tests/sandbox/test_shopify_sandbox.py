"""The stand-in for a shop: what can happen to orders, how queries are answered, paid for and refused, and the page."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from graphql import parse
from support import MovingClock

from dunning_pipeline.resources.shopify import EDITS_QUERY, MORE_EDITS_QUERY, NEWEST_QUERY, ORDERS_QUERY
from dunning_pipeline.sandbox.shopify import (
    ALL_SCOPES,
    DEFAULT_CLIENT,
    DEFAULT_TOKEN,
    FAULTS,
    Bucket,
    ShopifyShop,
    running,
    sample_orders,
)
from dunning_pipeline.sandbox.shopify.bucket import Costs
from dunning_pipeline.sandbox.shopify.controls import ACTIONS

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
GRAPHQL = "/admin/api/2026-10/graphql.json"


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def shop(clock: MovingClock) -> ShopifyShop:
    return ShopifyShop(clock=clock)


def ask(
    shop: ShopifyShop, query: str, *, token: str = DEFAULT_TOKEN, path: str = GRAPHQL, **variables: object
) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    answer = shop.handle(path, {"x-shopify-access-token": token}, body)
    return {"status": answer.status, "version": answer.headers.get("X-Shopify-API-Version"), **json.loads(answer.body)}


def names(answer: dict[str, Any]) -> list[str]:
    return [node["name"] for node in answer["data"]["orders"]["nodes"]]


class Page:
    """The page, over HTTP as a browser meets it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def text(self) -> str:
        return requests.get(self.url, timeout=5).text

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> requests.Response:
        return requests.post(self.url + path, data=fields, headers=headers, timeout=5, allow_redirects=False)


@pytest.fixture
def page(shop: ShopifyShop) -> Iterator[Page]:
    with running(shop) as url:
        yield Page(url)


# Orders


def test_what_can_happen_to_an_order_shows_in_its_balance(shop: ShopifyShop) -> None:
    order = shop.place("#1", "50.00")
    steps: list[tuple[Callable[[], object], int, str]] = [
        (lambda: None, 0, "PAID"),
        (lambda: shop.add_item("#1", "10.00"), 1000, "PARTIALLY_PAID"),
        (lambda: shop.change_address("#1", "15.00"), 2010, "PARTIALLY_PAID"),
        (lambda: shop.pay("#1", "5.10"), 1500, "PARTIALLY_PAID"),
        (lambda: shop.pay("#1"), 0, "PAID"),
        (lambda: shop.remove_item("#1"), -1000, "PAID"),
        (lambda: shop.refund("#1"), 0, "PARTIALLY_REFUNDED"),
        (lambda: shop.cancel("#1"), 0, "PARTIALLY_REFUNDED"),
    ]
    for step, outstanding, status in steps:
        step()
        assert (order.outstanding_minor, order.financial_status) == (outstanding, status)
    reasons = [agreement.reason for agreement in order.agreements]
    assert reasons == ["ORDER", "ORDER_EDIT", "ORDER_EDIT", "ORDER_EDIT", "REFUND"]


def test_fulfilment_is_partial_or_whole(shop: ShopifyShop) -> None:
    order = shop.place("#1")
    assert [order.fulfilment, shop.fulfil("#1", partly=True).fulfilment, shop.fulfil("#1").fulfilment] == [
        "UNFULFILLED",
        "PARTIALLY_FULFILLED",
        "FULFILLED",
    ]


def test_a_customer_edits_only_while_the_window_is_open_and_staff_always(shop: ShopifyShop, clock: MovingClock) -> None:
    shop.place("#1")
    shop.close_edit_window("#1")
    with pytest.raises(ValueError, match="the edit window of order #1 is closed"):
        shop.add_item("#1")
    shop.add_item("#1", app="Shopify Web")
    shop.place("#2")
    clock.advance(hours=24)
    with pytest.raises(ValueError, match="the edit window of order #2 is closed"):
        shop.change_address("#2")


def test_an_order_is_created_anew_with_a_letter_and_what_was_paid_goes_along(shop: ShopifyShop) -> None:
    old = shop.place("#1031", "50.00")
    new = shop.recreate("#1031", "10.00")
    assert (old.cancelled_at is not None, old.received_minor) == (True, 0)
    assert (new.name, new.customer, new.outstanding_minor) == ("#1031A", old.customer, 1000)
    assert shop.recreate("#1031A").name == "#1031B"
    with pytest.raises(ValueError, match="order #1031 is cancelled"):
        shop.add_item("#1031")


def test_changes_are_dated_in_whole_seconds_by_the_clock_of_the_shop(shop: ShopifyShop, clock: MovingClock) -> None:
    clock.advance(seconds=0.7)
    shop.conditions.clock_skew = timedelta(minutes=5)
    assert shop.place("#1").updated_at == NOW + timedelta(minutes=5)


def test_an_unknown_order_is_named(shop: ShopifyShop) -> None:
    with pytest.raises(ValueError, match="order '#9' is not known"):
        shop.pay("#9")


def test_sample_orders_are_the_same_for_a_seed_and_move_with_the_day() -> None:
    first, again, other = (list(sample_orders(50, NOW, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    later = list(sample_orders(50, NOW + timedelta(days=3), 1))
    assert [order.name for order in later] == [order.name for order in first]
    assert later[0].created_at - first[0].created_at == timedelta(days=3)
    edited = [order for order in sample_orders(2_000, NOW) if order.edited]
    assert 150 < len(edited) < 250
    assert 0.3 < sum(order.outstanding_minor > 0 for order in edited) / len(edited) < 0.7


# Queries


def test_orders_come_by_their_last_change_page_by_page(clock: MovingClock) -> None:
    shop = ShopifyShop(sample_orders(25, NOW, edited=0), clock=clock)
    shop.pay("#1001", "1.00")
    found, after = [], None
    for _ in range(3):
        answer = ask(shop, ORDERS_QUERY, first=10, after=after)
        found += names(answer)
        after = answer["data"]["orders"]["pageInfo"]["endCursor"]
    assert found == [f"#{number}" for number in (*range(1002, 1026), 1001)]
    assert not answer["data"]["orders"]["pageInfo"]["hasNextPage"]


def test_a_cursor_stays_good_when_its_order_moves(clock: MovingClock) -> None:
    shop = ShopifyShop(sample_orders(6, NOW, edited=0), clock=clock)
    first = ask(shop, ORDERS_QUERY, first=3)
    shop.pay("#1003", "1.00")
    rest = ask(shop, ORDERS_QUERY, first=3, after=first["data"]["orders"]["pageInfo"]["endCursor"])
    assert (names(first), names(rest)) == (["#1001", "#1002", "#1003"], ["#1004", "#1005", "#1006"])
    last = ask(shop, ORDERS_QUERY, first=3, after=rest["data"]["orders"]["pageInfo"]["endCursor"])
    assert names(last) == ["#1003"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("updated_at:>='2026-11-16T08:31:00Z'", ["#2", "#3"]),
        ("updated_at:>'2026-11-16T08:31:00Z'", ["#3"]),
        ("updated_at:<='2026-11-16T08:31:00Z'", ["#1", "#2"]),
        ("updated_at:>=2026-11-17", []),
        ("status:any", ["#1", "#2", "#3"]),
        (None, ["#1", "#2", "#3"]),
    ],
)
def test_orders_are_searched_by_their_last_change(
    shop: ShopifyShop, clock: MovingClock, search: str | None, found: list[str]
) -> None:
    for name in ("#1", "#2", "#3"):
        shop.place(name)
        clock.advance(minutes=1)
    assert names(ask(shop, ORDERS_QUERY, first=10, changed=search)) == found


def test_the_newest_come_first_in_reverse(clock: MovingClock) -> None:
    shop = ShopifyShop(sample_orders(30, NOW), clock=clock)
    told = [node["updatedAt"] for node in ask(shop, NEWEST_QUERY)["data"]["orders"]["nodes"]]
    assert len(told) == 10
    assert told == sorted(told, reverse=True)


def test_money_is_told_in_what_the_customer_pays_in_and_what_the_shop_counts_in(shop: ShopifyShop) -> None:
    shop.place("#1", "10.00", currency="USD", paid=False)
    money = "{ amount currencyCode }"
    query = (
        f"{{ orders(first: 1) {{ nodes {{ totalOutstandingSet {{ shopMoney {money} presentmentMoney {money} }} }} }} }}"
    )
    (node,) = ask(shop, query)["data"]["orders"]["nodes"]
    assert node["totalOutstandingSet"] == {
        "shopMoney": {"amount": "13.41", "currencyCode": "EUR"},
        "presentmentMoney": {"amount": "14.9", "currencyCode": "USD"},
    }


def test_orders_that_are_not_there_are_null(shop: ShopifyShop) -> None:
    order = shop.place("#1")
    ids = [f"gid://shopify/Order/{order.number}", "gid://shopify/Order/1"]
    first, second = ask(shop, EDITS_QUERY, ids=ids)["data"]["nodes"]
    assert (first["name"], second) == ("#1", None)


def test_agreements_come_page_by_page(shop: ShopifyShop) -> None:
    order = shop.place("#1")
    for _ in range(4):
        shop.add_item("#1")
    found, after = [], None
    for _ in range(3):
        asked = {"id": f"gid://shopify/Order/{order.number}", "first": 2, "after": after}
        agreements = ask(shop, MORE_EDITS_QUERY, **asked)["data"]["order"]["agreements"]
        found += [edge["node"]["reason"] for edge in agreements["edges"]]
        after = agreements["pageInfo"]["endCursor"]
    assert found == ["ORDER", *["ORDER_EDIT"] * 4]
    assert not agreements["pageInfo"]["hasNextPage"]


def test_agreements_tell_what_was_sold_and_what_was_taken_back(shop: ShopifyShop) -> None:
    order = shop.place("#1", "50.00")
    shop.remove_item("#1")
    shop.change_address("#1", "15.00")
    shop.refund("#1", "2.00")
    query = """
        query($id: ID!) { order(id: $id) { agreements(first: 9) { nodes { sales(first: 9) { nodes {
          __typename actionType quantity totalAmount { presentmentMoney { amount } }
          ... on ProductSale { lineItem { name } } ... on ShippingLineSale { shippingLine { title } }
        } } } } } }
    """
    agreements = ask(shop, query, id=f"gid://shopify/Order/{order.number}")["data"]["order"]["agreements"]["nodes"]

    def told(sale: dict[str, Any]) -> tuple[object, ...]:
        named = sale.get("lineItem") or sale.get("shippingLine")
        amount = sale["totalAmount"]["presentmentMoney"]["amount"]
        return (sale["__typename"], sale["actionType"], sale["quantity"], amount, named and [*named.values()])

    assert [[told(sale) for sale in agreement["sales"]["nodes"]] for agreement in agreements] == [
        [("ProductSale", "ORDER", 1, "50.0", ["Item 1"]), ("ShippingLineSale", "ORDER", 1, "4.9", ["Standard"])],
        [("ProductSale", "RETURN", -1, "-50.0", ["Item 1"])],
        [("ShippingLineSale", "RETURN", -1, "-4.9", None), ("ShippingLineSale", "ORDER", 1, "15.0", ["Express"])],
        [("AdjustmentSale", "RETURN", None, "-2.0", None)],
    ]


@pytest.mark.parametrize("first", [0, 251])
def test_a_page_has_one_to_250_orders(shop: ShopifyShop, first: int) -> None:
    answer = ask(shop, "query($first: Int) { orders(first: $first) { pageInfo { hasNextPage } } }", first=first)
    assert "from 1 to 250" in answer["errors"][0]["message"]


def test_without_read_all_orders_only_sixty_days_are_seen(clock: MovingClock) -> None:
    shop = ShopifyShop(clock=clock, scopes=ALL_SCOPES - {"read_all_orders"})
    old = shop.place("#1")
    clock.advance(days=61)
    shop.place("#2")
    assert names(ask(shop, ORDERS_QUERY, first=10)) == ["#2"]
    assert ask(shop, EDITS_QUERY, ids=[f"gid://shopify/Order/{old.number}"])["data"]["nodes"] == [None]


# Refusals


def test_a_token_is_asked_for(shop: ShopifyShop) -> None:
    answer = ask(shop, NEWEST_QUERY, token="shpat_other")
    assert (answer["status"], answer["errors"][:22]) == (401, "[API] Invalid API key ")


def grant(shop: ShopifyShop, **fields: str) -> tuple[int, dict[str, Any]]:
    client_id, secret = DEFAULT_CLIENT
    asked = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, **fields}
    answer = shop.handle("/admin/oauth/access_token", {}, json.dumps(asked).encode())
    return answer.status, json.loads(answer.body)


def test_an_app_is_given_a_token_for_a_day(shop: ShopifyShop, clock: MovingClock) -> None:
    status, granted = grant(shop)
    assert (status, granted["expires_in"]) == (200, 86_399)
    assert ask(shop, NEWEST_QUERY, token=granted["access_token"])["status"] == 200
    clock.advance(days=1)
    assert ask(shop, NEWEST_QUERY, token=granted["access_token"])["status"] == 401


@pytest.mark.parametrize("wrong", ["grant_type", "client_id", "client_secret"])
def test_an_app_that_is_not_known_is_given_none(shop: ShopifyShop, wrong: str) -> None:
    assert grant(shop, **{wrong: "wrong"})[0] == 400


@pytest.mark.parametrize(
    ("asked", "status", "served"),
    [("2026-10", 200, "2026-10"), ("2026-01", 200, "2026-01"), ("2024-01", 200, "2025-10"), ("2031-01", 404, None)],
)
def test_a_version_that_is_no_longer_served_is_answered_in_the_oldest(
    shop: ShopifyShop, asked: str, status: int, served: str | None
) -> None:
    answer = ask(shop, NEWEST_QUERY, path=f"/admin/api/{asked}/graphql.json")
    assert (answer["status"], answer["version"]) == (status, served)


def test_a_query_for_a_field_that_is_not_there_is_refused_in_shopifys_words(shop: ShopifyShop) -> None:
    (error,) = ask(shop, "{ orders(first: 1) { nodes { colour } } }")["errors"]
    assert error == {
        "message": "Field 'colour' doesn't exist on type 'Order'",
        "extensions": {"code": "undefinedField", "typeName": "Order", "fieldName": "colour"},
    }
    assert ask(shop, "{ orders(")["errors"][0]["extensions"] == {"code": "parse_error"}
    assert shop.handle(GRAPHQL, {"x-shopify-access-token": DEFAULT_TOKEN}, b"no json").status == 200


def test_customers_are_refused_beside_data_to_a_token_that_may_not_read_them(clock: MovingClock) -> None:
    shop = ShopifyShop(clock=clock, scopes=frozenset({"read_orders"}))
    shop.place("#1")
    answer = ask(shop, ORDERS_QUERY, first=10)
    assert answer["data"]["orders"]["nodes"][0]["customer"] is None
    assert answer["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"


# Costs


@pytest.mark.parametrize(
    ("query", "variables", "cost"),
    [
        ("{ orders(first: 10) { nodes { id name } } }", {}, 12),
        ("{ orders(first: 10) { nodes { customer { id } } } }", {}, 22),
        ("query($n: Int) { orders(first: $n) { nodes { id } } }", {"n": 30}, 32),
        ("{ orders(first: 2) { nodes { agreements(first: 5) { nodes { app { title } } } } } }", {}, 2 + 2 * (1 + 12)),
        ("{ orders(first: 2) { nodes { ... on Order { customer { id } } ... on Node { customer { id } } } } }", {}, 6),
        ("query($ids: [ID!]!) { nodes(ids: $ids) { ... on Order { customer { id } } } }", {"ids": ["a", "b"]}, 4),
        (ORDERS_QUERY, {"first": 95}, 952),
    ],
)
def test_what_a_query_may_cost_is_known_before_it_runs(query: str, variables: dict[str, Any], cost: int) -> None:
    assert Costs(parse(query), variables).requested() == cost


def test_what_it_cost_is_what_there_was(shop: ShopifyShop) -> None:
    shop.place("#1")
    cost = ask(shop, ORDERS_QUERY, first=50)["extensions"]["cost"]
    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (502, 12)


def test_a_query_that_costs_more_than_one_may_is_refused(shop: ShopifyShop) -> None:
    (error,) = ask(shop, ORDERS_QUERY, first=250)["errors"]
    assert error["extensions"] == {"code": "MAX_COST_EXCEEDED", "cost": 2502, "maxCost": 1000}


def test_an_empty_bucket_throttles_until_points_are_back(clock: MovingClock) -> None:
    bucket = Bucket(maximum=1_000, restore_rate=50, available=500, at=NOW.timestamp())
    shop = ShopifyShop(clock=clock, bucket=bucket)
    throttled = ask(shop, ORDERS_QUERY, first=50)
    assert throttled["errors"][0]["extensions"] == {"code": "THROTTLED"}
    status = {"maximumAvailable": 1_000, "currentlyAvailable": 500, "restoreRate": 50}
    assert throttled["extensions"]["cost"] == {
        "requestedQueryCost": 502,
        "actualQueryCost": None,
        "throttleStatus": status,
    }
    clock.advance(seconds=0.2)
    answer = ask(shop, ORDERS_QUERY, first=50)
    assert answer["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == pytest.approx(508, abs=1)


# Over HTTP


def test_it_is_served_on_loopback_with_faults(shop: ShopifyShop) -> None:
    with running(shop) as url:
        shop.faults.plan([FAULTS["429"], FAULTS["reset before acceptance"]])
        headers = {"X-Shopify-Access-Token": DEFAULT_TOKEN}

        def post() -> requests.Response:
            return requests.post(url + GRAPHQL, json={"query": NEWEST_QUERY}, headers=headers, timeout=5)

        throttled = post()
        assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "1.0")
        with pytest.raises(requests.ConnectionError):
            post()
        assert post().json()["data"] == {"orders": {"nodes": []}}
    assert [received.fault for received in shop.received] == ["429", "reset before acceptance", ""]


def test_a_person_can_do_everything_to_an_order_on_the_page(shop: ShopifyShop, page: Page) -> None:
    for number, action in enumerate(ACTIONS):
        shop.place(f"#{number}")
        name = "#new" if action == "place" else f"#{number}"
        posted = page.post("/orders", order=name, action=action, amount="")
        assert posted.status_code == 303, posted.text
    text = page.text()
    for shown in ("(cancelled)", "#new", "A</td>", "Cleverific", "Shopify Web", "PARTIALLY_FULFILLED", "ada@shop.dev"):
        assert shown in text
    assert all(f"<option>{action}</option>" in text for action in ACTIONS)


@pytest.mark.parametrize(
    ("path", "fields", "sentence"),
    [
        ("/orders", {"order": "#7", "action": "pay"}, "order '#7' is not known"),
        ("/orders", {"order": "#7", "action": "eat"}, "action 'eat' is not known; allowed: add an item"),
        ("/orders", {"order": "", "action": "place"}, "cannot be placed"),
        ("/orders", {"order": "#7", "action": "place", "amount": "ten"}, "'ten' is no amount such as 10.00"),
        ("/faults", {"fault": "flood"}, "fault 'flood' is not known"),
        ("/faults", {"fault": "429", "times": "0.5x"}, "times '0.5x' is not a number"),
        ("/conditions", {"latency": "-1"}, "latency '-1' is not a number from 0 to 60"),
    ],
)
def test_the_page_refuses_what_it_does_not_know(page: Page, path: str, fields: dict[str, str], sentence: str) -> None:
    refused = page.post(path, **fields)
    assert (refused.status_code, sentence in refused.text) == (400, True), refused.text


def test_a_page_of_the_internet_can_do_nothing(shop: ShopifyShop, page: Page) -> None:
    for path in ("/orders", "/faults", "/conditions"):
        refused = page.post(path, {"Sec-Fetch-Site": "cross-site"}, order="#1", action="place")
        assert refused.status_code == 403
    assert not shop.orders


def test_faults_and_conditions_are_set_on_the_page(shop: ShopifyShop, page: Page) -> None:
    page.post("/faults", fault="401", times="2", of="grants")
    assert "GRANT: 401, GRANT: 401" in page.text()
    page.post("/faults")
    assert "next requests: nothing" in page.text()
    page.post("/conditions", skew="60", rate="50", without="edited")
    assert (shop.conditions.clock_skew, shop.bucket.restore_rate) == (timedelta(minutes=1), 50)
    assert "undefinedField" in str(ask(shop, ORDERS_QUERY, first=1)["errors"])


def test_what_came_from_outside_is_escaped_on_the_page(shop: ShopifyShop, page: Page) -> None:
    shop.place("#<script>", email="<b>@shop.dev")
    text = page.text()
    assert "<script>" not in text
    assert "<b>@shop.dev" not in text
