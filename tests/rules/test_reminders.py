"""The reminder (RULES 7): its id, and every property of its event for customers made by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import reference
from babel.dates import format_date
from babel.numbers import format_currency
from frames import (
    MONDAY,
    Derived,
    assigned,
    book,
    both_levels,
    day,
    derive,
    frames_of,
    invoice,
    payment,
    policy_of,
    rules_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from reference import Action, Contact, Customer, Ledger, Pause, Promise, Rules, Workflow
from support import SHARED

from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.klaviyo import BULK_HEAD, BULK_TAIL, MEDIA_TYPE, REVISION
from dunning_pipeline.resources.warehouse import declared_rows
from dunning_pipeline.rules.decisions import usable_identifiers
from dunning_pipeline.rules.events import NAMESPACE, reminder_ids
from dunning_pipeline.rules.owed import chaseable_invoices
from dunning_pipeline.rules.reminders import reminder_events
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo.account import ApiRequest
from dunning_pipeline.sandbox.klaviyo.reading import Query
from dunning_pipeline.tables import DECISIONS, OPEN_INVOICES, Table

AWKWARD_NAME = 'Zoë "Quay" \\ Söhne\n\t\x01\x7f 🦊 </b>{{ x }}'
PLANNED_AT = datetime(2021, 10, 11, 6, 30, 0, 123_456, tzinfo=UTC)
PAY_URLS = {"A": 'https://pay.quay.test/A?x="1"&y=\\', "B": "https://pay.quay.test/B"}

MONEY = ("carrying_invoice_total", "carrying_invoice_outstanding", "due", "overdue", "outstanding")
DATES = ("carrying_invoice_issued_on", "carrying_invoice_due_on", "previous_contact_on", "sent_on")
PROPERTIES = {
    *("reminder_id", "customer_id", "customer_name", "currency", "payment_url"),
    *("workflow", "action", "action_position", "action_count", "carrying_invoice_number", "days_since_due"),
    *("due_count", "overdue_count", "outstanding_count", "oldest_days_overdue", "broken_promise"),
    *("invoices", "invoices_omitted", "totals_by_currency"),
    *(f"{name}{twin}" for name in MONEY + DATES for twin in ("", "_display")),
}
LISTED_MONEY, LISTED_DATES = ("total", "outstanding"), ("issued_on", "due_on")
LISTED = {
    *("number", "currency", "days_overdue", "payment_url"),
    *(f"{name}{twin}" for name in LISTED_MONEY + LISTED_DATES for twin in ("", "_display")),
}

RULES = replace(
    rules_of(),
    workflows=(Workflow("standard", (Action("early", -5), Action("first", 1), Action("second", 8))),),
    identify_by=("email", "phone", "external_id"),
)
ZOE = Customer("c1", AWKWARD_NAME, email=" zoe@quay.test ", phone="01632 960001", external_id="C-1", language="de")
PLAIN = Customer("c2", email="plain@quay.test", language="xx")
ZOES_LEDGER = book(
    invoice("A", -40, 123_450, number="2021/001"),
    invoice("B", -3, 5_000, currency="USD"),
    invoice("C", 0, 9_999),
    invoice("D", 1, 100, number="2021/004"),
    invoice("E", 9, 33_333, due_on=None, issued_on=day(-2)),
    invoice("P", -80, 77_777),
    customers=[ZOE],
    payments=[payment("A", 92_597, 0), payment("D", 1, 0)],
    pauses=[Pause("z", "invoice", day(0), invoice_id="P")],
    promises=[Promise("s", "c1", day(-9), day(-5), "C")],
    contacts=[Contact("c1", day(-30), "A", "standard", "first", "an id")],
)


def events(
    ledger: Ledger,
    rules: Rules = RULES,
    *,
    language: str = "en",
    listed: int = 50,
    pay_urls: Mapping[str, str] = PAY_URLS,
) -> list[str]:
    """The bodies of the day's reminders."""
    made = events_made(ledger, rules, language=language, listed=listed, pay_urls=pay_urls)
    assert made["refusal"].isna().all()
    return made["body"].tolist()


