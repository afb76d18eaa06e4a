"""E-mails as Klaviyo would make them: events that the pipeline made, rendered by Django's template engine.

`python tests/klaviyo_mail.py` renews the pictures in docs/images; it needs Chromium and pngquant.
"""

import csv
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from babel.dates import format_date
from babel.numbers import format_currency
from django.conf import settings as django_settings
from django.template import Context, Engine, Library, Template
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.templates import LANGUAGES, template_files

Event = dict[str, Any]
"""The properties of an event, as Klaviyo hands them to a template."""

TODAY = date(2026, 11, 16)
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
klaviyo: {invoices_listed: LISTED}
sources:
  books:
    kind: files
    tables: {customers: customers.csv, invoices: invoices.csv, payments: payments.csv, promises: promises.csv}
"""
Owed = tuple[int, str, str]
"""An invoice: days from today to its due date, amount and currency."""

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
LISTED = 4


def invoice_events(home: Path, cases: Mapping[str, Sequence[Owed]] = CASES, listed: int = LISTED) -> dict[str, Event]:
    """What the daily job makes of a customer of each case and language, by the customer's id."""
    _write_books(home, cases)
    policy = POLICY.replace("LISTED", str(listed))
    clock = MovingClock(datetime(TODAY.year, TODAY.month, TODAY.day, 8, 30, tzinfo=UTC))
    with dg.DagsterInstance.ephemeral() as instance:
        pipeline = Pipeline(settings_at(home, policy, clock), instance)
        assert pipeline.daily().success
    bodies = pipeline.warehouse.fetch("select customer_id, body from dunning.reminders")
    return {customer_id: _properties(body) for customer_id, body in bodies.to_numpy()}


def _properties(body: str) -> Event:
    (entry,) = json.loads(body)["attributes"]["events"]["data"]
    properties: Event = entry["attributes"]["properties"]
    return properties


def _write_books(home: Path, cases: Mapping[str, Sequence[Owed]]) -> None:
    customers, invoices, payments, promises = [], [], [], []
    for number, (case, language) in enumerate((case, language) for case in cases for language in LANGUAGES):
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


def order_event(language: str, **properties: object) -> Event:
    """An event about an edited order in the contract's shape."""
    return {
        "reminder_id": "8f18493c-bedd-5dfa-8ce6-9178336bb211",
        "customer_id": "7001",
        "customer_name": "Ada Byron",
        "currency": "EUR",
        **_money("outstanding", 42_50, language),
        "payment_url": "https://shop.test/pay/1031?key=a&locale=en",
        **_date("sent_on", TODAY, language),
        "order_id": "gid://shopify/Order/1031",
        "order_name": "#1031",
        **_money("total", 131_50, language),
        **_money("paid", 89_00, language),
        "order_status_url": "https://shop.test/orders/1031?key=a&b=c",
        **_date("edited_at", TODAY, language),
        "edit_kind": "item_added",
        "occurrence": 1,
        "hours_since_edit": 0,
        "changes": [
            {"title": "Linen apron, indigo", "quantity": 1, **_money("amount", 38_00, language)},
            {"title": "Shipping", "quantity": None, **_money("amount", 4_50, language)},
        ],
    } | properties


def _money(name: str, cents: int, language: str) -> Event:
    return {name: cents / 100, f"{name}_display": format_currency(cents / 100, "EUR", locale=language)}


def _date(name: str, day: date, language: str) -> Event:
    return {name: day.isoformat(), f"{name}_display": format_date(day, "long", locale=language)}


def renew_pictures(folder: Path) -> None:
    """Photographs the English templates, each over an event of its own."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        reminder = invoice_events(home, {"several": CASES["several"]})["several en"]
        for name, event, height in (("invoice-reminder", reminder, 975), ("order-balance", order_event("en"), 875)):
            page = home / f"{name}.html"
            page.write_text(rendered(f"{name}.en.html", event), encoding="utf-8")
            _photograph(page, folder / f"{name}.png", height)


def _photograph(page: Path, picture: Path, height: int) -> None:
    options = ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size=680,{height}")
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page.as_uri()], check=True)
    subprocess.run(["pngquant", "--force", "--ext=.png", "64", picture], check=True)


if __name__ == "__main__":
    renew_pictures(Path(__file__).parents[1] / "docs" / "images")
