"""The worked examples of RULES.md against the reference, and boundaries of one day or one cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from reference import (
    Action,
    Assignment,
    Contact,
    Customer,
    Decision,
    Invoice,
    Ledger,
    OrderEvent,
    Pause,
    Payment,
    Promise,
    Rejection,
    Rules,
    SmartRule,
    Workflow,
    accepted,
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


def flow(settings: Rules, **columns) -> Rules:
    """The settings with other columns of their only workflow."""
    (workflow,) = settings.workflows
    return replace(settings, workflows=(replace(workflow, **columns),))


def contextual(*action_days: int, **settings) -> Rules:
    return flow(rules(*action_days, **settings), logic="contextual")


def repeating(*action_days: int, every: int, limit: int | None = None, **settings) -> Rules:
    return flow(rules(*action_days, **settings), repeat_last=(every, limit))


def both_levels(*action_days: int, alone: tuple[int, ...] = (1, 8), alone_delay: int = 5, **settings) -> Rules:
    """The rules with a further workflow, `alone`, under which each invoice is reminded of by itself."""
    actions = tuple(Action(f"alone_{n}", offset) for n, offset in enumerate(alone, start=1))
    single = Workflow("alone", actions, minimum_contact_delay=alone_delay, carried_by="invoice")
    together = rules(*action_days, **settings)
    return replace(together, workflows=(*together.workflows, single))


def assigned(invoice_id: str | None, workflow: str = "alone", start: int = -99, **columns) -> Assignment:
    return Assignment(f"{workflow}-{invoice_id}", "c1", workflow, day(start), invoice_id=invoice_id, **columns)


def step(number: int, on: int, **columns) -> Contact:
    """An accepted reminder about A: action `number`, on the day so many days after DUE."""
    return Contact("c1", day(on), "A", "standard", f"step_{number}", **columns)


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


def by_invoice(book: Ledger, settings: Rules, offset: int = 1) -> dict[str | None, Decision]:
    """The decisions by carrying invoice."""
    rows = decide(book, settings, day(offset))
    found = {row.carrying_invoice_id: row for row in rows}
    assert len(found) == len(rows)
    return found


def reasons(book: Ledger, settings: Rules, offset: int = 1) -> dict[str | None, tuple[str, str]]:
    return {name: (row.level, row.reason) for name, row in by_invoice(book, settings, offset).items()}


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


def test_example_4_contextual_paying_a_younger_invoice_changes_nothing():
    settings = contextual(-2, 3, 8, 14, 20, 30)
    paid = [payment("B", 10_000, 24)]
    book = ledger(invoice("A", 0), invoice("B", 7), invoice("C", 12), payments=paid, contacts=[step(5, 20)])
    overdue = {
        row.invoice.invoice_id: row.days_overdue for row in open_invoices(replace(book, payments=[]), settings, day(24))
    }
    assert overdue == {"A": 24, "B": 17, "C": 12}
    row = decision(book, settings, 24)
    assert (row.carrying_invoice_id, row.action, row.action_position) == ("A", "step_6", 6)
    assert sent(book, settings, 24, 40) == [(30, "A", "step_6")]


def test_example_5_the_higher_total_carries_even_if_little_of_it_is_open():
    book = ledger(invoice("A", total=10_000), invoice("B", total=25_000), payments=[payment("B", 23_000, -1)])
    (row,) = carrying(book, rules(1), day(1))
    assert (row.invoice_id, row.total_minor, row.open_minor) == ("B", 25_000, 2_000)


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


def test_contextual_logic_enters_18_days_overdue_at_the_action_for_18_days():
    assert sent(ledger(invoice()), contextual(2, 8, 18, 19, 40), 18, 50) == [
        (18, "A", "step_3"),
        (23, "A", "step_4"),
        (40, "A", "step_5"),
    ]


@pytest.mark.parametrize(
    ("on", "action", "reason_given"),
    [
        (0, "step_1", "waiting_for_trigger"),
        (1, "step_1", "remind"),
        (7, "step_1", "remind"),
        (8, "step_2", "remind"),
        (15, "step_3", "remind"),
        (99, "step_3", "remind"),
    ],
)
def test_contextual_logic_takes_the_latest_action_reached(on, action, reason_given):
    row = decision(ledger(invoice()), contextual(1, 8, 15), on)
    assert (row.action, row.reason) == (action, reason_given)


def test_contextual_logic_goes_on_after_the_last_executed_action_only():
    settings = contextual(1, 8, 15)
    assert [decision(ledger(invoice(), contacts=[step(1, 2)]), settings, n).action for n in (3, 8, 15)] == [
        "step_2",
        "step_2",
        "step_3",
    ]
    ahead = decision(ledger(invoice(), contacts=[step(2, 3)]), settings, 8)
    assert (ahead.action, ahead.reason) == ("step_3", "waiting_for_trigger")
    assert reason(ledger(invoice(), contacts=[step(3, 3)]), settings, 8) == "workflow_completed"


def test_contextual_logic_drops_what_the_delay_outlasts():
    assert sent(ledger(invoice()), contextual(1, 3, 5), 0, 30) == [(1, "A", "step_1"), (6, "A", "step_3")]


def test_negative_actions_expire_on_the_anchor_under_contextual_logic_too():
    settings = contextual(-5, -2, 4)
    rows = [decision(ledger(invoice()), settings, n) for n in (-6, -3, -2, -1, 0)]
    assert [(row.action, row.reason) for row in rows] == [
        ("step_1", "waiting_for_trigger"),
        ("step_1", "remind"),
        ("step_2", "remind"),
        ("step_2", "remind"),
        ("step_3", "waiting_for_trigger"),
    ]
    assert reason(ledger(invoice()), contextual(-5, -2), 0) == "workflow_completed"


def test_contextual_logic_counts_a_moved_action_as_reached_from_the_day_it_moved_to():
    # Due on Monday: Saturday's action is moved back to Friday, and Thursday's expires with it.
    book = ledger(invoice(due_on=date(2021, 10, 11)))
    weekdays = contextual(-4, -2, working_days=frozenset(range(5)))
    assert [decide(book, weekdays, date(2021, 10, d))[0].action for d in (7, 8)] == ["step_1", "step_2"]


def test_an_issue_date_anchor_counts_from_the_issue_date():
    settings = flow(rules(-2, 3, 40), anchor="issue_date")
    book = ledger(invoice(recorded_on=day(-40)))
    rows = [decision(book, settings, n) for n in (-31, -30, -27)]
    assert [(row.action, row.trigger_on, row.reason) for row in rows] == [
        ("step_1", day(-32), "remind"),
        ("step_2", day(-27), "waiting_for_trigger"),
        ("step_2", day(-27), "remind"),
    ]
    assert sent(book, settings, -30, 30) == [(-27, "A", "step_2"), (10, "A", "step_3")]


def test_the_carrying_invoice_is_the_oldest_due_whatever_the_anchor():
    book = ledger(invoice("A", 0, issued_on=day(-2)), invoice("B", 1, issued_on=day(-60)))
    row = decision(book, flow(rules(10), anchor="issue_date"))
    assert (row.carrying_invoice_id, row.trigger_on) == ("A", day(8))


def test_the_last_action_is_repeated_every_so_many_days_after_its_last_execution():
    settings = repeating(1, 8, every=7)
    assert sent(ledger(invoice()), settings, 0, 30) == [
        (1, "A", "step_1"),
        (8, "A", "step_2"),
        (15, "A", "step_2"),
        (22, "A", "step_2"),
        (29, "A", "step_2"),
    ]
    assert sent(ledger(invoice(), contacts=[step(2, 10)]), settings, 11, 20) == [(17, "A", "step_2")]


def test_a_repetition_has_its_own_number_and_id():
    book = ledger(invoice(), contacts=[step(1, 1), step(1, 8)])
    rows = [decision(book, repeating(1, every=7), n) for n in (14, 15)]
    assert [(row.reason, row.occurrence, row.action_position, row.trigger_on) for row in rows] == [
        ("waiting_for_trigger", 3, 1, day(15)),
        ("remind", 3, 1, day(15)),
    ]
    assert rows[0].next_due_on == day(15)
    assert rows[1].reminder_id == reminder_id("c1", "standard", "A", "step_1", repetition=3)
    book.contacts.append(step(1, 15, reminder_id=rows[1].reminder_id))
    assert decision(book, repeating(1, every=7), 15) == rows[1]
    assert decision(book, repeating(1, every=7), 16).occurrence == 4


def test_a_first_execution_has_number_one_and_a_completed_ladder_none():
    assert decision(ledger(invoice()), repeating(1, 2, every=7)).occurrence == 1
    assert decision(ledger(invoice(), contacts=[step(1, 1)]), repeating(1, 2, every=7), 2).occurrence == 1
    assert decision(ledger(invoice(), contacts=[step(1, 1)]), rules(1), 2).occurrence is None


def test_a_delay_longer_than_the_repetition_decides():
    assert [on for on, _, _ in sent(ledger(invoice()), repeating(1, every=3, delay=5), 0, 20)] == [1, 6, 11, 16]
    row = decision(ledger(invoice(), contacts=[step(1, 1)]), repeating(1, every=3, delay=5), 4)
    assert (row.reason, row.trigger_on, row.next_due_on) == ("minimum_contact_delay", day(4), day(6))


def test_a_late_repetition_moves_the_following_ones():
    weekdays = repeating(1, every=6, delay=0, working_days=frozenset(range(5)))
    # Monday the 11th, Sunday the 17th: Monday the 18th, Sunday the 24th: Monday the 25th.
    assert [on for on, _, _ in sent(ledger(invoice()), weekdays, 0, 20)] == [1, 8, 15]


@pytest.mark.parametrize(("limit", "days_sent"), [(1, [1, 8]), (2, [1, 8, 15]), (None, [1, 8, 15, 22, 29])])
def test_a_limit_counts_the_repetitions_after_the_first(limit, days_sent):
    settings = repeating(1, every=7, limit=limit)
    assert [on for on, _, _ in sent(ledger(invoice()), settings, 0, 30)] == days_sent


def test_a_ladder_is_completed_once_the_limit_is_reached():
    settings = repeating(1, every=7, limit=1)
    assert reason(ledger(invoice(), contacts=[step(1, 1)]), settings, 8) == "remind"
    row = decision(ledger(invoice(), contacts=[step(1, 1), step(1, 8)]), settings, 20)
    assert (row.reason, row.action, row.occurrence) == ("workflow_completed", None, None)


def test_what_counts_as_an_execution_of_the_last_action():
    settings = flow(repeating(1, every=7, limit=3), actions=(Action("first", 1), Action("step_2", 2, ("old",))))
    contacts = [
        step(2, 2),
        replace(step(2, 3), action="old"),
        step(2, 4, kind="recorded"),
        step(2, 5, kind="unknown"),
        replace(step(2, 5), carrying_invoice_id="B"),
        replace(step(2, 5), workflow="other"),
    ]
    row = decision(ledger(invoice(), contacts=contacts), settings, 6)
    assert (row.action, row.occurrence, row.trigger_on, row.last_contact_on) == ("step_2", 4, day(11), day(5))


def test_an_unknown_repetition_is_decided_again_under_the_same_id():
    contacts = [step(1, 1), step(1, 8, kind="unknown")]
    row = decision(ledger(invoice(), contacts=contacts), repeating(1, every=7), 13)
    assert (row.reason, row.occurrence, row.trigger_on) == ("remind", 2, day(8))


def test_a_last_action_brought_along_from_elsewhere_is_repeated_before_its_first_trigger():
    book = ledger(invoice(), contacts=[step(2, -9, kind="recorded")])
    row = decision(book, repeating(1, 30, every=7), -2)
    assert (row.action, row.occurrence, row.trigger_on, row.reason) == ("step_2", 2, day(-2), "remind")


def test_a_last_action_before_the_anchor_is_repeated_up_to_the_anchor_only():
    assert sent(ledger(invoice()), repeating(-9, every=3, delay=0), -20, 20) == [
        (-9, "A", "step_1"),
        (-6, "A", "step_1"),
        (-3, "A", "step_1"),
    ]
    assert reason(ledger(invoice()), repeating(-9, every=3), 0) == "workflow_completed"


def test_contextual_logic_repeats_the_last_action_too():
    settings = flow(contextual(1, 8), repeat_last=(10, 1))
    assert sent(ledger(invoice()), settings, 20, 60) == [(20, "A", "step_2"), (30, "A", "step_2")]


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


def test_a_holiday_on_the_due_day_moves_the_reminder():
    holiday = rules(1, 6, holidays=frozenset({day(1), day(2)}))
    assert sent(ledger(invoice()), holiday, 0, 20) == [(3, "A", "step_1"), (8, "A", "step_2")]
    moved_back = rules(-1, holidays=frozenset({day(-1), day(-2)}))
    assert decision(ledger(invoice()), moved_back, -9).trigger_on == day(-3)


@pytest.mark.parametrize(
    ("country", "expected"),
    [("FR", 2), ("JP", 1), (None, 3), ("", 3), ("ZZ", 3)],
)
def test_holidays_of_the_customer_s_country_count_where_they_are_known(country, expected):
    settings = rules(
        1,
        holidays=frozenset({day(1), day(2)}),
        customer_holidays={"FR": frozenset({day(1)}), "JP": frozenset()},
    )
    book = Ledger(customers=[replace(CUSTOMER, country=country)], invoices=[invoice()])
    assert sent(book, settings, 0, 9) == [(expected, "A", "step_1")]
    assert decision(book, settings).reason == ("remind" if expected == 1 else "non_working_day")
    assert sent(book, replace(settings, customer_holidays=None), 0, 9) == [(3, "A", "step_1")]


def test_each_customer_has_its_own_days_off():
    settings = rules(-1, 1, customer_holidays={"FR": frozenset({day(-1), day(1)})})
    book = Ledger(
        customers=[replace(CUSTOMER, country="FR"), replace(CUSTOMER, customer_id="c2", country="JP")],
        invoices=[invoice(), replace(invoice("B"), customer_id="c2")],
    )
    assert [(row.customer_id, row.trigger_on) for row in decide(book, settings, day(-9))] == [
        ("c1", day(-2)),
        ("c2", day(-1)),
    ]
    rows = decide(book, settings, day(1))
    assert [(row.reason, row.next_due_on) for row in rows] == [("non_working_day", day(2)), ("remind", day(1))]


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


A_THEN_B = (invoice("A", 0), invoice("B", 5))


def change(book: Ledger, settings: Rules, offset: int = 10) -> tuple[str, str | None, str | None]:
    """The customer's carrying invoice, why it is another one than the day before, and which one that was."""
    (row,) = [row for row in carrying(book, settings, day(offset)) if row.level == "customer"]
    return row.invoice_id, row.carrying_change, row.previous_invoice_id


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"voided_on": day(10)}, "excluded"),
        ({"written_off_on": day(10)}, "excluded"),
        ({"disputed_on": day(10)}, "excluded"),
        ({"missing_since": day(10)}, "excluded"),
        ({"voided_on": day(11)}, None),
        ({"disputed_on": day(11)}, None),
    ],
)
def test_an_invoice_that_is_out_of_the_question_hands_over_the_same_day(columns, why):
    book = ledger(invoice("A", 0, **columns), invoice("B", 5))
    assert change(book, rules(1)) == (("B", why, "A") if why else ("A", None, None))


