"""Pauses and promises (RULES 6.1, 6.2): from when to when, what they hold and what they leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from frames import (
    EVERY_DAY,
    MONDAY,
    WEEKDAYS_ONLY,
    book,
    day,
    decision,
    each_day,
    invoice,
    of_day,
    open_rows,
    payment,
    reason,
    reference_replay,
    replayed,
    rules_of,
    run,
    run_days,
    simulate,
)
from reference import Invoice, Ledger, Pause, Promise, Rules

CUSTOMER_PAUSE = Pause("z", "customer", day(1), day(3), customer_id="c1")
INVOICE_PAUSE = Pause("z", "invoice", day(1), day(3), invoice_id="A")
ORGANISATION_PAUSE = Pause("z", "organisation", day(1), day(3))
PROMISE = Promise("s", "c1", day(1), day(4), "A")


def reasons_on(ledger: Ledger, *days: int, rules: Rules | None = None) -> list[str]:
    return [row.reason for row in each_day(ledger, rules or rules_of(1), *days)]


def held(ledger: Ledger, as_of: date = MONDAY) -> dict[str, str | None]:
    return {row.invoice_id: row.paused_by for row in open_rows(run(ledger, rules_of(1), as_of))}


def broken(promises: list[Promise], as_of: date, *invoices: Invoice) -> list[str]:
    ledger = book(*(invoices or [invoice()]), promises=promises)
    return [row.invoice_id for row in open_rows(run(ledger, rules_of(1), as_of)) if row.broken_promise]


def days_broken(promises: list[Promise], *offsets: int) -> list[int]:
    """The days on which a promise about the only invoice is broken."""
    derived = run_days(book(invoice(), promises=promises), rules_of(1), day(min(offsets)), day(max(offsets)))
    return [n for n in offsets if any(row.broken_promise for row in open_rows(of_day(derived, day(n))))]


@pytest.mark.parametrize(
    ("pause", "expected"),
    [
        (CUSTOMER_PAUSE, "customer_paused"),
        (INVOICE_PAUSE, "customer_paused"),
        (ORGANISATION_PAUSE, "organisation_paused"),
    ],
)
def test_a_pause_holds_from_its_first_day_to_the_day_before_its_end(pause, expected):
    rules = rules_of(0)
    assert reasons_on(book(invoice(), pauses=[pause]), 0, 1, 2, 3, rules=rules) == [
        "remind",
        expected,
        expected,
        "remind",
    ]


def test_a_pause_without_an_end_holds_for_ever():
    for_ever = replace(CUSTOMER_PAUSE, paused_until=None)
    assert reasons_on(book(invoice(), pauses=[for_ever]), 1, 1_000) == ["customer_paused"] * 2


def test_a_pause_counts_from_the_day_it_was_recorded():
    late = replace(CUSTOMER_PAUSE, recorded_on=day(2), paused_until=None)
    assert reasons_on(book(invoice(), pauses=[late]), 1, 2) == ["remind", "customer_paused"]


@pytest.mark.parametrize(
    ("working_days", "expected"),
    # 1 July 2023 is a Saturday.
    [(WEEKDAYS_ONLY, date(2023, 7, 3)), (EVERY_DAY, date(2023, 7, 1))],
)
def test_example_7_what_fell_due_in_a_pause_is_due_on_the_first_working_day_after_it(working_days, expected):
    pause = Pause("z", "customer", date(2023, 6, 1), date(2023, 7, 1), customer_id="c1")
    owed = invoice(issued_on=date(2023, 5, 20), due_on=date(2023, 6, 27))
    rules = rules_of(1, working_days=working_days)
    sent = simulate(book(owed, pauses=[pause]), rules, date(2023, 6, 27), date(2023, 7, 5))
    assert [row.as_of for row in sent] == [expected]


def test_a_paused_customer_has_all_invoices_paused_and_nothing_carries():
    ledger = book(invoice("A"), invoice("B"), pauses=[CUSTOMER_PAUSE])
    row = decision(ledger)
    assert held(ledger) == {"A": "pause", "B": "pause"}
    assert row.carrying_invoice_id is row.action is row.trigger_on is row.next_due_on is None


def test_a_paused_organisation_pauses_no_invoice_and_keeps_the_carrying_one():
    ledger = book(invoice(), pauses=[ORGANISATION_PAUSE])
    row = decision(ledger)
    assert held(ledger) == {"A": None}
    assert (row.carrying_invoice_id, row.action, row.next_due_on) == ("A", "step_1", None)
    assert reason(book(invoice()), rules_of(1, organisation_paused=True)) == "organisation_paused"


def test_a_paused_invoice_hands_over_to_the_next():
    row = decision(book(invoice("A"), invoice("B", 1), pauses=[INVOICE_PAUSE]), rules_of(0))
    assert (row.carrying_invoice_id, row.decision) == ("B", "remind")


def test_a_pause_of_an_invoice_needs_no_customer_and_holds_no_other_invoice():
    ledger = book(invoice("A"), invoice("B"), pauses=[replace(INVOICE_PAUSE, invoice_id="B", customer_id=None)])
    assert held(ledger) == {"A": None, "B": "pause"}


def test_a_promise_holds_through_its_last_day():
    assert reasons_on(book(invoice(), promises=[PROMISE]), 0, 1, 4, 5, rules=rules_of(0)) == [
        "remind",
        "promise_to_pay",
        "promise_to_pay",
        "remind",
    ]


def test_a_promise_holds_until_the_day_it_is_withdrawn():
    withdrawn = replace(PROMISE, withdrawn_on=day(3))
    assert reasons_on(book(invoice(), promises=[withdrawn]), 2, 3) == ["promise_to_pay", "remind"]


def test_a_promise_counts_from_the_day_it_was_recorded():
    late = replace(PROMISE, recorded_on=day(2))
    assert reasons_on(book(invoice(), promises=[late]), 1, 2) == ["remind", "promise_to_pay"]


def test_a_promise_that_does_not_pause_holds_nothing():
    assert reason(book(invoice(), promises=[replace(PROMISE, pauses=False)])) == "remind"


def test_a_promise_that_names_no_invoice_pauses_all_of_them():
    ledger = book(invoice("A"), invoice("B", recorded_on=day(2)), promises=[replace(PROMISE, invoice_id=None)])
    assert held(ledger, day(2)) == {"A": "promise", "B": "promise"}
    assert decision(ledger, as_of=day(2)).carrying_invoice_id is None
    assert reason(ledger, as_of=day(2)) == "promise_to_pay"


def test_a_promise_that_names_no_invoice_holds_until_all_that_was_known_then_is_paid():
    rules = rules_of(0)
    later = invoice("C", recorded_on=day(2))
    general = replace(PROMISE, invoice_id=None, pay_by=day(8))
    paid = [payment("A", 10_000, 3), payment("B", 10_000, 5)]
    ledger = book(invoice("A"), invoice("B"), later, promises=[general], payments=paid)
    assert reasons_on(ledger, 1, 2, 4, 5, rules=rules) == [*["promise_to_pay"] * 3, "remind"]
    assert held(ledger, day(4)) == {"B": "promise", "C": "promise"}
    assert replayed(ledger, rules, day(1), day(9)) == reference_replay(ledger, rules, day(1), day(9))
    assert [row.remind_on for row in replayed(ledger, rules, day(1), day(9))] == [day(5)]


def test_a_promise_that_names_no_invoice_holds_again_when_what_was_promised_is_open_again():
    rules = rules_of(0, 1, 2, delay=0)
    general = replace(PROMISE, invoice_id=None, pay_by=day(8))
    back = [payment("A", 10_000, 3), payment("A", -10_000, 6, kind="chargeback")]
    ledger = book(invoice("A"), invoice("C", recorded_on=day(2)), promises=[general], payments=back)
    assert reasons_on(ledger, 2, 3, 5, 6, rules=rules) == ["promise_to_pay", "remind", "remind", "promise_to_pay"]
    assert replayed(ledger, rules, day(1), day(9)) == reference_replay(ledger, rules, day(1), day(9))


def test_a_promise_about_one_invoice_leaves_the_others():
    row = decision(book(invoice("A"), invoice("B", 1), promises=[PROMISE]), rules_of(0))
    assert (row.carrying_invoice_id, row.decision) == ("B", "remind")


def test_a_promise_about_a_paid_invoice_holds_nothing():
    ledger = book(invoice("A"), invoice("B"), payments=[payment("A", 10_000, 1)], promises=[PROMISE])
    assert reason(ledger) == "remind"


def test_a_promise_about_an_invoice_that_nobody_knows_holds_nothing():
    assert reason(book(invoice(), promises=[replace(PROMISE, invoice_id="nowhere")])) == "remind"


def test_a_promise_about_somebody_else_s_invoice_holds_and_breaks_nothing():
    ledger = book(invoice("A"), invoice("B", customer_id="c2"), promises=[replace(PROMISE, invoice_id="B")])
    for as_of in (day(2), day(5)):
        rows = open_rows(run(ledger, rules_of(1), as_of))
        assert {row.invoice_id: (row.paused_by, row.broken_promise) for row in rows} == {
            "A": (None, False),
            "B": (None, False),
        }


def test_a_pause_of_an_invoice_holds_it_whoever_it_names():
    ledger = book(invoice("A"), pauses=[replace(INVOICE_PAUSE, customer_id="c2")])
    assert held(ledger) == {"A": "pause"}


def test_a_promise_that_was_kept_is_not_broken_and_one_partly_kept_is():
    paid = book(invoice(), promises=[PROMISE], payments=[payment("A", 10_000, 4)])
    partly = book(invoice(), promises=[PROMISE], payments=[payment("A", 9_999, 4)])
    assert open_rows(run(paid, rules_of(1), day(5))) == []
    assert [row.broken_promise for row in open_rows(run(partly, rules_of(1), day(5)))] == [True]


def test_pauses_and_promises_together_leave_a_promise_and_pauses_alone_a_pause():
    pause, promise = Pause("z", "invoice", day(1), invoice_id="B"), PROMISE
    assert reason(book(invoice("A"), invoice("B"), pauses=[pause], promises=[promise])) == "promise_to_pay"
    both = book(invoice("A"), pauses=[CUSTOMER_PAUSE], promises=[promise])
    assert (reason(both), held(both)) == ("customer_paused", {"A": "pause"})


def test_a_promise_is_broken_from_the_day_after_its_last_day():
    assert days_broken([PROMISE], 3, 4, 5, 9) == [5, 9]


def test_a_promise_that_does_not_pause_can_be_broken_too():
    assert broken([replace(PROMISE, pauses=False)], day(5)) == ["A"]


def test_a_withdrawn_promise_is_not_broken():
    assert broken([replace(PROMISE, withdrawn_on=day(4))], day(5)) == []


def test_a_later_promise_stands_in_for_a_broken_one():
    later = Promise("t", "c1", day(5), day(7), None)
    assert days_broken([PROMISE, later], 5, 6, 7, 8) == [8]


def test_of_two_promises_of_one_day_the_one_with_the_higher_id_counts():
    longer = replace(PROMISE, pay_by=day(9))
    assert broken([replace(PROMISE, promise_id="1"), replace(longer, promise_id="2")], day(5)) == []
    assert broken([replace(PROMISE, promise_id="2"), replace(longer, promise_id="1")], day(5)) == ["A"]


def test_a_promise_of_everything_covers_what_was_known_when_it_was_made():
    everything = replace(PROMISE, invoice_id=None)
    known = [invoice(str(known), recorded_on=day(known)) for known in (0, 1, 2)]
    assert broken([everything], day(5), *known) == ["0", "1"]
