"""Invoices under workflows of their own beside their customer's (RULES 2.4): rows, balances, delays, daily maximum."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from frames import (
    CUSTOMER,
    MONDAY,
    assigned,
    book,
    both_levels,
    by_invoice_id,
    carrying_rows,
    day,
    decision,
    decisions,
    each_day,
    invoice,
    open_rows,
    payment,
    rules_of,
    run,
    sent,
)
from reference import (
    Action,
    Contact,
    Invoice,
    Ledger,
    Pause,
    Promise,
    Rejection,
    Rules,
    Workflow,
    accepted,
    reminder_id,
)

BOTH = both_levels(1)
A_TOGETHER_B_C_ALONE = book(invoice("A"), invoice("B"), invoice("C"), assignments=[assigned("B"), assigned("C")])


def reasons(ledger: Ledger, rules: Rules = BOTH, offset: int = 1) -> dict[str | None, tuple[str, str]]:
    """Level and reason by carrying invoice."""
    rows = by_invoice_id(ledger, rules, day(offset))
    return {name: (row.level, row.reason) for name, row in rows.items()}


def test_there_is_one_row_for_the_customer_and_one_for_each_invoice_of_its_own():
    ledger = replace(A_TOGETHER_B_C_ALONE, invoices=[*A_TOGETHER_B_C_ALONE.invoices, invoice("D", 1)])
    rows = decisions(run(ledger, BOTH))
    assert [(row.level, row.carrying_invoice_id, row.workflow) for row in rows] == [
        ("customer", "A", "standard"),
        ("invoice", "B", "alone"),
        ("invoice", "C", "alone"),
    ]
    assert rows[1].reminder_id == reminder_id("c1", "alone", "B", "alone_1")


def test_the_row_of_the_customer_comes_first():
    frame = run(A_TOGETHER_B_C_ALONE, BOTH).decisions
    assert frame["level"].tolist() == ["customer", "invoice", "invoice"]


def test_open_invoices_tell_their_level():
    rows = open_rows(run(A_TOGETHER_B_C_ALONE, BOTH))
    assert {row.invoice_id: row.level for row in rows} == {"A": "customer", "B": "invoice", "C": "invoice"}


def test_a_customer_with_nothing_left_at_its_level_has_no_row_there():
    ledger = book(invoice("A"), assignments=[assigned("A")])
    row = decision(ledger, BOTH)
    assert (row.level, row.carrying_invoice_id, row.reason) == ("invoice", "A", "remind")
    assert (row.workflow, row.assigned_by) == ("alone", "assignment:alone-A")


def test_what_has_vanished_is_unclear_only_if_nothing_is_left_at_either_level():
    vanished = invoice("V", missing_since=day(0))
    assert reasons(book(invoice("A"), vanished, assignments=[assigned("A")])) == {"A": ("invoice", "remind")}
    assert reasons(book(vanished, assignments=[assigned("V")])) == {None: ("customer", "source_unclear")}


def test_each_invoice_of_its_own_climbs_its_own_ladder_beside_the_customer_s():
    ledger = book(invoice("A", 0), invoice("B", 2), invoice("C", 1), assignments=[assigned("A"), assigned("B")])
    assert sent(ledger, both_levels(1, 9), 0, 12) == [
        (1, "A", "alone_1"),
        (2, "C", "step_1"),
        (3, "B", "alone_1"),
        (8, "A", "alone_2"),
        (10, "C", "step_2"),
        (10, "B", "alone_2"),
    ]


def test_the_delay_of_an_invoice_of_its_own_counts_from_its_own_reminders():
    ledger = book(invoice("A"), invoice("B", 1), assignments=[assigned("A"), assigned("B")])
    assert sent(ledger, both_levels(1, alone=(1, 2)), 0, 9) == [
        (1, "A", "alone_1"),
        (2, "B", "alone_1"),
        (6, "A", "alone_2"),
        (7, "B", "alone_2"),
    ]


def test_exactly_the_delay_of_its_own_workflow_is_enough():
    contact = Contact("c1", day(0), "A", "alone", "alone_1", "an id", level="invoice")
    ledger = book(invoice(), assignments=[assigned("A")], contacts=[contact])
    rows = each_day(ledger, both_levels(1, alone=(0, 1), alone_delay=3), 2, 3, 4)
    assert [row.reason for row in rows] == ["minimum_contact_delay", "remind", "remind"]
    assert {row.action for row in rows} == {"alone_2"}


def test_an_invoice_of_its_own_that_is_held_has_a_row_without_an_action():
    ledger = book(
        invoice("A"),
        invoice("B"),
        assignments=[assigned("A"), assigned("B")],
        pauses=[Pause("z", "invoice", day(0), invoice_id="A")],
        promises=[Promise("s", "c1", day(0), day(1), "B")],
    )
    rows = by_invoice_id(ledger, BOTH)
    assert {name: row.reason for name, row in rows.items()} == {"A": "customer_paused", "B": "promise_to_pay"}
    assert all(row.action is row.trigger_on is row.occurrence is row.next_due_on is None for row in rows.values())
    assert carrying_rows(run(ledger, BOTH)) == []
    assert reasons(ledger, BOTH, 2)["B"] == ("invoice", "remind")


def test_the_customer_level_is_paused_by_what_holds_its_own_invoices():
    pause = Pause("z", "invoice", day(0), invoice_id="A")
    ledger = book(invoice("A"), invoice("B"), assignments=[assigned("B")], pauses=[pause])
    assert reasons(ledger) == {None: ("customer", "customer_paused"), "B": ("invoice", "remind")}


@pytest.mark.parametrize(
    ("pause", "reason"),
    [
        (Pause("z", "organisation", day(0)), "organisation_paused"),
        (Pause("z", "customer", day(0), customer_id="c1"), "customer_paused"),
    ],
)
def test_pauses_of_organisation_and_customer_hold_both_levels(pause, reason):
    ledger = replace(A_TOGETHER_B_C_ALONE, pauses=[pause])
    assert {row.reason for row in decisions(run(ledger, BOTH))} == {reason}


@pytest.mark.parametrize(("credit", "expected"), [(29_999, "remind"), (30_000, "net_balance_not_positive")])
def test_the_net_balance_is_over_both_levels(credit, expected):
    ledger = replace(A_TOGETHER_B_C_ALONE, payments=[payment(None, credit, 0)])
    assert {row.reason for row in decisions(run(ledger, BOTH))} == {expected}


@pytest.mark.parametrize(("minimum", "expected"), [(30_000, "remind"), (30_001, "below_minimum_amount")])
def test_the_minimum_amount_is_over_both_levels(minimum, expected):
    rules = both_levels(1, minimum_amount={"EUR": minimum})
    assert {row.reason for row in decisions(run(A_TOGETHER_B_C_ALONE, rules))} == {expected}


def test_a_paused_invoice_of_its_own_is_missing_from_the_minimum_of_the_others():
    pause = Pause("z", "invoice", day(0), invoice_id="B")
    ledger = book(invoice("A"), invoice("B"), assignments=[assigned("B")], pauses=[pause])
    assert reasons(ledger, both_levels(1, minimum_amount={"EUR": 15_000})) == {
        None: ("customer", "below_minimum_amount"),
        "B": ("invoice", "customer_paused"),
    }


def test_each_level_looks_at_the_currencies_of_its_own_invoices():
    ledger = book(invoice("A"), invoice("B", currency="USD"), assignments=[assigned("B")])
    dollars, euros = payment(None, 10_000, 0, currency="USD"), payment(None, 10_000, 0)
    assert reasons(replace(ledger, payments=[dollars])) == {
        "A": ("customer", "remind"),
        "B": ("invoice", "net_balance_not_positive"),
    }
    assert reasons(replace(ledger, payments=[euros])) == {
        None: ("customer", "net_balance_not_positive"),
        "B": ("invoice", "remind"),
    }


def test_an_invoice_of_its_own_does_not_compete_for_the_customer_s_workflow():
    ledger = book(invoice("A", -30, 90_000), invoice("B"), assignments=[assigned("A")])
    rows = carrying_rows(run(ledger, BOTH))
    assert {(row.level, row.invoice_id) for row in rows} == {("invoice", "A"), ("customer", "B")}


def test_a_ladder_of_its_own_may_count_from_the_issue_date_and_be_contextual():
    actions = (Action("at_once", 1), Action("later", 10))
    single = Workflow("alone", actions, carried_by="invoice", anchor="issue_date", logic="contextual")
    rules = replace(rules_of(1), workflows=(*rules_of(1).workflows, single))
    row = decision(book(invoice(), assignments=[assigned("A")]), rules, day(-19))
    assert (row.action, row.trigger_on, row.decision) == ("later", day(-20), "remind")


def test_an_empty_workflow_of_its_own_is_told():
    rules = replace(rules_of(1), workflows=(*rules_of(1).workflows, Workflow("alone", (), carried_by="invoice")))
    assert reasons(book(invoice(), assignments=[assigned("A")]), rules) == {"A": ("invoice", "empty_workflow")}


def test_an_invoice_of_its_own_whose_customer_cannot_be_reached_is_told():
    ledger = replace(A_TOGETHER_B_C_ALONE, customers=[replace(CUSTOMER, email=None)])
    assert {row.reason for row in decisions(run(ledger, BOTH))} == {"no_contact_address"}


@pytest.mark.parametrize(
    ("about", "columns", "delayed"),
    [
        ("A", {"level": "customer"}, "A"),
        ("A", {"level": "invoice"}, ""),
        ("B", {"level": "customer"}, "AB"),
        ("B", {"level": "invoice"}, "B"),
        ("B", {"level": "invoice", "kind": "unknown"}, "B"),
        ("B", {"level": "invoice", "workflow": "standard"}, "B"),
        ("nowhere", {"level": "customer"}, "A"),
        (None, {"kind": "recorded"}, "ABC"),
        ("B", {"kind": "recorded"}, "AB"),
        ("A", {"kind": "recorded"}, "A"),
        ("nowhere", {"kind": "recorded"}, "A"),
        (None, {"kind": "recorded", "workflow": "standard"}, "ABC"),
        (None, {"kind": "recorded", "workflow": "alone"}, "BC"),
        ("B", {"kind": "recorded", "workflow": "alone"}, "B"),
        ("B", {"kind": "recorded", "workflow": "of another policy"}, "AB"),
        (None, {"kind": "recorded", "customer_id": "c2"}, ""),
        ("B", {"kind": "recorded", "customer_id": "c2"}, ""),
    ],
)
def test_which_contacts_count_for_the_delay_of_which_level(about, columns, delayed):
    contact = replace(Contact("c1", day(9), about), **columns)
    rows = by_invoice_id(replace(A_TOGETHER_B_C_ALONE, contacts=[contact]), both_levels(1, alone=(1,)), day(10))
    assert {name: row.last_contact_on for name, row in rows.items()} == {
        name: day(9) if name in delayed else None for name in "ABC"
    }
    assert {name: row.reason for name, row in rows.items()} == {
        name: "minimum_contact_delay" if name in delayed else "remind" for name in "ABC"
    }


def test_what_was_done_under_a_workflow_of_its_own_is_executed_for_that_invoice_only():
    done = Contact("c1", day(1), "B", "alone", "alone_1", "an id", level="invoice")
    rows = by_invoice_id(replace(A_TOGETHER_B_C_ALONE, contacts=[done]), BOTH, day(8))
    assert {name: row.action for name, row in rows.items()} == {"A": "step_1", "B": "alone_2", "C": "alone_1"}


@pytest.mark.parametrize(
    ("about", "level", "held"),
    [("A", "customer", "A"), ("B", "customer", "AB"), ("B", "invoice", "B"), ("nowhere", "invoice", "")],
)
@pytest.mark.parametrize("kind", ["accepted", "unknown"])
def test_another_reminder_of_the_day_holds_the_same_level_or_the_same_invoice(about, level, held, kind):
    other = Contact("c1", MONDAY, about, "former", "step_1", "another", level=level, kind=kind)
    rows = by_invoice_id(replace(A_TOGETHER_B_C_ALONE, contacts=[other]), both_levels(1, delay=3))
    assert {name for name, row in rows.items() if row.reason != "remind"} == set(held)
    for name in held:
        next_due_on = day(4) if rows[name].level == "customer" else day(6)
        assert (rows[name].reason, rows[name].last_contact_on) == ("minimum_contact_delay", MONDAY)
        assert (rows[name].next_due_on, rows[name].reminder_id) == (next_due_on, None)


def test_an_invoice_that_moves_to_its_own_level_waits_for_the_delay_of_its_last_reminder():
    ledger = book(invoice(), assignments=[assigned("A", start=3)])
    assert sent(ledger, both_levels(1, alone=(1,), alone_delay=4), 0, 9) == [(1, "A", "step_1"), (5, "A", "alone_1")]


def alone(*invoices: Invoice, **tables: list) -> Ledger:
    return book(*invoices, assignments=[assigned(row.invoice_id) for row in invoices], **tables)


def reminded(ledger: Ledger, rules: Rules) -> set[str]:
    """The invoices of their own that are reminded of on Monday; the others wait because of the day's maximum."""
    rows = [row for row in decisions(run(ledger, rules)) if row.level == "invoice"]
    assert {row.reason for row in rows} <= {"remind", "contact_cap"}
    assert {row.next_due_on for row in rows} == {MONDAY}
    assert all((row.reminder_id is None) is (row.reason == "contact_cap") for row in rows)
    return {row.carrying_invoice_id for row in rows if row.decision == "remind"}


