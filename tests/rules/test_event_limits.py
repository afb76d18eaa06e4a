"""Events stay within what Klaviyo takes, by invoices left off the list or else by a refusal; amounts are exact."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from frames import book, invoice
from reference import Ledger
from test_reminders import PLAIN, bulk, events, events_made, post, properties

from dunning_pipeline.resources.klaviyo import MOST_BYTES
from dunning_pipeline.rules import json_columns
from dunning_pipeline.rules.events import MOST_BODY_BYTES, MOST_TEXT_BYTES

CENTS = (*range(0, 30_000), 30_853, 99_999_999, 2**53 + 1)


@pytest.mark.parametrize(("digits", "name"), [(2, "EUR"), (0, "JPY"), (3, "KWD")])
def test_amounts_are_exact_to_the_last_minor_unit(digits: int, name: str) -> None:
    minor = np.array([*CENTS, *(-cents for cents in CENTS)], "int64")
    texts = json_columns.decimals(minor, np.full(len(minor), digits)).array().to_pylist()
    assert [Decimal(text) for text in texts] == [Decimal(amount).scaleb(-digits) for amount in minor.tolist()]
    assert all(len(text.partition(".")[2]) == digits for text in texts)


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3)])
def test_every_number_of_a_body_has_the_decimals_of_its_currency_and_no_more(currency: str, digits: int) -> None:
    amounts = [*range(1, 60), 30_853, 110_110, 1_000_001]
    customers = [replace(PLAIN, customer_id=f"c{n}", email=f"c{n}@quay.test") for n in amounts]
    invoices = [invoice(f"{n}-{k}", -k, n, customer_id=f"c{n}", currency=currency) for n in amounts for k in range(3)]
    bodies = events(Ledger(customers=customers, invoices=invoices))
    assert len(bodies) == len(amounts)
    for body in bodies:
        event = json.loads(body, parse_float=Decimal, parse_int=Decimal)["attributes"]["events"]["data"][0][
            "attributes"
        ]
        (owed,) = {item["total"] for item in event["properties"]["invoices"]}
        assert event["value"] == event["properties"]["outstanding"] == 3 * owed
        written = re.findall(r'"(?:value|due|overdue|outstanding|total|carrying_invoice_\w+?)":(-?[\d.]+)', body)
        assert len(written) > 10
        assert all(len(text.partition(".")[2]) == digits for text in written)


def test_a_body_fits_a_request_of_its_own() -> None:
    assert len(bulk([""])) + MOST_BODY_BYTES <= 5_000_000 <= MOST_BYTES


def long_ledger(count: int) -> tuple[Ledger, dict[str, str]]:
    """A customer with many invoices whose links are long: 90 KB each."""
    invoices = [invoice(f"A{n:03d}", -n, 1_000 + n, customer_id="c2") for n in range(count)]
    return book(*invoices, customers=[PLAIN]), {
        row.invoice_id: f"https://pay.quay.test/{'x' * 90_000}" for row in invoices
    }


def test_an_event_that_is_too_large_lists_the_oldest_invoices_that_fit_and_tells_how_many_more_there_are() -> None:
    ledger, links = long_ledger(80)
    (body,) = events(ledger, listed=100, pay_urls=links)
    found = properties(body)
    listed = [item["number"] for item in found["invoices"]]
    assert MOST_BODY_BYTES - 100_000 < len(body.encode()) <= MOST_BODY_BYTES
    assert listed == [f"A{n:03d}" for n in range(79, 79 - len(listed), -1)]
    assert found["invoices_omitted"] == 80 - len(listed) > 0
    assert found["outstanding_count"] == 80
    assert found["outstanding"] == Decimal(sum(1_000 + n for n in range(80))).scaleb(-2)
    _, status, _ = post(bulk([body]))
    assert status == 202


def test_what_one_customer_owes_shortens_no_other_list() -> None:
    ledger, links = long_ledger(80)
    other = replace(PLAIN, customer_id="c9", email="other@quay.test")
    small = invoice("small", 0, customer_id="c9")
    bodies = events(Ledger([*ledger.customers, other], [*ledger.invoices, small]), listed=100, pay_urls=links)
    (alone,) = events(book(small, customers=[other]))
    assert alone in bodies


def test_an_invoice_with_a_text_that_klaviyo_does_not_take_is_left_off_the_list() -> None:
    ledger = book(
        invoice("A", -5, customer_id="c2"),
        invoice("B", -3, customer_id="c2"),
        invoice("C", 0, customer_id="c2"),
        customers=[PLAIN],
    )
    (body,) = events(ledger, pay_urls={"B": "x" * (MOST_TEXT_BYTES + 1)})
    assert [item["number"] for item in properties(body)["invoices"]] == ["A", "C"]
    assert properties(body)["invoices_omitted"] == 1


@pytest.mark.parametrize(
    ("ledger", "links", "refusal"),
    [
        (
            book(invoice(customer_id="c2"), customers=[replace(PLAIN, name="é" * 50_001)]),
            {},
            "customer_name has 100002 bytes, Klaviyo takes 100000",
        ),
        (
            book(invoice(customer_id="c2"), customers=[PLAIN]),
            {"A": "x" * 100_001},
            "payment_url has 100001 bytes, Klaviyo takes 100000",
        ),
        (
            book(invoice(customer_id="c2", number="7" * 100_001), customers=[PLAIN]),
            {},
            "carrying_invoice_number has 100001 bytes, Klaviyo takes 100000",
        ),
    ],
)
def test_an_event_that_nothing_makes_fit_is_refused_with_a_reason(
    ledger: Ledger, links: dict[str, str], refusal: str
) -> None:
    made = events_made(ledger, pay_urls=links)
    assert made["refusal"].tolist() == [refusal]
    _, status, _ = post(bulk(made["body"].tolist()))
    # The sandbox takes 102,400 bytes for 100 KB, Klaviyo does not say.
    assert status in (202, 400)


def test_a_text_of_just_the_length_is_taken() -> None:
    (body,) = events(book(invoice(customer_id="c2"), customers=[replace(PLAIN, name="x" * MOST_TEXT_BYTES)]))
    assert len(properties(body)["customer_name"]) == MOST_TEXT_BYTES
