"""README and docs against the code: examples run, and what they name exists."""

import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pandas as pd
import pytest
import typer
from klaviyo_mail import order_events
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline import policy, tables
from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.cli import app
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.readers import fed_tables
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, sample_shop
from dunning_pipeline.sandbox.shopify import running as running_shop
from dunning_pipeline.tables import Column

ROOT = Path(__file__).parents[1]
DOCS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted(ROOT.glob("docs/*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCS}

MINIMAL = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
"""
MONDAY = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)

Block = tuple[str, str]
"""The name of the document and the text of a block."""


def blocks(language: str) -> list[Block]:
    """The fenced blocks of a language in all documents."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.M | re.S)
    return [(name, text) for name, whole in TEXTS.items() for text in fence.findall(whole)]


def block_of(document: str, language: str, containing: str = "") -> str:
    (text,) = [text for name, text in blocks(language) if name == document and containing in text]
    return text


def labels(found: list[Block]) -> list[str]:
    return [f"{name}-{place}" for place, (name, _) in enumerate(found)]


def code(text: str) -> list[str]:
    """What stands in code: the lines of shell blocks without comments, and the code spans of the prose."""
    shell = [
        line.split("  #")[0]
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
        for line in block.splitlines()
    ]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return shell + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def section(document: str, heading: str) -> str:
    """The text under a heading, up to the next heading of its level."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{level} |\Z)", TEXTS[document], re.M | re.S)
    assert found, f"{document} has no heading {heading}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its heading."""
    table = re.search(r"(?:^\|.*\n?)+", text, re.M)
    assert table
    lines = table[0].strip().splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def pull_and_derive(pipeline: Pipeline, days: Days) -> None:
    """The source assets of the daily job, then the derived tables of some days."""
    sources = [dg.AssetKey(["source", table]) for table in fed_tables(pipeline.settings.policy)]
    assert pipeline.daily(asset_selection=sources).success
    for derivation in DERIVATIONS:
        derive_and_replace(derivation, pipeline.warehouse, pipeline.settings.policy, days, run_id="docs")


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Pipeline:
    """The pipeline after a day on the README's policy and a database with the tables that its selects name."""
    home = tmp_path_factory.mktemp("readme")
    database = home / "billing.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("""
            create table clients (id text, name text, email text);
            create table bills (id text, client_id text, issued_on text, due_on text, currency text, total text);
            create table receipts (id text, client_id text, invoice_id text, currency text, amount text, paid_on text);
            insert into clients values ('C1', 'Harbour', 'a@harbour.test'), ('C2', 'Kontor', 'b@kontor.test');
            insert into bills values
                ('B1', 'C1', '2026-10-01', '2026-10-31', 'EUR', '480.00'),
                ('B2', 'C1', '2026-11-01', '2026-12-01', 'USD', '96.40'),
                ('B3', 'C2', '2026-10-01', '2026-10-31', 'EUR', '12.00');
            insert into receipts values ('R1', 'C2', 'B3', 'EUR', '12.00', '2026-11-02');
        """)
    environment = {"BILLING_DATABASE_URL": f"sqlite:///{database}"}
    example = block_of("README.md", "yaml")
    pipeline = Pipeline(settings_at(home, example, MovingClock(MONDAY), environment), instance)
    assert pipeline.daily().success
    return pipeline


@pytest.fixture(scope="module")
def event(readme: Pipeline) -> dict[str, Any]:
    """The properties of the reminder that the README's example makes."""
    (body,) = readme.warehouse.fetch("select body from dunning.reminders")["body"]
    (entry,) = json.loads(body)["attributes"]["events"]["data"]
    properties: dict[str, Any] = entry["attributes"]["properties"]
    return properties


@pytest.fixture(scope="module")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = Warehouse(tmp_path_factory.mktemp("empty") / "warehouse.duckdb")
    warehouse.fetch("select 1")
    return warehouse


def test_the_policy_in_the_readme_is_ten_lines_and_makes_decisions(readme: Pipeline) -> None:
    assert len(block_of("README.md", "yaml").splitlines()) == 10
    decisions = readme.warehouse.fetch("select customer_id, decision, action from dunning.decisions")
    assert decisions.to_numpy().tolist() == [["C1", "remind", "reminder_1"]]


YAML = blocks("yaml")


@pytest.mark.parametrize(("document", "text"), YAML, ids=labels(YAML))
def test_every_policy_example_is_accepted(document: str, text: str) -> None:
    parse_policy(text if "workflows:" in text else MINIMAL + text, document)


def test_the_ledger_example_reads_its_files_and_makes_decisions(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (tmp_path / "exports").mkdir()
    for name, start in (("ledger", "countryCode"), ("receipts", "invoiceNumber")):
        content = block_of("docs/sources-files.md", "csv", f"{start},customerID")
        (tmp_path / "exports" / f"{name}.csv").write_text(content, encoding="utf-8")
    example = block_of("docs/sources-files.md", "yaml", "workflows:")
    pipeline = Pipeline(settings_at(tmp_path, example, MovingClock(MONDAY)), instance)
    pull_and_derive(pipeline, Days(MONDAY.date(), MONDAY.date()))
    assert pipeline.warehouse.fetch("select * from source.rejected_rows").empty
    carrying = pipeline.warehouse.fetch("select customer_id, carrying_invoice_id from dunning.decisions order by 1")
    assert carrying.to_numpy().tolist() == [["0379-NEVHP", "0009231909"], ["8976-AMJEO", "0007900770"]]


def test_the_worked_example_of_a_decision_is_what_the_rules_decide(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    files = {
        "customers": [("customer_id", "email"), ("C1", "a@harbour.test")],
        "invoices": [
            ("invoice_id", "customer_id", "issued_on", "due_on", "currency", "total"),
            ("4711", "C1", "2026-10-05", "2026-11-04", "EUR", "100.00"),
        ],
        "contacts": [
            ("contact_id", "customer_id", "invoice_id", "workflow", "action", "contacted_on", "recorded_on"),
            ("1", "C1", "4711", "standard", "reminder_1", "2026-11-05", "2026-11-06"),
            ("2", "C1", "4711", "standard", "reminder_2", "2026-11-12", "2026-11-13"),
        ],
    }
    for name, lines in files.items():
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
    workflow = "{name: standard, default: true, actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 8}]}"
    sources = "".join(f"      {name}: {name}.csv\n" for name in files)
    text = (
        "organisation: {time_zone: Europe/Paris, base_currency: EUR}\n"
        f"workflows: [{workflow}]\nsources:\n  files:\n    kind: files\n    tables:\n{sources}"
    )
    pipeline = Pipeline(settings_at(tmp_path, text, MovingClock(MONDAY)), instance)
    pull_and_derive(pipeline, Days(date(2026, 11, 3), date(2026, 11, 13)))

    decided = pipeline.warehouse.fetch(
        "select as_of, decision, reason, action, trigger_on, last_contact_on, next_due_on from dunning.decisions"
    )
    shown = {
        f"{row.as_of:%a} {_short(row.as_of)}": [
            "" if pd.isna(value) else _short(value) if isinstance(value, pd.Timestamp) else value for value in row[2:]
        ]
        for row in decided.itertuples()
    }
    for day, *expected in rows(section("docs/decisions.md", "## Worked example")):
        assert shown[day] == expected, day


def _short(day: pd.Timestamp) -> str:
    return f"{day.day} {day:%b}"


SQL = blocks("sql") + [("README.md", text) for text in re.findall(r"\.sql\('''(.*?)'''\)", TEXTS["README.md"], re.S)]


@pytest.mark.parametrize(("document", "text"), SQL, ids=labels(SQL))
def test_every_query_runs_on_an_empty_warehouse(document: str, text: str, empty_warehouse: Warehouse) -> None:
    assert len(empty_warehouse.fetch(text).columns)


COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_command_and_option_in_the_documents_exists() -> None:
    for name, text in TEXTS.items():
        for line in code(text):
            called = re.match(r"(?:\.venv/bin/)?dunning ([a-z]+)\b(.*)", line)
            if called:
                assert called[1] in COMMANDS, f"{name}: {line}"
                known = {option for parameter in _command(called[1], called[2]).params for option in parameter.opts}
                assert set(re.findall(r"--[a-z-]+", called[2])) <= known | {"--help"}, f"{name}: {line}"


def _command(name: str, words: str) -> click.Command:
    """The command of this name; of one with commands of its own that which the words begin with."""
    command = COMMANDS[name]
    within: dict[str, click.Command] = getattr(command, "commands", {})
    return within[words.split(maxsplit=1)[0]] if within and words.split() else command


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = {
        (name, target)
        for name, text in TEXTS.items()
        for line in code(text)
        for target in re.findall(r"^make ([a-z-]+)", line)
    }
    assert {target for _, target in named} >= {"demo", "test", "dev", "bench"}
    assert not [where for where in named if where[1] not in targets]


def test_every_relative_link_points_to_a_file_and_a_heading() -> None:
    broken = []
    for path in DOCS:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            target, _, anchor = link.partition("#")
            file = path.parent / target if target else path
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                broken.append(f"{path.name}: {link}")
    assert not broken


def _anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", TEXTS["README.md"]))
    assert linked == {name for name in TEXTS if name.startswith("docs/")}


def test_every_reason_is_explained_in_its_order() -> None:
    explained = [row[0] for row in rows(section("docs/decisions.md", "## Reasons"))]
    assert tuple(explained) == tables.REASONS


def test_every_outcome_and_state_is_explained() -> None:
    text = section("docs/going-live.md", "## When a send fails")
    states = rows(text[text.index("States of a batch") :])
    outcomes = rows(text[text.index("Outcomes,") :])
    (state,) = [column for column in tables.BATCHES.columns if column.name == "state"]
    assert tuple(row[0] for row in states) == state.allowed
    assert sorted(row[0] for row in outcomes) == sorted(tables.OUTCOMES)


def test_every_property_of_the_event_is_explained_with_its_type(event: dict[str, Any]) -> None:
    text = section("docs/events.md", "## Properties")
    assert _types(rows(text), event) == list(event)
    (invoice, _) = event["invoices"]
    assert _types(rows(text[text.index("Each entry of `invoices`") :]), invoice) == list(invoice)
    (total, _) = event["totals_by_currency"]
    listed = text[text.index("Each entry of `totals_by_currency`") :].split(":", 1)[1]
    assert re.findall(r"`(\w+)`", listed) == list(total)


def test_every_property_of_the_order_event_is_explained_with_its_type(tmp_path: Path) -> None:
    text = section("docs/events.md", "## The order event")
    told = order_events(tmp_path)["first en"]
    assert _types(rows(text), told) == list(told)
    listed = text[text.index("Each entry of `changes`") :].split(" has ", 1)[1].split(";", 1)[0]
    assert re.findall(r"`(\w+)`", listed) == list(told["changes"][0])


def _types(explained: list[list[str]], values: dict[str, Any]) -> list[str]:
    """The names in a table of properties, each checked to be of its type in `values`."""
    kinds: dict[str, tuple[type, ...]] = {
        "text": (str,),
        "date": (str,),
        "number": (int, float),
        "true or false": (bool,),
        "list": (list,),
    }
    for name, kind, *_ in explained:
        assert values[name] is None or isinstance(values[name], kinds[kind]), name
    return [row[0] for row in explained]


def test_top_level_amounts_are_in_the_carrying_currency_and_counts_over_all(event: dict[str, Any]) -> None:
    assert (event["currency"], event["outstanding"], event["outstanding_count"]) == ("EUR", 480.0, 2)
    assert [total["outstanding"] for total in event["totals_by_currency"]] == [480.0, 96.4]


def test_every_source_table_is_described_with_its_columns() -> None:
    described = {row[0]: row[1].split(", ") for row in rows(section("docs/sources-sql.md", "## Source tables"))}
    assert described == {
        table.name: [_as_documented(column) for column in table.incoming] for table in tables.SOURCE_TABLES
    }


def _as_documented(column: Column) -> str:
    return column.incoming_name + ("" if column.required else "?")


def test_every_table_of_the_warehouse_is_described() -> None:
    named = " ".join(row[0] for row in rows(section("docs/data.md", "## Tables")))
    assert not [table.qualified for table in tables.ALL_TABLES if table.name not in re.findall(r"\w+", named)]


def test_every_setting_is_described() -> None:
    words = set(re.findall(r"\w+", " ".join(code(TEXTS["docs/policy.md"]))))
    sections = (policy.Policy, policy.Organisation, policy.Calendar, policy.Receivables, policy.Workflow, policy.Action)
    sections += (policy.Klaviyo, policy.Sending, policy.Quality)
    assert not [name for part in sections for name in part.model_fields if name not in words]


def test_the_shopify_example_pulls_the_sandboxs_orders(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    clock = MovingClock(MONDAY)
    shop = sample_shop(20, clock)
    shop.add_item("#1020")
    with running_shop(shop) as url:
        environment = {"SHOPIFY_SHOP": url, "SHOPIFY_TOKEN": DEFAULT_TOKEN}
        example = block_of("docs/sources-shopify.md", "yaml", "workflows:")
        pipeline = Pipeline(settings_at(tmp_path, example, clock, environment), instance)
        sources = [dg.AssetKey(["source", table]) for table in fed_tables(pipeline.settings.policy)]
        assert pipeline.daily(asset_selection=sources).success
    last = "select edited_by, app_title from source.order_edits order by edited_at desc limit 1"
    assert pipeline.warehouse.fetch(last).to_numpy().tolist() == [["customer_portal", "Cleverific"]]
    assert len(pipeline.warehouse.fetch("select order_id from source.orders")) == 20


def test_every_setting_of_a_shop_is_described() -> None:
    words = set(re.findall(r"\w+", " ".join(code(TEXTS["docs/sources-shopify.md"]))))
    assert not [name for name in policy.ShopifySource.model_fields if name not in {*words, "kind"}]
