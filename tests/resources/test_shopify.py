"""The client and the reader against the sandbox's shop over loopback HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from shop_support import Storefront, storefront

from dunning_pipeline.errors import SourceError
from dunning_pipeline.resources.shopify import (
    AGREEMENTS,
    EDITS_QUERY,
    MORE_EDITS_QUERY,
    NEWEST_QUERY,
    ORDERS_QUERY,
    SALES,
    SALES_QUERY,
    Page,
    ShopReader,
    changed_since,
)
from dunning_pipeline.resources.shopify_api import (
    MOST_COST,
    AccessRefused,
    AppCredentials,
    FieldGone,
    ShopifyApi,
    ShopifyError,
    StaticToken,
    Throttle,
    TooCostly,
    Unavailable,
)
from dunning_pipeline.sandbox.klaviyo import Fault
from dunning_pipeline.sandbox.shopify import (
    ALL_SCOPES,
    DEFAULT_CLIENT,
    DEFAULT_TOKEN,
    FAULTS,
    Bucket,
    Customer,
    sample_orders,
)
from dunning_pipeline.sandbox.shopify.faults import (
    ERROR_BESIDE_DATA,
    FIELD_EMPTY,
    FROZEN,
    GRANT,
    INTERNAL_ERROR,
    LOCKED,
    MOVED,
    NO_JSON,
    PASSING,
    UNAUTHORIZED,
    too_many_requests,
)
from dunning_pipeline.sandbox.shopify.orders import Item

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Storefront]:
    with storefront(tmp_path) as served:
        yield served


def read(reader: ShopReader, since: datetime | None = None) -> list[Page]:
    return list(reader.pages(since))


def names(pages: list[Page]) -> list[str | None]:
    return [order["name"] for page in pages for order in page.orders]


# Reading


def test_an_order_is_read_with_the_money_that_its_customer_pays_in(front: Storefront) -> None:
    front.shop.place("#1031", "19.99", "0.01", currency="USD", customer=Customer(12, "Ada Albrecht", "ada@shop.dev"))
    front.shop.add_item("#1031", "10.00")
    ((order,),) = [page.orders for page in read(front.reader())]
    number = order.pop("order_id")
    assert order == {
        "name": "#1031",
        "customer_id": "12",
        "customer_name": "Ada Albrecht",
        "email": "ada@shop.dev",
        "phone": None,
        "language": "en",
        "currency": "USD",
        "total": "34.9",
        "outstanding": "10.0",
        "received": "24.9",
        "financial_status": "partially_paid",
        "fulfillment_status": "unfulfilled",
        "created_at": "2026-11-16T08:30:00Z",
        "cancelled_at": None,
        "pay_url": f"https://shop.dev/orders/{number}/pay",
        "status_url": f"https://shop.dev/orders/{number}/status",
        "updated_at": "2026-11-16T08:30:00Z",
    }


def test_what_may_be_empty_may_be_empty(front: Storefront) -> None:
    guest = front.shop.place("#1", "10.00")
    guest.customer, guest.locale = None, None
    front.shop.place("#2", "10.00", customer=Customer(1, "Bela", None))
    (page,) = read(front.reader())
    found = {order["name"]: (order["customer_id"], order["email"], order["language"]) for order in page.orders}
    assert found == {"#1": (None, None, None), "#2": ("1", None, "en")}


def test_edits_are_told_with_the_app_that_they_were_made_through(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.add_item("#1", app=" cleverific ")
    front.shop.add_item("#1", app="Shopify Web")
    front.shop.add_item("#1", app=None)
    front.shop.refund("#1", "1.00", app="Shopify Web")
    (page,) = read(front.reader())
    assert [(edit["kind"], edit["app_title"]) for edit in page.edits] == [
        ("order_edit", " cleverific "),
        ("order_edit", "Shopify Web"),
        ("order_edit", None),
        ("refund", "Shopify Web"),
    ]


def changes(reader: ShopReader) -> list[str | None]:
    return [edit["changes"] for page in read(reader) for edit in page.edits]


def test_edits_are_told_with_what_they_changed(front: Storefront) -> None:
    front.shop.place("#1", "50.00", currency="USD")
    front.shop.add_item("#1", "12.50", "0.05")
    front.shop.change_address("#1", "15.00")
    front.shop.remove_item("#1")
    front.shop.refund("#1", "3.00")
    assert changes(front.reader()) == [
        '[{"title": "Item 2", "quantity": 1, "amount": 12.5}, {"title": "Item 3", "quantity": 1, "amount": 0.05}]',
        '[{"title": "Shipping", "quantity": -1, "amount": -4.9}, '
        '{"title": "Shipping: Express", "quantity": 1, "amount": 15.0}]',
        '[{"title": "Item 3", "quantity": -1, "amount": -0.05}]',
        '[{"title": "Adjustment", "quantity": null, "amount": -3.0}]',
    ]


def test_titles_are_told_as_they_are(front: Storefront) -> None:
    front.shop.place("#1").items[0] = Item(title := 'Öl "5\\" \U0001f9f4', 1000)
    front.shop.remove_item("#1")
    (text,) = changes(front.reader())
    assert json.loads(str(text)) == [{"title": title, "quantity": -1, "amount": -10.0}]


def test_the_order_that_replaces_another_is_told_without_changes(front: Storefront) -> None:
    front.shop.place("#1031", "10.00")
    front.shop.recreate("#1031")
    assert changes(front.reader()) == [None]


def test_more_sales_than_come_with_an_edit_are_asked_for(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.add_item("#1", "1.00")
    prices = [f"{number}.00" for number in range(1, 2 * SALES + 2)]
    for _ in range(AGREEMENTS):
        front.shop.add_item("#1", *prices)
    few, *many = [[item["amount"] for item in json.loads(str(text))] for text in changes(front.reader())]
    assert few == [1.0]
    assert many == [[float(price) for price in prices]] * AGREEMENTS


def test_of_an_edit_whose_order_is_gone_the_first_sales_are_told(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.add_item("#1", *["1.00"] * 9)
    front.shop.faults.when(lambda number: front.shop.delete("#1") if number == 3 else None)
    (text,) = changes(front.reader())
    assert len(json.loads(str(text))) == SALES


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (EDITS_QUERY, {"ids": ["gid://shopify/Order/1"] * 7}),
        (MORE_EDITS_QUERY, {"id": "gid://shopify/Order/1", "first": 4 * AGREEMENTS}),
        (SALES_QUERY, {"id": "gid://shopify/Order/1"}),
    ],
)
def test_what_is_asked_about_edits_fits_into_a_query(
    front: Storefront, query: str, variables: dict[str, object]
) -> None:
    _, cost = front.api().query(query, variables)
    assert 400 < cost < MOST_COST


def test_an_order_that_nobody_edited_has_no_edits(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.refund("#1", "1.00")
    (page,) = read(front.reader())
    assert page.edits == []
    assert [received.query for received in front.shop.received] == ["orders"]


def test_an_order_that_was_created_in_place_of_another_tells_by_whom(front: Storefront) -> None:
    front.shop.place("#1031", "10.00")
    front.shop.recreate("#1031")
    front.shop.recreate("#1031A")
    (page,) = read(front.reader())
    orders = {order["name"]: order["order_id"] for order in page.orders}
    assert [*orders] == ["#1031", "#1031A", "#1031B"]
    assert [(edit["order_id"], edit["kind"], edit["app_title"]) for edit in page.edits] == [
        (orders["#1031A"], "replacement", "Cleverific"),
        (orders["#1031B"], "replacement", "Cleverific"),
    ]


def test_more_agreements_than_come_with_an_order_are_asked_for(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    for _ in range(5 * AGREEMENTS + 3):
        front.shop.add_item("#1", "1.00")
    (page,) = read(front.reader())
    assert len({edit["edit_id"] for edit in page.edits}) == 5 * AGREEMENTS + 3


def test_edits_come_with_the_balance_that_they_left_though_the_order_changed_between_two_requests(
    front: Storefront,
) -> None:
    front.shop.place("#1", "10.00")
    front.shop.add_item("#1", "5.00")

    def edit_at_the_second_query(number: int) -> None:
        if number == 2:
            front.shop.add_item("#1", "7.00")

    front.shop.faults.when(edit_at_the_second_query)
    (page,) = read(front.reader())
    assert [order["outstanding"] for order in page.orders] == ["12.0"]
    assert len(page.edits) == 2


def test_an_order_that_is_gone_before_its_edits_are_read_is_left_out(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.add_item("#1")
    front.shop.place("#2", "10.00")
    front.shop.faults.when(lambda number: front.shop.delete("#1") if number == 2 else None)
    assert names(read(front.reader())) == ["#2"]


def test_only_what_changed_is_read_from_the_second_on(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.clock.advance(minutes=1)
    front.shop.place("#2", "10.00")
    front.clock.advance(minutes=1)
    front.shop.pay("#1", "1.00")
    assert names(read(front.reader(), NOW + timedelta(seconds=60))) == ["#2", "#1"]
    assert names(read(front.reader(), NOW + timedelta(seconds=61))) == ["#1"]


def test_what_changed_is_searched_for_in_utc() -> None:
    assert changed_since(None) is None
    assert (
        changed_since(datetime.fromisoformat("2026-11-16T09:30:00.900+01:00")) == "updated_at:>='2026-11-16T08:30:00Z'"
    )
    assert changed_since(NOW.date()) == "updated_at:>='2026-11-16T00:00:00Z'"


def test_orders_that_move_while_pages_are_read_come_again_and_none_is_left_out(tmp_path: Path) -> None:
    with storefront(tmp_path, sample_orders(400, NOW, edited=0)) as front:
        everything = [order.name for order in front.shop.orders]

        def move(number: int) -> None:
            if number <= 3:
                front.clock.advance(seconds=1)
                front.shop.pay(everything[number], "1.00")
                front.shop.pay(everything[-number], "1.00")

        front.shop.faults.when(move)
        found = names(read(front.reader()))
    assert set(found) == set(everything)
    assert len(found) > len(everything)


def test_the_newest_changes_cost_one_cheap_request(tmp_path: Path) -> None:
    with storefront(tmp_path, sample_orders(400, NOW)) as front:
        latest = front.shop.orders[:-11:-1]
        newest = front.reader().newest(None)
        assert [(each.order_id, each.updated_at) for each in newest] == [
            (str(order.number), order.updated_at) for order in latest
        ]
        (received,) = front.shop.received
        assert received.cost <= 12
        assert front.reader().newest(front.clock() + timedelta(hours=1)) == []


# Costs and throttling


def test_pages_grow_until_they_cost_what_a_query_may(tmp_path: Path) -> None:
    with storefront(tmp_path, sample_orders(300, NOW, edited=0)) as front:
        sizes = [len(page.orders) for page in read(front.reader())]
    assert sizes[0] == 50
    assert 80 < sizes[1] < 100
    assert sum(sizes) == 300


def test_a_page_that_costs_too_much_is_halved(tmp_path: Path) -> None:
    with storefront(tmp_path, sample_orders(300, NOW, edited=0)) as front:
        reader = front.reader()
        reader._sizes[ORDERS_QUERY] = 250
        pages = read(reader)
        assert [len(pages[0].orders), sum(len(page.orders) for page in pages)] == [62, 300]
        assert [each.error[:22] for each in front.shop.received if each.error] == ["Query cost is 2502, wh"] + [
            "Query cost is 1252, wh"
        ]


def test_one_order_that_costs_too_much_is_an_error(front: Storefront) -> None:
    costly = NEWEST_QUERY.replace("first: 10", "first: 1000")
    with pytest.raises(TooCostly, match="Query cost is 1002, which exceeds"):
        front.api().query(costly, {})


def test_it_waits_until_there_is_room_for_what_a_query_costs(tmp_path: Path) -> None:
    bucket = Bucket(maximum=1_000, restore_rate=50, available=1_000, at=NOW.timestamp())
    with storefront(tmp_path, sample_orders(400, NOW), bucket=bucket) as front:
        pages = read(front.reader())
        spent = sum(received.cost for received in front.shop.received)
        errors = [received.error for received in front.shop.received if received.error]
        seconds = (front.clock() - NOW).total_seconds()
    assert sum(len(page.orders) for page in pages) == 400
    assert len(errors) <= 2
    assert (spent - 1_000) / 50 <= seconds <= 1.1 * (spent / 50)


def test_a_throttled_query_goes_again_as_soon_as_its_points_are_back(front: Storefront) -> None:
    front.shop.bucket.maximum, front.shop.bucket.restore_rate = 1_000, 100
    front.shop.bucket.available, front.shop.bucket.at = 2, NOW.timestamp()
    front.shop.place("#1", "10.00")
    front.reader().newest(None)
    assert front.naps.taken == pytest.approx([0.12])
    assert [received.error for received in front.shop.received] == ["Throttled", ""]


def test_points_that_came_back_meanwhile_count() -> None:
    throttle = Throttle(at=100.0)
    throttle.told({"currentlyAvailable": 40, "maximumAvailable": 1_000, "restoreRate": 50}, now=100.0)
    assert throttle.pause(40, now=100.0) == 0
    assert throttle.pause(100, now=100.0) == pytest.approx(1.22)
    assert throttle.pause(100, now=101.0) == pytest.approx(0.22)
    assert throttle.pause(5_000, now=119.2) == 0, "more than the bucket holds is never to be had"


# What goes wrong


@pytest.mark.parametrize("name", sorted(PASSING - {"slow", "silent before acceptance"}))
def test_what_passes_is_tried_again_after_a_pause(front: Storefront, name: str) -> None:
    front.shop.place("#1", "10.00")
    front.shop.faults.plan([FAULTS[name]] * 2)
    assert names(read(front.reader())) == ["#1"]
    assert front.naps.taken == ([1.0, 1.0] if name == "429" else [1.0, 2.0])


@pytest.mark.parametrize("name", sorted(PASSING - {"slow", "silent before acceptance", "429"}))
def test_what_does_not_pass_ends_after_a_few_attempts(front: Storefront, name: str) -> None:
    front.shop.place("#1", "10.00")
    front.shop.faults.when(lambda _: FAULTS[name])
    with pytest.raises(Unavailable, match=r"^source storefront: Shopify at http://127"):
        read(front.reader())
    assert front.naps.taken == [1.0, 2.0, 4.0, 8.0]


def test_no_answer_within_the_time_out_is_a_failure_that_may_pass(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.faults.plan([Fault.silent(accepted=False)])
    assert names(read(front.reader(front.api(timeout=(1.0, 0.2))))) == ["#1"]


def test_a_sensor_can_ask_without_trying_again(front: Storefront) -> None:
    front.shop.faults.plan([Fault.status(503)])
    with pytest.raises(Unavailable, match="answered 503"):
        front.reader(front.api(attempts=1)).newest(None)
    assert front.naps.taken == []


def test_too_many_requests_wait_as_long_as_they_are_told_unless_that_is_too_long(front: Storefront) -> None:
    front.shop.faults.plan([too_many_requests("7.5"), too_many_requests(None), too_many_requests("soon")])
    front.reader().newest(None)
    assert front.naps.taken == [7.5, 2.0, 4.0]
    front.shop.faults.plan([too_many_requests("3600")])
    with pytest.raises(Unavailable, match="429"):
        front.reader().newest(None)


def test_throttling_without_end_ends(front: Storefront) -> None:
    front.shop.bucket.maximum, front.shop.bucket.restore_rate, front.shop.bucket.available = 1, 0.01, 0
    with pytest.raises(Unavailable, match="throttles: Throttled"):
        front.reader().newest(None)


def test_nothing_listens(tmp_path: Path) -> None:
    with storefront(tmp_path) as front:
        api = front.api()
    with pytest.raises(Unavailable, match="cannot be reached: ConnectionError"):
        api.query(NEWEST_QUERY, {})


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (UNAUTHORIZED, "answered 401: it does not accept the token"),
        (FROZEN, "answered 402: the shop is frozen until its bill is paid"),
        (LOCKED, "answered 423: the shop is locked"),
        (MOVED, r"sends elsewhere \(301\): name the shop's myshopify.com domain"),
        (Fault.status(404), "answered 404: there is no such shop, or no such version of the API"),
        (Fault.status(418), "answered 418: which is not expected"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_what_will_not_pass_is_told_at_once(front: Storefront, fault: Fault, sentence: str) -> None:
    front.shop.faults.plan([fault])
    with pytest.raises(ShopifyError, match=sentence):
        read(front.reader())
    assert front.naps.taken == []


def test_an_answer_with_an_error_beside_its_data_is_none(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.faults.when(lambda _: ERROR_BESIDE_DATA)
    with pytest.raises(
        Unavailable, match=r"nothing of the answer was taken over: Something .* \(at orders.nodes.0\)"
    ) as told:
        read(front.reader())
    assert "ada@shop.dev" not in str(told.value)


def test_a_scope_that_is_missing_is_named(tmp_path: Path) -> None:
    with storefront(tmp_path, scopes=ALL_SCOPES - {"read_customers"}) as front:
        front.shop.place("#1", "10.00")
        with pytest.raises(
            AccessRefused, match=r"Access denied for customer field.*scopes read_orders and read_customers"
        ):
            read(front.reader())


def test_a_field_that_is_gone_is_named(front: Storefront) -> None:
    front.shop.conditions.without = frozenset({"totalOutstandingSet"})
    sentence = r"no longer has what is needed.*'totalOutstandingSet' doesn't exist on type 'Order'"
    with pytest.raises(FieldGone, match=sentence):
        read(front.reader())
    assert len(front.shop.received) == 1


def test_a_field_that_is_empty_and_never_is_stops_the_pull(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.faults.plan([FIELD_EMPTY])
    with pytest.raises(FieldGone, match="lacks a field that is needed"):
        read(front.reader())


def test_an_answer_in_another_version_is_refused(front: Storefront) -> None:
    front.shop.conditions.newer = "2027-04"
    with pytest.raises(
        ShopifyError, match=r"answered in version 2027-04 of its API, not 2026-10.*api_version: 2027-04"
    ):
        read(front.reader())
    front.shop.conditions.newer = ""
    with pytest.raises(ShopifyError, match="answered in version 2025-10 of its API, not 2024-01"):
        read(front.reader(front.api(version="2024-01")))


def test_a_last_page_that_is_cut_off_gives_no_orders(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.faults.when(lambda _: Fault.cut_short())
    with pytest.raises(Unavailable):
        read(front.reader())


# The way in


def app_of(secret: str = DEFAULT_CLIENT[1]) -> AppCredentials:
    return AppCredentials(DEFAULT_CLIENT[0], SecretStr(secret))


def test_an_app_is_given_a_token_once_and_a_new_one_before_it_ends(front: Storefront) -> None:
    api = front.api(credentials=app_of())
    for _ in range(2):
        api.query(NEWEST_QUERY, {})
    front.clock.advance(hours=23, minutes=50)
    api.query(NEWEST_QUERY, {})
    front.clock.advance(minutes=6)
    api.query(NEWEST_QUERY, {})
    grants = [received.path.endswith("access_token") for received in front.shop.received]
    assert grants == [True, False, False, False, True, False]


def test_a_token_that_was_revoked_is_asked_for_again(front: Storefront) -> None:
    api = front.api(credentials=app_of())
    api.query(NEWEST_QUERY, {})
    front.shop.revoke_tokens()
    api.query(NEWEST_QUERY, {})
    assert [received.status for received in front.shop.received] == [200, 200, 401, 200, 200]


def test_a_grant_that_fails_for_a_while_is_tried_again(front: Storefront) -> None:
    front.shop.faults.plan([Fault.status(502), NO_JSON, Fault.reset_before_acceptance()], GRANT)
    front.api(credentials=app_of()).query(NEWEST_QUERY, {})
    assert front.naps.taken == [1.0, 2.0, 4.0]


def test_a_wrong_secret_is_told_at_once(front: Storefront) -> None:
    with pytest.raises(AccessRefused, match="answered 400: it does not accept the app's id and secret"):
        front.api(credentials=app_of("shpss_wrong")).query(NEWEST_QUERY, {})
    assert len(front.shop.received) == 1


@pytest.mark.parametrize("token", ["", "two words", "naïve"])
def test_a_token_that_is_none_is_not_sent(front: Storefront, token: str) -> None:
    with pytest.raises(AccessRefused, match="empty or has characters that no token has"):
        front.api(token).query(NEWEST_QUERY, {})
    assert not front.shop.received


@pytest.mark.parametrize(
    "shop", ["http://acme.myshopify.com", "ftp://acme", "acme.myshopify.com/admin", "u:p@acme.com", ""]
)
def test_a_shop_is_reached_over_https_only(front: Storefront, shop: str) -> None:
    with pytest.raises(SourceError, match=r"must be a domain such as acme\.myshopify\.com"):
        front.api(shop=shop)


def test_a_domain_becomes_an_https_address() -> None:
    assert (
        ShopifyApi("s", "acme.myshopify.com", "2026-10", StaticToken(SecretStr("t"))).url
        == "https://acme.myshopify.com"
    )


def test_no_message_holds_what_lets_somebody_in(front: Storefront) -> None:
    secrets = (DEFAULT_TOKEN, DEFAULT_CLIENT[1], "shpat_granted_1")
    echo = f"bad token {DEFAULT_TOKEN} of {DEFAULT_CLIENT[1]} or shpat_granted_1"
    body = Fault("echo", code=200, headers={}, body=f'{{"errors": [{{"message": "{echo}"}}]}}'.encode())
    for credentials in (StaticToken(SecretStr(DEFAULT_TOKEN)), app_of()):
        api = front.api(credentials=credentials)
        assert not any(secret in repr(api) for secret in secrets)
        for fault in (body, *FAULTS.values()):
            if fault.seconds or fault.name.startswith("silent"):
                continue
            front.shop.faults.when(lambda _, fault=fault: fault)
            told = ""
            try:
                ShopReader(api, front.clock).newest(None)
            except ShopifyError as error:
                told = str(error)
            held = {DEFAULT_TOKEN} if isinstance(credentials, StaticToken) else {*secrets[1:]}
            assert not any(secret in told for secret in held), fault.name
            assert fault is not body or "bad token" in told


def test_an_internal_error_with_status_200_is_tried_again(front: Storefront) -> None:
    front.shop.faults.plan([INTERNAL_ERROR])
    assert front.reader().newest(None) == []
    assert front.naps.taken == [1.0]
