"""The worked examples of RULES.md against the reference, and boundaries of one day or one cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from reference import (
    Action,
    Assignment,
    Contact,
    Customer,
    Invoice,
    Ledger,
    Pause,
    Payment,
    Promise,
    Rules,
    Workflow,
    carrying,
    decide,
    open_invoices,
    reminder_id,
    simulate,
)

EVERY_DAY = frozenset(range(7))
DUE = date(2021, 10, 10)
CUSTOMER = Customer("c1", email="accounts@harbour-bakery.test")


def day(offset: int) -> date:
    return DUE + timedelta(days=offset)


def rules(*action_days: int, delay: int = 5, working_days: frozenset[int] = EVERY_DAY, **settings) -> Rules:
    actions = tuple(Action(f"step_{n}", offset) for n, offset in enumerate(action_days, start=1))
    workflow = Workflow("standard", actions, minimum_contact_delay=delay)
    return Rules((workflow,), default="standard", working_days=working_days, **settings)


def invoice(invoice_id: str = "A", due: int = 0, total: int = 10_000, **columns) -> Invoice:
    values = {"issued_on": day(due - 30), "due_on": day(due), "currency": "EUR"} | columns
    return Invoice(invoice_id, "c1", total_minor=total, **values)


def payment(invoice_id: str | None, amount: int, paid: int, **columns) -> Payment:
    return Payment(f"p-{invoice_id}-{paid}", "c1", invoice_id, "EUR", amount, day(paid), **columns)


def ledger(*invoices: Invoice, **tables) -> Ledger:
    return Ledger(customers=[CUSTOMER], invoices=list(invoices), **tables)


def sent_on(book: Ledger, settings: Rules, first: int, last: int) -> list[date]:
    return [row.as_of for row in simulate(book, settings, day(first), day(last))]


def sent(book: Ledger, settings: Rules, first: int, last: int) -> list[tuple[int, str | None, str | None]]:
    rows = simulate(book, settings, day(first), day(last))
    return [((row.as_of - DUE).days, row.carrying_invoice_id, row.action) for row in rows]


def decision(book: Ledger, settings: Rules, offset: int = 1):
    (row,) = decide(book, settings, day(offset))
    return row


def reason(book: Ledger, settings: Rules, offset: int = 1) -> str:
    return decision(book, settings, offset).reason


def test_example_1_weekends_and_delay_move_the_ladder():
    weekdays = rules(-2, 2, 6, 14, 17, delay=4, working_days=frozenset(range(5)))
    assert sent_on(ledger(invoice()), weekdays, -30, 60) == [
        date(2021, 10, 8),
        date(2021, 10, 12),
        date(2021, 10, 18),
        date(2021, 10, 25),
        date(2021, 10, 29),
    ]


def test_example_2_a_pushed_action_pushes_the_next_only_as_far_as_the_delay_needs():
    assert sent(ledger(invoice()), rules(0, 4, 8), -5, 30) == [
        (0, "A", "step_1"),
        (5, "A", "step_2"),
        (10, "A", "step_3"),
    ]


THREE_INVOICES = (invoice("A", 0), invoice("B", 5), invoice("C", 9))


def test_example_3_paying_younger_invoices_changes_nothing():
    paid = [payment("B", 10_000, 32), payment("C", 10_000, 32)]
    assert sent(ledger(*THREE_INVOICES, payments=paid), rules(1, 10, 20, 30, 40), 0, 60)[3:] == [
        (30, "A", "step_4"),
        (40, "A", "step_5"),
    ]


def test_example_3_paying_the_carrying_invoice_restarts_the_ladder_for_the_next():
    paid = [payment("A", 10_000, 32)]
    assert sent(ledger(*THREE_INVOICES, payments=paid), rules(1, 10, 20, 30, 40), 0, 44)[3:] == [
        (30, "A", "step_4"),
        (35, "B", "step_1"),
        (40, "B", "step_2"),
    ]


def test_example_5_the_higher_total_carries_even_if_little_of_it_is_open():
    book = ledger(invoice("A", total=10_000), invoice("B", total=25_000), payments=[payment("B", 23_000, -1)])
    assert carrying(book, rules(1), day(1))["c1"].invoice.invoice_id == "B"


def test_example_6_an_older_invoice_recorded_later_takes_over():
    book = ledger(invoice("B"), invoice("A", -10, recorded_on=day(10)))
    assert sent(book, rules(1, 8, 15), 0, 18) == [
        (1, "B", "step_1"),
        (8, "B", "step_2"),
        (13, "A", "step_1"),
        (18, "A", "step_2"),
    ]


def test_example_7_a_pause_holds_up_to_the_day_before_its_end():
    due = date(2023, 6, 20)
    book = ledger(
        invoice(issued_on=date(2023, 5, 20), due_on=due),
        pauses=[Pause("z1", "customer", date(2023, 6, 1), date(2023, 7, 1), customer_id="c1")],
    )
    weekdays = rules(1, working_days=frozenset(range(5)))
    assert [row.as_of for row in simulate(book, weekdays, date(2023, 6, 1), date(2023, 7, 31))] == [
        # 1 July 2023 is a Saturday.
        date(2023, 7, 3)
    ]
    every_day = simulate(book, rules(1), date(2023, 6, 1), date(2023, 7, 31))
    assert [row.as_of for row in every_day] == [date(2023, 7, 1)]


def test_example_8_credit_beyond_what_is_owed_stops_everything():
    book = ledger(invoice(), payments=[payment(None, 12_000, -3)])
    row = decision(book, rules(1))
    assert (row.decision, row.reason) == ("skip", "net_balance_not_positive")
    assert row.carrying_invoice_id is row.action is row.next_due_on is None


def test_example_9_a_recorded_call_pushes_the_same_action():
    call = Contact("c1", day(10), kind="recorded")
    assert sent(ledger(invoice(), contacts=[call]), rules(12), 0, 30) == [(15, "A", "step_1")]


@pytest.mark.parametrize(
    ("columns", "owed"),
    [
        ({"status": "draft"}, False),
        ({"status": "void"}, False),
        ({"status": "written_off"}, False),
        ({"voided_on": day(1)}, False),
        ({"status": "void", "voided_on": day(2)}, True),
        ({"written_off_on": day(1)}, False),
        ({"disputed_on": day(1)}, False),
        ({"disputed_on": day(2)}, True),
        ({"disputed_on": day(-5), "dispute_resolved_on": day(1)}, True),
        ({"disputed_on": day(-5), "dispute_resolved_on": day(2)}, False),
        ({"recorded_on": day(1)}, True),
        ({"recorded_on": day(2)}, False),
        ({"missing_since": day(2)}, True),
    ],
)
def test_when_an_invoice_counts(columns, owed):
    assert bool(open_invoices(ledger(invoice(**columns)), rules(1), day(1))) is owed


def test_a_vanished_invoice_makes_the_source_unclear_only_if_nothing_else_is_owed():
    vanished = invoice("A", missing_since=day(1))
    assert reason(ledger(vanished), rules(1)) == "source_unclear"
    assert decision(ledger(vanished, invoice("B", -1)), rules(1)).carrying_invoice_id == "B"
    assert decide(ledger(vanished, payments=[payment("A", 10_000, 0)]), rules(1), day(1)) == []


@pytest.mark.parametrize(("paid", "unpaid"), [(9_994, True), (9_995, False), (10_000, False), (10_500, False)])
def test_unpaid_is_more_than_the_tolerance(paid, unpaid):
    book = ledger(invoice(), payments=[payment("A", paid, 0)])
    assert bool(decide(book, rules(1, tolerance={"EUR": 5}), day(1))) is unpaid


def test_a_payment_counts_from_the_day_it_was_recorded():
    book = ledger(invoice(), payments=[payment("A", 10_000, 1, recorded_on=day(5))])
    assert [len(decide(book, rules(1), day(n))) for n in (1, 4, 5)] == [1, 1, 0]


def test_payments_that_do_not_fit_are_left_out():
    wrong_currency = replace(payment("A", 10_000, 0), currency="USD")
    positive_refund = payment("A", 10_000, 0, kind="refund")
    (row,) = open_invoices(ledger(invoice(), payments=[wrong_currency, positive_refund]), rules(1), day(1))
    assert row.open_minor == 10_000


def test_a_chargeback_reopens_an_invoice():
    back = payment("A", -10_000, 3, kind="chargeback")
    book = ledger(invoice(), payments=[payment("A", 10_000, 0), back])
    assert [len(decide(book, rules(1), day(n))) for n in (2, 3)] == [0, 1]


def test_a_payment_for_an_unknown_invoice_is_unapplied_and_one_for_a_void_invoice_is_nothing():
    void = invoice("V", status="void")
    assert reason(ledger(invoice(), payments=[payment("nowhere", 10_000, 0)]), rules(1)) == ("net_balance_not_positive")
    assert reason(ledger(invoice(), void, payments=[payment("V", 10_000, 0)]), rules(1)) == "remind"


def test_an_overpaid_invoice_lowers_the_net_balance():
    book = ledger(invoice(), invoice("B"), payments=[payment("B", 20_000, 0)])
    assert reason(book, rules(1)) == "net_balance_not_positive"


@pytest.mark.parametrize(("minimum", "expected"), [(10_000, "remind"), (10_001, "below_minimum_amount")])
def test_exactly_the_minimum_amount_is_enough(minimum, expected):
    assert reason(ledger(invoice()), rules(1, minimum_amount={"EUR": minimum})) == expected


def test_a_currency_that_is_not_chaseable_cannot_carry():
    book = ledger(invoice("A", -20, 500), invoice("B", 0, 10_000, currency="USD"))
    assert decision(book, rules(1, minimum_amount={"EUR": 1_000})).carrying_invoice_id == "B"


def test_below_minimum_wins_when_one_currency_still_has_a_positive_balance():
    book = ledger(
        invoice("A", 0, 500),
        invoice("B", 0, 10_000, currency="USD"),
        payments=[replace(payment(None, 10_000, 0), currency="USD")],
    )
    assert reason(book, rules(1, minimum_amount={"EUR": 1_000})) == "below_minimum_amount"


@pytest.mark.parametrize(
    ("rates", "carrier"),
    [
        ({"JPY": Decimal("0.006"), "USD": Decimal("0.9")}, "eur"),
        ({"JPY": Decimal("0.006"), "USD": Decimal("1.2")}, "usd"),
        ({"USD": Decimal("1.2")}, "jpy"),
    ],
)
def test_tied_totals_are_compared_in_base_currency_when_all_have_a_rate(rates, carrier):
    book = ledger(
        invoice("eur", total=10_000),
        invoice("usd", total=10_000, currency="USD"),
        invoice("jpy", total=5_000, currency="JPY"),
    )
    assert decision(book, rules(1, exchange_rates=rates)).carrying_invoice_id == carrier


def test_equal_due_dates_and_totals_leave_the_lowest_id_in_string_order():
    book = ledger(invoice("9"), invoice("10"), invoice("B"))
    assert decision(book, rules(1)).carrying_invoice_id == "10"


def test_without_a_due_date_the_issue_date_stands_in():
    book = ledger(invoice("A", 0), invoice("B", due_on=None, issued_on=day(-1)))
    row = decision(book, rules(1))
    assert (row.carrying_invoice_id, row.trigger_on) == ("B", day(0))


def test_an_assignment_is_in_force_until_the_day_before_its_end():
    other = Workflow("other", (Action("call", 0),))
    settings = replace(rules(1), workflows=(*rules(1).workflows, other))
    book = ledger(
        invoice(),
        assignments=[
            Assignment("1", "c1", "other", day(-9), day(3)),
            Assignment("2", "c1", "unassigned", day(3), day(5)),
            Assignment("3", "c1", "standard", day(3), day(4)),
        ],
    )
    rows = [decision(book, settings, n) for n in (2, 3, 4, 5)]
    assert [(row.workflow, row.assigned_by) for row in rows] == [
        ("other", "assignment:1"),
        ("standard", "assignment:3"),
        (None, "assignment:2"),
        ("standard", "default"),
    ]
    assert rows[2].reason == "no_workflow"
    assert rows[2].carrying_invoice_id == "A"


def test_without_a_default_or_actions_nothing_is_sent():
    assert reason(ledger(invoice()), replace(rules(1), default=None)) == "no_workflow"
    assert reason(ledger(invoice()), rules()) == "empty_workflow"


@pytest.mark.parametrize(
    ("weekday_due", "trigger"),
    [
        # Monday: Saturday's trigger would slip to the anchor, so it moves back to Friday.
        (date(2021, 10, 11), date(2021, 10, 8)),
        # Tuesday: Sunday's trigger slips to Monday, still before the anchor.
        (date(2021, 10, 12), date(2021, 10, 10)),
        (date(2021, 10, 10), date(2021, 10, 8)),
    ],
)
def test_a_negative_action_moves_back_only_if_it_would_miss_its_anchor(weekday_due, trigger):
    book = ledger(invoice(due_on=weekday_due))
    weekdays = rules(-2, working_days=frozenset(range(5)))
    (row,) = decide(book, weekdays, date(2021, 10, 1))
    assert (row.trigger_on, row.reason) == (trigger, "waiting_for_trigger")


def test_negative_actions_expire_on_the_anchor():
    settings = rules(-3, 4)
    assert decision(ledger(invoice()), settings, -1).action == "step_1"
    assert decision(ledger(invoice()), settings, 0).action == "step_2"
    assert reason(ledger(invoice()), rules(-3), 0) == "workflow_completed"


def test_a_late_entrant_catches_up_one_action_at_a_time():
    assert sent(ledger(invoice()), rules(1, 8, 15), 40, 60) == [
        (40, "A", "step_1"),
        (45, "A", "step_2"),
        (50, "A", "step_3"),
    ]


def test_the_ladder_never_goes_back_and_knows_former_names():
    renamed = Workflow("standard", (Action("first", 1), Action("second", 8, ("old",)), Action("third", 15)))
    settings = Rules((renamed,), default="standard", working_days=EVERY_DAY)
    book = ledger(invoice(), contacts=[Contact("c1", day(9), "A", "standard", "old")])
    assert (decision(book, settings, 20).action, decision(book, settings, 20).action_position) == ("third", 3)


def test_a_completed_ladder_stays_completed():
    book = ledger(invoice(), contacts=[Contact("c1", day(2), "A", "standard", "step_1")])
    row = decision(book, rules(1), 9)
    assert (row.reason, row.action, row.next_due_on) == ("workflow_completed", None, None)


def test_a_ladder_resumes_where_it_was_when_its_invoice_carries_again():
    book = ledger(
        invoice("A", disputed_on=day(3), dispute_resolved_on=day(12)),
        invoice("B", 1),
    )
    assert sent(book, rules(1, 8, 15), 0, 20) == [
        (1, "A", "step_1"),
        (6, "B", "step_1"),
        (11, "B", "step_2"),
        (16, "A", "step_2"),
    ]


def test_an_unknown_reminder_counts_for_the_delay_and_executes_nothing():
    book = ledger(invoice(), contacts=[Contact("c1", day(1), "A", "standard", "step_1", kind="unknown")])
    assert sent(book, rules(1), 2, 20) == [(6, "A", "step_1")]


def test_a_recorded_contact_naming_an_action_executes_it_the_same_day():
    book = ledger(invoice(), contacts=[Contact("c1", day(1), "A", "standard", "step_1", kind="recorded")])
    row = decision(book, rules(1, 2, delay=0))
    assert (row.action, row.reason, row.next_due_on) == ("step_2", "waiting_for_trigger", day(2))


def test_the_delay_is_at_least_one_day_after_a_contact_of_the_same_day():
    book = ledger(invoice(), contacts=[Contact("c1", day(1), kind="recorded")])
    row = decision(book, rules(1, delay=0))
    assert (row.reason, row.next_due_on) == ("minimum_contact_delay", day(2))


def test_deriving_a_day_again_gives_the_same_reminder():
    book = ledger(invoice())
    first = decision(book, rules(1))
    assert first.reminder_id == reminder_id("c1", "standard", "A", "step_1")
    book.contacts.append(Contact("c1", day(1), "A", "standard", "step_1", first.reminder_id))
    assert decision(book, rules(1)) == first


def test_another_reminder_accepted_the_same_day_holds_the_new_one():
    book = ledger(invoice(), contacts=[Contact("c1", day(1), "Z", "standard", "step_1", "another")])
    row = decision(book, rules(1))
    assert (row.decision, row.reason, row.next_due_on) == ("skip", "minimum_contact_delay", day(6))


def test_nothing_is_sent_on_a_day_off():
    weekdays = rules(1, working_days=frozenset(range(5)), holidays=frozenset({day(1)}))
    assert [reason(ledger(invoice()), weekdays, n) for n in (0, 1, 2)] == [
        "waiting_for_trigger",
        "non_working_day",
        "remind",
    ]
    assert decision(ledger(invoice()), weekdays, 0).next_due_on == day(2)
    # A Friday that was missed is not made up for on Saturday.
    assert decision(ledger(invoice()), weekdays, 6).next_due_on == day(8)


def test_pauses_by_scope():
    pauses = {
        "organisation": Pause("z", "organisation", day(1), day(2)),
        "customer": Pause("z", "customer", day(1), day(2), customer_id="c1"),
        "invoice": Pause("z", "invoice", day(1), day(2), customer_id="c1", invoice_id="A"),
    }
    reasons = {
        scope: [reason(ledger(invoice(), pauses=[pause]), rules(1), n) for n in (1, 2)]
        for scope, pause in pauses.items()
    }
    assert reasons == {
        "organisation": ["organisation_paused", "remind"],
        "customer": ["customer_paused", "remind"],
        "invoice": ["customer_paused", "remind"],
    }


def test_a_paused_invoice_hands_over_and_a_paused_organisation_keeps_carrying_invoices():
    one = Pause("z", "invoice", day(0), invoice_id="A")
    assert decision(ledger(invoice(), invoice("B", 0), pauses=[one]), rules(1)).carrying_invoice_id == "B"
    whole = decision(ledger(invoice()), rules(1, organisation_paused=True))
    assert (whole.reason, whole.carrying_invoice_id, whole.action) == ("organisation_paused", "A", "step_1")
    assert whole.next_due_on is None


def test_a_promise_holds_through_its_last_day_unless_withdrawn():
    promise = Promise("s", "c1", day(1), day(4), "A")
    withdrawn = replace(promise, withdrawn_on=day(3))
    silent = replace(promise, pauses=False)
    assert [reason(ledger(invoice(), promises=[promise]), rules(1), n) for n in (4, 5)] == [
        "promise_to_pay",
        "remind",
    ]
    assert [reason(ledger(invoice(), promises=[withdrawn]), rules(1), n) for n in (2, 3)] == [
        "promise_to_pay",
        "remind",
    ]
    assert reason(ledger(invoice(), promises=[silent]), rules(1)) == "remind"


def test_pauses_and_promises_together_leave_a_promise():
    book = ledger(
        invoice(),
        invoice("B"),
        pauses=[Pause("z", "invoice", day(0), invoice_id="A")],
        promises=[Promise("s", "c1", day(0), day(9), "B")],
    )
    assert reason(book, rules(1)) == "promise_to_pay"
    assert [row.paused_by for row in open_invoices(book, rules(1), day(1))] == ["pause", "promise"]


@pytest.mark.parametrize("email", [None, "", "nobody", "a b@shop.test", "accounts@localhost"])
def test_without_a_valid_identifier_nobody_is_reminded(email):
    book = Ledger(customers=[replace(CUSTOMER, email=email, phone="+441632960001")], invoices=[invoice()])
    assert reason(book, rules(1)) == "no_contact_address"
    assert reason(book, rules(1, identify_by=("email", "phone"))) == "remind"
