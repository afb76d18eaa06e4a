"""E-mails as Klaviyo would make them: events that the pipeline made, rendered by Django's template engine.

`python tests/klaviyo_mail.py` renews the pictures in docs/images; it needs Chromium and pngquant.
"""

import csv
import json
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
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.policy import parse_policy
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.order_events import CHANGES_LISTED, order_events
from dunning_pipeline.templates import LANGUAGES, template_files

Event = dict[str, Any]
"""The properties of an event, as Klaviyo hands them to a template."""

NOW = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
TODAY = NOW.date()
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
Change = tuple[str, int | None, int | None]
"""What an edit changed: title, quantity and cents."""

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


@dataclass(frozen=True)
class Order:
    """An edited order; `changes` are title, quantity and cents."""

    occurrence: int = 1
    customer_name: str | None = "Ada Byron"
    name: str = "#1031"
    pay_url: str | None = "https://shop.test/pay/1031?key=a&locale=en"
    status_url: str | None = "https://shop.test/orders/1031?key=a&b=c"
    changes: Sequence[Change] = (("Linen apron, indigo", 1, 38_00), ("Shipping", None, 4_50))


ORDERS: Mapping[str, Order] = {
    "first": Order(),
    "again": Order(occurrence=2),
    "not payable": Order(pay_url=None),
    "without page": Order(status_url=None),
    "bare": Order(customer_name=None, pay_url=None, status_url=None, changes=()),
    "awkward": Order(customer_name=AWKWARD, name="#1031<&>", changes=[("Tea <&> cake", -2, None)]),
    "one left out": Order(changes=[("Scone", 1, 2_50)] * (CHANGES_LISTED + 1)),
    "many left out": Order(changes=[("Scone", 1, 2_50)] * (CHANGES_LISTED + 7)),
}


@cache
def order_events_made() -> Mapping[tuple[str, str], Event]:
    """What the pipeline makes of each order for a customer of each language, by both."""
    made = list(product(ORDERS, LANGUAGES))
    orders = _order_rows([(ORDERS[case], language) for case, language in made])
    decisions = pd.DataFrame(
        {
            "order_key": orders["order_key"],
            "reminder_id": "reminder-" + orders["order_key"].astype("str"),
            "occurrence": [ORDERS[case].occurrence for case, _ in made],
        }
    )
    edits = pd.DataFrame(
        {
            "order_key": orders["order_key"],
            "edit_id": orders["order_key"].astype("str"),
            "edited_at": pd.Timestamp(NOW),
            "kind": "item_added",
        }
    )
    changes = _change_rows([ORDERS[case] for case, _ in made])
    events = order_events(decisions, orders, edits, changes, parse_policy(POLICY, "dunning.yaml"), NOW)
    assert events["refusal"].isna().all()
    return {which: _properties(body) for which, body in zip(made, events["body"], strict=True)}


def _order_rows(made: Sequence[tuple[Order, str]]) -> pd.DataFrame:
    """As `order_events` takes orders; an order's key is its place."""
    rows = [
        {
            "order_key": key,
            "order_id": f"gid://shopify/Order/{key}",
            "name": order.name,
            "customer_id": f"gid://shopify/Customer/{key}",
            "customer_name": order.customer_name,
            "language": language,
            "currency": "EUR",
            "total_minor": 131_50,
            "outstanding_minor": 42_50,
            "received_minor": 89_00,
            "pay_url": order.pay_url,
            "status_url": order.status_url,
            "email": f"ada-{key}@shop.test",
        }
        for key, (order, language) in enumerate(made)
    ]
    texts = dict.fromkeys(("customer_name", "pay_url", "status_url"), "str")
    return pd.DataFrame(rows).astype({"currency": CURRENCY} | texts)


def _change_rows(orders: Sequence[Order]) -> pd.DataFrame:
    """As `order_events` takes changes; the id of an order's only edit is its place."""
    rows = [
        (str(key), place, *change)
        for key, order in enumerate(orders)
        for place, change in enumerate(order.changes, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["edit_id", "place", "title", "quantity", "amount_minor"])
    return frame.astype({"edit_id": "str", "title": "str", "quantity": "Int64", "amount_minor": "Int64"})


def renew_pictures(folder: Path) -> None:
    """Photographs the English templates, each over an event of its own."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        reminder = invoice_events(home, {"several": CASES["several"]})["several en"]
        for name, event, height in (
            ("invoice-reminder", reminder, 975),
            ("order-balance", order_events_made()["first", "en"], 865),
        ):
            page = home / f"{name}.html"
            page.write_text(rendered(f"{name}.en.html", event), encoding="utf-8")
            _photograph(page, folder / f"{name}.png", height)


def _photograph(page: Path, picture: Path, height: int) -> None:
    options = ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size=680,{height}")
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page.as_uri()], check=True)
    subprocess.run(["pngquant", "--force", "--ext=.png", "64", picture], check=True)


if __name__ == "__main__":
    renew_pictures(Path(__file__).parents[1] / "docs" / "images")
