"""Many days decided in one call: each is what it is when decided alone, whatever happens within the window."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, timedelta

import frames
import pandas as pd
import pytest
from frames import Derived, assigned, book, both_levels, day, each_day, invoice, payment, rules_of, run, run_days
from hypothesis import given, note, settings
from reference import Contact, Ledger, Pause, Promise, Rules, SmartRule
from test_against_reference import FEW, MANY, generated, knobs

BALANCE = ["customer_key", "currency", "net_minor", "unpaid_minor", "net_positive", "chaseable", "unclear"]


def check_window(ledger: Ledger, rules: Rules, first: date, last: date) -> None:
    """Compares every day of a window with the day alone."""
    together = run_days(ledger, rules, first, last)
    assert all(getattr(together, table.name)["as_of"].between(*timestamps(first, last)).all() for table in TABLES)
    for as_of in (first + timedelta(days=n) for n in range((last - first).days + 1)):
        alone, within = run(ledger, rules, as_of), frames.of_day(together, as_of)
        assert frames.decisions(within) == frames.decisions(alone)
        assert frames.open_rows(within) == frames.open_rows(alone)
        assert frames.carrying_rows(within) == frames.carrying_rows(alone)
        assert balances(within) == balances(alone)


TABLES = fields(Derived)


def timestamps(*days: date) -> list[pd.Timestamp]:
    return [pd.Timestamp(one) for one in days]


def balances(derived: Derived) -> list[tuple[object, ...]]:
    return sorted(frames._plain(derived.balances.astype({"currency": "str"}), BALANCE))


def compare(chosen) -> None:
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    check_window(case.ledger, case.rules, case.days[0], case.days[-1])


@settings(FEW, max_examples=1)
@given(knobs)
def test_deciding_a_window_is_deciding_each_of_its_days_alone(chosen):
    compare(chosen)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(MANY, max_examples=60)
@given(knobs)
def test_deciding_a_window_is_deciding_each_of_its_days_alone_on_many_ledgers(chosen):
    compare(chosen)


def reasons(ledger: Ledger, rules: Rules, *offsets: int) -> list[str | None]:
    """The reason of each day of a window."""
    return [row and row.reason for row in each_day(ledger, rules, *offsets)]


def test_a_credit_counts_from_the_day_within_the_window_on_which_it_became_known():
    credit = payment(None, 10_000, 2, recorded_on=day(3))
    back = payment(None, -1, 5, kind="refund")
    found = reasons(book(invoice(), payments=[credit, back]), rules_of(1), 2, 3, 4, 5, 6)
    assert found == ["remind", *["net_balance_not_positive"] * 2, "remind", "remind"]


def test_credits_of_several_customers_and_currencies_stay_apart():
    ledger = book(
        invoice("A"),
        invoice("B", currency="USD"),
        invoice("C", customer_id="c2"),
        payments=[
            payment(None, 10_000, 2),
            payment(None, 10_000, 3, currency="USD"),
            payment(None, 9_999, 2, customer_id="c2"),
            payment(None, 1, 4, customer_id="c2"),
        ],
    )
    together = run_days(ledger, rules_of(1), day(1), day(4))
    nets = {(row.as_of.date(), row.customer_key, row.currency): row.net_minor for row in together.balances.itertuples()}
    one, two = sorted({key for _, key, _ in nets})
    assert [nets[day(n), one, "EUR"] for n in (1, 2, 3, 4)] == [10_000, 0, 0, 0]
    assert [nets[day(n), one, "USD"] for n in (1, 2, 3, 4)] == [10_000, 10_000, 0, 0]
    assert [nets[day(n), two, "EUR"] for n in (1, 2, 3, 4)] == [10_000, 1, 1, 0]


def test_an_invoice_vanishes_within_the_window():
    ledger = book(invoice("A", missing_since=day(3)), payments=[payment("A", 10_000, 5)])
    assert reasons(ledger, rules_of(1), 2, 3, 4, 5) == ["remind", "source_unclear", "source_unclear", None]
    beside = book(invoice("A", missing_since=day(3)), invoice("B", 1, voided_on=day(5)))
    assert reasons(beside, rules_of(1), 2, 3, 4, 5) == ["remind", "remind", "remind", "source_unclear"]


def test_an_invoice_is_recorded_paid_reopened_and_written_off_within_the_window():
    ledger = book(
        invoice(recorded_on=day(2), written_off_on=day(8)),
        payments=[payment("A", 10_000, 4), payment("A", -10_000, 6, kind="chargeback")],
    )
    found = reasons(ledger, rules_of(1), *range(1, 10))
    assert found == [None, "remind", "remind", None, None, "remind", "remind", None, None]


def test_contacts_of_the_window_count_from_their_own_day():
    reminder = Contact("c1", day(2), "A", "standard", "step_1", "an id")
    call = Contact("c1", day(9), kind="recorded", recorded_on=day(10))
    ledger = book(invoice(), contacts=[reminder, call])
    rows = each_day(ledger, rules_of(1, 3), *range(1, 12))
    # On its own day another reminder holds what would be due; from the next day on it has executed the first action.
    assert [(row.action, row.last_contact_on) for row in rows] == [
        ("step_1", None),
        ("step_1", day(2)),
        *[("step_2", day(2))] * 7,
        *[("step_2", day(9))] * 2,
    ]
    assert [row.reason for row in rows] == [
        "remind",
        *["minimum_contact_delay"] * 5,
        *["remind"] * 3,
        *["minimum_contact_delay"] * 2,
    ]


def test_pauses_promises_and_assignments_begin_and_end_within_the_window():
    ledger = book(
        invoice(),
        pauses=[Pause("z", "customer", day(2), day(3), customer_id="c1")],
        promises=[Promise("s", "c1", day(4), day(4), "A")],
        assignments=[assigned(None, "unassigned", 6, assigned_until=day(7)), assigned("A", start=8)],
    )
    rows = each_day(ledger, both_levels(1), *range(1, 9))
    assert [row.reason for row in rows] == [
        "remind",
        "customer_paused",
        "remind",
        "promise_to_pay",
        "remind",
        "no_workflow",
        "remind",
        "remind",
    ]
    assert [row.level for row in rows] == [*["customer"] * 7, "invoice"]


def test_the_organisation_is_paused_on_its_days_of_the_window_only():
    ledger = book(invoice(), pauses=[Pause("z", "organisation", day(2), day(4), recorded_on=day(3))])
    assert reasons(ledger, rules_of(1), 1, 2, 3, 4) == ["remind", "remind", "organisation_paused", "remind"]


def test_a_rule_is_asked_again_on_each_day_of_the_window():
    figures = (("oldest_days_overdue", "at_least", 3), ("open_balance", "at_least", 60))
    rules = both_levels(1, smart_rules=(SmartRule("late", "alone", figures, "invoice"),))
    ledger = book(invoice("A"), invoice("B", 1, 1_000), payments=[payment("A", 5_000, 5), payment("A", 1, 6)])
    together = run_days(ledger, rules, day(1), day(7))
    late = {row.as_of for row in frames.decisions(together) if row.level == "invoice"}
    assert late == {day(3), day(4), day(5)}


def test_a_day_after_which_nothing_is_owed_has_no_row():
    ledger = book(invoice(), payments=[payment("A", 10_000, 3)])
    assert reasons(ledger, rules_of(1), 2, 3, 4) == ["remind", None, None]
    assert frames.decisions(run_days(replace(ledger, invoices=[]), rules_of(1), day(1), day(9))) == []