@pytest.mark.parametrize(("most", "expected"), [(1, "D"), (2, "DB"), (3, "DBA"), (4, "DBAE"), (5, "DBAEC")])
def test_the_oldest_due_fill_the_maximum_of_a_day(most, expected):
    # B, A and E are due on the same day: the largest comes first, then the lower id.
    ledger = alone(
        invoice("A", -1), invoice("B", -1, 10_001), invoice("C", 0, 90_000), invoice("D", -2, 1), invoice("E", -1)
    )
    assert reminded(ledger, both_levels(1, max_invoice_reminders=most)) == set(expected)


def test_three_a_day_is_the_default_and_the_others_follow():
    assert sent(alone(*(invoice(name) for name in "ABCD")), both_levels(1, alone=(1,)), 0, 9) == [
        (1, "A", "alone_1"),
        (1, "B", "alone_1"),
        (1, "C", "alone_1"),
        (2, "D", "alone_1"),
    ]


@pytest.mark.parametrize(("rates", "expected"), [({"JPY": Decimal("0.006")}, "E"), ({}, "J")])
def test_ties_for_the_maximum_are_settled_as_for_the_carrying_invoice(rates, expected):
    ledger = alone(invoice("E"), invoice("J", total=5_000, currency="JPY"))
    assert reminded(ledger, both_levels(1, max_invoice_reminders=1, exchange_rates=rates)) == {expected}


