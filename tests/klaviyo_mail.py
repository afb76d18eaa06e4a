"""E-mails as Klaviyo would make them: events that the pipeline made, rendered by Django's template engine.

`python tests/klaviyo_mail.py` renews the pictures in docs/images; it needs Chromium and pngquant.
"""

import csv
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pandas as pd
from django.conf import settings as django_settings
from django.template import Context, Engine, Library, Template
from support import MovingClock, Pipeline, pull_tables, settings_at

from dunning_pipeline.ordering import decide_orders_now, order_pieces
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.order_events import CHANGES_LISTED
from dunning_pipeline.tables import SENT_HISTORY
from dunning_pipeline.templates import LANGUAGES, template_files

Event = dict[str, Any]
"""The properties of an event, as Klaviyo hands them to a template."""

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
TODAY = NOW.date()
EDITED_AT = NOW - timedelta(hours=26)
UNKNOWN = "no such variable"
"""Stands where a template prints a property that the event does not have."""
ORGANIZATION = {"name": "Quayside Supplies & Co", "full_address": "12 Harbour Street, Cork, Ireland"}

register = Library()


@register.simple_tag
def unsubscribe_link() -> str:
    """A stand-in for Klaviyo's tag of that name."""
    return "https://klaviyo.test/unsubscribe"


def rendered(file_name: str, event: Event, *, unknown: str = f"({UNKNOWN}: %s)", autoescape: bool = True) -> str:
    """The template of this name over an event; `unknown` stands where a property is missing."""
    context = Context({"event": event, "organization": ORGANIZATION}, autoescape=autoescape)
    return _template(file_name, unknown).render(context)


@cache
def _template(file_name: str, unknown: str) -> Template:
    if not django_settings.configured:
        django_settings.configure(USE_I18N=False)
    engine = Engine(string_if_invalid=unknown, builtins=[__name__])
    return engine.from_string(template_files()[file_name])


POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows:
  - name: standard
    default: true
    actions: [{name: almost_due, day: -3}, {name: due_today, day: 0}, {name: reminder_1, day: 1}]
klaviyo: {invoices_listed: 4}
sources:
  books:
    kind: files
    tables: {customers: customers.csv, invoices: invoices.csv, payments: payments.csv, promises: promises.csv}
"""
Owed = tuple[int, str, str]
"""An invoice: days from today to its due date, amount and currency."""
Change = tuple[str, int | None, str | None]
"""What an edit changed: title, quantity and amount."""

AWKWARD = '<b>Weaver & Lamb</b> "Söhne"'
CASES: Mapping[str, Sequence[Owed]] = {
    "upcoming": [(2, "96.40", "EUR")],
    "today": [(0, "145.00", "EUR")],
    "yesterday": [(-1, "640.00", "EUR")],
    "several": [(-40, "480.00", "EUR"), (-12, "1250.50", "EUR"), (8, "96.40", "EUR")],
    "currencies": [(-22, "500.00", "EUR"), (-20, "540.00", "USD"), (-5, "85000", "JPY"), (5, "20.00", "USD")],
    "one left out": [(-n, "10.00", "EUR") for n in range(1, 6)],
    "many left out": [(-n, "10.00", "EUR") for n in range(1, 12)],
    "promised": [(-26, "1120.00", "EUR")],
    "partly paid": [(-18, "900.00", "EUR")],
    "bare": [(-9, "1234567.89", "EUR")],
    "awkward": [(-3, "5.00", "EUR")],
}
LISTED = parse_policy(POLICY, "dunning.yaml").klaviyo.invoices_listed


def invoice_events(home: Path, cases: Mapping[str, Sequence[Owed]] = CASES, policy: str = POLICY) -> dict[str, Event]:
    """What the daily job makes of a customer of each case and language, by the customer's id."""
    _write_books(home, cases)
    with dg.DagsterInstance.ephemeral() as instance:
        pipeline = Pipeline(settings_at(home, policy, MovingClock(NOW)), instance)
        assert pipeline.daily().success
    bodies = pipeline.warehouse.fetch("select customer_id, body from dunning.reminders")
    return {customer_id: _properties(body) for customer_id, body in bodies.to_numpy()}


def _properties(body: str) -> Event:
    (entry,) = json.loads(body)["attributes"]["events"]["data"]
    properties: Event = entry["attributes"]["properties"]
    return properties


def _write_books(home: Path, cases: Mapping[str, Sequence[Owed]]) -> None:
    customers, invoices, payments, promises = [], [], [], []
    for number, (case, language) in enumerate(product(cases, LANGUAGES)):
        customer_id = f"{case} {language}"
        name = {"bare": "", "awkward": AWKWARD}.get(case, "Harbour Bakery")
        customers.append((customer_id, name, f"accounts-{number}@harbour.test", language))
        for place, (days, total, currency) in enumerate(cases[case]):
            due = TODAY + timedelta(days)
            invoice_id = f"INV-{number:02d}{place + 1:02d}" + ("<&>" if case == "awkward" else "")
            link = "" if case == "bare" else f'https://pay.harbour.test/?invoice={number}-{place}&by="mail"'
            invoices.append((invoice_id, customer_id, due - timedelta(30), due, currency, total, link))
        if case == "partly paid":
            payments.append((number, customer_id, invoice_id, "EUR", "350.00", TODAY - timedelta(9)))
        if case == "promised":
            promises.append((number, customer_id, TODAY - timedelta(12), TODAY - timedelta(4)))
    _write_csv(home / "customers.csv", "customer_id,name,email,language", customers)
    _write_csv(home / "invoices.csv", "invoice_id,customer_id,issued_on,due_on,currency,total,pay_url", invoices)
    _write_csv(home / "payments.csv", "payment_id,customer_id,invoice_id,currency,amount,paid_on", payments)
    _write_csv(home / "promises.csv", "promise_id,customer_id,promised_on,pay_by", promises)


