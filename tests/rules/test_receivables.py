"""What is owed (RULES 1): which invoices count, what is open, which currencies are chaseable."""

from __future__ import annotations

from dataclasses import replace

from frames import (
    CUSTOMER,
    MONDAY,
    Derived,
    book,
    day,
    decision,
    invoice,
    payment,
    reason,
    reasons,
    rules_of,
    run,
    run_days,
)
from reference import Invoice, Pause, Payment


def unpaid_ids(*invoices: Invoice, payments: list[Payment] | None = None, **settings: object) -> list[str]:
    derived = run(book(*invoices, payments=payments or []), rules_of(1, **settings))
    return sorted(derived.open_invoices["invoice_id"])


def open_minor(*payments: Payment, **columns: object) -> int:
    (found,) = run(book(invoice(**columns), payments=list(payments)), rules_of(1)).open_invoices["open_minor"]
    return int(found)


def balance(derived: Derived, currency: str = "EUR") -> dict[str, object]:
    rows = derived.balances[derived.balances["currency"] == currency]
    (row,) = rows.to_dict("records")
    return row


def test_an_invoice_counts_while_nothing_has_taken_it_away():
    counting = {
        "plain": {},
        "without status": {"status": None},
        "recorded today": {"recorded_on": MONDAY},
        "recorded before": {"recorded_on": day(0)},
        "issued today": {"issued_on": MONDAY},
        "void from tomorrow": {"voided_on": day(2)},
        "void with a later day": {"status": "void", "voided_on": day(2)},
        "written off tomorrow": {"status": "written_off", "written_off_on": day(2)},
        "disputed tomorrow": {"disputed_on": day(2)},
        "dispute ended today": {"disputed_on": day(-3), "dispute_resolved_on": MONDAY},
        "dispute ended before": {"disputed_on": day(-3), "dispute_resolved_on": day(0)},
        "missing from tomorrow": {"missing_since": day(2)},
    }
    gone = {
        "draft": {"status": "draft"},
        "void without a day": {"status": "void"},
        "written off without a day": {"status": "written_off"},
        "recorded tomorrow": {"recorded_on": day(2)},
        "issued tomorrow": {"issued_on": day(2)},
        "void today": {"voided_on": MONDAY},
        "void before": {"status": "void", "voided_on": day(0)},
        "written off today": {"written_off_on": MONDAY},
        "written off before": {"written_off_on": day(0)},
        "disputed today": {"disputed_on": MONDAY},
        "disputed without end": {"disputed_on": day(-9)},
        "dispute ends tomorrow": {"disputed_on": day(-3), "dispute_resolved_on": day(2)},
        "missing today": {"missing_since": MONDAY},
        "missing before": {"missing_since": day(0)},
    }
    assert unpaid_ids(*(invoice(name, **columns) for name, columns in (counting | gone).items())) == sorted(counting)


def test_a_payment_counts_from_its_value_date_on():
    assert [open_minor(payment("A", 4_000, paid)) for paid in (0, 1, 2)] == [6_000, 6_000, 10_000]


def test_a_payment_counts_from_the_day_it_was_recorded():
    recorded = [open_minor(payment("A", 4_000, -5, recorded_on=day(known))) for known in (0, 1, 2)]
    assert recorded == [6_000, 6_000, 10_000]


def test_credit_notes_lower_and_refunds_and_chargebacks_reopen_what_is_open():
    paid = payment("A", 9_000, 0)
    assert open_minor(paid, payment("A", 500, 0, kind="credit_note")) == 500
    assert open_minor(paid, payment("A", -500, 0, kind="refund")) == 1_500
    assert open_minor(paid, payment("A", -9_000, 0, kind="chargeback")) == 10_000


def test_payments_beyond_32_bits_stay_exact():
    assert open_minor(payment("A", 1, 0), total=9_007_199_254_740_993) == 9_007_199_254_740_992


