"""Which invoice carries (RULES 2): the oldest, then the highest total, then the lowest id; afresh every day.

And why it is another one than the day before (RULES 2.3).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from frames import (
    Derived,
    assigned,
    book,
    both_levels,
    carrying_rows,
    day,
    decision,
    invoice,
    of_day,
    payment,
    rules_of,
    run,
    run_days,
    sent,
)
from reference import Contact, Invoice, Ledger, Pause, Promise, Rules

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
    assert {row.customer_id: row.invoice_id for row in carrying_rows(derived)} == {
        f"c{n}": f"{n}-0" for n in range(1, 5)
    }


def test_without_candidates_nothing_carries():
    derived = run(book(invoice(status="draft")), rules_of(1))
    assert derived.carrying.empty
    assert carrying_invoices(derived.open_invoices, {}, lambda keys: keys).empty


A_THEN_B = (invoice("A", 0), invoice("B", 5))
UNCHANGED = ("A", None, None)
Change = tuple[str, str | None, str | None]


def changes(ledger: Ledger, rules: Rules, *offsets: int) -> list[Change | None]:
    """On some days: the customer's carrying invoice, why it is another one than the day before, and which one was."""
    derived = run_days(ledger, rules, day(min(offsets)), day(max(offsets)))
    return [customer_level(derived, day(offset)) for offset in offsets]


def customer_level(derived: Derived, as_of: date) -> Change | None:
    rows = [row for row in carrying_rows(of_day(derived, as_of)) if row.level == "customer"]
    assert len(rows) <= 1
    return next(((row.invoice_id, row.carrying_change, row.previous_invoice_id) for row in rows), None)


def change(ledger: Ledger, rules: Rules | None = None) -> Change | None:
    """What changed on day 10, decided alone."""
    return customer_level(run(ledger, rules or rules_of(1), day(10)), day(10))


@pytest.mark.parametrize("reason", ["voided_on", "written_off_on", "disputed_on", "missing_since"])
def test_an_invoice_that_is_out_of_the_question_is_excluded_from_that_day_on(reason):
    ledger = book(invoice("A", 0, **{reason: day(10)}), invoice("B", 5))
    assert changes(ledger, rules_of(1), 9, 10, 11) == [UNCHANGED, ("B", "excluded", "A"), ("B", None, None)]


@pytest.mark.parametrize(("paid", "paid_off"), [(9_994, False), (9_995, True), (10_000, True), (10_500, True)])
def test_paid_is_down_to_the_tolerance(paid, paid_off):
    ledger = book(*A_THEN_B, payments=[payment("A", paid, 10)])
    assert change(ledger, rules_of(1, tolerance={"EUR": 5})) == (("B", "paid", "A") if paid_off else UNCHANGED)


def test_a_credit_note_pays_and_a_payment_in_parts_counts_when_the_last_one_came():
    noted = book(*A_THEN_B, payments=[payment("A", 10_000, 10, kind="credit_note")])
    in_parts = book(*A_THEN_B, payments=[payment("A", 4_000, 2), payment("A", 6_000, 10)])
    assert change(noted) == change(in_parts) == ("B", "paid", "A")


def test_paid_is_asked_before_excluded_and_before_what_the_new_invoice_is():
    payments = [payment("A", 10_000, 10)]
    voided = book(invoice("A", voided_on=day(10)), invoice("B", 5), payments=payments)
    older = book(invoice("A"), invoice("B", -5, recorded_on=day(10)), payments=payments)
    to_its_own = book(*A_THEN_B, payments=payments, assignments=[assigned("A", start=10)])
    assert change(voided) == change(older) == change(to_its_own, both_levels(1)) == ("B", "paid", "A")


def test_an_invoice_paid_long_after_it_was_voided_was_excluded():
    ledger = book(invoice("A", voided_on=day(10)), invoice("B", 5), payments=[payment("A", 10_000, 11)])
    assert changes(ledger, rules_of(1), 10, 11) == [("B", "excluded", "A"), ("B", None, None)]


def test_a_payment_recorded_late_changes_the_carrying_invoice_on_the_day_it_was_recorded():
    ledger = book(*A_THEN_B, payments=[payment("A", 10_000, 7, recorded_on=day(10))])
    assert changes(ledger, rules_of(1), 9, 10, 11) == [UNCHANGED, ("B", "paid", "A"), ("B", None, None)]


def test_an_invoice_that_is_held_is_excluded():
    paused = book(*A_THEN_B, pauses=[Pause("z", "invoice", day(10), invoice_id="A")])
    promised = book(*A_THEN_B, promises=[Promise("s", "c1", day(10), day(12), "A")])
    assert change(paused) == change(promised) == ("B", "excluded", "A")


def test_an_invoice_whose_currency_is_not_worth_chasing_any_more_is_excluded():
    ledger = book(invoice("A", currency="USD"), invoice("B", 5), payments=[payment("A", 1, 10, currency="USD")])
    assert change(ledger, rules_of(1, minimum_amount={"USD": 10_000})) == ("B", "excluded", "A")


def test_an_invoice_that_came_under_a_workflow_of_its_own_is_excluded_and_carries_itself():
    ledger = book(*A_THEN_B, assignments=[assigned("A", start=10, assigned_until=day(12))])
    rules = both_levels(1)
    assert changes(ledger, rules, 9, 10, 11, 12) == [
        UNCHANGED,
        ("B", "excluded", "A"),
        ("B", None, None),
        ("A", "reopened", "B"),
    ]
    rows = carrying_rows(run(ledger, rules, day(10)))
    assert [(row.invoice_id, row.level, row.carrying_change, row.previous_invoice_id) for row in rows] == [
        ("A", "invoice", "first", None),
        ("B", "customer", "excluded", "A"),
    ]


