"""One small business kept in a database, at Stripe and at Xero: the same is decided, day by day."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from rest_apis import STRIPE_KEY, XERO_TOKEN, Stripe, Xero, serving
from support import MovingClock, settings_at

from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.partitions import Days
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.tables import CUSTOMERS, INVOICES

POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: "2026-01-01", exchange_rates: {USD: "0.92"}}
receivables: {tolerance: {EUR: "0.05"}, minimum_amount: {EUR: "10.00"}}
workflows:
  - name: standard
    default: true
    actions: [{name: almost_due, day: -3}, {name: reminder_1, day: 1}, {name: reminder_2, day: 8}]
  - {name: large, actions: [{name: call, day: 0}]}
smart_rules: [{name: large, when: {open_balance: {at_least: "900"}}, workflow: large}]
sources:
  billing: %s
"""
SOURCES = {
    "sqlite": "{kind: sql, url: '${DATABASE_URL}', tables: {customers: customers, invoices: {table: invoices,"
    " columns: {total_cents: total, outstanding_cents: outstanding}, minor_units: true}}}",
    "stripe": "{kind: stripe, key: '${STRIPE_API_KEY}', url: '${STRIPE_URL}'}",
    "xero": "{kind: xero, token: '${XERO_TOKEN}', url: '${XERO_URL}'}",
}
PARIS = ZoneInfo("Europe/Paris")
MONDAY = date(2026, 11, 16)
CUSTOMERS_HERE = 3


@dataclass
class Business:
    """The same invoices in three systems. Amounts are in cents; invoice `number` is of customer `number` modulo 3."""

    database: Path
    stripe: Stripe
    xero: Xero

    def bill(self, number: int, issued: date, due: date, cents: int, currency: str = "EUR") -> None:
        self.run(
            "insert into invoices values (?, ?, ?, ?, ?, ?, ?, ?, 'open', null)",
            [number, number % CUSTOMERS_HERE, f"INV-{number:04d}", f"{issued}", f"{due}", currency, cents, cents],
        )
        noon = int(datetime.combine(issued, time(12), PARIS).timestamp())
        end = int(datetime.combine(due, time(23, 59, 59), PARIS).timestamp())
        amounts = {"total": cents, "amount_due": cents, "amount_remaining": cents, "currency": currency.lower()}
        number_here = {"number": f"INV-{number:04d}", "due_date": end, "finalized_at": noon}
        self.stripe.bill(f"in_{number}", f"c{number % CUSTOMERS_HERE}", **amounts, **number_here)
        days = {"Date": _xero_day(issued), "DueDate": _xero_day(due)}
        self.xero.bill(number, Total=cents / 100, AmountDue=cents / 100, CurrencyCode=currency, **days)

    def pay(self, number: int, cents: int) -> None:
        self.run("update invoices set outstanding_cents = outstanding_cents - ? where invoice_id = ?", [cents, number])
        invoice = self.stripe.invoices[f"in_{number}"]
        invoice["amount_remaining"] -= cents
        invoice["status"] = "open" if invoice["amount_remaining"] else "paid"
        id = next(id for id in self.xero.invoices if id.endswith(f"{number:012d}"))
        left = round(self.xero.invoices[id]["AmountDue"] - cents / 100, 2)
        self.xero.change(id, AmountDue=left, Status="AUTHORISED" if left else "PAID")

    def void(self, number: int, day: date) -> None:
        self.run("update invoices set status = 'void', voided_on = ? where invoice_id = ?", [f"{day}", number])
        self.stripe.void(f"in_{number}", int(datetime.combine(day, time(6), PARIS).timestamp()))
        id = next(id for id in self.xero.invoices if id.endswith(f"{number:012d}"))
        self.xero.change(id, Status="VOIDED", AmountDue=0.0)

    def run(self, statement: str, values: list[Any] | None = None) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement, values or [])


def _xero_day(day: date) -> str:
    return f"/Date({int(datetime.combine(day, time(), UTC).timestamp()) * 1000}+0000)/"


