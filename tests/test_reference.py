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


def flow(settings: Rules, **columns) -> Rules:
    """The settings with other columns of their only workflow."""
    (workflow,) = settings.workflows
    return replace(settings, workflows=(replace(workflow, **columns),))


def contextual(*action_days: int, **settings) -> Rules:
    return flow(rules(*action_days, **settings), logic="contextual")


def repeating(*action_days: int, every: int, limit: int | None = None, **settings) -> Rules:
    return flow(rules(*action_days, **settings), repeat_last=(every, limit))


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