def test_exactly_the_tolerance_counts_as_paid_and_one_more_does_not():
    invoices = [invoice(name) for name in ("paid", "at tolerance", "above", "overpaid")]
    amounts = {"paid": 10_000, "at tolerance": 9_995, "above": 9_994, "overpaid": 10_001}
    payments = [payment(name, amount, 0) for name, amount in amounts.items()]
    assert unpaid_ids(*invoices, payments=payments, tolerance={"EUR": 5}) == ["above"]
    assert unpaid_ids(*invoices, payments=payments) == ["above", "at tolerance"]


def test_a_tolerance_is_for_its_own_currency():
    assert unpaid_ids(invoice("A", total=5), invoice("B", total=5, currency="USD"), tolerance={"EUR": 5}) == ["B"]


def test_a_currency_that_is_wholly_paused_still_makes_the_net_balance_of_one_currency_positive():
    ledger = book(
        invoice("A"),
        invoice("B", currency="USD"),
        payments=[payment(None, 20_000, 0, currency="USD")],
        pauses=[Pause("z", "invoice", day(-5), invoice_id="A")],
    )
    assert reason(ledger) == "below_minimum_amount"
    all_credited = replace(ledger, payments=[*ledger.payments, payment(None, 20_000, 0)])
    assert reason(all_credited) == "net_balance_not_positive"
    assert reason(replace(all_credited, invoices=[invoice("A")])) == "customer_paused"


def test_days_overdue_are_zero_up_to_the_due_date():
    derived = run(book(*(invoice(str(due), due) for due in (-3, 0, 1, 2))), rules_of(1))
    late = dict(zip(derived.open_invoices["invoice_id"], derived.open_invoices["days_overdue"], strict=True))
    assert late == {"-3": 4, "0": 1, "1": 0, "2": 0}


def test_the_net_balance_is_what_is_open_less_what_is_not_applied():
    small, over = invoice("A", total=3), invoice("B", total=500)
    payments = [payment("B", 800, 0), payment(None, 1_000, 0), payment(None, 70, 2), payment("nowhere", 20, 1)]
    derived = run(book(invoice("C"), small, over, payments=payments), rules_of(1, tolerance={"EUR": 5}))
    assert balance(derived)["net_minor"] == 10_000 + 3 - 300 - 1_000 - 20
    assert balance(derived)["unpaid_minor"] == 10_000


def test_a_net_balance_of_zero_is_not_positive_and_one_cent_is():
    reasons = [reason(book(invoice(), payments=[payment(None, credit, 0)])) for credit in (10_001, 10_000, 9_999)]
    assert reasons == ["net_balance_not_positive", "net_balance_not_positive", "remind"]


def test_example_8_credit_beyond_what_is_owed_stops_everything():
    row = decision(book(invoice(), payments=[payment(None, 12_000, -3)]))
    assert (row.decision, row.reason) == ("skip", "net_balance_not_positive")
    assert row.carrying_invoice_id is row.action is row.trigger_on is row.next_due_on is row.reminder_id is None


def test_credit_in_one_currency_leaves_the_other_currencies_chaseable():
    dollars = invoice("B", 0, currency="USD")
    ledger = book(invoice("A", -9), dollars, payments=[payment(None, 10_000, 0)])
    assert decision(ledger).carrying_invoice_id == "B"
    assert not balance(run(ledger, rules_of(1)))["net_positive"]


def test_exactly_the_minimum_is_enough():
    reasons = [reason(book(invoice()), rules_of(1, minimum_amount={"EUR": least})) for least in (9_999, 10_000, 10_001)]
    assert reasons == ["remind", "remind", "below_minimum_amount"]


def test_the_minimum_is_compared_with_open_balances_not_with_the_net_balance():
    ledger = book(invoice(), payments=[payment(None, 9_990, 0)])
    assert reason(ledger, rules_of(1, minimum_amount={"EUR": 10_000})) == "remind"