def _write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    # What a file says is as old as the file.
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))


ORDER_POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
order_reminders: {edited_by: [any], start_at: 2026-11-01T00:00:00Z}
sources:
  shop: {kind: files, tables: {orders: orders.csv, order_edits: order_edits.csv}}
"""


@dataclass(frozen=True)
class Order:
    """An edited order; `changes` are title, quantity and amount."""

    customer_name: str = "Ada Byron"
    name: str = "#1031"
    pay_url: str = "https://shop.test/pay/1031?key=a&locale=en"
    status_url: str = "https://shop.test/orders/1031?key=a&b=c"
    changes: Sequence[Change] = (("Linen apron, indigo", 1, "38.00"), ("Shipping", None, "4.50"))
    was_told: bool = False


ORDERS: Mapping[str, Order] = {
    "first": Order(),
    "again": Order(was_told=True),
    "not payable": Order(pay_url=""),
    "without page": Order(status_url=""),
    "bare": Order(customer_name="", pay_url="", status_url="", changes=()),
    "awkward": Order(customer_name=AWKWARD, name="#1031<&>", changes=[("Tea <&> cake", -2, None)]),
    "one left out": Order(changes=[("Scone", 1, "2.50")] * (CHANGES_LISTED + 1)),
    "many left out": Order(changes=[("Scone", 1, "2.50")] * (CHANGES_LISTED + 7)),
}


def order_events(home: Path) -> dict[str, Event]:
    """What is made of each order for a customer of each language, by the order's id: it names both."""
    settings = settings_at(home, ORDER_POLICY, MovingClock(NOW))
    warehouse = Warehouse(settings.warehouse_path)
    _write_orders(home)
    pull_tables(settings)
    warehouse.append(SENT_HISTORY, _told())
    now = decide_orders_now(warehouse, settings, live=True)
    pieces = pd.concat(order_pieces(warehouse, settings, now))
    assert pieces["refusal"].isna().all()
    return {order_id: _properties(body) for order_id, body in pieces[["order_id", "body"]].to_numpy()}


def _write_orders(home: Path) -> None:
    orders, edits = [], []
    for (case, order), language in product(ORDERS.items(), LANGUAGES):
        order_id = f"{case} {language}"
        who = (order.customer_name, f"ada-{len(orders)}@harbour.test", language)
        orders.append((order_id, order.name, *who, "EUR", "131.50", "42.50", "89.00", order.pay_url, order.status_url))
        changes = [
            {"title": title, "quantity": count, "amount": amount and float(amount)}
            for title, count, amount in order.changes
        ]
        edits.append((_edit_of(order_id), order_id, EDITED_AT.isoformat(), json.dumps(changes)))
    who, money = "customer_name,email,language", "currency,total,outstanding,received"
    _write_csv(home / "orders.csv", f"order_id,name,{who},{money},pay_url,status_url", orders)
    _write_csv(home / "order_edits.csv", "edit_id,order_id,edited_at,changes", edits)


def _edit_of(order_id: str) -> str:
    return f"edit of {order_id}"


def _told() -> pd.DataFrame:
    """The history of the orders about which an event went before."""
    ids = [f"{case} {language}" for case, language in product(ORDERS, LANGUAGES) if ORDERS[case].was_told]
    known = {"stream": "order", "batch_id": "b", "attempt": 1, "outcome": "accepted", "occurrence": 1}
    told = [
        {"reminder_id": f"told {order_id}", "order_id": order_id, "first_edit_id": _edit_of(order_id)}
        | known
        | {"attempted_at": EDITED_AT, "contact_on": EDITED_AT.date()}
        for order_id in ids
    ]
    return pd.DataFrame(told, columns=[*SENT_HISTORY.column_names])


def renew_pictures(folder: Path) -> None:
    """Photographs every template over an event of its own."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        reminders, orders = invoice_events(home, {"several": CASES["several"]}), order_events(home)
        for language in LANGUAGES:
            for name, event, height in (
                ("invoice-reminder", reminders[f"several {language}"], 1005),
                ("order-balance", orders[f"first {language}"], 895),
            ):
                page = home / f"{name}.{language}.html"
                page.write_text(rendered(page.name, event), encoding="utf-8")
                _photograph(page, folder / f"{name}.{language}.png", height)


def _photograph(page: Path, picture: Path, height: int) -> None:
    options = ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size=680,{height}")
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page.as_uri()], check=True)
    subprocess.run(["pngquant", "--force", "--ext=.png", "64", picture], check=True)


if __name__ == "__main__":
    renew_pictures(Path(__file__).parents[1] / "docs" / "images")
