"""Which invoice carries (RULES 2): the oldest, then the highest total, then the lowest id; afresh every day."""

from __future__ import annotations

from decimal import Decimal

import pytest
from frames import Derived, book, carrying_ids, day, decision, invoice, payment, rules_of, run, sent
from reference import Contact, Invoice, Pause

from dunning_pipeline.rules.carrying import carrying_invoices

THREE_INVOICES = (invoice("A", 0), invoice("B", 5), invoice("C", 9))
FIVE_STEPS = rules_of(1, 10, 20, 30, 40)
FOUR_SENT = [Contact("c1", day(n), "A", "standard", f"step_{k}") for k, n in enumerate((1, 10, 20, 30), start=1)]


def carrier(*invoices: Invoice, **tables: list) -> str | None:
    return decision(book(*invoices, **tables)).carrying_invoice_id


def test_example_3_paying_younger_invoices_changes_nothing():
    paid = [payment("B", 10_000, 32), payment("C", 10_000, 32)]
    ledger = book(*THREE_INVOICES, payments=paid, contacts=FOUR_SENT)
    assert sent(ledger, FIVE_STEPS, 31, 41) == [(40, "A", "step_5")]


def test_example_3_paying_the_carrying_invoice_starts_the_ladder_of_the_next():
    ledger = book(*THREE_INVOICES, payments=[payment("A", 10_000, 32)], contacts=FOUR_SENT)
    assert sent(ledger, FIVE_STEPS, 31, 41) == [(35, "B", "step_1"), (40, "B", "step_2")]


def test_example_5_the_higher_total_carries_even_if_little_of_it_is_open():
    assert carrier(invoice("A"), invoice("B", total=25_000), payments=[payment("B", 23_000, -1)]) == "B"


def test_example_6_an_older_invoice_recorded_later_takes_over_spaced_by_the_delay():
    ledger = book(
        invoice("B"),
        invoice("A", -10, recorded_on=day(10)),
        contacts=[Contact("c1", day(1), "B", "standard", "step_1")],
    )
    assert sent(ledger, rules_of(1, 8, 15), 7, 18) == [(8, "B", "step_2"), (13, "A", "step_1"), (18, "A", "step_2")]


def test_the_invoice_due_a_day_earlier_carries_whatever_its_total():
    assert carrier(invoice("A", 0, 90_000), invoice("B", -1, 100)) == "B"


def test_equal_due_dates_and_totals_leave_the_lowest_id_in_string_order():
    assert carrier(invoice("9"), invoice("B"), invoice("10"), invoice("a")) == "10"


def test_the_lowest_id_decides_only_between_the_highest_totals():
    assert carrier(invoice("1", total=10_000), invoice("2", total=10_001), invoice("3", total=10_001)) == "2"


def test_without_a_due_date_the_issue_date_stands_in():
    row = decision(book(invoice("A", 0), invoice("B", due_on=None, issued_on=day(-1))))
    assert (row.carrying_invoice_id, row.trigger_on) == ("B", day(0))


@pytest.mark.parametrize(
    ("gone", "takes_over"),
    [
        ({"voided_on": day(1)}, "B"),
        ({"voided_on": day(2)}, "A"),
        ({"written_off_on": day(1)}, "B"),
        ({"written_off_on": day(2)}, "A"),
        ({"disputed_on": day(1)}, "B"),
        ({"disputed_on": day(2)}, "A"),
        ({"disputed_on": day(-5), "dispute_resolved_on": day(1)}, "A"),
        ({"missing_since": day(1)}, "B"),
    ],
)
def test_the_next_oldest_takes_over_the_day_the_carrying_invoice_goes(gone, takes_over):
    assert carrier(invoice("A", -9, **gone), invoice("B")) == takes_over


def test_the_next_oldest_takes_over_the_day_the_carrying_invoice_is_paid_or_paused():
    invoices = invoice("A", -9), invoice("B")
    assert carrier(*invoices, payments=[payment("A", 10_000, 1)]) == "B"
    assert carrier(*invoices, payments=[payment("A", 10_000, 2)]) == "A"
    assert carrier(*invoices, pauses=[Pause("z", "invoice", day(1), invoice_id="A")]) == "B"


def test_an_invoice_in_a_currency_that_is_not_chaseable_cannot_carry():
    ledger = book(invoice("A", -20, 999), invoice("B", currency="USD"))
    assert decision(ledger, rules_of(1, minimum_amount={"EUR": 1_000})).carrying_invoice_id == "B"
    assert decision(ledger, rules_of(1, minimum_amount={"EUR": 999})).carrying_invoice_id == "A"


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"JPY": Decimal("0.006"), "USD": Decimal("0.9")}, "eur"),
        ({"JPY": Decimal("0.006"), "USD": Decimal("1.2")}, "usd"),
        ({"JPY": Decimal("0.021"), "USD": Decimal("0.9")}, "jpy"),
        ({"USD": Decimal("1.2")}, "jpy"),
        ({}, "jpy"),
    ],
)
def test_tied_totals_are_compared_in_base_currency_when_all_have_a_rate(rates, expected):
    tied = (
        invoice("eur", total=10_000),
        invoice("usd", total=10_000, currency="USD"),
        invoice("jpy", total=5_000, currency="JPY"),
    )
    assert decision(book(*tied), rules_of(1, exchange_rates=rates)).carrying_invoice_id == expected


def test_a_missing_rate_of_a_younger_invoice_does_not_matter():
    ledger = book(
        invoice("eur"), invoice("usd", total=10_100, currency="USD"), invoice("gbp", 5, 10_000_000, currency="GBP")
    )
    assert decision(ledger, rules_of(1, exchange_rates={"USD": Decimal("0.9")})).carrying_invoice_id == "eur"


def test_totals_that_differ_by_less_than_a_float_can_tell_are_told_apart():
    big = 900_719_925_474_099_300
    tied = (
        invoice("1", total=big),
        invoice("2", total=big + 1),
        invoice("3", total=big, currency="USD"),
    )
    assert decision(book(*tied), rules_of(1, exchange_rates={"USD": Decimal(1)})).carrying_invoice_id == "2"
    assert decision(book(*tied), rules_of(1)).carrying_invoice_id == "2"


def test_equal_amounts_in_different_currencies_leave_the_lowest_id():
    tied = invoice("B"), invoice("A", total=100, currency="JPY")
    assert carrier(*tied) == "A"
    assert carrier(invoice("A"), invoice("B", total=100_000, currency="KWD")) == "A"


def test_every_customer_has_one_carrying_invoice_and_the_others_do_not_matter():
    invoices = [invoice(f"{n}-{k}", k % 3, customer_id=f"c{n}", total=100 * n) for n in range(5) for k in range(4)]
    derived: Derived = run(book(*invoices), rules_of(1))
    assert {customer: row[0] for customer, row in carrying_ids(derived).items()} == {
        f"c{n}": f"{n}-0" for n in range(1, 5)
    }


def test_without_candidates_nothing_carries():
    derived = run(book(invoice(status="draft")), rules_of(1))
    assert derived.carrying.empty
    assert carrying_invoices(derived.open_invoices, {}).empty