def test_each_customer_has_its_own_maximum():
    ledger = alone(invoice("A"), invoice("B"))
    others = [invoice("C", customer_id="c2"), invoice("D", customer_id="c2")]
    ledger.invoices += others
    ledger.assignments += [assigned(row.invoice_id, customer_id="c2") for row in others]
    ledger.customers = [CUSTOMER, replace(CUSTOMER, customer_id="c2")]
    assert reminded(ledger, both_levels(1, max_invoice_reminders=1)) == {"A", "C"}


OF_C = Contact("c1", MONDAY, "C", "alone", "alone_1", reminder_id("c1", "alone", "C", "alone_1"), level="invoice")


@pytest.mark.parametrize(
    ("contacts", "expected"),
    [
        ([], "AB"),
        ([OF_C], "AC"),
        ([replace(OF_C, kind="unknown")], "AC"),
        ([OF_C, replace(OF_C, kind="unknown")], "AC"),
        ([replace(OF_C, level="customer", carrying_invoice_id="Z", reminder_id="another")], "AB"),
        ([OF_C, replace(OF_C, carrying_invoice_id="Z", reminder_id="another")], "C"),
        ([replace(OF_C, carrying_invoice_id=z, reminder_id=z) for z in ("X", "Y", "Z")], ""),
        ([replace(OF_C, contacted_on=day(0), carrying_invoice_id="Z")], "AB"),
        ([Contact("c1", MONDAY, "Z", kind="recorded")], "AB"),
    ],
)
def test_reminders_of_the_day_keep_their_place_in_the_maximum(contacts, expected):
    ledger = alone(invoice("A", -2), invoice("B", -1), invoice("C", 0), contacts=contacts)
    assert reminded(ledger, both_levels(1, max_invoice_reminders=2)) == set(expected)


