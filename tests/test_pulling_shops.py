"""Pulling shops as every run does: what changed, what was seen, what is kept when a pull breaks off."""

import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from shop_support import POLICY, Storefront, assert_same, storefront
from support import Pipeline, settings_at
from test_pulling import cutting

from dunning_pipeline.assets.source import asset_key, full_pull
from dunning_pipeline.errors import SourceError, TooManyRejectedRows
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.preflight import check
from dunning_pipeline.pulling_shops import PORTION_ORDERS, portions, pull_shops
from dunning_pipeline.resources.shopify import Page
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import Fault
from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, sample_orders
from dunning_pipeline.sandbox.shopify.faults import ERROR_BESIDE_DATA, FIELD_EMPTY
from dunning_pipeline.tables import ORDER_EDITS, ORDERS

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
WITH_APP = POLICY.replace('token: "${SHOPIFY_TOKEN}"', 'client_id: "${APP}"\n    client_secret: "${APP_SECRET}"')


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Storefront]:
    with storefront(tmp_path) as served:
        yield served


# What is stored


def test_orders_and_edits_are_stored_in_exact_minor_units(front: Storefront) -> None:
    front.shop.place("#1", "19.99", currency="USD")
    front.shop.add_item("#1", "0.01")
    front.shop.place("#2", "100.00", currency="JPY")
    front.shop.place("#3", "1000000000.01", paid=False, currency="KWD")
    pulled = front.pull()
    assert (pulled.orders.written, pulled.edits.written, pulled.requests) == (3, 1, 2)
    assert front.rows("name, currency, total_minor, outstanding_minor, received_minor, financial_status") == [
        ["#1", "USD", 2490, 1, 2489, "partially_paid"],
        ["#2", "JPY", 10490, 0, 10490, "paid"],
        ["#3", "KWD", 100000000491, 100000000491, 0, "pending"],
    ]
    assert front.rows("kind, edited_by, app_title, edited_at", "order_edits") == [
        ["order_edit", "customer_portal", "Cleverific", pd.Timestamp(NOW)]
    ]


def test_what_an_edit_changed_is_stored_and_can_be_read_as_json(front: Storefront) -> None:
    front.shop.place("#1", "19.99")
    front.shop.add_item("#1", "12.50")
    front.shop.place("#7")
    front.shop.recreate("#7")
    front.pull()
    columns = "kind, changes->0->>'title', (changes->0->>'amount')::decimal(9, 2)::varchar"
    assert front.rows(columns, "order_edits") == [["order_edit", "Item 2", "12.50"], ["replacement", None, None]]


def test_an_app_with_client_credentials_pulls_the_same(front: Storefront) -> None:
    front.shop.place("#1", "19.99")
    assert front.pull(WITH_APP).orders.written == 1


def test_only_what_changed_is_pulled_again(front: Storefront) -> None:
    for name in ("#1", "#2", "#3", "#4"):
        front.shop.place(name, "10.00")
        front.clock.advance(hours=1)
    assert front.pull().orders.pulled == 4
    front.shop.pay("#1", "1.00")
    front.shop.add_item("#2")
    pulled = front.pull()
    assert (pulled.orders.pulled, pulled.edits.pulled) == (3, 1), "with #4, the newest of before"
    assert front.pull(full=True).orders.pulled == 4


def test_a_pull_begins_a_little_before_the_newest_change_seen(front: Storefront) -> None:
    for name in ("#1", "#2"):
        front.shop.place(name, "10.00")
        front.clock.advance(minutes=4)
    front.pull()
    assert front.pull().orders.pulled == 2
    assert front.pull(POLICY + "    overlap: 3m\n").orders.pulled == 1