@pytest.mark.parametrize(("paid", "why"), [(9_994, None), (9_995, "paid"), (10_000, "paid"), (10_500, "paid")])
def test_paid_is_down_to_the_tolerance(paid, why):
    book = ledger(*A_THEN_B, payments=[payment("A", paid, 10)])
    assert change(book, rules(1, tolerance={"EUR": 5})) == (("B", why, "A") if why else ("A", None, None))


def test_paid_is_asked_before_excluded_and_before_what_the_new_invoice_is():
    void = ledger(invoice("A", voided_on=day(10)), invoice("B", 5), payments=[payment("A", 10_000, 10)])
    assert change(void, rules(1)) == ("B", "paid", "A")
    new = ledger(invoice("A"), invoice("B", -5, recorded_on=day(10)), payments=[payment("A", 10_000, 10)])
    assert change(new, rules(1)) == ("B", "paid", "A")


def test_a_payment_recorded_late_changes_the_carrying_invoice_on_the_day_it_was_recorded():
    book = ledger(*A_THEN_B, payments=[payment("A", 10_000, 7, recorded_on=day(10))])
    assert [change(book, rules(1), n) for n in (9, 10, 11)] == [
        ("A", None, None),
        ("B", "paid", "A"),
        ("B", None, None),
    ]


