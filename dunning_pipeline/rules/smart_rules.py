"""What smart rules ask of a customer or an invoice: RULES.md 3.2. Which rule counts is decided in assignment.py."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Level, Policy, SmartRule
from dunning_pipeline.rules.money import minor_digits
from dunning_pipeline.rules.spans import distinct, packed
from dunning_pipeline.rules.timing import day_numbers

MONEY_FIGURES = ("open_balance", "overdue_balance")
FIGURES = (*MONEY_FIGURES, "oldest_days_overdue", "open_invoices")
"""Receivable figures of a customer that rules may ask for."""

INVOICE_AMOUNTS = {"total": "total_minor", "outstanding": "open_minor"}
INVOICE_TEXTS = ("invoice_id", "number", "issued_on", "due_on", "currency", "status", "pay_url")
INVOICE_COLUMNS = (*INVOICE_TEXTS, *INVOICE_AMOUNTS, "days_overdue")
"""What rules `for: invoice` may ask of the invoice, before the columns of its customer."""


@dataclass(frozen=True)
class Numbers:
    """Exact numbers, one a row: `numerators` (int64, or Python integers) over `denominator`.

    A row that is not `known` satisfies no condition at all, not even `is_empty`.
    """

    numerators: np.ndarray
    denominator: int
    known: np.ndarray

    def take(self, places: np.ndarray) -> "Numbers":
        """The numbers at some places."""
        return Numbers(self.numerators[places], self.denominator, self.known[places])


@dataclass(frozen=True)
class Texts:
    """Texts, one a row: `texts[codes]`; a code of -1 is an empty one. Conditions are asked once of each text."""

    codes: np.ndarray
    texts: Sequence[str]

    @classmethod
    def of(cls, values: pd.Series) -> "Texts":
        """The texts of a column."""
        codes, texts = pd.factorize(values)
        return cls(codes, [str(text) for text in texts])

    def take(self, places: np.ndarray) -> "Texts":
        """The texts at some places."""
        return Texts(self.codes[places], self.texts)


Values = Texts | Numbers
"""A column: text (dates as ISO text) or numbers."""

Constant = Any
"""What a policy compares with: text, an integer, a Decimal, true or false, a date, or several of them."""


ASKED = "asked."
"""Stands before the names of customers' columns that rules ask for, in frames that have columns of their own."""


def customer_column_names(policy: Policy) -> tuple[str, ...]:
    """The customers' columns that the policy's rules name: neither figures nor columns of invoices."""
    names = [name for name in _names(policy, "customer") if name not in FIGURES]
    names += [name for name in _names(policy, "invoice") if name not in (*FIGURES, *INVOICE_COLUMNS)]
    return tuple(dict.fromkeys(names))


class Figures(Protocol):
    """Knows the receivable figures of customers."""

    def on(self, customer_key: np.ndarray, day: np.ndarray) -> Mapping[str, Numbers]:
        """`FIGURES` by name, one number for each customer and day (since 1970)."""


def customer_columns(
    rows: pd.DataFrame, customers: pd.DataFrame, unpaid: pd.DataFrame | Figures, policy: Policy
) -> dict[str, Values]:
    """What the rules for customers ask for, one value per row.

    Args:
        rows: customer_key, day (since 1970), and `customer`, the customer's place in `customers`.
        customers: `asked.<name>` for each of `customer_column_names`, as text.
        unpaid: customer_key, as_of, currency, open_minor, days_overdue of all their unpaid invoices, or what is made
            of them.
        policy: rules and exchange rates.
    """
    names, place = _names(policy, "customer"), rows["customer"].to_numpy()
    texts: dict[str, Values] = {
        name: Texts.of(customers[f"{ASKED}{name}"]).take(place) for name in names if name not in FIGURES
    }
    return texts | _figures(names, rows, unpaid, policy)


def invoice_columns(unpaid: pd.DataFrame, policy: Policy, figures: Figures | None = None) -> dict[str, Values]:
    """What the rules for invoices ask for, one value per row.

    Args:
        unpaid: the unpaid invoices with customer_key, as_of, `INVOICE_TEXTS` (dates as dates), total_minor,
            open_minor, days_overdue, and `asked.<name>` for each of `customer_column_names`, as text.
        policy: rules and exchange rates.
        figures: of their customers; made of `unpaid` by default, which has all unpaid invoices of a customer then.
    """
    names = _names(policy, "invoice")
    columns: dict[str, Values] = {}
    for name in names:
        if name in INVOICE_AMOUNTS:
            amount = unpaid[INVOICE_AMOUNTS[name]]
            columns[name] = amounts_in_base(unpaid["currency"], amount, policy.organisation.rates)
        elif name == "days_overdue":
            columns[name] = whole_numbers(unpaid[name].to_numpy())
        elif name in INVOICE_TEXTS:
            columns[name] = _as_texts(unpaid[name])
        elif name not in FIGURES:
            columns[name] = Texts.of(unpaid[f"{ASKED}{name}"])
    whose = unpaid[["customer_key"]].assign(day=day_numbers(unpaid["as_of"]))
    return columns | _figures(names, whose, figures or unpaid, policy)


