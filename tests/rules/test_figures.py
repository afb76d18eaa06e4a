"""The receivable figures of customers on many days (RULES 3.2), against the reference day by day."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import frames
import numpy as np
import reference
from frames import book, day, invoice, payment, policy_of, records_of, rules_of
from hypothesis import given, note, settings
from reference import Ledger, Rules
from test_against_reference import CENTRE, FEW, generated, knobs

from dunning_pipeline.rules.figures import FiguresOfDays
from dunning_pipeline.rules.smart_rules import FIGURES, Numbers
from dunning_pipeline.rules.standing import Window, standing

FIRST, LAST = CENTRE - timedelta(days=9), CENTRE + timedelta(days=9)


def figures_of(ledger: Ledger, rules: Rules, first: date, last: date) -> FiguresOfDays:
    policy, records = policy_of(rules), records_of(ledger)
    stood = standing(records, policy.receivables.tolerance_minor, Window.of(first, last))
    unpaid = stood.take(np.flatnonzero(stood.unpaid))
    return FiguresOfDays(records.invoices, unpaid, policy.organisation.rates)


def on(figures: FiguresOfDays, customer_key: int, as_of: date) -> dict[str, object]:
    """The figures of a customer in plain values; what is not known is UNKNOWN."""
    number = Window.of(as_of, as_of).first
    found = figures.on(np.array([customer_key]), np.array([number]))
    return {name: plain(found[name]) for name in FIGURES}


def plain(numbers: Numbers) -> object:
    if not numbers.known[0]:
        return reference.UNKNOWN
    return Fraction(int(numbers.numerators[0]), numbers.denominator)


@settings(FEW, max_examples=5)
@given(knobs)
def test_figures_are_those_of_each_day_alone(chosen):
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    figures = figures_of(case.ledger, case.rules, FIRST, LAST)
    customers = frames.frames_of(case.ledger).customers
    keys = dict(zip(customers["customer_id"], customers["customer_key"], strict=True))
    for as_of in (FIRST, CENTRE, CENTRE + timedelta(days=1), LAST):
        for account in reference._accounts(case.ledger, case.rules, as_of):
            facts = reference._customer_facts(account)
            expected = {name: facts[name] for name in FIGURES}
            assert on(figures, keys[account.customer.customer_id], as_of) == expected


def test_an_invoice_is_overdue_from_the_day_after_it_is_due():
    ledger = book(invoice(), payments=[payment("A", 4_000, 3), payment("A", 6_000, 5)])
    (key,) = records_of(ledger).customers["customer_key"]
    figures = figures_of(ledger, rules_of(1), day(-2), day(9))
    found = [on(figures, key, day(offset)) for offset in (0, 1, 3, 5)]
    assert [row["open_balance"] for row in found] == [100, 100, 60, 0]
    assert [row["overdue_balance"] for row in found] == [0, 100, 60, 0]
    assert [row["oldest_days_overdue"] for row in found] == [0, 1, 3, 0]
    assert [row["open_invoices"] for row in found] == [1, 1, 1, 0]


def test_money_is_exact_beyond_64_bits():
    rules = rules_of(1, exchange_rates={"USD": frames.Decimal("0.1234567891")})
    ledger = book(invoice(total=10**14, currency="USD"))
    (key,) = records_of(ledger).customers["customer_key"]
    balance = on(figures_of(ledger, rules, day(0), day(1)), key, day(0))["open_balance"]
    assert balance == Fraction(10**12) * Fraction("0.1234567891")