def test_an_invoice_that_is_held_is_excluded():
    paused = ledger(*A_THEN_B, pauses=[Pause("z", "invoice", day(10), invoice_id="A")])
    promised = ledger(*A_THEN_B, promises=[Promise("s", "c1", day(10), day(12), "A")])
    assert change(paused, rules(1)) == change(promised, rules(1)) == ("B", "excluded", "A")


def test_an_invoice_whose_currency_is_not_worth_chasing_any_more_is_excluded():
    book = ledger(
        invoice("A", currency="USD"),
        invoice("B", 5),
        payments=[replace(payment("A", 1, 10), currency="USD")],
    )
    assert change(book, rules(1, minimum_amount={"USD": 10_000})) == ("B", "excluded", "A")


def test_an_invoice_that_came_under_a_workflow_of_its_own_is_excluded():
    book = ledger(*A_THEN_B, assignments=[assigned("A", start=10)])
    settings = both_levels(1)
    assert change(book, settings) == ("B", "excluded", "A")
    assert [(row.invoice_id, row.level, row.carrying_change) for row in carrying(book, settings, day(10))] == [
        ("B", "customer", "excluded"),
        ("A", "invoice", "first"),
    ]


def test_an_older_invoice_is_one_recorded_on_the_day():
    book = ledger(invoice("B", 5), invoice("A", 0, recorded_on=day(10)))
    assert [change(book, rules(1), n) for n in (9, 10, 11)] == [
        ("B", None, None),
        ("A", "older_invoice", "B"),
        ("A", None, None),
    ]
    larger = ledger(invoice("B"), invoice("A", total=20_000, recorded_on=day(10)))
    assert change(larger, rules(1)) == ("A", "older_invoice", "B")
    issued_today = ledger(invoice("B"), invoice("A", due_on=day(-1), issued_on=day(10)))
    assert change(issued_today, rules(1)) == ("A", "older_invoice", "B")


def test_an_invoice_that_is_back_was_reopened():
    resolved = ledger(invoice("A", disputed_on=day(5), dispute_resolved_on=day(10)), invoice("B", 5))
    back = [payment("A", 10_000, 1), payment("A", -10_000, 10, kind="chargeback")]
    resumed = ledger(*A_THEN_B, pauses=[Pause("z", "invoice", day(1), day(10), invoice_id="A")])
    for book in (resolved, ledger(*A_THEN_B, payments=back), resumed):
        assert [change(book, rules(1), n) for n in (9, 10)] == [("B", None, None), ("A", "reopened", "B")]


def test_the_first_carrying_invoice_is_first_each_time_that_none_carried_the_day_before():
    book = ledger(invoice("A", recorded_on=day(2), disputed_on=day(5), dispute_resolved_on=day(7)))
    assert carrying(book, rules(1), day(1)) == carrying(book, rules(1), day(6)) == []
    assert [change(book, rules(1), n) for n in (2, 3, 7, 8)] == [
        ("A", "first", None),
        ("A", None, None),
        ("A", "first", None),
        ("A", None, None),
    ]


def test_every_invoice_of_its_own_carries_for_the_first_time_by_itself():
    book = ledger(
        invoice("A"),
        invoice("B", recorded_on=day(3)),
        assignments=[assigned("A"), assigned("B")],
        pauses=[Pause("z", "invoice", day(4), day(6), invoice_id="A")],
    )
    changes = [
        {row.invoice_id: (row.level, row.carrying_change) for row in carrying(book, both_levels(1), day(n))}
        for n in (2, 3, 4, 6)
    ]
    assert changes == [
        {"A": ("invoice", None)},
        {"A": ("invoice", None), "B": ("invoice", "first")},
        {"B": ("invoice", None)},
        {"A": ("invoice", "first"), "B": ("invoice", None)},
    ]


def test_invoices_of_their_own_climb_their_own_ladders_beside_the_customer_s():
    book = ledger(
        invoice("A", 0),
        invoice("B", 2),
        invoice("C", 1),
        assignments=[assigned("A"), assigned("B")],
    )
    assert [(row.invoice.invoice_id, row.level) for row in open_invoices(book, both_levels(1), day(1))] == [
        ("A", "invoice"),
        ("B", "invoice"),
        ("C", "customer"),
    ]
    assert sent(book, both_levels(1, 9), 0, 12) == [
        (1, "A", "alone_1"),
        (2, "C", "step_1"),
        (3, "B", "alone_1"),
        (8, "A", "alone_2"),
        (10, "C", "step_2"),
        (10, "B", "alone_2"),
    ]


def test_the_delay_of_an_invoice_of_its_own_counts_from_its_own_reminders():
    book = ledger(invoice("A"), invoice("B", 1), assignments=[assigned("A"), assigned("B")])
    assert sent(book, both_levels(1, alone=(1, 2)), 0, 9) == [
        (1, "A", "alone_1"),
        (2, "B", "alone_1"),
        (6, "A", "alone_2"),
        (7, "B", "alone_2"),
    ]