def events_made(
    ledger: Ledger,
    rules: Rules = RULES,
    *,
    language: str = "en",
    listed: int = 50,
    pay_urls: Mapping[str, str] = PAY_URLS,
) -> pd.DataFrame:
    """The events of the day's reminders, made as the pipeline makes a batch: from stored tables."""
    policy = policy_of(rules)
    policy = policy.model_copy(
        update={
            "organisation": policy.organisation.model_copy(update={"language": language}),
            "klaviyo": policy.klaviyo.model_copy(update={"invoices_listed": listed}),
        }
    )
    frames = frames_of(ledger)
    return made_from(derive(frames, policy, MONDAY), frames.customers, policy, pay_urls)


def made_from(derived: Derived, customers: pd.DataFrame, policy: Policy, pay_urls: Mapping[str, str]) -> pd.DataFrame:
    decided = stored(DECISIONS, derived.decisions)
    remind = decided[decided["decision"] == "remind"]
    unpaid = stored(OPEN_INVOICES, derived.open_invoices).astype({"currency": derived.balances["currency"].dtype})
    listed = chaseable_invoices(unpaid, derived.balances)
    listed = listed[listed["customer_key"].isin(remind["customer_key"])]
    listed = listed.assign(pay_url=listed["invoice_id"].map(pay_urls).astype("str"))
    people = customers[["customer_key", "name", "language"]].join(usable_identifiers(customers, policy))
    made = reminder_events(remind, listed, people, policy, MONDAY, PLANNED_AT)
    assert made.index.equals(remind.index)
    return made


