"""As whose the edits of orders count that databases and files feed (RULES 8.1). Shops: test_pulling_shops.py."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from support import MovingClock, settings_at

from dunning_pipeline.policy import parse_policy
from dunning_pipeline.preflight import check
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.loading import Loaded
from dunning_pipeline.resources.parties import parties_of
from dunning_pipeline.resources.progress import fetch_progress, settings_hash
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS

APPS = "{customer_portal: [Cleverific], staff: [Back Office]}"
POLICY = """\
organisation: {{time_zone: Europe/Paris, base_currency: EUR}}
workflows: [{{name: standard, default: true, actions: [{{name: reminder_1, day: 1}}]}}]
order_reminders: {{edited_by: [{counting}]}}
sources:
  shop:
    kind: {kind}
    tables: {{order_edits: {table}}}
    edited_by_apps: {apps}
"""
FILES = {"kind": "files", "table": "edits.csv"}
DATABASE = {"kind": "sql", "table": "{table: edits, watermark: edited_at}"}


class Shop:
    """A shop whose edits are in a file, or in a database, both in the policy's folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.texts: list[tuple[str, str]] = []
        self.clock = MovingClock()

    def edited(self, *by: str, title: str = "") -> None:
        """An edit each by a text."""
        self.texts += [(text, title) for text in by]
        rows = [(str(n), "1", f"2026-11-16 08:{n:02}", *each) for n, each in enumerate(self.texts)]
        lines = ["edit_id,order_id,edited_at,edited_by,app_title", *map(",".join, rows)]
        (self.home / "edits.csv").write_text("\n".join(lines) + "\n")
        with closing(sqlite3.connect(self.home / "shop.db")) as connection, connection:
            connection.execute("drop table if exists edits")
            connection.execute("create table edits (edit_id, order_id, edited_at, edited_by, app_title)")
            connection.executemany("insert into edits values (?, ?, ?, ?, ?)", rows)

    def settings(self, apps: str, counting: str, source: dict[str, str]) -> Settings:
        policy = POLICY.format(apps=apps, counting=counting, **source)
        if source is DATABASE:
            policy += "    url: ${SHOP_URL}\n"
        return settings_at(self.home, policy, self.clock, {"SHOP_URL": f"sqlite:///{self.home / 'shop.db'}"})

    def pull(self, apps: str = APPS, counting: str = "customer_portal", source: dict[str, str] = FILES) -> Loaded:
        return pull(self.settings(apps, counting, source), self.warehouse, ORDER_EDITS, "run")[1]

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home / "warehouse.duckdb")

    def told(self) -> list[tuple[str | None, str]]:
        """Text and party of each edit, in their order."""
        rows = self.warehouse.fetch("select app_title, edited_by from source.order_edits order by edit_id")
        return [(None if pd.isna(text) else text, party) for text, party in rows.to_numpy()]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.parametrize("source", [FILES, DATABASE], ids=["files", "database"])
def test_an_apps_title_becomes_its_party_and_the_name_of_a_party_stays(shop: Shop, source: dict[str, str]) -> None:
    shop.edited("Cleverific", "back office", "customer_portal", "Staff", "Flow", "")
    assert shop.pull(source=source).unmapped == {"Flow": 1, "": 1}
    assert shop.told() == [
        ("Cleverific", "customer_portal"),
        ("back office", "staff"),
        ("customer_portal", "customer_portal"),
        ("Staff", "staff"),
        ("Flow", "other"),
        (None, "other"),
    ]


def test_parties_whose_edits_count_are_known_without_any_app(shop: Shop) -> None:
    shop.edited("customer_portal", "support", "staff", "any", "other")
    shop.pull(apps="{}", counting="support, any")
    assert [party for _, party in shop.told()] == ["other", "support", "other", "other", "other"]


def test_a_title_goes_before_the_name_of_a_party(shop: Shop) -> None:
    shop.edited("staff")
    shop.pull(apps="{customer_portal: [Staff], staff: [Back Office]}")
    assert shop.told() == [("staff", "customer_portal")]


def test_who_edited_goes_before_the_title_of_the_app(shop: Shop) -> None:
    shop.edited("staff", "", title="Cleverific")
    shop.pull()
    assert shop.told() == [("staff", "staff"), ("Cleverific", "customer_portal")]


@pytest.mark.parametrize("source", [FILES, DATABASE], ids=["files", "database"])
def test_parties_that_are_named_later_hold_for_edits_that_are_there(shop: Shop, source: dict[str, str]) -> None:
    shop.edited("Flow", "support")
    shop.pull(source=source)
    assert [party for _, party in shop.told()] == ["other", "other"]
    shop.pull("{customer_portal: [flow]}", "customer_portal, support", source)
    assert shop.told() == [("Flow", "customer_portal"), ("support", "support")]
    shop.pull(source=source)
    assert shop.told() == [("Flow", "other"), ("support", "other")]


def test_other_parties_do_not_make_a_pull_a_full_one(shop: Shop) -> None:
    shop.edited("Flow")
    settings = [shop.settings(apps, "customer_portal", DATABASE) for apps in (APPS, "{staff: [Flow]}")]
    sources = [each.policy.sources["shop"] for each in settings]
    first, second = (settings_hash(source, source.tables["order_edits"]) for source in sources)
    assert first == second
    shop.pull(source=DATABASE)
    with shop.warehouse.transaction() as connection:
        progress = fetch_progress(connection, "shop", "order_edits")
    assert progress is not None
    assert progress.settings_hash == first


def test_check_tells_every_text_that_was_seen_and_as_whom_it_counts_by_the_policy_as_it_is_now(shop: Shop) -> None:
    shop.edited("Cleverific", "Flow", "Flow", "customer_portal", "")
    shop.pull()
    found = [finding.sentence for finding in check(shop.settings("{staff: [Flow]}", "customer_portal", FILES))]
    assert (
        "shop: orders were edited through Flow (2) as staff, no app (1) as other, Cleverific (1) as other, "
        "customer_portal (1) as customer_portal; edited_by_apps says as whom"
    ) in found


@pytest.mark.parametrize(
    "source",
    [
        "kind: files, tables: {}",
        "kind: sql, url: 'sqlite://', tables: {}",
        "kind: rest, url: https://x.test, tables: {}",
    ],
)
def test_an_app_has_one_party(source: str) -> None:
    head = POLICY[: POLICY.index("order_reminders")].replace("{{", "{").replace("}}", "}")
    with pytest.raises(Exception, match="edited_by_apps names the app x twice"):
        parse_policy(f"{head}sources: {{s: {{{source}, edited_by_apps: {{a: [X], b: ['x ']}}}}}}")


def test_only_sources_that_may_feed_edits_have_parties() -> None:
    head = POLICY[: POLICY.index("order_reminders")].replace("{{", "{").replace("}}", "}")
    policy = parse_policy(
        f"{head}sources: {{stripe: {{kind: stripe, key: '${{KEY}}'}}, f: {{kind: files, tables: {{}}}}}}"
    )
    assert parties_of(policy) == {"f": {"customer_portal": "customer_portal"}}