def test_a_customer_with_nothing_left_at_its_level_has_no_row_there():
    book = ledger(invoice("A"), invoice("V", missing_since=day(0)), assignments=[assigned("A")])
    (row,) = decide(book, both_levels(1), day(1))
    assert (row.level, row.carrying_invoice_id, row.assigned_by) == ("invoice", "A", "assignment:alone-A")
    assert (row.workflow, row.reason) == ("alone", "remind")
    assert row.reminder_id == reminder_id("c1", "alone", "A", "alone_1")


def test_an_invoice_of_its_own_that_is_held_has_a_row_without_an_action():
    book = ledger(
        invoice("A"),
        invoice("B"),
        assignments=[assigned("A"), assigned("B")],
        pauses=[Pause("z", "invoice", day(0), invoice_id="A")],
        promises=[Promise("s", "c1", day(0), day(1), "B")],
    )
    rows = by_invoice(book, both_levels(1))
    assert {name: row.reason for name, row in rows.items()} == {"A": "customer_paused", "B": "promise_to_pay"}
    assert all(row.action is row.trigger_on is row.occurrence is row.next_due_on is None for row in rows.values())
    assert reasons(book, both_levels(1), 2)["B"] == ("invoice", "remind")


def test_the_customer_level_is_paused_by_what_holds_its_own_invoices():
    book = ledger(
        invoice("A"),
        invoice("B"),
        assignments=[assigned("B")],
        pauses=[Pause("z", "invoice", day(0), invoice_id="A")],
    )
    assert reasons(book, both_levels(1)) == {None: ("customer", "customer_paused"), "B": ("invoice", "remind")}
    whole = replace(book, pauses=[Pause("z", "organisation", day(0))])
    assert {why for _, why in reasons(whole, both_levels(1)).values()} == {"organisation_paused"}


@pytest.mark.parametrize(("credit", "expected"), [(19_999, "remind"), (20_000, "net_balance_not_positive")])
def test_the_net_balance_is_over_both_levels(credit, expected):
    book = ledger(invoice("A"), invoice("B"), assignments=[assigned("B")], payments=[payment(None, credit, 0)])
    assert {row.reason for row in decide(book, both_levels(1), day(1))} == {expected}


@pytest.mark.parametrize(("minimum", "expected"), [(20_000, "remind"), (20_001, "below_minimum_amount")])
def test_the_minimum_amount_is_over_both_levels(minimum, expected):
    book = ledger(invoice("A"), invoice("B"), assignments=[assigned("B")])
    settings = both_levels(1, minimum_amount={"EUR": minimum})
    assert {row.reason for row in decide(book, settings, day(1))} == {expected}


def test_a_paused_invoice_of_its_own_is_missing_from_the_minimum_of_the_others():
    book = ledger(
        invoice("A"),
        invoice("B"),
        assignments=[assigned("B")],
        pauses=[Pause("z", "invoice", day(0), invoice_id="B")],
    )
    assert reasons(book, both_levels(1, minimum_amount={"EUR": 15_000})) == {
        None: ("customer", "below_minimum_amount"),
        "B": ("invoice", "customer_paused"),
    }


def test_each_level_looks_at_the_currencies_of_its_own_invoices():
    book = ledger(
        invoice("A"),
        invoice("B", currency="USD"),
        assignments=[assigned("B")],
        payments=[replace(payment(None, 10_000, 0), currency="USD")],
    )
    assert reasons(book, both_levels(1)) == {"A": ("customer", "remind"), "B": ("invoice", "net_balance_not_positive")}
    owed_in_usd = replace(book, payments=[payment(None, 10_000, 0)])
    assert reasons(owed_in_usd, both_levels(1)) == {
        None: ("customer", "net_balance_not_positive"),
        "B": ("invoice", "remind"),
    }


@pytest.mark.parametrize(
    ("workflow", "row"),
    [
        ("alone", ("invoice", "alone", "assignment:alone-A", "remind")),
        ("standard", ("invoice", None, "assignment:standard-A", "no_workflow")),
        ("nowhere", ("invoice", None, "assignment:nowhere-A", "no_workflow")),
        ("unassigned", ("customer", "standard", "default", "remind")),
    ],
)
def test_what_an_assignment_of_an_invoice_leads_to(workflow, row):
    decided = decision(ledger(invoice(), assignments=[assigned("A", workflow)]), both_levels(1))
    assert (decided.level, decided.workflow, decided.assigned_by, decided.reason) == row
    assert decided.carrying_invoice_id == "A"


@pytest.mark.parametrize("workflow", ["alone", "nowhere", "unassigned"])
def test_a_customer_assigned_to_no_workflow_of_its_level_has_none(workflow):
    decided = decision(ledger(invoice(), assignments=[assigned(None, workflow)]), both_levels(1))
    assert (decided.workflow, decided.assigned_by) == (None, f"assignment:{workflow}-None")
    assert (decided.reason, decided.carrying_invoice_id, decided.action) == ("no_workflow", "A", None)


def test_the_latest_assignment_of_an_invoice_is_in_force_up_to_the_day_before_its_end():
    book = ledger(
        invoice(),
        assignments=[
            assigned("A", start=1, assigned_until=day(6)),
            assigned("A", "nowhere", start=3, assigned_until=day(5)),
            assigned("A", "unassigned", start=3, assigned_until=day(4)),
        ],
    )
    rows = [decision(book, both_levels(1), n) for n in range(7)]
    assert [(row.level, row.assigned_by) for row in rows] == [
        ("customer", "default"),
        ("invoice", "assignment:alone-A"),
        ("invoice", "assignment:alone-A"),
        ("customer", "default"),
        ("invoice", "assignment:nowhere-A"),
        ("invoice", "assignment:alone-A"),
        ("customer", "default"),
    ]


def test_an_assignment_of_an_invoice_says_nothing_about_the_customer():
    book = ledger(invoice("A"), invoice("B"), assignments=[assigned("B", "nowhere")])
    assert reasons(book, both_levels(1)) == {"A": ("customer", "remind"), "B": ("invoice", "no_workflow")}


A_TOGETHER_B_C_ALONE = ledger(
    invoice("A"), invoice("B", 0), invoice("C", 0), assignments=[assigned("B"), assigned("C")]
)


@pytest.mark.parametrize(
    ("about", "columns", "delayed"),
    [
        ("A", {"level": "customer"}, "A"),
        ("A", {"level": "invoice"}, ""),
        ("B", {"level": "customer"}, "AB"),
        ("B", {"level": "invoice"}, "B"),
        ("B", {"level": "invoice", "kind": "unknown"}, "B"),
        ("B", {"level": "invoice", "workflow": "standard"}, "B"),
        (None, {"kind": "recorded"}, "ABC"),
        ("B", {"kind": "recorded"}, "AB"),
        ("A", {"kind": "recorded"}, "A"),
        (None, {"kind": "recorded", "workflow": "standard"}, "ABC"),
        (None, {"kind": "recorded", "workflow": "alone"}, "BC"),
        ("B", {"kind": "recorded", "workflow": "alone"}, "B"),
        ("B", {"kind": "recorded", "workflow": "nowhere"}, "AB"),
    ],
)
def test_which_contacts_count_for_the_delay_of_which_level(about, columns, delayed):
    contact = replace(Contact("c1", day(9), about), **columns)
    rows = by_invoice(replace(A_TOGETHER_B_C_ALONE, contacts=[contact]), both_levels(1, alone=(1,)), 10)
    assert {name: row.last_contact_on for name, row in rows.items()} == {
        name: day(9) if name in delayed else None for name in "ABC"
    }
    assert {name: row.reason for name, row in rows.items()} == {
        name: "minimum_contact_delay" if name in delayed else "remind" for name in "ABC"
    }