def test_a_reminder_of_the_day_takes_a_place_even_if_its_invoice_is_paid_meanwhile():
    ledger = alone(invoice("A", -2), invoice("B", -1), invoice("C", 0), contacts=[OF_C])
    ledger.payments = [payment("C", 10_000, 1)]
    assert reminded(ledger, both_levels(1, max_invoice_reminders=2)) == {"A"}


def test_what_would_not_go_takes_no_place_in_the_maximum():
    rules = both_levels(1, max_invoice_reminders=1)
    ledger = alone(invoice("A", -1), invoice("B", 0))
    call = Contact("c1", day(0), "A", kind="recorded")
    rejected = Rejection(reminder_id("c1", "alone", "A", "alone_1"), MONDAY, CUSTOMER.email)
    assert reasons(ledger, rules)["B"] == ("invoice", "contact_cap")
    assert reasons(replace(ledger, contacts=[call]), rules)["B"] == ("invoice", "remind")
    assert reasons(replace(ledger, rejections=[rejected]), rules) == {
        "A": ("invoice", "rejected"),
        "B": ("invoice", "remind"),
    }


def test_reminders_of_the_customer_level_take_no_place_in_the_maximum():
    ledger = book(invoice("A", -1), invoice("B", 0), assignments=[assigned("B")])
    assert reasons(ledger, both_levels(1, max_invoice_reminders=1)) == {
        "A": ("customer", "remind"),
        "B": ("invoice", "remind"),
    }


def test_deriving_a_day_again_gives_the_same_reminders_of_both_levels():
    due = decisions(run(A_TOGETHER_B_C_ALONE, BOTH))
    again = replace(A_TOGETHER_B_C_ALONE, contacts=[accepted(row) for row in due])
    assert decisions(run(again, BOTH)) == due