def test_an_invoice_alone_that_moves_to_the_other_level_carries_there_for_the_first_time():
    ledger = book(invoice("A"), assignments=[assigned("A", start=10, assigned_until=day(12))])
    derived = run_days(ledger, both_levels(1), day(9), day(12))
    found = [
        [(row.level, row.carrying_change, row.previous_invoice_id) for row in carrying_rows(of_day(derived, day(n)))]
        for n in (9, 10, 11, 12)
    ]
    assert found == [
        [("customer", None, None)],
        [("invoice", "first", None)],
        [("invoice", None, None)],
        [("customer", "first", None)],
    ]


def test_an_older_invoice_is_one_recorded_on_the_day():
    ledger = book(invoice("B", 5), invoice("A", 0, recorded_on=day(10)))
    assert changes(ledger, rules_of(1), 9, 10, 11) == [("B", None, None), ("A", "older_invoice", "B"), UNCHANGED]
    issued_today = book(invoice("B"), invoice("A", due_on=day(-1), issued_on=day(10)))
    assert change(issued_today) == ("A", "older_invoice", "B")


def test_an_invoice_that_wins_a_tie_on_the_day_it_was_recorded_counts_as_older():
    larger = book(invoice("A"), invoice("B", total=20_000, recorded_on=day(10)))
    lower_id = book(invoice("B"), invoice("A", recorded_on=day(10)))
    loses = book(invoice("A"), invoice("B", recorded_on=day(10)))
    assert change(larger) == ("B", "older_invoice", "A")
    assert change(lower_id) == ("A", "older_invoice", "B")
    assert change(loses) == UNCHANGED


@pytest.mark.parametrize(
    "ledger",
    [
        book(invoice("A", disputed_on=day(5), dispute_resolved_on=day(10)), invoice("B", 5)),
        book(*A_THEN_B, payments=[payment("A", 10_000, 1), payment("A", -10_000, 10, kind="chargeback")]),
        book(*A_THEN_B, payments=[payment("A", 10_000, 1), payment("A", -1, 10, kind="refund")]),
        book(*A_THEN_B, pauses=[Pause("z", "invoice", day(1), day(10), invoice_id="A")]),
        book(*A_THEN_B, promises=[Promise("s", "c1", day(1), day(9), "A")]),
        book(*A_THEN_B, promises=[Promise("s", "c1", day(1), day(30), "A", withdrawn_on=day(10))]),
        # Recorded before it could carry.
        book(invoice("A", recorded_on=day(9), disputed_on=day(9), dispute_resolved_on=day(10)), invoice("B", 5)),
    ],
)
def test_an_invoice_that_is_back_was_reopened(ledger):
    assert changes(ledger, rules_of(1), 9, 10) == [("B", None, None), ("A", "reopened", "B")]


def test_the_carrying_invoice_is_first_each_time_that_none_carried_the_day_before():
    ledger = book(invoice("A", recorded_on=day(2), disputed_on=day(5), dispute_resolved_on=day(7)))
    first = ("A", "first", None)
    found = changes(ledger, rules_of(1), *range(1, 9))
    assert found == [None, first, UNCHANGED, UNCHANGED, None, None, first, UNCHANGED]


def test_what_was_paid_while_nothing_carried_is_not_told_later():
    ledger = book(
        *A_THEN_B,
        payments=[payment("A", 10_000, 9)],
        pauses=[Pause("z", "customer", day(8), day(10), customer_id="c1")],
    )
    assert change(ledger) == ("B", "first", None)


def test_every_invoice_of_its_own_carries_for_the_first_time_by_itself():
    ledger = book(
        invoice("A"),
        invoice("B", recorded_on=day(3)),
        assignments=[assigned("A"), assigned("B")],
        pauses=[Pause("z", "invoice", day(4), day(6), invoice_id="A")],
    )
    derived = run_days(ledger, both_levels(1), day(2), day(6))
    found = [
        {row.invoice_id: (row.level, row.carrying_change) for row in carrying_rows(of_day(derived, day(n)))}
        for n in (2, 3, 4, 6)
    ]
    assert found == [
        {"A": ("invoice", None)},
        {"A": ("invoice", None), "B": ("invoice", "first")},
        {"B": ("invoice", None)},
        {"A": ("invoice", "first"), "B": ("invoice", None)},
    ]


def test_the_change_of_a_customer_does_not_look_at_other_customers():
    ledger = book(*A_THEN_B, payments=[payment("A", 10_000, 10)])
    others = [replace(row, customer_id="c2", invoice_id=f"{row.invoice_id}2") for row in ledger.invoices]
    ledger.invoices += others
    rows = carrying_rows(run(ledger, rules_of(1), day(10)))
    assert {row.customer_id: (row.invoice_id, row.carrying_change) for row in rows} == {
        "c1": ("B", "paid"),
        "c2": ("A2", None),
    }


def test_the_first_day_of_a_window_looks_at_the_day_before_it():
    ledger = book(*A_THEN_B, payments=[payment("A", 10_000, 10)])
    derived = run_days(ledger, rules_of(1), day(10), day(11))
    assert customer_level(derived, day(10)) == ("B", "paid", "A")