@pytest.mark.parametrize(
    ("about", "level", "held"),
    [("A", "customer", "A"), ("B", "customer", "AB"), ("B", "invoice", "B"), ("Z", "invoice", "")],
)
def test_another_reminder_of_the_day_holds_the_same_level_or_the_same_invoice(about, level, held):
    other = Contact("c1", day(1), about, "former", "step_1", "another", level=level)
    rows = by_invoice(replace(A_TOGETHER_B_C_ALONE, contacts=[other]), both_levels(1, delay=3))
    assert {name for name, row in rows.items() if row.reason != "remind"} == set(held)
    for row in rows.values():
        if row.reason != "remind":
            next_due_on = day(4) if row.level == "customer" else day(6)
            assert (row.reason, row.last_contact_on, row.next_due_on) == ("minimum_contact_delay", day(1), next_due_on)


def test_an_action_done_under_a_workflow_of_its_own_is_executed_for_that_invoice_only():
    done = Contact("c1", day(1), "B", "alone", "alone_1", level="invoice")
    rows = by_invoice(replace(A_TOGETHER_B_C_ALONE, contacts=[done]), both_levels(1), 8)
    assert {name: row.action for name, row in rows.items()} == {"A": "step_1", "B": "alone_2", "C": "alone_1"}


def many_alone(*invoices: Invoice, **tables) -> Ledger:
    return ledger(*invoices, assignments=[assigned(row.invoice_id) for row in invoices], **tables)


def reminded(book: Ledger, settings: Rules, offset: int = 10) -> str:
    """The invoices of their own that are reminded of; the others wait because of the day's maximum."""
    rows = [row for row in decide(book, settings, day(offset)) if row.level == "invoice"]
    assert {row.reason for row in rows} <= {"remind", "contact_cap"}
    assert {row.next_due_on for row in rows} <= {day(offset)}
    return "".join(row.carrying_invoice_id for row in rows if row.decision == "remind")


@pytest.mark.parametrize(("most", "expected"), [(0, ""), (1, "D"), (2, "DB"), (3, "DBA"), (4, "DBAE"), (5, "DBAEC")])
def test_the_oldest_due_invoices_of_their_own_fill_the_maximum_of_a_day(most, expected):
    # B, A and E are due on the same day: the largest comes first, then the lower id.
    book = many_alone(
        invoice("A", 1), invoice("B", 1, 10_001), invoice("C", 2, 90_000), invoice("D", 0, 1), invoice("E", 1)
    )
    assert set(reminded(book, both_levels(1, max_invoice_reminders=most))) == set(expected)


def test_three_a_day_is_the_default_and_the_others_follow():
    book = many_alone(*(invoice(name) for name in "ABCD"))
    assert sent(book, both_levels(1, alone=(1,)), 0, 9) == [
        (1, "A", "alone_1"),
        (1, "B", "alone_1"),
        (1, "C", "alone_1"),
        (2, "D", "alone_1"),
    ]
    held = by_invoice(book, both_levels(1))["D"]
    assert (held.decision, held.reason, held.action, held.reminder_id) == ("skip", "contact_cap", "alone_1", None)
    assert held.next_due_on == day(1)


@pytest.mark.parametrize(("rates", "expected"), [({"JPY": Decimal("0.006")}, "E"), ({}, "J")])
def test_ties_for_the_maximum_are_settled_as_for_the_carrying_invoice(rates, expected):
    book = many_alone(invoice("E"), invoice("J", total=5_000, currency="JPY"))
    assert reminded(book, both_levels(1, max_invoice_reminders=1, exchange_rates=rates)) == expected


def test_reminders_of_the_day_keep_their_place_in_the_maximum():
    book = many_alone(invoice("A", 0), invoice("B", 1), invoice("C", 2))
    settings = both_levels(1, max_invoice_reminders=2)
    of_c = accepted(by_invoice(replace(book, assignments=[assigned("C")]), settings, 10)["C"])
    assert reminded(replace(book, contacts=[of_c]), settings) == "AC"
    assert reminded(replace(book, contacts=[replace(of_c, kind="unknown")]), settings) == "AC"
    paid = replace(book, contacts=[of_c], payments=[payment("C", 10_000, 10)])
    assert reminded(paid, settings) == "A"
    of_customer = replace(of_c, level="customer", carrying_invoice_id="Z", reminder_id="another")
    assert reminded(replace(book, contacts=[of_customer]), settings) == "AB"
    two = [of_c, replace(of_c, carrying_invoice_id="Z", reminder_id="another")]
    assert reminded(replace(book, contacts=two), settings) == "C"


def test_what_would_not_go_takes_no_place_in_the_maximum():
    settings = both_levels(1, max_invoice_reminders=1)
    book = many_alone(invoice("A", 0), invoice("B", 1))
    call = Contact("c1", day(9), "A", kind="recorded")
    of_a = reminder_id("c1", "alone", "A", "alone_1")
    rejected = Rejection(of_a, day(10), CUSTOMER.email)
    assert reasons(replace(book, contacts=[call]), settings, 10)["B"] == ("invoice", "remind")
    assert reasons(replace(book, rejections=[rejected]), settings, 10) == {
        "A": ("invoice", "rejected"),
        "B": ("invoice", "remind"),
    }
    together = ledger(invoice("A", 0), invoice("B", 1), assignments=[assigned("B")])
    assert reasons(together, settings, 10) == {"A": ("customer", "remind"), "B": ("invoice", "remind")}


def capped(days: int, most: int, *ordered: int, **settings) -> tuple[Ledger, Rules]:
    """A of 100.00 EUR with one action on day 1, order events on the given days and a cap."""
    book = ledger(invoice(), order_events=[OrderEvent("c1", day(n)) for n in ordered])
    return book, rules(1, contact_cap=(days, most), **settings)


@pytest.mark.parametrize(("days", "held"), [(0, []), (1, [2]), (2, [2, 3]), (3, [2, 3, 4])])
def test_a_reminder_waits_so_many_days_after_an_order_event(days, held):
    book, settings = capped(days, 9, 2, -5)
    assert [n for n in range(1, 8) if reason(book, settings, n) == "contact_cap"] == held
    assert {reason(book, settings, n) for n in range(1, 8) if n not in held} == {"remind"}


@pytest.mark.parametrize(("most", "sent_first"), [(0, 1), (1, 2), (5, 6)])
def test_a_reminder_is_deferred_by_orders_at_most_so_many_days_past_its_due_date(most, sent_first):
    book, settings = capped(1, most, *range(30))
    assert sent_on(book, settings, 0, 20) == [day(sent_first)]


def test_deferral_counts_from_when_the_delay_allowed_the_reminder():
    book, settings = capped(1, 2, *range(30))
    book.contacts.append(Contact("c1", day(3), kind="recorded"))
    assert [reason(book, settings, n) for n in (7, 8, 9, 10)] == [
        "minimum_contact_delay",
        "contact_cap",
        "contact_cap",
        "remind",
    ]


