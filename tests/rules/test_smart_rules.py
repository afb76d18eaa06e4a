"""What smart rules ask, and when they hold (RULES 3.2): operators, empty values, figures, columns of invoices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pandas as pd
import pytest
from frames import (
    CUSTOMER,
    DUE,
    MONDAY,
    assigned,
    book,
    both_levels,
    by_invoice_id,
    day,
    decision,
    decisions,
    each_day,
    frames_of,
    invoice,
    open_rows,
    payment,
    policy_of,
    run,
    unpaid_invoices,
)
from reference import Action, Customer, Ledger, Pause, Rules, SmartRule, Workflow

from dunning_pipeline.rules.smart_rules import (
    Texts,
    customer_column_names,
    customer_columns,
    invoice_columns,
    rows_fulfilling,
    whole_numbers,
)

Condition = tuple[str, str, object]

SPECIAL = Workflow("special", (Action("special_1", 1),))
CENT = Decimal("0.01")


def ruled(*when: Condition, for_: str = "customer", **columns: object) -> Rules:
    """Rules that lead to the workflow special, or to alone for invoices, when all conditions hold."""
    rule = SmartRule("chosen", "special" if for_ == "customer" else "alone", when, for_)
    rules = both_levels(1, smart_rules=(rule,), **columns)
    return replace(rules, workflows=(*rules.workflows, SPECIAL))


def fulfils(text: str | None, operator: str, constant: object) -> bool:
    """Whether one text fulfils a condition of a policy file."""
    (rule,) = policy_of(ruled(("segment", operator, constant))).smart_rules
    (held,) = rows_fulfilling(rule, {"segment": Texts.of(pd.Series([text], dtype="str"))}, 1)
    return bool(held)


def number_fulfils(number: int, operator: str, constant: object) -> bool:
    (rule,) = policy_of(ruled(("open_invoices", operator, constant))).smart_rules
    (held,) = rows_fulfilling(rule, {"open_invoices": whole_numbers(pd.Series([number]).to_numpy())}, 1)
    return bool(held)


def chosen(ledger: Ledger, *when: Condition, as_of: date = MONDAY, **columns: object) -> set[str]:
    """The customers whose conditions all hold."""
    rows = decisions(run(ledger, ruled(*when, **columns), as_of))
    by_rule = {row.customer_id for row in rows if row.workflow == "special"}
    assert by_rule == {row.customer_id for row in rows if row.assigned_by == "rule:chosen"}
    return by_rule


def held_of(ledger: Ledger, *conditions: Condition, **columns: object) -> list[set[str]]:
    """For each condition alone the invoices on which a rule for invoices would find it to hold on Monday."""
    single = tuple(SmartRule(f"rule_{n}", "alone", (one,), "invoice") for n, one in enumerate(conditions))
    policy = policy_of(both_levels(1, smart_rules=single, **columns))
    unpaid = unpaid_invoices(frames_of(ledger), policy)
    asked = invoice_columns(unpaid, policy)
    held = [rows_fulfilling(rule, asked, len(unpaid)) for rule in policy.smart_rules]
    return [set(unpaid["invoice_id"][rows]) for rows in held]


def held(ledger: Ledger, *conditions: Condition, **columns: object) -> list[bool]:
    """For each condition on a customer whether it holds for the only customer."""
    single = tuple(SmartRule(f"rule_{n}", "standard", (one,)) for n, one in enumerate(conditions))
    policy, frames = policy_of(both_levels(1, smart_rules=single, **columns)), frames_of(ledger)
    rows = pd.DataFrame({"customer_key": frames.customers["customer_key"], "day": (MONDAY - date(1970, 1, 1)).days})
    asked = customer_columns(rows.assign(customer=0), frames.customers, unpaid_invoices(frames, policy), policy)
    return [bool(rows_fulfilling(rule, asked, 1)[0]) for rule in policy.smart_rules]


def chosen_invoices(ledger: Ledger, *when: Condition, **columns: object) -> set[str]:
    """The invoices whose conditions all hold."""
    rows = open_rows(run(ledger, ruled(*when, for_="invoice", **columns)))
    return {row.invoice_id for row in rows if row.level == "invoice"}


def everybody(**customers: Mapping[str, object]) -> Ledger:
    """A ledger of customers who owe 100.00 EUR each."""
    known = [Customer(name, **columns) for name, columns in customers.items()]
    return book(*(invoice(name, customer_id=name) for name in customers), customers=known)


def custom(column: str, **values: str | None) -> Ledger:
    """Customers by what a custom column says about them."""
    return everybody(**{name: {"custom": {column: value}} for name, value in values.items()})


@pytest.mark.parametrize(
    ("text", "operator", "constant", "expected"),
    [
        ("FR", "is", "FR", True),
        ("FR", "is", "fr", False),
        ("FR ", "is", "FR", False),
        ("FR", "is_not", "DE", True),
        ("FR", "is_not", "FR", False),
        ("fr", "is_not", "FR", True),
        ("FR", "in", ("DE", "FR"), True),
        ("FR", "in", ("DE", "fr"), False),
        ("FR", "not_in", ("DE", "fr"), True),
        ("FR", "not_in", ("DE", "FR"), False),
    ],
)
def test_text_is_matched_exactly(text, operator, constant, expected):
    assert fulfils(text, operator, constant) is expected


@pytest.mark.parametrize(
    ("text", "operator", "constant", "expected"),
    [
        ("7", "is", 7, True),
        ("7.00", "is", 7, True),
        ("+7", "is", 7, True),
        ("07", "is", 7, True),
        ("7.5", "is", Decimal("7.50"), True),
        ("7.5", "is", "7.50", False),
        ("7.01", "is", 7, False),
        (" 7", "is", 7, False),
        ("7,0", "is", 7, False),
        ("7e0", "is", 7, False),
        ("seven", "is", 7, False),
        ("seven", "is_not", 7, True),
        ("7.0", "is_not", 7, False),
        ("7", "in", (6, 7), True),
        ("7.0", "in", ("7", 7), True),
        ("7", "in", ("7.0", 6), False),
        ("7", "not_in", (6, Decimal("7.0")), False),
        ("7", "is", True, False),
        ("1", "is", True, False),
        ("true", "is", True, True),
        ("True", "is", True, False),
        ("false", "is", False, True),
        ("false", "in", (True, False), True),
        ("no", "is_not", False, True),
    ],
)
def test_a_number_is_compared_as_a_decimal_and_true_and_false_as_these_words(text, operator, constant, expected):
    assert fulfils(text, operator, constant) is expected


@pytest.mark.parametrize(
    ("operator", "constant", "held"),
    [
        ("at_least", 10, (False, True, True)),
        ("more_than", 10, (False, False, True)),
        ("at_most", 10, (True, True, False)),
        ("less_than", 10, (True, False, False)),
        ("at_least", "10.0", (False, True, True)),
        ("between", (10, 20), (False, True, True)),
        ("between", (5, 10), (True, True, False)),
        ("between", (10, 10), (False, True, False)),
    ],
)
def test_numbers_in_text_are_compared_exactly_at_the_bound(operator, constant, held):
    assert tuple(fulfils(text, operator, constant) for text in ("9.99", "10.00", "10.01")) == held


@pytest.mark.parametrize(
    ("operator", "constant", "held"),
    [
        ("at_least", DUE, (False, True, True)),
        ("more_than", DUE, (False, False, True)),
        ("at_most", DUE, (True, True, False)),
        ("less_than", DUE, (True, False, False)),
        ("is", DUE, (False, True, False)),
        ("between", (DUE, day(1)), (False, True, True)),
        ("between", (day(-1), DUE), (True, True, False)),
    ],
)
def test_days_in_text_are_compared_exactly_at_the_bound(operator, constant, held):
    assert tuple(fulfils(day(offset).isoformat(), operator, constant) for offset in (-1, 0, 1)) == held


@pytest.mark.parametrize("text", ["ten", "10 EUR", "1e1", ".5", "5.", "NaN", "Infinity", "2021-10-10"])
def test_what_is_no_number_fails_every_comparison_with_one(text):
    compared = {"at_least": -1_000_000, "more_than": -1_000_000, "at_most": 1_000_000, "less_than": 1_000_000}
    assert not any(fulfils(text, operator, bound) for operator, bound in compared.items())
    assert not fulfils(text, "between", (-1_000_000, 1_000_000))


@pytest.mark.parametrize("text", ["soon", "2021", "20211010", "10/10/2021", "2021-02-30", "2021-10-10T00:00", "7"])
def test_what_is_no_day_fails_every_comparison_with_one(text):
    early, late = date(1900, 1, 1), date(2900, 1, 1)
    compared = {"at_least": early, "more_than": early, "at_most": late, "less_than": late, "between": (early, late)}
    assert not any(fulfils(text, operator, bound) for operator, bound in compared.items())


@pytest.mark.parametrize(
    ("tags", "tag", "expected"),
    [
        ("vip", "vip", True),
        ("key-account, vip", "vip", True),
        ("key-account,vip ,new", "vip", True),
        ("key-account, vip", "key", False),
        ("VIP", "vip", False),
        ("very important,new", "very important", True),
        ('["key-account", "vip"]', "vip", True),
        (' [" vip "]', "vip", True),
        ('["key-account, vip"]', "vip", False),
        ('["key-account, vip"]', "key-account, vip", True),
        ("[2024, 2025]", "2025", True),
        ("[true, null]", "true", True),
        ("[true, null]", "null", True),
        ("2024,2025", "2025", True),
        # No JSON after all.
        ("[vip, new]", "new]", True),
        ('{"vip": 1}', "vip", False),
    ],
)
def test_tags_are_a_json_list_or_separated_by_commas(tags, tag, expected):
    assert fulfils(tags, "contains", tag) is expected


EVERY_OPERATOR = {
    "is": "vip",
    "is_not": "vip",
    "in": ("vip", "[]"),
    "not_in": ("vip", "[]"),
    "contains": "vip",
    "at_least": 0,
    "more_than": -1,
    "at_most": 0,
    "less_than": 1,
    "between": (0, 1),
}


@pytest.mark.parametrize("empty", [None, "", "  ", "[]", " [] "])
def test_an_empty_value_satisfies_is_empty_and_the_negations_only(empty):
    satisfied = {operator for operator, constant in EVERY_OPERATOR.items() if fulfils(empty, operator, constant)}
    assert satisfied == {"is_not", "not_in"}
    assert fulfils(empty, "is_empty", True)
    assert not fulfils(empty, "is_empty", False)


@pytest.mark.parametrize("text", ["0", "false", "null", "-", "[0]"])
def test_what_only_says_nothing_is_not_empty(text):
    assert fulfils(text, "is_empty", False)
    assert not fulfils(text, "is_empty", True)


def test_several_operators_of_one_column_must_all_hold():
    ledger = custom("score", c1="6", c2="7", c3="9", c4="10")
    assert chosen(ledger, ("score", "at_least", 7), ("score", "less_than", 10), ("score", "is_not", "9")) == {"c2"}


def test_all_conditions_of_a_rule_must_hold():
    ledger = everybody(
        c1={"country": "FR", "tags": "vip"},
        c2={"country": "FR", "tags": "new"},
        c3={"country": "DE", "tags": "vip"},
    )
    assert chosen(ledger, ("country", "is", "FR"), ("tags", "contains", "vip")) == {"c1"}


def test_the_first_rule_of_the_file_that_holds_decides():
    rules = ruled(("country", "is", "FR"))
    before = (
        SmartRule("never", "standard", (("country", "is", "DE"),)),
        SmartRule("large", "standard", (("open_balance", "at_least", 100),)),
    )
    small, large = book(invoice(total=9_999)), book(invoice())
    for ledger in (small, large):
        ledger.customers = [replace(CUSTOMER, country="FR")]
    rules = replace(rules, smart_rules=(*before, *rules.smart_rules))
    assert [decision(ledger, rules).assigned_by for ledger in (small, large)] == ["rule:chosen", "rule:large"]


def test_every_column_of_the_customer_can_be_asked_for():
    columns = {
        "name": "Harbour Bakery",
        "email": "accounts@harbour-bakery.test",
        "phone": "+441632960001",
        "external_id": "C-1",
        "country": "FR",
        "language": "fr",
        "currency": "EUR",
        "tags": "vip",
    }
    conditions = [(name, "is", value) for name, value in columns.items()]
    assert chosen(everybody(c1=columns, c2={}), ("customer_id", "is", "c1"), *conditions) == {"c1"}
    assert all(held(everybody(c1=columns), ("customer_id", "is", "c1"), *conditions))
    assert not any(held(everybody(c2={}), ("customer_id", "is", "c1"), *conditions))


def test_an_instant_has_its_day_where_the_organisation_is():
    # Paris is two hours ahead in October.
    around_midnight = {"c1": (21, 59), "c2": (22, 0)}
    ledger = everybody(
        **{
            name: {"created_at": datetime(2021, 10, 9, hour, minute, tzinfo=UTC)}
            for name, (hour, minute) in around_midnight.items()
        }
    )
    assert chosen(ledger, ("created_at", "at_least", DUE)) == {"c2"}
    assert chosen(ledger, ("created_at", "less_than", DUE)) == {"c1"}
    assert chosen(ledger, ("updated_at", "is_empty", True)) == {"c1", "c2"}


def test_a_customer_that_no_source_has_has_empty_columns():
    ledger = custom("segment", c1="retail")
    ledger.invoices.append(invoice("B", customer_id="c9"))
    assert chosen(ledger, ("segment", "is_empty", True)) == {"c9"}
    assert chosen(ledger, ("country", "is_not", "FR")) == {"c1", "c9"}


OWN_NAMES = (
    "as_of",
    "customer",
    "customer_key",
    "invoice_key",
    "day",
    "level",
    "workflow",
    "assigned_by",
    "reason",
    "own",
    "paused",
    "unpaid",
    "open_minor",
    "asked.day",
)


def test_custom_columns_may_be_called_like_columns_of_the_pipeline():
    ledger = everybody(
        c1={"custom": dict.fromkeys(OWN_NAMES, "gold")},
        c2={"custom": dict.fromkeys(OWN_NAMES, "silver")},
    )
    conditions = [(name, "is", "gold") for name in OWN_NAMES]
    assert chosen(ledger, *conditions) == {"c1"}
    assert chosen_invoices(ledger, *conditions) == {"c1"}


def test_a_figure_comes_before_a_custom_column_of_its_name():
    ledger = custom("open_invoices", c1="many", c2="1")
    assert chosen(ledger, ("open_invoices", "is", 1)) == {"c1", "c2"}
    assert chosen(ledger, ("open_invoices", "is", "many")) == set()


RATES = {"USD": Decimal("0.9"), "JPY": Decimal("0.01")}
THREE_CURRENCIES = book(
    # On Monday 60.00 EUR are open and a day overdue, 90.00 EUR due today, 50.00 EUR to come.
    invoice("A", 0),
    invoice("B", 1, currency="USD"),
    invoice("C", 2, total=5_000, currency="JPY"),
    payments=[payment("A", 4_000, 0)],
)
FIGURES = {"open_balance": 200, "overdue_balance": 60, "oldest_days_overdue": 1, "open_invoices": 3}


def test_figures_are_exact_sums_in_base_currency():
    exactly = [(name, "is", value) for name, value in FIGURES.items()]
    assert chosen(THREE_CURRENCIES, *exactly, exchange_rates=RATES) == {"c1"}
    beside = [(name, "is_not", value) for name, value in FIGURES.items()]
    assert not any(held(THREE_CURRENCIES, *beside, exchange_rates=RATES))


@pytest.mark.parametrize(
    ("operator", "constant", "expected"),
    [
        ("is", 200, True),
        ("is", Decimal("200.00"), True),
        ("is", 200 + CENT, False),
        ("is", "200", False),
        ("is_not", "200", True),
        ("is", True, False),
        ("is_not", True, True),
        ("in", (199, 200), True),
        ("in", ("200", 199), False),
        ("not_in", (200,), False),
        ("not_in", (199, "200"), True),
        ("at_least", 200, True),
        ("at_least", "200.00", True),
        ("at_least", 200 + CENT, False),
        ("more_than", 200 - CENT, True),
        ("more_than", 200, False),
        ("at_most", 200, True),
        ("at_most", 200 - CENT, False),
        ("less_than", 200 + CENT, True),
        ("less_than", 200, False),
        ("between", (200, 200), True),
        ("between", (200 + CENT, 201), False),
        ("between", (199, 200 - CENT), False),
        ("at_least", DUE, False),
        ("at_most", DUE, False),
        ("between", (DUE, MONDAY), False),
        ("contains", "200", False),
        ("is_empty", False, True),
        ("is_empty", True, False),
        ("less_than", 9_999_999_999_999, True),
        ("more_than", -9_999_999_999_999, True),
    ],
)
def test_a_figure_is_compared_as_a_number(operator, constant, expected):
    assert number_fulfils(200, operator, constant) is expected


@pytest.mark.parametrize(
    ("offset", "operators"),
    [(-1, {"at_least", "more_than"}), (0, {"at_least", "at_most"}), (1, {"at_most", "less_than"})],
)
def test_a_threshold_in_base_currency_is_exact_whatever_the_decimals_of_the_rate(offset, operators):
    # 100 000 000.00 USD at this rate are exactly 90 000 000.0001 EUR, to which the yen add 0.006218937465.
    rates = {"USD": Decimal("0.900000000001"), "JPY": Decimal("0.006218937465")}
    ledger = book(invoice("A", total=10_000_000_000, currency="USD"), invoice("B", total=1, currency="JPY"))
    threshold = str(Decimal("90000000.006318937465") + offset * Decimal("1e-12"))
    every = ("at_least", "more_than", "at_most", "less_than")
    found = held(ledger, *(("open_balance", operator, threshold) for operator in every), exchange_rates=rates)
    assert {operator for operator, holds in zip(every, found, strict=True) if holds} == operators


@pytest.mark.parametrize("column", ["open_balance", "overdue_balance"])
def test_without_a_rate_no_condition_on_a_sum_of_money_holds(column):
    conditions = [(column, operator, constant) for operator, constant in EVERY_CONDITION]
    assert not any(held(THREE_CURRENCIES, *conditions, exchange_rates={"USD": Decimal("0.9")}))
    assert any(held(THREE_CURRENCIES, *conditions, exchange_rates=RATES))


EVERY_CONDITION = [
    ("is", 0),
    ("is_not", 0),
    ("in", (0, 200)),
    ("not_in", (0,)),
    ("at_least", 0),
    ("more_than", -1),
    ("at_most", 10_000),
    ("less_than", 10_000),
    ("between", (0, 10_000)),
    ("contains", "0"),
    ("is_empty", True),
    ("is_empty", False),
]


def test_without_a_rate_the_other_figures_are_known():
    assert chosen(THREE_CURRENCIES, ("open_invoices", "is", 3), ("oldest_days_overdue", "is", 1)) == {"c1"}


def test_a_rate_is_asked_for_only_where_something_is_open_in_its_currency():
    ledger = replace(THREE_CURRENCIES, payments=[payment("C", 5_000, 0, currency="JPY")])
    ledger.invoices = [*ledger.invoices, invoice("D", customer_id="c2", currency="GBP")]
    assert chosen(ledger, ("open_balance", "is", 190), exchange_rates={"USD": Decimal("0.9")}) == {"c1"}


def test_figures_count_paused_invoices_and_both_levels_and_no_credit():
    ledger = book(
        invoice("A"),
        invoice("B", -4),
        invoice("C", -9, disputed_on=day(0)),
        assignments=[assigned("B")],
        pauses=[Pause("z", "invoice", day(0), invoice_id="B")],
        payments=[payment(None, 5_000, 0)],
    )
    rules = ruled(
        ("open_balance", "is", 200),
        ("overdue_balance", "is", 200),
        ("oldest_days_overdue", "is", 5),
        ("open_invoices", "is", 2),
    )
    assert by_invoice_id(ledger, rules)["A"].assigned_by == "rule:chosen"


def test_nothing_is_overdue_on_its_due_date():
    rules = ruled(("overdue_balance", "more_than", 0))
    assert [row.workflow for row in each_day(book(invoice()), rules, -1, 0, 1)] == ["standard", "standard", "special"]
    late = ruled(("oldest_days_overdue", "at_least", 1))
    assert [row.workflow for row in each_day(book(invoice()), late, -1, 0, 1)] == ["standard", "standard", "special"]


def test_figures_move_a_customer_from_one_day_to_the_next():
    ledger = book(invoice(), payments=[payment("A", 1, 3)])
    rules = ruled(("open_balance", "at_least", 100), ("oldest_days_overdue", "at_least", 2))
    assert [row.workflow for row in each_day(ledger, rules, 1, 2, 3)] == ["standard", "special", "standard"]


def test_an_invoice_within_the_tolerance_is_in_no_figure():
    ledger = book(invoice("A"), invoice("B", -9, total=5))
    figures = ("open_balance", "is", 100), ("open_invoices", "is", 1), ("oldest_days_overdue", "is", 1)
    assert chosen(ledger, *figures, tolerance={"EUR": 5}) == {"c1"}


def test_each_customer_has_its_own_figures():
    ledger = book(
        invoice("A", customer_id="c1"),
        invoice("B", customer_id="c2"),
        invoice("C", customer_id="c2", total=1),
        customers=[],
    )
    assert chosen(ledger, ("open_balance", "more_than", 100)) == {"c2"}
    assert chosen(ledger, ("open_invoices", "is", 1)) == {"c1"}


def test_a_rule_for_invoices_asks_for_the_invoice_then_for_its_customer():
    dollars = invoice("A", currency="USD", number="2021-001", status=None)
    customer = replace(CUSTOMER, country="FR", currency="EUR", custom={"segment": None})
    paid = [payment("A", 1_000, 0, currency="USD")]
    ledger = book(dollars, invoice("B", -3), customers=[customer], payments=paid)
    conditions = {
        ("invoice_id", "is", "A"): True,
        ("number", "is", "2021-001"): True,
        ("issued_on", "is", day(-30)): True,
        ("issued_on", "at_least", day(-29)): False,
        ("due_on", "between", (day(-1), day(0))): True,
        ("due_on", "less_than", day(0)): False,
        ("due_on", "at_least", 7): False,
        ("currency", "is", "USD"): True,
        ("total", "is", 90): True,
        ("total", "more_than", 90): False,
        ("total", "is", "90"): False,
        ("outstanding", "is", 81): True,
        ("outstanding", "at_least", 81 + CENT): False,
        ("status", "is", "open"): True,
        ("pay_url", "is_empty", True): True,
        ("days_overdue", "at_least", 1): True,
        ("days_overdue", "at_least", 2): False,
        # The customer's columns and figures.
        ("country", "is", "FR"): True,
        ("segment", "is_empty", True): True,
        ("open_invoices", "is", 2): True,
        ("open_balance", "is", 181): True,
        ("oldest_days_overdue", "is", 4): True,
    }
    found = held_of(ledger, *conditions, exchange_rates=RATES)
    assert {one: "A" in names for one, names in zip(conditions, found, strict=True)} == conditions


def test_a_column_of_the_invoice_comes_before_the_customer_s_of_that_name():
    customer = replace(CUSTOMER, currency="USD", custom={"status": "closed", "total": "7"})
    ledger = book(invoice(), customers=[customer])
    assert chosen(ledger, ("currency", "is", "USD"), ("status", "is", "closed"), ("total", "is", 7)) == {"c1"}
    own = ("currency", "is", "EUR"), ("status", "is", "open"), ("total", "is", 100)
    assert chosen_invoices(ledger, *own) == {"A"}


@pytest.mark.parametrize("column", ["total", "outstanding"])
def test_without_a_rate_no_condition_on_an_amount_of_the_invoice_holds(column):
    ledger = book(invoice("A"), invoice("B", currency="USD"))
    found = held_of(ledger, *((column, operator, constant) for operator, constant in EVERY_CONDITION))
    assert set().union(*found) == {"A"}


def test_without_a_rate_the_customer_s_figures_are_unknown_to_rules_for_invoices_too():
    ledger = book(invoice("A"), invoice("B", currency="USD"))
    assert chosen_invoices(ledger, ("open_balance", "at_least", 0)) == set()


def test_without_a_number_or_due_date_an_invoice_has_its_id_and_issue_date():
    ledger = book(invoice("A", due_on=None, issued_on=day(-1)))
    asked = ("number", "is", "A"), ("due_on", "is", day(-1)), ("days_overdue", "is", 2)
    assert chosen_invoices(ledger, *asked) == {"A"}


def test_a_rule_for_invoices_leaves_the_others_to_the_customer_s_rules():
    large = SmartRule("large", "alone", (("total", "at_least", 500),), "invoice")
    rules = ruled(("open_invoices", "at_least", 2))
    rules = replace(rules, smart_rules=(large, *rules.smart_rules))
    ledger = book(invoice("A"), invoice("B", total=50_000), invoice("C", 4, total=49_999))
    rows = by_invoice_id(ledger, rules)
    assert {name: (row.level, row.workflow, row.assigned_by) for name, row in rows.items()} == {
        "A": ("customer", "special", "rule:chosen"),
        "B": ("invoice", "alone", "rule:large"),
    }


def test_an_invoice_comes_and_goes_by_its_figures_from_one_day_to_the_next():
    rules = ruled(("days_overdue", "between", (2, 3)), for_="invoice")
    rows = each_day(book(invoice()), rules, 1, 2, 3, 4)
    assert [row.level for row in rows] == ["customer", "invoice", "invoice", "customer"]


def test_only_the_columns_that_rules_name_are_asked_for():
    rules = ruled(("country", "is", "FR"), ("open_balance", "at_least", 1))
    of_invoice = SmartRule("large", "alone", (("total", "at_least", 1), ("segment", "is", "x")), "invoice")
    rules = replace(rules, smart_rules=(*rules.smart_rules, of_invoice))
    assert customer_column_names(policy_of(rules)) == ("country", "segment")
    named_like_the_invoice_s = replace(rules, smart_rules=(SmartRule("r", "special", (("total", "is", 1),)),))
    assert customer_column_names(policy_of(named_like_the_invoice_s)) == ("total",)


def test_what_has_vanished_owes_nothing_to_a_rule():
    row = decision(book(invoice(missing_since=day(0))), ruled(("open_balance", "is", 0), ("open_invoices", "is", 0)))
    assert (row.reason, row.assigned_by) == ("source_unclear", "rule:chosen")