def _names(policy: Policy, level: Level) -> tuple[str, ...]:
    """The columns and figures that the rules for customers, or for invoices, name, each once."""
    return tuple(dict.fromkeys(name for rule in policy.rules_for(level) for name in rule.when))


def _as_texts(values: pd.Series) -> Texts:
    texts = Texts.of(values)
    if not pd.api.types.is_datetime64_any_dtype(values):
        return texts
    return Texts(texts.codes, [text[: len("2026-11-22")] for text in texts.texts])


def _figures(
    names: Sequence[str], rows: pd.DataFrame, unpaid: pd.DataFrame | Figures, policy: Policy
) -> dict[str, Values]:
    """The figures that are asked for, of each row's customer and day."""
    asked = [name for name in names if name in FIGURES]
    if not asked:
        return {}
    if not isinstance(unpaid, pd.DataFrame):
        known = unpaid.on(rows["customer_key"].to_numpy(), rows["day"].to_numpy())
        return {name: known[name] for name in asked}
    wanted = packed(rows["customer_key"].to_numpy(), rows["day"].to_numpy())
    owed = packed(unpaid["customer_key"].to_numpy(), day_numbers(unpaid["as_of"]))
    groups = distinct(np.concatenate([wanted, owed]))
    figures = customer_figures(unpaid, np.searchsorted(groups, owed), len(groups), policy.organisation.rates)
    at = np.searchsorted(groups, wanted)
    return {name: figures[name].take(at) for name in asked}


def rows_fulfilling(rule: SmartRule, columns: Mapping[str, Values], rows: int) -> np.ndarray:
    """Whether all conditions of a rule hold, for each of `rows` rows.

    Args:
        rule: its `when` names columns, each of which `columns` must have.
        columns: text or numbers by name, of equal length.
        rows: that length.
    """
    fulfilled = np.ones(rows, dtype=bool)
    for name, condition in rule.when.items():
        for operator, constant in condition.operators.items():
            fulfilled &= holds(columns[name], operator, constant)
    return fulfilled


def holds(values: Values, operator: str, constant: Constant) -> np.ndarray:
    """Whether each value is to the constant as the operator of a condition says."""
    if isinstance(values, Numbers):
        return _number_holds(values, operator, constant) & values.known
    return _text_holds(values, operator, constant)


def _number_holds(values: Numbers, operator: str, constant: Constant) -> np.ndarray:
    match operator:
        case "is":
            return _equals(values, constant)
        case "is_not":
            return ~_equals(values, constant)
        case "in" | "not_in":
            among = np.logical_or.reduce([_equals(values, one) for one in constant])
            return among if operator == "in" else ~among
        case "between":
            low, high = constant
            return _number_holds(values, "at_least", low) & _number_holds(values, "at_most", high)
        case "is_empty":
            return np.full(len(values.numerators), not constant)
    bound = _exact(constant)
    if operator not in _BOUNDS or bound is None:
        return np.zeros(len(values.numerators), dtype=bool)
    compare, rounded = _BOUNDS[operator]
    held: np.ndarray = compare(values.numerators, rounded(bound * values.denominator))
    return held.astype(bool)


_BOUNDS: dict[str, tuple[Callable[[np.ndarray, int], np.ndarray], Callable[[Fraction], int]]] = {
    "at_least": (np.greater_equal, math.ceil),
    "more_than": (np.greater, math.floor),
    "at_most": (np.less_equal, math.floor),
    "less_than": (np.less, math.ceil),
}
"""For integers on the left, a bound that is none may be rounded to one."""


def _equals(values: Numbers, constant: Constant) -> np.ndarray:
    exact = _exact(constant)
    if exact is None or (exact * values.denominator).denominator != 1:
        return np.zeros(len(values.numerators), dtype=bool)
    equal: np.ndarray = values.numerators == int(exact * values.denominator)
    return equal.astype(bool)


def _exact(constant: Constant) -> Fraction | None:
    """The constant as a number; None for text, dates, true and false."""
    is_number = isinstance(constant, int | Decimal) and not isinstance(constant, bool)
    return Fraction(constant) if is_number else None


def _text_holds(values: Texts, operator: str, constant: Constant) -> np.ndarray:
    empty = operator in ("is_not", "not_in") or (operator == "is_empty" and bool(constant))
    answers = [empty if _is_empty(text) else _text_fulfils(text, operator, constant) for text in values.texts]
    return np.array([*answers, empty], dtype=bool)[values.codes]


def _is_empty(text: str) -> bool:
    return text.strip() in ("", "[]")