def test_deferral_counts_from_a_working_day():
    # Monday's action was due on a day off; the first working day is Wednesday.
    off = {"holidays": frozenset({day(1), day(2)})}
    book, settings = capped(1, 1, *range(30), **off)
    rows = [decision(book, settings, n) for n in range(5)]
    assert [(row.reason, row.next_due_on) for row in rows] == [
        ("waiting_for_trigger", day(3)),
        ("contact_cap", day(3)),
        ("contact_cap", day(3)),
        ("contact_cap", day(3)),
        ("remind", day(4)),
    ]
    book, never = capped(1, 0, *range(30), **off)
    assert [reason(book, never, n) for n in (1, 2, 3)] == ["non_working_day", "non_working_day", "remind"]


def test_only_order_events_of_the_customer_up_to_the_day_count():
    book, settings = capped(1, 5, 2)
    assert reason(book, settings) == "remind"
    book.order_events.append(OrderEvent("c2", day(1)))
    assert reason(book, settings) == "remind"
    assert (
        reason(replace(book, order_events=[OrderEvent("c1", day(1))]), replace(settings, contact_cap=None)) == "remind"
    )


def test_the_cap_holds_both_levels_but_no_reminder_of_the_day():
    ordered = [OrderEvent("c1", day(1))]
    settings = both_levels(1, contact_cap=(1, 5))
    due = decide(A_TOGETHER_B_C_ALONE, settings, day(1))
    book = replace(A_TOGETHER_B_C_ALONE, order_events=ordered)
    assert {why for _, why in reasons(book, settings).values()} == {"contact_cap"}
    assert decide(replace(book, contacts=[accepted(row) for row in due]), settings, day(1)) == due


@pytest.mark.parametrize(
    ("columns", "held"),
    [
        ({}, True),
        ({"rejected_on": day(3)}, True),
        ({"rejected_on": day(4)}, False),
        ({"email": "other@harbour-bakery.test"}, False),
        ({"email": None}, False),
        # The telephone number is not what people are identified by here.
        ({"phone": "+441632960999"}, True),
        ({"policy_unchanged": False}, False),
        ({"reminder_id": "another"}, False),
    ],
)
def test_a_rejected_reminder_waits_for_another_identifier_or_policy(columns, held):
    of_a = Rejection(reminder_id("c1", "standard", "A", "step_1"), day(1), CUSTOMER.email)
    row = decision(ledger(invoice(), rejections=[replace(of_a, **columns)]), rules(1), 3)
    assert row.reason == ("rejected" if held else "remind")
    assert (row.action, row.next_due_on, row.reminder_id is None) == ("step_1", day(3), held)


def test_an_identifier_that_was_never_usable_changes_nothing_for_a_rejection():
    settings = rules(1, identify_by=("email", "phone"))
    of_a = Rejection(reminder_id("c1", "standard", "A", "step_1"), day(1), CUSTOMER.email)
    book = ledger(invoice(), rejections=[of_a])
    book.customers = [replace(CUSTOMER, phone="01632 960001")]
    assert reason(book, settings) == "rejected"
    book.customers = [replace(CUSTOMER, phone="+441632960001")]
    assert reason(book, settings) == "remind"


def test_a_rejection_comes_after_everything_else_and_holds_this_reminder_only():
    of_a = Rejection(reminder_id("c1", "standard", "A", "step_1"), day(1), CUSTOMER.email)
    book = ledger(invoice(), rejections=[of_a])
    assert reason(book, rules(1, holidays=frozenset({day(1)}))) == "non_working_day"
    other = Contact("c1", day(1), "Z", "standard", "step_1", "another")
    assert reason(replace(book, contacts=[other]), rules(1)) == "minimum_contact_delay"
    assert reason(book, contextual(1, 4), 4) == "remind"


SPECIAL = Workflow("special", (Action("special_1", 1),))


def ruled(*when: tuple[str, str, object], for_: str = "customer", **settings) -> Rules:
    """Rules that lead to the workflow special, or to alone for invoices, when the conditions hold."""
    rule = SmartRule("chosen", "special" if for_ == "customer" else "alone", when, for_)
    chosen = both_levels(1, smart_rules=(rule,), **settings)
    return replace(chosen, workflows=(*chosen.workflows, SPECIAL))


def holds(condition: tuple[str, str, object], book: Ledger, offset: int = 1, **settings) -> bool:
    """Whether a rule with this only condition applies to the customer."""
    row = decision(book, ruled(condition, **settings), offset)
    assert (row.workflow, row.assigned_by) in {("special", "rule:chosen"), ("standard", "default")}
    return row.workflow == "special"


def holds_for_invoice(condition: tuple[str, str, object], book: Ledger, offset: int = 1, **settings) -> bool:
    """Whether a rule with this only condition applies to A."""
    rows = open_invoices(book, ruled(condition, for_="invoice", **settings), day(offset))
    (level,) = [row.level for row in rows if row.invoice.invoice_id == "A"]
    return level == "invoice"


def with_columns(**columns) -> Ledger:
    """A ledger of a customer with these columns, and a custom column `segment` without a value."""
    custom = {"segment": None} | columns.pop("custom", {})
    return Ledger(customers=[replace(CUSTOMER, custom=custom, **columns)], invoices=[invoice()])


@pytest.mark.parametrize(
    ("text", "operator", "constant", "expected"),
    [
        ("FR", "is", "FR", True),
        ("FR", "is", "fr", False),
        ("FR ", "is", "FR", False),
        ("FR", "is_not", "DE", True),
        ("FR", "is_not", "FR", False),
        ("FR", "in", ("DE", "FR"), True),
        ("FR", "in", ("DE", "fr"), False),
        ("FR", "not_in", ("DE", "fr"), True),
        ("FR", "not_in", ("DE", "FR"), False),
        ("7", "is", 7, True),
        ("7.00", "is", 7, True),
        ("7.5", "is", Decimal("7.50"), True),
        ("7.5", "is", "7.50", False),
        ("seven", "is", 7, False),
        ("seven", "is_not", 7, True),
        ("7", "in", (6, 7), True),
        ("7", "not_in", (6, Decimal("7.0")), False),
        ("true", "is", True, True),
        ("True", "is", True, False),
        ("1", "is", True, False),
        ("false", "is", False, True),
        ("false", "in", (True, False), True),
        ("no", "is_not", False, True),
        ("2021-10-10", "is", DUE, True),
        ("2021-10-11", "is", DUE, False),
        ("10", "at_least", 10, True),
        ("9.99", "at_least", 10, False),
        ("9", "at_least", 10, False),
        ("10.01", "more_than", 10, True),
        ("10", "more_than", 10, False),
        ("10", "at_most", 10, True),
        ("10.01", "at_most", 10, False),
        ("-3", "less_than", 0, True),
        ("0", "less_than", 0, False),
        ("10", "at_least", "10.0", True),
        ("10", "between", (10, 20), True),
        ("20", "between", (10, 20), True),
        ("9.99", "between", (10, 20), False),
        ("20.01", "between", (10, 20), False),
        ("ten", "at_least", 0, False),
        ("ten", "at_most", 0, False),
        ("2021-10-10", "at_least", DUE, True),
        ("2021-10-09", "at_least", DUE, False),
        ("2021-10-11", "more_than", DUE, True),
        ("2021-10-10", "less_than", DUE, False),
        ("2021-10-09", "between", (day(-1), DUE), True),
        ("2021-10-11", "between", (day(-1), DUE), False),
        ("2021-02-30", "less_than", DUE, False),
        ("soon", "less_than", DUE, False),
        ("2021", "at_least", DUE, False),
        ("key-account, vip", "contains", "vip", True),
        ("key-account, vip", "contains", "key", False),
        (" vip ", "contains", "vip", True),
        ("VIP", "contains", "vip", False),
        ('["key-account", "vip"]', "contains", "vip", True),
        ('["key-account, vip"]', "contains", "vip", False),
        ("2024,2025", "contains", 2025, True),
        ("[2024, 2025]", "contains", 2025, True),
        ("anything", "is_empty", True, False),
        ("anything", "is_empty", False, True),
    ],
)
def test_conditions_on_text(text, operator, constant, expected):
    assert holds(("segment", operator, constant), with_columns(custom={"segment": text})) is expected
    assert holds(("tags", operator, constant), with_columns(tags=text)) is expected


