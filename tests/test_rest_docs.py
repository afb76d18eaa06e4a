"""The examples of the pages about REST sources, run against stand-ins of what they describe."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from rest_apis import STRIPE_KEY, XERO_CLIENT, XERO_SECRET, Api, Asked, Reply, Stripe, Xero, serving
from support import MovingClock, settings_at
from test_docs import block_of, section

from dunning_pipeline.policy import TableRequest
from dunning_pipeline.presets.apis import as_rest
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CUSTOMERS, INVOICES

ENVIRONMENT = {
    "LEDGER_TOKEN": "t0ken",
    "CHARGEBEE_API_KEY": "live_key",
    "STRIPE_API_KEY": STRIPE_KEY,
    "XERO_CLIENT_ID": XERO_CLIENT,
    "XERO_CLIENT_SECRET": XERO_SECRET,
}
INVOICE = "invoice_id, customer_id, issued_on::text, due_on::text, currency, total_minor, outstanding_minor, status"


def pulled(settings: Settings) -> list[list[object]]:
    """The invoices after a pull of customers and invoices."""
    warehouse = Warehouse(settings.warehouse_path)
    for table in (CUSTOMERS, INVOICES):
        loaded = pull(settings, warehouse, table, "docs")[1]
        assert loaded.rejected == 0
    assert not warehouse.fetch("select * from source.customers where email is not null").empty
    found = warehouse.fetch(f"select {INVOICE} from source.invoices order by 1").to_numpy().tolist()
    return [[None if pd.isna(value) else value for value in row] for row in found]


def ledger(asked: Asked) -> Reply:
    assert asked.headers["Authorization"] == "Bearer t0ken"
    record = json.loads(block_of("docs/sources-rest.md", "json"))
    pages = {
        "/v2/clients": {"data": [{"id": "C1", "company": {"name": "Ada"}, "contact": {"email": "ada@shop.dev"}}]},
        "/v2/invoices": {"data": [record], "meta": {"next_cursor": "p2"}},
        "/v2/invoices p2": {"data": [{**record, "id": 2, "due": None}], "meta": {"next_cursor": None}},
    }
    return Reply(pages[" ".join(filter(None, [asked.path, asked.one("cursor")]))])


def test_the_example_of_a_rest_api_pulls_its_records(tmp_path: Path) -> None:
    with serving(Api(ledger)) as url:
        example = block_of("docs/sources-rest.md", "yaml", "kind: rest\n    url: ${LEDGER_URL")
        found = pulled(settings_at(tmp_path, example, MovingClock(), {**ENVIRONMENT, "LEDGER_URL": url}))
    assert found == [
        ["2", "C1", "2026-10-01", None, "EUR", 48000, 18000, "open"],
        ["900719925474099301", "C1", "2026-10-01", "2026-10-31", "EUR", 48000, 18000, "open"],
    ]


def chargebee(asked: Asked) -> Reply:
    assert asked.headers["Authorization"] == "Basic bGl2ZV9rZXk6"
    if asked.path == "/api/v2/customers":
        return Reply({"list": [{"customer": {"id": "C1", "company": "Ada", "email": "ada@shop.dev"}}]})
    first = {"id": "1", "customer_id": "C1", "date": 1790838000, "due_date": 1793487599, "currency_code": "EUR"}
    first |= {"total": 10000, "amount_due": 4000, "status": "payment_due", "updated_at": 1794000000}
    second = {**first, "id": "2", "status": "voided", "voided_at": 1793487599, "updated_at": 1794000500}
    if asked.one("updated_at[after]"):
        return Reply({"list": [{"invoice": {**first, "amount_due": 0, "status": "paid", "updated_at": 1794100000}}]})
    if asked.one("offset"):
        return Reply({"list": [{"invoice": second}]})
    return Reply({"list": [{"invoice": first}], "next_offset": '["1"]'})


def test_the_example_of_chargebee_pulls_what_changed(tmp_path: Path) -> None:
    api = Api(chargebee)
    minimal = (
        "organisation: {time_zone: Europe/Paris, base_currency: EUR}\n"
        "workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]\n"
    )
    with serving(api) as url:
        example = minimal + block_of("docs/sources-rest.md", "yaml", "chargebee:")
        example = example.replace("https://acme.chargebee.com", url)
        settings = settings_at(tmp_path, example, MovingClock(), ENVIRONMENT)
        day, due = "2026-10-01", "2026-10-31"
        assert pulled(settings) == [
            ["1", "C1", day, due, "EUR", 10000, 4000, "open"],
            ["2", "C1", day, due, "EUR", 10000, 4000, "void"],
        ]
        assert pulled(settings)[0] == ["1", "C1", day, due, "EUR", 10000, 0, "open"]
    assert api.asked[-1].one("updated_at[after]") == str(1794000500 - 3600)


def test_the_example_of_stripe_pulls_open_invoices(tmp_path: Path) -> None:
    api = Stripe()
    api.bill("in_1")
    with serving(api) as url:
        example = block_of("docs/sources-stripe.md", "yaml").replace("{kind: stripe", f"{{kind: stripe, url: '{url}'")
        found = pulled(settings_at(tmp_path, example, MovingClock(), ENVIRONMENT))
    assert found == [["in_1", "cus_1", "2026-10-01", "2026-10-31", "EUR", 10000, 10000, "open"]]


def test_the_example_of_xero_pulls_authorised_invoices(tmp_path: Path) -> None:
    api = Xero()
    id = api.bill(1)
    with serving(api) as url:
        addresses = f"{{kind: xero, url: '{url}', token_url: '{url}/connect/token'"
        example = block_of("docs/sources-xero.md", "yaml").replace("{kind: xero", addresses)
        ((invoice_id, *rest),) = pulled(settings_at(tmp_path, example, MovingClock(), ENVIRONMENT))
    assert invoice_id == id
    assert rest[1:] == ["2026-10-01", "2026-10-31", "EUR", 10000, 10000, "open"]


def test_every_setting_of_a_request_is_described() -> None:
    words = re.findall(r"\w+", section("docs/sources-rest.md", "## A table"))
    assert not [name for name in TableRequest.model_fields if name not in words]


@pytest.mark.parametrize("kind", ["stripe", "xero"])
def test_a_preset_is_settings_that_a_policy_could_spell_out(kind: str, tmp_path: Path) -> None:
    example = block_of(f"docs/sources-{kind}.md", "yaml")
    (source,) = settings_at(tmp_path, example, MovingClock()).policy.sources.values()
    rest = as_rest(source)
    assert rest.kind == "rest"
    assert type(rest).model_validate(rest.model_dump(by_alias=True)) == rest