def test_orders_that_changed_last_before_a_day_may_be_left_out(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.clock.advance(days=2)
    front.shop.place("#2", "10.00")
    front.pull(POLICY + '    since: "2026-11-17"\n')
    assert front.rows("name") == [["#2"]]
    assert front.pull(POLICY).orders.pulled == 2, "another setting makes the next pull a full one"


def test_a_pull_that_finds_nothing_costs_one_request_and_is_known_to_have_been(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.pull()
    front.clock.advance(hours=1)
    front.shop.delete("#1")
    assert front.pull().requests == 1
    marks = front.rows('"table", watermark, newest_at', "watermarks")
    now = pd.Timestamp(front.clock())
    assert marks == [[table, "time 2026-11-16T08:30:00+00:00", now] for table in ("order_edits", "orders")]


def test_an_order_that_is_no_longer_shown_is_neither_paid_nor_missing(front: Storefront) -> None:
    front.shop.place("#1", "10.00", paid=False)
    front.pull()
    front.shop.delete("#1")
    front.pull(full=True)
    assert front.rows("name, outstanding_minor, missing_since") == [["#1", 1490, None]]
    assert len(front.rows("observed_at", "order_observations")) == 1


def test_orders_too_old_for_the_token_stay_as_they_were(tmp_path: Path) -> None:
    with storefront(tmp_path, scopes=frozenset({"read_orders", "read_customers"})) as front:
        front.shop.place("#1", "10.00", paid=False)
        front.pull()
        front.clock.advance(days=61)
        front.shop.pay("#1")
        assert front.pull(full=True).orders.pulled == 0
        assert front.rows("outstanding_minor") == [[1490]]


def test_ids_carry_the_prefix_of_their_source(front: Storefront) -> None:
    order = front.shop.place("#1", "10.00")
    front.shop.add_item("#1")
    front.pull(POLICY + "    id_prefix: fr-\n")
    assert order.customer is not None
    assert front.rows("order_id, customer_id") == [[f"fr-{order.number}", f"fr-{order.customer.number}"]]
    ((edit_id, order_id),) = front.rows("edit_id, order_id", "order_edits")
    assert (edit_id[:3], order_id) == ("fr-", f"fr-{order.number}")


def test_edits_are_of_the_party_of_their_app_and_those_of_unknown_apps_are_counted(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    for app in (" cleverific ", "Shopify Web", "Shopify Web", "customer_portal", None):
        front.shop.add_item("#1", app=app)
    assert front.pull().unmapped == {"Shopify Web": 2, "customer_portal": 1, "": 1}
    assert front.rows("app_title, edited_by", "order_edits") == [
        ["Shopify Web", "other"],
        ["Shopify Web", "other"],
        ["cleverific", "customer_portal"],
        ["customer_portal", "other"],
        [None, "other"],
    ]


def test_parties_that_are_named_later_are_told_for_edits_that_are_there(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.add_item("#1", app="Order Editing")
    assert front.pull().unmapped == {"Order Editing": 1}
    front.clock.advance(days=1)
    front.shop.place("#2", "10.00")
    front.pull()
    named = POLICY.replace("[Cleverific]", "[Cleverific, order editing]")
    assert front.pull(named).orders.pulled == 1
    assert front.rows("app_title, edited_by", "order_edits") == [["Order Editing", "customer_portal"]]
    front.pull()
    assert front.rows("app_title, edited_by", "order_edits") == [["Order Editing", "other"]]


def test_what_an_order_went_through_is_observed_step_by_step(front: Storefront) -> None:
    front.shop.place("#1", "50.00")
    steps = (
        lambda: front.shop.add_item("#1", "10.00"),
        lambda: front.shop.pay("#1", "4.00"),
        lambda: front.shop.fulfil("#1", partly=True),
        lambda: front.shop.close_edit_window("#1"),
        lambda: front.shop.cancel("#1"),
    )
    front.pull()
    for step in steps:
        front.clock.advance(minutes=10)
        step()
        front.clock.advance(seconds=30)
        front.pull()
        front.pull()
    columns = (
        "strftime(observed_at, '%X'), outstanding_minor, financial_status, fulfillment_status, cancelled_at is not null"
    )
    seen = front.rows(columns, "order_observations", "observed_at")
    assert seen == [
        ["08:30:00", 0, "paid", "unfulfilled", False],
        ["08:40:30", 1000, "partially_paid", "unfulfilled", False],
        ["08:51:00", 600, "partially_paid", "unfulfilled", False],
        ["09:01:30", 600, "partially_paid", "partially_fulfilled", False],
        ["09:22:30", 600, "partially_paid", "partially_fulfilled", True],
    ]


def test_a_shop_whose_clock_is_ahead_hides_no_balance_after_an_edit(front: Storefront) -> None:
    front.shop.conditions.clock_skew = timedelta(minutes=10)
    front.shop.place("#1", "50.00")
    front.pull()
    front.clock.advance(seconds=30)
    front.shop.add_item("#1", "10.00")
    front.pull()
    ((edited_at,),) = front.rows("edited_at", "order_edits")
    (_, (observed_at, outstanding)) = front.rows("observed_at, outstanding_minor", "order_observations", "observed_at")
    assert (outstanding, observed_at >= edited_at) == (1000, True)


def test_orders_of_a_shop_and_of_a_file_are_beside_each_other(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.home.mkdir(exist_ok=True)
    (front.home / "orders.csv").write_text("order_id,name,currency,total,outstanding\nA1,A-1,EUR,20.00,5.00\n")
    policy = POLICY + "  old_shop: {kind: files, tables: {orders: orders.csv}}\n"
    with dg.DagsterInstance.ephemeral() as instance:
        keys = [asset_key(ORDERS), asset_key(ORDER_EDITS)]
        result = Pipeline(front.settings(policy), instance).daily(asset_selection=keys)
    assert result.success
    assert front.rows("source, name, outstanding_minor") == [["old_shop", "A-1", 500], ["storefront", "#1", 0]]
    assert front.rows("source, outstanding_minor", "order_observations") == [["old_shop", 500], ["storefront", 0]]
    told = {
        event.asset_key.path[-1]: event.materialization.metadata for event in result.get_asset_materialization_events()
    }
    assert told["orders"]["pulled"].value == 2
    # The daily job leaves orders alone.
    assert full_pull(front.settings(policy).policy) == {"ops": {}}


# What is rejected


def test_an_order_that_cannot_be_read_is_set_aside_and_stops_no_other(front: Storefront) -> None:
    for number in range(150):
        front.shop.place(f"#{number}", "10.00")
    front.pull()
    front.shop.place("#X", "10.00").items[0] = type(front.shop.order("#1").items[0])("Odd", 10)
    front.clock.advance(seconds=1)
    front.shop.order("#X").name = "  "
    pulled = front.pull()
    assert pulled.orders.rejected == 1
    assert front.rows("reason", "rejected_rows") == [["name is empty"]]


def test_too_many_orders_that_cannot_be_read_stop_the_pull_and_can_be_looked_at(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.shop.order("#1").name = " "
    with pytest.raises(TooManyRejectedRows, match=r"1 of 1 rows were rejected.*name is empty"):
        front.pull()
    assert front.rows("reason", "rejected_rows") == [["name is empty"]]
    assert front.rows("*", "watermarks") == []


# What breaks off


def test_what_was_committed_stays_when_a_pull_breaks_off_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with storefront(tmp_path, sample_orders(2 * PORTION_ORDERS, NOW, edited=0)) as front:
        front.shop.faults.when(lambda number: Fault.status(503) if number > 30 else None)
        with pytest.raises(SourceError, match="answered 503"):
            front.pull()
        ((kept,),) = front.rows("count(*)")
        assert PORTION_ORDERS <= kept < 2 * PORTION_ORDERS
        front.shop.faults.clear()
        went_on = front.pull()
        assert went_on.orders.pulled <= 2 * PORTION_ORDERS - kept + 100
        assert front.rows("count(*)") == [[2 * PORTION_ORDERS]]


@pytest.mark.parametrize("fault", [ERROR_BESIDE_DATA, FIELD_EMPTY], ids=lambda fault: fault.name)
def test_an_answer_that_is_not_whole_leaves_everything_as_it_was(front: Storefront, fault: Fault) -> None:
    front.shop.place("#1", "10.00", paid=False)
    front.pull()
    front.clock.advance(hours=1)
    front.shop.pay("#1")
    front.shop.faults.when(lambda _: fault)
    with pytest.raises(SourceError):
        front.pull()
    assert front.rows("outstanding_minor") == [[1490]]
    front.shop.faults.clear()
    front.pull()
    assert front.rows("outstanding_minor") == [[0]]


def test_an_hour_without_the_shop_loses_no_edit(front: Storefront) -> None:
    front.shop.place("#1", "10.00")
    front.pull()
    front.shop.faults.when(lambda _: Fault.status(503))
    for _ in range(3):
        front.clock.advance(minutes=20)
        front.shop.add_item("#1")
        with pytest.raises(SourceError):
            front.pull()
    front.shop.faults.clear()
    front.pull()
    assert front.rows("count(*)", "order_edits") == [[3]]
    assert front.rows("outstanding_minor", "order_observations", "observed_at") == [[0], [3000]]


PULL = """\
import sys
from pathlib import Path
from support import MovingClock, settings_at
from shop_support import POLICY
from dunning_pipeline.pulling_shops import pull_shops
from dunning_pipeline.resources.warehouse import Warehouse
home, url, token = sys.argv[1:]
settings = settings_at(Path(home), POLICY, MovingClock(), {"SHOPIFY_SHOP": url, "SHOPIFY_TOKEN": token})
pull_shops(settings, Warehouse(settings.warehouse_path), "run", portion_orders=150)
"""


def pull_apart(front: Storefront, home: Path, kill_at: int = 0, after: float = 0.0) -> bool:
    """Pulls in a process of its own, killed so many seconds after a query of it; tells whether it was."""
    process = subprocess.Popen(
        [sys.executable, "-c", PULL, str(home), front.url, DEFAULT_TOKEN],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])},
    )
    queries = itertools.count(1)

    def kill(_: int) -> None:
        if next(queries) == kill_at:
            threading.Timer(after, process.kill).start()

    front.shop.faults.when(kill)
    try:
        return process.wait() != 0
    finally:
        front.shop.faults.clear()


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_pulls_that_are_killed_and_begun_again_leave_what_one_pull_would(tmp_path: Path, kills: int) -> None:
    """Killed with SIGKILL at random moments; an uninterrupted pull beside it tells what must come out."""
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    whole, hit = tmp_path / "whole", 0
    homes = (tmp_path / f"killed {number}" for number in itertools.count())
    with storefront(tmp_path, sample_orders(900, NOW)) as front:
        assert not pull_apart(front, whole)
        home = next(homes)
        for _ in range(kills):
            killed = pull_apart(front, home, chance.randint(1, 12), chance.uniform(0, 0.3))
            hit += killed
            if not killed:
                # The stopped clock makes all readings simultaneous.
                assert_same(Warehouse(home / "warehouse.duckdb"), Warehouse(whole / "warehouse.duckdb"))
                home = next(homes)
        assert not pull_apart(front, home)
        assert_same(Warehouse(home / "warehouse.duckdb"), Warehouse(whole / "warehouse.duckdb"))
    assert hit >= kills / 3, "hardly any process was met while it ran"


@pytest.mark.parametrize(("orders", "cuts"), [(800, 4), pytest.param(3_000, 60, marks=pytest.mark.long)])
def test_pulls_whose_connection_is_cut_and_begun_again_leave_what_one_pull_would(
    tmp_path: Path, orders: int, cuts: int
) -> None:
    """Cut after a random number of bytes; orders change meanwhile, and the last pull finds the same."""
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")
    with storefront(tmp_path / "cut", sample_orders(orders, NOW - timedelta(days=1))) as front:
        names = [order.name for order in front.shop.orders]
        host, _, port = front.url.removeprefix("http://").partition(":")
        with cutting((host, int(port)), lambda: chance.randrange(10_000, 400_000)) as through:
            broken = {"SHOPIFY_SHOP": f"http://127.0.0.1:{through}", "SHOPIFY_TOKEN": DEFAULT_TOKEN}
            for _ in range(cuts):
                front.clock.advance(minutes=1)
                front.shop.add_item(chance.choice(names), app=None)
                settings = replace(front.settings(), environment=broken, sleep=lambda _: None)
                with suppress(SourceError):
                    pull_shops(settings, front.warehouse, "run")
        front.pull()
        direct = settings_at(tmp_path / "whole", POLICY, front.clock, dict(front.settings().environment))
        pull_shops(direct, Warehouse(direct.warehouse_path), "run", full=True)
        cut, whole = front.warehouse, Warehouse(direct.warehouse_path)
        for table in ("orders", "order_edits"):
            query = f"select columns(lambda c: c not like '%_key' and c <> 'seen_at') from source.{table} order by all"
            pd.testing.assert_frame_equal(cut.fetch(query), whole.fetch(query), obj=table)
        latest = """
            select order_id, arg_max(seen.outstanding_minor, observed_at), max(observed_at) >= any_value(updated_at)
            from source.order_observations as seen join source.orders using (order_id) group by all order by order_id
        """
        pd.testing.assert_frame_equal(cut.fetch(latest), whole.fetch(latest))


# Portions


def page(orders: int, at: datetime = NOW) -> Page:
    return Page(at, [{"updated_at": at.isoformat()}] * orders, [])


def test_pages_are_written_together_until_they_are_enough() -> None:
    sizes = [len(portion.orders) for portion in portions([page(40)] * 6, most=100, clock=lambda: 0.0)]
    assert sizes == [120, 120]


def test_pages_that_take_long_are_written_earlier() -> None:
    moments = iter(range(0, 1_000, 9))
    found = list(portions([page(40)] * 6, most=10_000, seconds=20, clock=lambda: next(moments)))
    assert [len(portion.orders) for portion in found] == [120, 120]


def test_a_portion_is_as_of_its_first_page_and_tells_the_newest_change_so_far() -> None:
    later = NOW + timedelta(minutes=1)
    first, second, last = portions([page(1), page(1, later), page(2), page(0)], most=2, clock=lambda: 0.0)
    assert (first.read_at, first.newest) == (NOW, later)
    assert (second.read_at, second.newest, len(second.orders)) == (NOW, later, 2)
    assert (last.newest, last.orders) == (later, [])


# What is looked at before


def sentences(front: Storefront, policy: str = POLICY) -> list[str]:
    return [f"{finding.level}: {finding.sentence}" for finding in check(front.settings(policy))]


def test_check_tells_what_a_shop_answers_and_through_which_apps_orders_were_edited(front: Storefront) -> None:
    assert "fine: storefront: reachable, version 2026-10 of Shopify's API, no orders yet" in sentences(front)
    front.shop.place("#1", "10.00")
    for app in ("Cleverific", "Shopify Web", None, None):
        front.shop.add_item("#1", app=app)
    front.pull()
    told = sentences(front)
    assert "fine: storefront: reachable, version 2026-10 of Shopify's API, newest change 2026-11-16 08:30 UTC" in told
    assert (
        "note: storefront: orders were edited through no app (2) as other, Cleverific (1) as customer_portal, "
        "Shopify Web (1) as other; edited_by_apps says as whom"
    ) in told


def test_check_tells_what_keeps_it_out(front: Storefront) -> None:
    front.shop.faults.plan([Fault.status(503)])
    (wrong,) = [line for line in sentences(front) if "Shopify" in line]
    assert wrong.startswith("wrong: source storefront: Shopify at http://127.0.0.1")
    unset = POLICY.replace("SHOPIFY_TOKEN", "NO_SUCH_TOKEN")
    assert any("NO_SUCH_TOKEN" in line for line in sentences(front, unset) if line.startswith("wrong"))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("", "needs either token, or client_id and client_secret"),
        ('token: "${T}", client_id: app', "needs either token, or client_id and client_secret"),
        ("client_id: app", "needs either token, or client_id and client_secret"),
        ('token: "${T}", api_version: latest', 'api_version: "latest" is not allowed|a version such as 2026-10'),
        ('token: "${T}", edited_by_apps: {a: [X], b: [x ]}', "edited_by_apps names the app x twice"),
        ('token: "${T}", overlap: 0m', "a time span"),
    ],
)
def test_a_policy_says_one_way_in(keys: str, sentence: str) -> None:
    head = POLICY[: POLICY.index("sources:")]
    with pytest.raises(Exception, match=sentence):
        parse_policy(f"{head}sources: {{s: {{kind: shopify, shop: a.myshopify.com{', ' if keys else ''}{keys}}}}}")


def test_pulls_at_the_same_time_leave_what_one_would(tmp_path: Path) -> None:
    with storefront(tmp_path / "one", sample_orders(800, NOW)) as front:
        settings = front.settings()
        errors: list[BaseException] = []

        def pull_beside(run_id: str) -> None:
            try:
                pull_shops(settings, Warehouse(settings.warehouse_path), run_id)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=pull_beside, args=(f"run {number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        direct = settings_at(tmp_path / "whole", POLICY, front.clock, dict(settings.environment))
        pull_shops(direct, Warehouse(direct.warehouse_path), "run")
        assert_same(front.warehouse, Warehouse(direct.warehouse_path), without=("run_id",))