@pytest.mark.parametrize("empty", [None, "", "  ", "[]"])
def test_an_empty_value_satisfies_is_empty_and_the_negations_only(empty):
    constants = {
        "is": "",
        "is_not": "vip",
        "in": ("", "[]"),
        "not_in": ("vip", ""),
        "contains": "",
        "at_least": 0,
        "more_than": -1,
        "at_most": 0,
        "less_than": 1,
        "between": (0, 1),
    }
    book = with_columns(tags=empty)
    satisfied = {operator for operator, constant in constants.items() if holds(("tags", operator, constant), book)}
    assert satisfied == {"is_not", "not_in"}
    assert holds(("tags", "is_empty", True), book)
    assert not holds(("tags", "is_empty", False), book)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("customer_id", "c1"),
        ("name", "Harbour Bakery"),
        ("email", "accounts@harbour-bakery.test"),
        ("phone", "+441632960001"),
        ("external_id", "C-1"),
        ("country", "FR"),
        ("language", "fr"),
        ("currency", "EUR"),
    ],
)
def test_every_column_of_the_customer_can_be_asked_for(column, value):
    book = Ledger(customers=[replace(CUSTOMER, **{column: value})], invoices=[invoice()])
    assert holds((column, "is", value), book)
    assert not holds((column, "is", "other"), book)


def test_the_day_of_an_instant_is_that_of_the_organisation():
    # In Paris it is already the 10th.
    book = with_columns(created_at=datetime(2021, 10, 9, 22, 0, tzinfo=UTC))
    assert holds(("created_at", "at_least", day(0)), book)
    assert holds(("created_at", "is", day(0)), book)
    assert not holds(("created_at", "less_than", day(0)), book)
    before = with_columns(created_at=datetime(2021, 10, 9, 21, 59, tzinfo=UTC))
    assert not holds(("created_at", "at_least", day(0)), before)
    assert holds(("updated_at", "is_empty", True), before)


RATES = {"USD": Decimal("0.9"), "JPY": Decimal("0.01")}
THREE_CURRENCIES = ledger(
    # On day 1: 60.00 EUR open and 1 day overdue, 90.00 EUR due today, 50.00 EUR to come.
    invoice("A", 0),
    invoice("B", 1, currency="USD"),
    invoice("C", 2, total=5_000, currency="JPY"),
    payments=[payment("A", 4_000, 0)],
)


@pytest.mark.parametrize(
    ("column", "figure"),
    [("open_balance", 200), ("overdue_balance", 60), ("oldest_days_overdue", 1), ("open_invoices", 3)],
)
def test_figures_are_exact_and_in_base_currency(column, figure):
    cent = Decimal("0.01")
    for operator, constant, expected in [
        ("is", figure, True),
        ("is", figure + cent, False),
        ("is", str(figure), False),
        ("is_not", str(figure), True),
        ("is", True, False),
        ("in", (figure - 1, figure), True),
        ("not_in", (figure,), False),
        ("at_least", figure, True),
        ("at_least", str(figure), True),
        ("at_least", figure + cent, False),
        ("more_than", figure - cent, True),
        ("more_than", figure, False),
        ("at_most", figure, True),
        ("at_most", figure - cent, False),
        ("less_than", figure + cent, True),
        ("less_than", figure, False),
        ("between", (figure, figure), True),
        ("between", (figure + cent, figure + 1), False),
        ("at_least", DUE, False),
        ("contains", figure, False),
        ("is_empty", False, True),
        ("is_empty", True, False),
    ]:
        assert holds((column, operator, constant), THREE_CURRENCIES, exchange_rates=RATES) is expected, operator


def test_figures_of_money_are_unknown_without_a_rate():
    constants = {
        "is": 0,
        "is_not": 0,
        "in": (0, 200),
        "not_in": (0,),
        "contains": "0",
        "at_least": 0,
        "at_most": 10_000,
        "is_empty": True,
    }
    for operator, constant in [*constants.items(), ("is_empty", False)]:
        for column in ("open_balance", "overdue_balance"):
            assert not holds((column, operator, constant), THREE_CURRENCIES, exchange_rates={"USD": Decimal("0.9")})
    assert holds(("open_invoices", "is", 3), THREE_CURRENCIES)
    assert holds(("oldest_days_overdue", "is", 1), THREE_CURRENCIES)
    paid = replace(THREE_CURRENCIES, payments=[replace(payment("C", 5_000, 0), currency="JPY")])
    assert holds(("open_balance", "is", 190), paid, exchange_rates={"USD": Decimal("0.9")})


def test_figures_count_paused_invoices_and_both_levels_and_no_credit():
    book = ledger(
        invoice("A"),
        invoice("B", -4),
        invoice("C", -9, disputed_on=day(0)),
        assignments=[assigned("B")],
        pauses=[Pause("z", "invoice", day(0), invoice_id="B")],
        payments=[payment(None, 5_000, 0)],
    )
    settings = ruled(
        ("open_balance", "is", 200),
        ("overdue_balance", "is", 200),
        ("oldest_days_overdue", "is", 5),
        ("open_invoices", "is", 2),
    )
    assert by_invoice(book, settings)["A"].assigned_by == "rule:chosen"


def test_nothing_is_overdue_on_its_due_date():
    for offset, overdue, days_overdue in ((-3, 0, 0), (0, 0, 0), (1, 100, 1)):
        assert holds(("overdue_balance", "is", overdue), ledger(invoice()), offset)
        assert holds(("oldest_days_overdue", "is", days_overdue), ledger(invoice()), offset)


def test_figures_move_a_customer_from_one_day_to_the_next():
    book = ledger(invoice(), payments=[payment("A", 1, 3)])
    settings = ruled(("open_balance", "at_least", 100), ("oldest_days_overdue", "at_least", 2))
    assert [decision(book, settings, n).workflow for n in (1, 2, 3)] == ["standard", "special", "standard"]


def test_what_has_vanished_owes_nothing_to_a_rule():
    book = ledger(invoice(missing_since=day(0)))
    row = decision(book, ruled(("open_balance", "is", 0), ("open_invoices", "is", 0)))
    assert (row.reason, row.assigned_by) == ("source_unclear", "rule:chosen")