def test_several_small_invoices_reach_the_minimum_together():
    ledger = book(invoice("A", total=400), invoice("B", total=600))
    assert reason(ledger, rules_of(1, minimum_amount={"EUR": 1_000})) == "remind"


def test_a_minimum_of_another_currency_does_not_matter():
    assert reason(book(invoice(total=1)), rules_of(1, minimum_amount={"USD": 1_000})) == "remind"


def test_minimum_and_tolerance_follow_the_decimals_of_the_currency():
    yen = invoice(total=1_000, currency="JPY")
    assert reason(book(yen), rules_of(1, minimum_amount={"JPY": 1_000})) == "remind"
    assert reason(book(yen), rules_of(1, minimum_amount={"JPY": 1_001})) == "below_minimum_amount"
    dinars = invoice(total=1_001, currency="KWD")
    assert reason(book(dinars), rules_of(1, tolerance={"KWD": 1_000})) == "remind"


def test_paused_invoices_do_not_help_to_reach_the_minimum():
    ledger = book(
        invoice("A", total=900), invoice("B", total=900), pauses=[Pause("z", "invoice", day(0), invoice_id="B")]
    )
    assert reason(ledger, rules_of(1, minimum_amount={"EUR": 1_000})) == "below_minimum_amount"


def test_only_customers_left_with_vanished_invoices_are_unclear():
    vanished = invoice("A", missing_since=MONDAY)
    assert reason(book(vanished)) == "source_unclear"
    assert reason(book(vanished, invoice("B"))) == "remind"
    paid = run(book(vanished, payments=[payment("A", 10_000, 0)]), rules_of(1))
    assert paid.decisions.empty
    voided = run(book(invoice("A", missing_since=MONDAY, voided_on=MONDAY)), rules_of(1))
    assert voided.decisions.empty


def test_customers_that_owe_nothing_have_no_row():
    derived = run(book(invoice(status="draft"), payments=[payment(None, 500, 0)]), rules_of(1))
    assert derived.decisions.empty
    assert derived.balances.empty


def test_unapplied_payments_are_summed_per_customer_and_currency():
    ledger = book(
        payments=[
            payment(None, 100, 0),
            payment(None, 50, 0),
            payment(None, 7, 0, currency="JPY"),
            payment(None, 9, 0, customer_id="c2"),
            payment("A", 999, 0),
            payment(None, 1, 2),
        ]
    )
    owed = [invoice("B"), invoice("C", currency="JPY"), invoice("D", customer_id="c2")]
    nets = run(replace(ledger, invoices=owed), rules_of(1)).balances["net_minor"]
    assert sorted(nets) == [10_000 - 150 - 999, 10_000 - 9, 10_000 - 7]


def test_a_payment_is_credit_of_its_customer_until_its_invoice_becomes_known():
    later = invoice("B", recorded_on=day(5))
    ledger = book(invoice(), later, payments=[payment("B", 50_000, -3)])
    (before,) = run(replace(ledger, invoices=[invoice()]), rules_of(1), day(4)).balances["net_minor"]
    nets = run_days(ledger, rules_of(1), day(3), day(6)).balances["net_minor"]
    assert [*nets] == [before, before, 10_000 - 40_000, 10_000 - 40_000]
    assert before == 10_000 - 50_000
    assert [reason(ledger, as_of=day(offset)) for offset in (4, 5)] == ["net_balance_not_positive"] * 2


def test_credit_before_an_invoice_is_of_the_payer_and_ends_for_it_when_the_invoice_becomes_known():
    later = invoice("B", recorded_on=day(5))
    own = invoice("C", customer_id="c2")
    early = payment("B", 10_000, 0, customer_id="c2")
    ledger = book(invoice(), later, own, customers=[CUSTOMER, replace(CUSTOMER, customer_id="c2")], payments=[early])
    assert reasons(ledger, rules_of(1), day(4)) == {"c1": "remind", "c2": "net_balance_not_positive"}
    assert reasons(ledger, rules_of(1), day(5)) == {"c1": "remind", "c2": "remind"}
