"""The sample business is read as the pipeline would read it, through the demo policy's selects."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import reference as ref
import yaml

from dunning_pipeline.sandbox.sample_data import SAMPLE_POLICY, write_billing_database, write_sample_csv

POLICY = yaml.safe_load(SAMPLE_POLICY)
TODAYS = [
    date(2026, 11, 22),
    date(2024, 2, 29),
    date(2026, 1, 1),
    date(2026, 3, 1),
    date(2026, 12, 31),
    date(2027, 10, 31),
]
SAMPLE_FOLDER = Path(__file__).parents[2] / "data" / "sample"
DATES_AHEAD_ALLOWED = {"due_on", "pay_by", "paused_until"}
DECIMALS = {"EUR": 2, "USD": 2, "GBP": 2, "JPY": 0, "KWD": 3}


def tables(path: Path) -> dict[str, list[dict]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        selects = POLICY["sources"]["billing"]["tables"]
        return {name: [dict(row) for row in connection.execute(sql)] for name, sql in selects.items()}


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def typed(row: dict) -> dict:
    return {
        name: date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", str(value)) else value
        for name, value in row.items()
        if name not in {"created_at", "updated_at", "pay_url"}
    }


def minor(amount: str, currency: str) -> int:
    return int(Decimal(amount).scaleb(DECIMALS[currency]))


def ledger(source: dict[str, list[dict]]) -> ref.Ledger:
    rows = {name: [typed(row) for row in table] for name, table in source.items()}
    return ref.Ledger(
        customers=[ref.Customer(**row) for row in rows["customers"]],
        invoices=[ref.Invoice(total_minor=minor(row.pop("total"), row["currency"]), **row) for row in rows["invoices"]],
        payments=[
            ref.Payment(amount_minor=minor(row.pop("amount"), row["currency"]), **row) for row in rows["payments"]
        ],
        pauses=[ref.Pause(**row) for row in rows["pauses"]],
        promises=[ref.Promise(**row | {"pauses": bool(row["pauses"])}) for row in rows["promises"]],
    )


def rules() -> ref.Rules:
    (workflow,) = POLICY["workflows"]
    actions = tuple(ref.Action(action["name"], action["day"]) for action in workflow["actions"])
    money = {
        key: {currency: minor(amount, currency) for currency, amount in POLICY["receivables"][key].items()}
        for key in ("tolerance", "minimum_amount")
    }
    return ref.Rules(
        workflows=(ref.Workflow(workflow["name"], actions, workflow["minimum_contact_delay"]),),
        default=workflow["name"],
        working_days=frozenset(range(len(POLICY["calendar"]["working_days"]))),
        exchange_rates={c: Decimal(str(r)) for c, r in POLICY["organisation"]["exchange_rates"].items()},
        **money,
    )


@pytest.fixture(scope="module", params=TODAYS, ids=str)
def today(request) -> date:
    return request.param


@pytest.fixture(scope="module")
def source(today, tmp_path_factory) -> dict[str, list[dict]]:
    path = tmp_path_factory.mktemp("billing") / "billing.db"
    write_billing_database(path, today)
    return tables(path)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_billing_database(tmp_path / name, TODAYS[0], seed)
    assert dump(tmp_path / "a") == dump(tmp_path / "b") != dump(tmp_path / "c")


def test_an_existing_database_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "billing.db"
    write_billing_database(path, TODAYS[0])
    write_billing_database(path, TODAYS[1])
    assert max(row["issued_on"] for row in tables(path)["invoices"]) <= "2024-02-29"
    assert [entry.name for entry in path.parent.iterdir()] == ["billing.db"]


def test_the_size_and_the_variety_of_the_business(source):
    assert len(source["customers"]) == 300
    assert len(source["invoices"]) == 2000
    currencies = Counter(row["currency"] for row in source["invoices"])
    assert currencies.most_common(1)[0][0] == "EUR"
    assert set(currencies) == set(DECIMALS)
    assert {row["language"] for row in source["customers"]} == {"de", "en", "fr"}
    assert {row["status"] for row in source["invoices"]} == {"draft", "open", "void", "written_off"}
    assert {row["kind"] for row in source["payments"]} == {"payment", "credit_note", "refund", "chargeback"}
    assert any(row["due_on"] is None for row in source["invoices"])
    assert all(row["customer_id"].startswith("0") for row in source["customers"])


def test_about_a_tenth_of_the_invoices_is_unpaid(source, today):
    assert 160 <= len(ref.open_invoices(ledger(source), rules(), today)) <= 240


def test_every_amount_has_exactly_the_decimals_of_its_currency(source):
    amounts = [(row["currency"], row["total"]) for row in source["invoices"]]
    amounts += [(row["currency"], row["amount"]) for row in source["payments"]]
    for currency, amount in amounts:
        assert isinstance(amount, str)
        assert -Decimal(amount).as_tuple().exponent == DECIMALS[currency], (currency, amount)


def test_refunds_and_chargebacks_are_negative_and_all_else_is_positive(source):
    for row in source["payments"]:
        assert (Decimal(row["amount"]) < 0) == (row["kind"] in {"refund", "chargeback"}), row


def test_ids_and_email_addresses_are_unique_and_reach_nobody(source):
    for name, key in (("customers", "customer_id"), ("invoices", "invoice_id"), ("payments", "payment_id")):
        assert len({row[key] for row in source[name]}) == len(source[name])
    emails = [row["email"] for row in source["customers"] if row["email"]]
    assert len(set(emails)) == len(emails)
    assert [email for email in emails if not re.fullmatch(r"[a-z]+@[a-z-]+\.test", email)] == [
        "buchhaltung(at)schreinerei-wald"
    ]


def test_nothing_has_happened_after_today(source, today):
    for table in source.values():
        for row in table:
            for column, value in row.items():
                if re.match(r"\d{4}-\d\d-\d\d", str(value)) and column not in DATES_AHEAD_ALLOWED:
                    assert value[:10] <= today.isoformat(), (column, row)


def test_events_of_an_invoice_do_not_precede_it(source):
    issued = {row["invoice_id"]: row["issued_on"] for row in source["invoices"]}
    for row in source["payments"]:
        assert row["invoice_id"] is None or row["paid_on"] >= issued[row["invoice_id"]], row
    for row in source["invoices"]:
        for column in ("due_on", "recorded_on", "voided_on", "written_off_on", "disputed_on"):
            assert row[column] is None or row[column] >= row["issued_on"], row


def test_the_stories_end_as_they_are_meant_to(source, today):
    names = {row["customer_id"]: row["name"] for row in source["customers"]}
    decisions = {names[row.customer_id]: row for row in ref.decide(ledger(source), rules(), today)}
    assert {name: decisions[name].reason for name in STORIES if name in decisions} == {
        name: reason for name, reason in STORIES.items() if reason
    }
    assert decisions["Kontor Nord"].action == "almost_due"
    assert decisions["Harbour Bakery"].action == "reminder_1"


STORIES = {
    "Harbour Bakery": "remind",
    "Kontor Nord": "remind",
    "Atelier Lumière": "waiting_for_trigger",
    "Quay Street Books": "waiting_for_trigger",
    "Linden Apotheke": "remind",
    "Twin Mills": "remind",
    "Moulin Jumeau": "remind",
    "Drei Brüder Handel": "remind",
    "Sommer & Söhne": "customer_paused",
    "Café des Halles": "customer_paused",
    "Stonebridge Stables": "remind",
    "Papeterie du Port": "remind",
    "Hafen Logistik": "customer_paused",
    "Orchard Press": "promise_to_pay",
    "Fromagerie Alpine": "remind",
    "Nordlicht Druck": "remind",
    "Green Lane Cycles": "waiting_for_trigger",
    "Maison Verte": "remind",
    "Fairwater Marina": "net_balance_not_positive",
    "Kleine Brauerei": "below_minimum_amount",
    "Petit Bistro": "remind",
    "Copper Kettle": None,
    "Ridgeway Tools": "remind",
    "Imprimerie Blanche": "remind",
    "Weaver & Lamb": None,
    "Glaserei Kristall": "remind",
    "Old Mill Pottery": "no_contact_address",
    "Schreinerei Wald": "no_contact_address",
    "Lakeside Hotel": "remind",
    "Bäckerei Sonne": "remind",
    "Garage Dubois": None,
    "Pine Valley Films": None,
    "Sakura Trading": "remind",
    "Gulf Pearl": "remind",
    "Liberty Diner": "remind",
    "Tidewater Nets": "remind",
    "Lumen Optik": "remind",
    "Vélo Express": None,
}


def test_the_carrying_invoices_of_the_ties(source, today):
    names = {row["customer_id"]: row["name"] for row in source["customers"]}
    business = ledger(source)
    invoices = {invoice.invoice_id: invoice for invoice in business.invoices}
    found = ref.carrying(business, rules(), today)
    carriers = {names[row.customer_id]: invoices[row.invoice_id] for row in found}
    assert carriers["Twin Mills"].total_minor == 250_00
    # 85,000 JPY are worth more euros than 540 USD or 500 EUR.
    assert carriers["Drei Brüder Handel"].currency == "JPY"
    equal = [row for row in source["invoices"] if names[row["customer_id"]] == "Moulin Jumeau"]
    assert carriers["Moulin Jumeau"].invoice_id == min(row["invoice_id"] for row in equal if row["total"] == "180.00")
    assert carriers["Lumen Optik"].recorded_on == today


@pytest.mark.parametrize("seed", [7, 8, 99])
def test_every_reason_occurs_and_many_customers_are_reminded(seed, today, tmp_path):
    write_billing_database(tmp_path / "billing.db", today, seed)
    reasons = Counter(row.reason for row in ref.decide(ledger(tables(tmp_path / "billing.db")), rules(), today))
    assert reasons["remind"] >= 40
    assert {reason for reason in STORIES.values() if reason} <= set(reasons)


def test_the_csv_sample_is_the_one_that_is_kept_with_the_project(tmp_path):
    write_sample_csv(tmp_path, date(2026, 11, 22))
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in SAMPLE_FOLDER.iterdir()}
    assert sorted(written) == ["customers.csv", "invoices.csv", "payments.csv"]
    assert all(b"\r" not in content for content in written.values())


def test_the_csv_sample_is_small_and_complete(tmp_path):
    write_sample_csv(tmp_path, date(2024, 2, 29))
    rows = {path.stem: list(csv.DictReader(path.read_text("utf-8").splitlines())) for path in tmp_path.iterdir()}
    assert len(rows["customers"]) == 12
    assert len(rows["invoices"]) == 32
    customers = {row["customer_id"] for row in rows["customers"]}
    assert {row["customer_id"] for row in rows["invoices"] + rows["payments"]} <= customers
    invoices = {row["invoice_id"] for row in rows["invoices"]}
    assert {row["invoice_id"] for row in rows["payments"]} <= invoices | {""}