def stored(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as it comes back from the warehouse, where whole numbers with empty values stay whole."""
    rows = declared_rows(table, frame.assign(as_of=pd.Timestamp(MONDAY), run_id="run"))
    with_empty = any(column.null_count for column in rows.columns if column.type == pa.int64())
    return rows.to_pandas(date_as_object=False, types_mapper={pa.int64(): pd.Int64Dtype()}.get if with_empty else None)


def attributes(body: str) -> dict[str, Any]:
    (event,) = json.loads(body, parse_float=Decimal)["attributes"]["events"]["data"]
    return event["attributes"]


def properties(body: str) -> dict[str, Any]:
    return attributes(body)["properties"]


@cache
def zoe_s() -> str:
    (body,) = events(ZOES_LEDGER)
    return body


@cache
def plain_s() -> str:
    (body,) = events(book(invoice(customer_id="c2"), customers=[PLAIN]), pay_urls={})
    return body


def amount(minor: int, currency: str = "EUR", digits: int = 2, language: str = "de") -> dict[str, Any]:
    value = Decimal(minor).scaleb(-digits)
    return {"": value, "_display": format_currency(value, currency, locale=language)}


def spread(**twins: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}{suffix}": value for name, twin in twins.items() for suffix, value in twin.items()}


def dated(offset: int, language: str = "de") -> dict[str, Any]:
    return {"": day(offset).isoformat(), "_display": format_date(day(offset), "long", locale=language)}


def test_a_body_says_whom_it_concerns_and_which_event_it_is():
    entry = json.loads(zoe_s(), parse_float=Decimal)
    event = attributes(zoe_s())
    assert entry["type"] == "event-bulk-create"
    assert entry["attributes"]["profile"] == {
        "data": {"type": "profile", "attributes": {"email": "zoe@quay.test", "external_id": "C-1"}}
    }
    assert {name: event[name] for name in event if name != "properties"} == {
        "time": "2021-10-11T06:30:00+00:00",
        "value": Decimal("308.53") + Decimal("99.99") + Decimal("0.99") + Decimal("333.33"),
        "value_currency": "EUR",
        "unique_id": reference.reminder_id("c1", "standard", "A", "second"),
        "metric": {"data": {"type": "metric", "attributes": {"name": "Invoice Reminder"}}},
    }


def test_an_event_has_every_property_of_the_contract():
    found = properties(zoe_s())
    assert set(found) >= PROPERTIES
    assert all(set(item) >= LISTED for item in found["invoices"])
    assert {"currency", "due", "overdue", "outstanding"} <= set(found["totals_by_currency"][0])


def test_an_event_tells_customer_and_action():
    found = properties(zoe_s())
    assert {name: found[name] for name in ("customer_id", "customer_name", "workflow", "action")} == {
        "customer_id": "c1",
        "customer_name": AWKWARD_NAME,
        "workflow": "standard",
        "action": "second",
    }
    assert (found["action_position"], found["action_count"]) == (3, 3)
    assert found["reminder_id"] == attributes(zoe_s())["unique_id"]
    assert found["broken_promise"] is True


def test_an_event_tells_the_carrying_invoice():
    found = properties(zoe_s())
    expected = {
        "currency": "EUR",
        "carrying_invoice_number": "2021/001",
        "payment_url": PAY_URLS["A"],
        "days_since_due": 41,
        "oldest_days_overdue": 41,
        **spread(
            carrying_invoice_total=amount(123_450),
            carrying_invoice_outstanding=amount(30_853),
            carrying_invoice_issued_on=dated(-70),
            carrying_invoice_due_on=dated(-40),
            previous_contact_on=dated(-30),
            sent_on=dated(1),
        ),
    }
    assert {name: found[name] for name in expected} == expected


def test_totals_are_in_the_carrying_currency_and_counts_over_all_listed_invoices():
    found = properties(zoe_s())
    # Overdue: A, B (USD), C and E; due: D, on its due date.
    expected = {
        "due_count": 1,
        "overdue_count": 4,
        "outstanding_count": 5,
        **spread(due=amount(99), overdue=amount(30_853 + 9_999 + 33_333), outstanding=amount(30_853 + 43_431)),
    }
    assert {name: found[name] for name in expected} == expected


def test_totals_are_told_per_currency():
    by_currency = {total["currency"]: total for total in properties(zoe_s())["totals_by_currency"]}
    euros, dollars = by_currency.pop("EUR"), by_currency.pop("USD")
    assert by_currency == {}
    expected = spread(due=amount(0, "USD"), overdue=amount(5_000, "USD"), outstanding=amount(5_000, "USD"))
    assert expected.items() <= dollars.items()
    assert (dollars["due_count"], dollars["overdue_count"], dollars["outstanding_count"]) == (0, 1, 1)
    assert spread(due=amount(99), outstanding=amount(74_284)).items() <= euros.items()
    assert (euros["due_count"], euros["overdue_count"], euros["outstanding_count"]) == (1, 3, 4)


def test_all_unpaid_unpaused_invoices_are_listed_oldest_first():
    items = properties(zoe_s())["invoices"]
    assert [item["number"] for item in items] == ["2021/001", "B", "E", "C", "2021/004"]
    assert [item["days_overdue"] for item in items] == [41, 4, 3, 1, 0]
    assert items[1] == {
        "number": "B",
        "currency": "USD",
        "days_overdue": 4,
        "payment_url": PAY_URLS["B"],
        **spread(
            issued_on=dated(-33),
            due_on=dated(-3),
            total=amount(5_000, "USD"),
            outstanding=amount(5_000, "USD"),
        ),
    }
    assert items[2]["due_on"] == items[2]["issued_on"] == day(-2).isoformat()
    assert properties(zoe_s())["invoices_omitted"] == 0


def test_a_reminder_about_one_invoice_lists_that_one_and_the_customer_s_lists_the_others():
    ledger = book(
        invoice("A", -9, customer_id="c2"),
        invoice("B", 0, 2_000, customer_id="c2"),
        invoice("C", 5, 300, customer_id="c2"),
        customers=[PLAIN],
        assignments=[assigned("B", customer_id="c2")],
    )
    found = [properties(body) for body in events(ledger, both_levels(1))]
    listed = {item["workflow"]: [row["number"] for row in item["invoices"]] for item in found}
    assert listed == {"standard": ["A", "C"], "alone": ["B"]}
    together, alone = found
    assert together.items() >= spread(outstanding=amount(10_300, language="en"), due=amount(300, language="en")).items()
    assert (together["outstanding_count"], together["carrying_invoice_number"]) == (2, "A")
    assert alone.items() >= spread(outstanding=amount(2_000, language="en"), due=amount(0, language="en")).items()
    assert (alone["outstanding_count"], alone["overdue_count"], alone["carrying_invoice_number"]) == (1, 1, "B")


def test_a_broken_promise_about_a_listed_invoice_is_told():
    broken = Promise("s", "c2", day(-5), day(-1), "B")
    later = Promise("t", "c2", day(0), day(1), "B", pauses=False)
    ledger = book(invoice("A", customer_id="c2"), invoice("B", 3, customer_id="c2"), customers=[PLAIN])
    bodies_of = [events(replace(ledger, promises=promises)) for promises in ([], [broken], [broken, later])]
    assert [properties(body)["broken_promise"] for (body,) in bodies_of] == [False, True, False]


@pytest.mark.parametrize("listed", [1, 2, 4, 5, 6])
def test_a_capped_list_tells_how_many_are_left_out_and_totals_are_over_all(listed):
    (body,) = events(ZOES_LEDGER, listed=listed)
    found = properties(body)
    numbers = ["2021/001", "B", "E", "C", "2021/004"][:listed]
    assert [item["number"] for item in found["invoices"]] == numbers
    assert found["invoices_omitted"] == max(5 - listed, 0)
    whole = properties(zoe_s())
    assert {name: found[name] for name in found if not name.startswith("invoices")} == {
        name: whole[name] for name in whole if not name.startswith("invoices")
    }


def test_what_is_empty_is_null_and_unknown_languages_fall_back():
    found = properties(plain_s())
    empty = {name for name, value in found.items() if value is None}
    assert empty == {"customer_name", "payment_url", "previous_contact_on", "previous_contact_on_display"}
    assert found["carrying_invoice_number"] == "A"
    assert found["invoices"][0]["payment_url"] is None
    assert found["sent_on_display"] == "October 11, 2021"
    assert found["broken_promise"] is False
    assert json.loads(plain_s())["attributes"]["profile"]["data"]["attributes"] == {"email": "plain@quay.test"}


def test_the_organisation_s_language_is_the_fallback():
    (body,) = events(book(invoice(customer_id="c2"), customers=[PLAIN]), language="fr")
    assert properties(body)["sent_on_display"] == "11 octobre 2021"
    assert properties(body)["outstanding_display"] == format_currency(100, "EUR", locale="fr")


def test_cents_are_exact_in_the_text_of_the_body():
    assert '"carrying_invoice_outstanding":308.53,' in zoe_s()
    assert '"value":742.84,' in zoe_s()
    assert '"carrying_invoice_total":1234.50,' in zoe_s()


@pytest.mark.parametrize(
    ("currency", "minor", "text", "display"),
    [
        ("JPY", 30_853, "30853", "¥30,853"),
        ("KWD", 30_853, "30.853", "KWD30.853"),
        ("EUR", 30_853, "308.53", "€308.53"),
        ("EUR", 10, "0.10", "€0.10"),
        ("EUR", 900_719_925_474_099_301, "9007199254740993.01", "€9,007,199,254,740,993.01"),
    ],
)
def test_amounts_have_the_digits_of_their_currency(currency, minor, text, display):
    (body,) = events(book(invoice(total=minor, currency=currency, customer_id="c2"), customers=[PLAIN]))
    assert f'"value":{text},"value_currency":"{currency}"' in body
    assert f'"outstanding":{text},"outstanding_display":"{display}"' in body
    assert f'"carrying_invoice_total":{text},' in body


def test_a_reminder_before_the_due_date_counts_days_down():
    (body,) = events(book(invoice(due=4, customer_id="c2"), customers=[PLAIN]))
    found = properties(body)
    assert (found["action"], found["days_since_due"], found["oldest_days_overdue"]) == ("early", -3, 0)
    assert (found["overdue_count"], found["due_count"], found["overdue"]) == (0, 1, 0)
    assert found["due"] == found["outstanding"] == Decimal("100.00")


def test_an_invoice_due_today_is_due_and_one_due_yesterday_overdue():
    ledger = book(invoice("A", 0, 100, customer_id="c2"), invoice("B", 1, 200, customer_id="c2"), customers=[PLAIN])
    (body,) = events(ledger)
    found = properties(body)
    assert (found["overdue"], found["due"]) == (Decimal("1.00"), Decimal("2.00"))


def test_an_invoice_in_a_currency_that_is_not_chaseable_is_not_listed():
    (body,) = events(ZOES_LEDGER, replace(RULES, minimum_amount={"USD": 5_001}))
    found = properties(body)
    assert found["outstanding_count"] == 4
    assert [total["currency"] for total in found["totals_by_currency"]] == ["EUR"]


LANGUAGES = ("de", "fr_CA", "ja", None, "xx", "pt-BR", "ar")
MANY = Ledger(
    customers=[
        replace(ZOE, customer_id=f"c{n}", email=f"zoe.{n}@quay.test", external_id=None, language=language)
        for n, language in enumerate(LANGUAGES)
    ],
    invoices=[
        invoice("unreachable", customer_id="a"),
        *(
            invoice(f"{n}-{k}", -k, 1_000 * (n + 1) + k, customer_id=f"c{n}", currency=("EUR", "JPY", "KWD")[k % 3])
            for n in range(len(LANGUAGES))
            for k in range(n + 1)
        ),
        invoice("vanished", customer_id="b", missing_since=day(0)),
    ],
)


@cache
def many() -> tuple[str, ...]:
    """The bodies of several customers, of whom one more owes but cannot be reached."""
    return tuple(events(MANY, listed=3))


def test_each_customer_gets_its_own_invoices_whatever_the_others_have():
    for number, body in enumerate(many()):
        (alone,) = events(
            Ledger([MANY.customers[number]], [row for row in MANY.invoices if row.customer_id == f"c{number}"]),
            listed=3,
        )
        assert alone == body


def test_no_reminders_make_no_bodies():
    assert events(book(invoice(), pauses=[Pause("z", "organisation", day(0))])) == []


def bulk(bodies: list[str]) -> bytes:
    return (BULK_HEAD + ",".join(bodies) + BULK_TAIL).encode()


def all_bodies() -> list[str]:
    return [zoe_s(), plain_s(), *many()]


def test_bodies_are_valid_by_the_schema_of_klaviyo():
    file = SHARED / "reference/klaviyo-events.schema.json"
    if not file.exists():
        pytest.skip(f"no schema at {file}: bodies are not checked against it")
    definitions = json.loads(file.read_text(encoding="utf-8"))
    for body in all_bodies():
        check(definitions, "EventsBulkCreateJobStrict", json.loads(bulk([body])))
        check(definitions, "EventCreateQueryV2Strict", single(json.loads(body)))
    check(definitions, "EventsBulkCreateJobStrict", json.loads(bulk(all_bodies())))
    with pytest.raises(AssertionError):
        check(definitions, "EventsBulkCreateJobStrict", json.loads(bulk(["{}"])))


def check(definitions: dict[str, Any], name: str, document: Any) -> None:
    assert name in definitions["$defs"]
    schema = {"$ref": f"#/$defs/{name}", "$defs": definitions["$defs"]}
    problems = [error.message for error in Draft202012Validator(schema).iter_errors(document)]
    assert problems == []


def single(entry: dict[str, Any]) -> dict[str, Any]:
    """A bulk entry as the body that creates its event alone."""
    (event,) = entry["attributes"]["events"]["data"]
    return {"data": {**event, "attributes": {**event["attributes"], "profile": entry["attributes"]["profile"]}}}


def post(body: bytes) -> tuple[KlaviyoAccount, int, bytes]:
    account = KlaviyoAccount(clock=lambda: PLANNED_AT, rates=None)
    headers = {"authorization": f"Klaviyo-API-Key {DEFAULT_KEY}", "revision": REVISION, "content-type": MEDIA_TYPE}
    request = ApiRequest("POST", "/api/event-bulk-create-jobs", Query("", ()), headers=headers, body=body)
    answer = account.handle(request)
    return account, answer.status, answer.body


def test_bodies_are_accepted_by_the_sandbox_together():
    _, status, answer = post(bulk(all_bodies()))
    assert (status, answer) == (202, b"")


@pytest.mark.parametrize("stream", ["invoice", "order"])
def test_ids_are_those_of_uuid5(stream):
    identity = pd.DataFrame({"a": ["c1", "é🦊", "x"], "b": ["standard"] * 3, "c": ["A", "", "\\"]}, dtype="str")
    expected = [
        str(uuid.uuid5(NAMESPACE, "\x1f".join([stream, *row]))) for row in identity.itertuples(index=False, name=None)
    ]
    assert reminder_ids(stream, identity).tolist() == expected


parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), max_size=20)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(parts, parts, parts, parts), min_size=1, max_size=5))
def test_ids_agree_with_the_reference(rows):
    identity = pd.DataFrame(rows, columns=["customer", "workflow", "invoice", "action"], dtype="str")
    found = reminder_ids("invoice", identity.assign(occurrence="1")).tolist()
    assert found == [reference.reminder_id(*row) for row in rows]


def test_ids_keep_the_rows_of_the_question_and_none_make_none():
    identity = pd.DataFrame({"a": ["x", "y"], "b": ["1", "1"]}, index=[7, 3], dtype="str")
    assert reminder_ids("invoice", identity).index.tolist() == [7, 3]
    assert reminder_ids("invoice", identity.iloc[:0]).empty