@pytest.mark.parametrize(
    ("column", "operator", "constant", "expected"),
    [
        ("invoice_id", "is", "A", True),
        ("number", "is", "2021-001", True),
        ("issued_on", "is", day(-30), True),
        ("issued_on", "at_least", day(-29), False),
        ("issued_on", "at_least", "2021-09-10", True),
        ("due_on", "between", (day(-1), day(0)), True),
        ("due_on", "less_than", day(0), False),
        ("due_on", "at_least", 7, False),
        ("currency", "is", "USD", True),
        ("total", "is", 90, True),
        ("total", "more_than", 90, False),
        ("outstanding", "is", 81, True),
        ("outstanding", "at_least", Decimal("81.01"), False),
        ("status", "is", "open", True),
        ("pay_url", "is_empty", True, True),
        ("days_overdue", "at_least", 1, True),
        ("days_overdue", "at_least", 2, False),
        # The customer's figures and the columns that the invoice has not.
        ("country", "is", "FR", True),
        ("segment", "is_empty", True, True),
        ("open_invoices", "is", 2, True),
        ("open_balance", "is", 181, True),
        ("oldest_days_overdue", "is", 4, True),
    ],
)
def test_conditions_on_an_invoice(column, operator, constant, expected):
    book = replace(
        with_columns(country="FR", currency="EUR"), payments=[replace(payment("A", 1_000, 0), currency="USD")]
    )
    book.invoices = [invoice("A", currency="USD", number="2021-001", status=None), invoice("B", -3)]
    assert holds_for_invoice((column, operator, constant), book, exchange_rates=RATES) is expected


def test_amounts_of_an_invoice_are_unknown_without_a_rate():
    book = ledger(invoice("A", currency="USD"))
    for column in ("total", "outstanding"):
        for operator, constant in (("at_least", 0), ("is_not", 0), ("is_empty", True), ("is_empty", False)):
            assert not holds_for_invoice((column, operator, constant), book)
    other = ledger(invoice("A"), invoice("B", currency="USD"))
    assert holds_for_invoice(("total", "is", 100), other)
    assert not holds_for_invoice(("open_balance", "at_least", 0), other)


def test_without_a_number_or_due_date_an_invoice_has_its_id_and_issue_date():
    book = ledger(invoice("A", due_on=None, issued_on=day(-1)))
    assert holds_for_invoice(("number", "is", "A"), book)
    assert holds_for_invoice(("due_on", "is", day(-1)), book)
    assert holds_for_invoice(("days_overdue", "is", 2), book)


def test_a_column_of_the_invoice_comes_before_the_customer_s_of_that_name():
    book = with_columns(currency="USD", custom={"status": "closed"})
    assert holds(("currency", "is", "USD"), book)
    assert holds(("status", "is", "closed"), book)
    assert holds_for_invoice(("currency", "is", "EUR"), book)
    assert holds_for_invoice(("status", "is", "open"), book)


def test_all_conditions_of_a_rule_must_hold_and_the_first_rule_wins():
    book = with_columns(country="FR", tags="vip")
    assert decision(book, ruled(("country", "is", "FR"), ("tags", "contains", "vip"))).workflow == "special"
    assert decision(book, ruled(("country", "is", "FR"), ("tags", "contains", "new"))).workflow == "standard"
    settings = ruled()
    first = (SmartRule("no", "standard", (("country", "is", "DE"),)), SmartRule("yes", "standard", ()))
    settings = replace(settings, smart_rules=(*first, *settings.smart_rules))
    assert decision(book, settings).assigned_by == "rule:yes"


def test_rules_for_invoices_leave_the_others_to_the_customer_s():
    large = SmartRule("large", "alone", (("total", "at_least", 500),), "invoice")
    settings = ruled(("open_invoices", "at_least", 2))
    settings = replace(settings, smart_rules=(large, *settings.smart_rules))
    rows = by_invoice(ledger(invoice("A"), invoice("B", total=50_000), invoice("C", 4, total=49_999)), settings)
    assert {name: (row.level, row.workflow, row.assigned_by) for name, row in rows.items()} == {
        "A": ("customer", "special", "rule:chosen"),
        "B": ("invoice", "alone", "rule:large"),
    }


@pytest.mark.parametrize(
    ("workflow", "by_hand", "overridden"),
    [
        ("standard", ("standard", "assignment:standard-None"), ("special", "rule:chosen")),
        ("unassigned", (None, "assignment:unassigned-None"), ("special", "rule:chosen")),
        (None, ("special", "rule:chosen"), ("special", "rule:chosen")),
    ],
)
def test_assignments_come_before_rules_unless_these_override_them(workflow, by_hand, overridden):
    book = ledger(invoice(), assignments=[assigned(None, workflow)] if workflow else [])
    settings = ruled(("open_invoices", "is", 1))
    for override, expected in ((False, by_hand), (True, overridden)):
        row = decision(book, replace(settings, smart_rules_override_manual=override))
        assert (row.workflow, row.assigned_by) == expected
    no_rule_holds = replace(ruled(("open_invoices", "is", 9)), smart_rules_override_manual=True)
    without = decision(book, no_rule_holds)
    assert (without.workflow, without.assigned_by) == (by_hand if workflow else ("standard", "default"))


@pytest.mark.parametrize(
    ("workflow", "by_hand", "overridden"),
    [
        ("alone", ("alone", "assignment:alone-A"), ("alone", "rule:chosen")),
        ("nowhere", (None, "assignment:nowhere-A"), ("alone", "rule:chosen")),
        ("unassigned", ("standard", "default"), ("alone", "rule:chosen")),
    ],
)
def test_assignments_of_invoices_come_before_rules_unless_these_override_them(workflow, by_hand, overridden):
    book = ledger(invoice(), assignments=[assigned("A", workflow)])
    settings = ruled(("open_invoices", "is", 1), for_="invoice")
    for override, expected in ((False, by_hand), (True, overridden)):
        row = decision(book, replace(settings, smart_rules_override_manual=override))
        assert (row.workflow, row.assigned_by) == expected


@pytest.mark.parametrize(("column", "for_"), [("sgement", "customer"), ("sgement", "invoice"), ("total", "customer")])
def test_a_rule_over_a_column_that_does_not_exist_stops_everything(column, for_):
    with pytest.raises(ValueError, match=f"Smart rule chosen asks for {column}; there is .*segment"):
        decide(with_columns(), ruled((column, "is_empty", True), for_=for_), day(1))


def test_a_customer_that_is_only_known_by_an_invoice_has_empty_columns():
    book = replace(with_columns(), invoices=[replace(invoice(), customer_id="c9")])
    assert holds(("segment", "is_empty", True), book)
    assert holds(("country", "is_not", "FR"), book)


def test_a_simulation_replaces_the_reminders_of_its_days_and_keeps_what_was_before():
    real = [step(1, 2), step(2, 9), step(2, 12, kind="unknown")]
    call = Contact("c1", day(10), kind="recorded", recorded_on=day(11))
    rejected = Rejection(reminder_id("c1", "standard", "A", "step_2"), day(1), CUSTOMER.email)
    book = ledger(invoice(), contacts=[*real, call], rejections=[rejected])
    assert sent(book, rules(1, 6, 12), 5, 20) == [(7, "A", "step_2"), (15, "A", "step_3")]
    assert book.contacts == [*real, call]


def test_a_simulation_heeds_the_cap_and_the_maximum_of_a_day():
    book = many_alone(*(invoice(name) for name in "AB"), order_events=[OrderEvent("c1", day(1))])
    settings = both_levels(1, alone=(1,), contact_cap=(1, 5), max_invoice_reminders=1)
    assert sent(book, settings, 0, 9) == [(2, "A", "alone_1"), (3, "B", "alone_1")]