@dataclass
class Company:
    """The pipeline over one of the systems."""

    home: Path
    source: str
    environment: dict[str, str]

    def decide(self, day: date) -> list[list[object]]:
        """What is decided on a day after a pull, in words that all systems share."""
        clock = MovingClock()
        clock.move_to(day)
        settings = settings_at(self.home, POLICY % self.source, clock, self.environment)
        warehouse = Warehouse(settings.warehouse_path)
        for table in (CUSTOMERS, INVOICES):
            assert pull(settings, warehouse, table, "run")[1].rejected == 0
        for derivation in DERIVATIONS:
            derive_and_replace(derivation, warehouse, settings.policy, Days(day, day), run_id="run")
        query = """
            select c.email, i.number, o.open_minor, d.workflow, d.action, d.trigger_on::text, d.next_due_on::text,
                d.decision, d.reason, v.carrying_change
            from dunning.decisions as d join source.customers as c using (customer_id)
            left join source.invoices as i on i.invoice_id = d.carrying_invoice_id
            left join dunning.open_invoices as o on o.invoice_id = i.invoice_id and o.as_of = d.as_of
            left join dunning.carrying_invoices as v on v.invoice_id = i.invoice_id and v.as_of = d.as_of
            where d.as_of = $day order by 1
        """
        rows = warehouse.fetch(query, {"day": day})
        return [[None if pd.isna(value) else value for value in row] for row in rows.to_numpy(dtype=object).tolist()]


@pytest.fixture
def business(tmp_path: Path) -> Business:
    business = Business(tmp_path / "billing.db", Stripe(), Xero(largest_page=3))
    business.run("create table customers (customer_id text, name text, email text)")
    business.run(
        "create table invoices (invoice_id text, customer_id text, number text, issued_on text, due_on text,"
        " currency text, total_cents integer, outstanding_cents integer, status text, voided_on text)"
    )
    for number in range(CUSTOMERS_HERE):
        row = [f"{number}", f"Customer {number}", f"c{number}@shop.dev"]
        business.run("insert into customers values (?, ?, ?)", row)
    return business


@pytest.fixture
def companies(business: Business, tmp_path: Path) -> Iterator[dict[str, Company]]:
    with ExitStack() as served:
        environment = {
            "DATABASE_URL": f"sqlite:///{business.database}",
            "STRIPE_API_KEY": STRIPE_KEY,
            "STRIPE_URL": served.enter_context(serving(business.stripe)),
            "XERO_TOKEN": XERO_TOKEN,
            "XERO_URL": served.enter_context(serving(business.xero)),
        }
        yield {kind: Company(tmp_path / kind, source, environment) for kind, source in SOURCES.items()}


def test_the_same_business_is_decided_alike_whatever_system_keeps_it(
    business: Business, companies: dict[str, Company]
) -> None:
    business.bill(0, date(2026, 10, 1), date(2026, 11, 15), 48_000)
    business.bill(3, date(2026, 10, 2), date(2026, 11, 20), 12_34)
    business.bill(1, date(2026, 9, 1), date(2026, 11, 1), 30_010)
    business.bill(4, date(2026, 9, 5), date(2026, 11, 18), 99, "USD")
    business.bill(2, date(2026, 9, 1), date(2026, 11, 9), 120_000)
    business.bill(5, date(2026, 9, 2), date(2026, 12, 9), 500)
    for shift, change in enumerate(
        [
            lambda day: None,
            lambda day: business.pay(0, 48_000),
            lambda day: business.pay(2, 40_000),
            lambda day: business.void(1, day),
        ]
    ):
        day = MONDAY + timedelta(days=shift)
        business.xero.now = datetime.combine(day, time(5), UTC)
        change(day)
        decided = {kind: company.decide(day) for kind, company in companies.items()}
        assert decided["stripe"] == decided["sqlite"], day
        assert decided["xero"] == decided["sqlite"], day
    assert [row[1] for row in decided["sqlite"]] == ["INV-0003", "INV-0004", "INV-0002"]
