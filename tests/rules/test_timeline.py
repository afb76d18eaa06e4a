"""What stands on each day of a window, against what the rules give for that day alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import frames
import numpy as np
import reference
from frames import book, day, invoice, payment, policy_of, records_of, rules_of
from hypothesis import given, note, settings
from reference import Assignment, Ledger, Rules
from test_against_reference import CENTRE, FEW, generated, knobs

from dunning_pipeline.rules.spans import Spans
from dunning_pipeline.rules.standing import Standing, Window, standing
from dunning_pipeline.rules.timeline import Timeline, timeline

FIRST, LAST = CENTRE - timedelta(days=9), CENTRE + timedelta(days=9)
SOME_DAYS = [FIRST, *(CENTRE + timedelta(days=offset) for offset in (-2, 0, 1, 5)), LAST]

HAS_COURSE = {
    "no_contact_address",
    "workflow_completed",
    "waiting_for_trigger",
    "minimum_contact_delay",
    "contact_cap",
    "non_working_day",
    "rejected",
    "remind",
}
"""Reasons that come after everything that has to do with what stands."""


def stood(ledger: Ledger, rules: Rules, first: date, last: date) -> Standing:
    tolerance = policy_of(rules).receivables.tolerance_minor
    return standing(records_of(ledger), tolerance, Window.of(first, last))


def line(ledger: Ledger, rules: Rules, first: date, last: date) -> Timeline:
    return timeline(records_of(ledger), policy_of(rules), Window.of(first, last))


def on(spans: Spans, as_of: date) -> np.ndarray:
    """The rows of the spans in which a day lies."""
    number = Window.of(as_of, as_of).first
    return np.flatnonzero((spans.start <= number) & (number < spans.stop))


def invoice_ids(ledger: Ledger) -> np.ndarray:
    return np.array([row.invoice_id for row in ledger.invoices])


def courses_on(ledger: Ledger, rules: Rules, found: Timeline, as_of: date) -> Iterator[tuple[str, str, str, str]]:
    """Customer, carrying invoice, workflow and level of each course."""
    owners = {row.invoice_id: row.customer_id for row in ledger.invoices}
    courses = found.courses.take(on(found.courses.spans, as_of))
    ids = invoice_ids(ledger)[courses.row].tolist()
    for invoice_id, workflow, own in zip(ids, courses.workflow, courses.own, strict=True):
        yield owners[invoice_id], invoice_id, rules.workflows[workflow].name, "invoice" if own else "customer"


@settings(FEW, max_examples=5)
@given(knobs)
def test_every_unpaid_invoice_stands_as_on_each_day_alone(chosen):
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    found = stood(case.ledger, case.rules, FIRST, LAST)
    ids = invoice_ids(case.ledger)
    for as_of in SOME_DAYS:
        rows = found.take(on(found.spans, as_of)[found.unpaid[on(found.spans, as_of)]])
        unpaid = zip(ids[rows.spans.key].tolist(), rows.open_minor.tolist(), rows.paused.tolist(), strict=True)
        expected = frames.reference_open_rows(case.ledger, case.rules, as_of)
        assert sorted(unpaid) == sorted((row.invoice_id, row.open_minor, row.paused) for row in expected)


@settings(FEW, max_examples=5)
@given(knobs)
def test_courses_are_what_carries_under_which_workflow_on_each_day_alone(chosen):
    note(f"seed {chosen.seed}")
    case = generated(chosen)
    found = line(case.ledger, case.rules, FIRST, LAST)
    for as_of in SOME_DAYS:
        decided = reference.decide(case.ledger, case.rules, as_of)
        expected = [
            (row.customer_id, row.carrying_invoice_id, row.workflow, row.level)
            for row in decided
            if row.reason in HAS_COURSE
        ]
        assert sorted(courses_on(case.ledger, case.rules, found, as_of)) == sorted(expected)


def test_the_work_grows_with_what_happens_and_not_with_the_days():
    rules, ledger = rules_of(1), book(invoice(), invoice("B", due=3), payments=[payment("A", 10_000, 400)])
    week, years = (line(ledger, rules, day(0), day(last)).courses for last in (6, 4_000))
    assert len(week.row) == 1
    assert invoice_ids(ledger)[years.row].tolist() == ["A", "B"]
    assert len(stood(ledger, rules, day(0), day(4_000)).spans) == 2


def test_an_invoice_that_stays_settled_is_not_looked_at():
    ledger = book(invoice(), payments=[payment("A", 10_000, -3)])
    assert len(stood(ledger, rules_of(1), day(0), day(9)).spans) == 0


def test_customers_that_could_be_chased_are_known_even_if_nobody_would_be_reminded():
    unassigned = Assignment("a", "c1", "unassigned", day(-9))
    found = line(book(invoice(), assignments=[unassigned]), rules_of(1), day(0), day(9))
    assert len(found.courses.row) == 0
    assert len(found.chased) == 1