def _text_fulfils(text: str, operator: str, constant: Constant) -> bool:
    match operator:
        case "is":
            return _is(text, constant)
        case "is_not":
            return not _is(text, constant)
        case "in":
            return any(_is(text, one) for one in constant)
        case "not_in":
            return not any(_is(text, one) for one in constant)
        case "contains":
            return constant in _tags(text)
        case "is_empty":
            return not constant
        case "between":
            low, high = constant
            return _text_fulfils(text, "at_least", low) and _text_fulfils(text, "at_most", high)
    order = _order(text, constant)
    if order is None:
        return False
    return {"at_least": order >= 0, "more_than": order > 0, "at_most": order <= 0, "less_than": order < 0}[operator]


def _is(text: str, constant: Constant) -> bool:
    if isinstance(constant, bool):
        return text == str(constant).lower()
    if isinstance(constant, int | Decimal):
        return _number(text) == constant
    return bool(text == constant)


def _order(text: str, constant: Decimal | date) -> int | None:
    """-1, 0 or 1: how the text compares with a number or a day; None for a text that is neither."""
    value = _number(text) if isinstance(constant, Decimal) else _day(text)
    if value is None:
        return None
    return (value > constant) - (value < constant)  # type: ignore[operator]


_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _ISO_DAY.fullmatch(text) else None
    except ValueError:
        return None


def _tags(text: str) -> Sequence[str]:
    """The tags of a JSON list, or of a list separated by commas."""
    if text.strip().startswith("["):
        try:
            return [(tag if isinstance(tag, str) else json.dumps(tag)).strip() for tag in json.loads(text)]
        except ValueError:
            pass
    return [tag.strip() for tag in text.split(",")]


def customer_figures(
    unpaid: pd.DataFrame, group: np.ndarray, groups: int, rates: Mapping[str, Decimal]
) -> dict[str, Numbers]:
    """The receivable figures of customers, over all their unpaid invoices on a day (RULES 3.2).

    Args:
        unpaid: currency, open_minor, days_overdue (0 up to the due date); one row per unpaid invoice and day.
        group: for each of these rows the number of its customer (and day), from 0.
        groups: how many there are.
        rates: units of base currency per unit of each currency, the base currency's own (1) included.

    Returns:
        `FIGURES` by name, one number per group; money in the base currency, unknown without a rate.
    """
    late, minor = unpaid["days_overdue"].to_numpy(), unpaid["open_minor"].to_numpy()
    oldest, count = np.zeros(groups, dtype="int64"), np.zeros(groups, dtype="int64")
    np.maximum.at(oldest, group, late)
    np.add.at(count, group, 1)
    return {
        "open_balance": _in_base(unpaid["currency"], minor, group, groups, rates),
        "overdue_balance": _in_base(unpaid["currency"], np.where(late > 0, minor, 0), group, groups, rates),
        "oldest_days_overdue": whole_numbers(oldest),
        "open_invoices": whole_numbers(count),
    }


def whole_numbers(values: np.ndarray) -> Numbers:
    """Integers that are all known."""
    return Numbers(values, 1, np.ones(len(values), dtype=bool))


def amounts_in_base(currency: pd.Series, minor: pd.Series, rates: Mapping[str, Decimal]) -> Numbers:
    """Each row's amount in major units of the base currency."""
    return _in_base(currency, minor.to_numpy(), np.arange(len(minor)), len(minor), rates)


def _in_base(
    currency: pd.Series, minor: np.ndarray, group: np.ndarray, groups: int, rates: Mapping[str, Decimal]
) -> Numbers:
    """Sums per group."""
    codes = currency.cat.codes.to_numpy()
    sums, there = {}, {}
    for at in np.unique(codes):
        rows, code = codes == at, currency.cat.categories[at]
        sums[code], there[code] = np.zeros(groups, dtype="int64"), np.zeros(groups, dtype=bool)
        np.add.at(sums[code], group[rows], minor[rows])
        there[code][group[rows]] = True
    return sums_in_base(groups, sums, there, rates)


def sums_in_base(
    rows: int, sums: Mapping[str, np.ndarray], there: Mapping[str, np.ndarray], rates: Mapping[str, Decimal]
) -> Numbers:
    """Each row's sums in several currencies as one number in major units of the base currency.

    Args:
        rows: how many there are.
        sums: minor units of each row by currency.
        there: whether a row has something in the currency; without a rate for it the number is unknown.
        rates: units of base currency per unit of each currency, the base currency's own (1) included.
    """
    worth = {code: Fraction(rate) / 10 ** minor_digits(code) for code, rate in rates.items()}
    denominator = math.lcm(*(value.denominator for value in worth.values()))
    factors = {code: int(worth[code] * denominator) for code in sums if code in worth}
    largest = sum(factor * int(np.abs(sums[code]).max(initial=0)) for code, factor in factors.items())
    # Python integers carry what 64 bits would not.
    total = np.zeros(rows, dtype="int64" if largest < LARGEST_INTEGER else object)
    for code, factor in factors.items():
        total += sums[code].astype(total.dtype) * factor
    unknown = [there[code] for code in sums if code not in worth]
    return Numbers(total, denominator, ~np.logical_or.reduce([np.zeros(rows, dtype=bool), *unknown]))


LARGEST_INTEGER = np.iinfo("int64").max
