"""What smart rules asked of a customer or an invoice on a day, and what they got (RULES 3.2), by the rules' code."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import duckdb
import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.assets.customers import fetch_customers
from dunning_pipeline.explaining import texts
from dunning_pipeline.policy import Condition, Level, Policy, SmartRule
from dunning_pipeline.resources.warehouse import fetch
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.smart_rules import (
    INVOICE_AMOUNTS,
    MONEY_FIGURES,
    Numbers,
    Values,
    customer_columns,
    invoice_columns,
    rows_fulfilling,
)
from dunning_pipeline.rules.timing import day_numbers
from dunning_pipeline.tables import OPEN_INVOICES


@dataclass(frozen=True)
class Answer:
    """What a rule asked of one column, in words: `open_balance is at least 5,000`, and its value on the day."""

    asked: str
    value: str
    holds: bool


@dataclass(frozen=True)
class RuleAnswers:
    """A rule with what it got; it holds when all answers do."""

    rule: str
    answers: tuple[Answer, ...]

    @property
    def holds(self) -> bool:
        """Whether all its conditions hold."""
        return all(answer.holds for answer in self.answers)


@dataclass(frozen=True)
class AskedRules:
    """The rules in their order: of the customer, and of each invoice by its id."""

    customer: tuple[RuleAnswers, ...]
    invoices: Mapping[str, tuple[RuleAnswers, ...]]


def ask_rules(connection: duckdb.DuckDBPyConnection, policy: Policy, customer_key: int, day: date) -> AskedRules:
    """Asks all rules, from the derived open invoices of the day."""
    query = f"select * from {OPEN_INVOICES.qualified} where as_of = $day and customer_key = $customer_key"
    unpaid = fetch(connection, query, {"day": day, "customer_key": customer_key}).astype({"currency": CURRENCY})
    if unpaid.empty or not policy.smart_rules:
        return AskedRules((), {})
    customers = fetch_customers(connection, policy, unpaid["customer_key"])
    row = pd.DataFrame({"customer_key": [customer_key], "day": day_numbers(unpaid["as_of"])[:1], "customer": [0]})
    (of_customer,) = _answers("customer", customer_columns(row, customers, unpaid, policy), policy, 1)
    connection.register("open_keys", unpaid[["invoice_key"]])
    asked = fetch(connection, sql.load("invoices_for_rules"))
    derived = [name for name in unpaid.columns if name == "invoice_key" or name not in asked.columns]
    invoices = unpaid[derived].merge(asked, on="invoice_key", validate="1:1")
    known = ["customer_key", *customers.columns.difference(invoices.columns)]
    invoices = invoices.merge(customers[known], on="customer_key", validate="m:1")
    of_invoices = _answers("invoice", invoice_columns(invoices, policy), policy, len(invoices))
    return AskedRules(of_customer, dict(zip(invoices["invoice_id"], of_invoices, strict=True)))


def _answers(level: Level, columns: Mapping[str, Values], policy: Policy, rows: int) -> list[tuple[RuleAnswers, ...]]:
    """For each row the answers to every rule."""
    by_rule = [_answers_to(rule, columns, policy, rows) for rule in policy.rules_for(level)]
    return [tuple(answers[row] for answers in by_rule) for row in range(rows)]


def _answers_to(rule: SmartRule, columns: Mapping[str, Values], policy: Policy, rows: int) -> list[RuleAnswers]:
    by_column = []
    for name, condition in rule.when.items():
        alone = rule.model_copy(update={"when": {name: condition}})
        holds = rows_fulfilling(alone, columns, rows)
        asked = _in_words(name, condition)
        by_column.append(
            [Answer(asked, _value(name, columns[name], row, policy), bool(holds[row])) for row in range(rows)]
        )
    return [RuleAnswers(rule.name, answers) for answers in zip(*by_column, strict=True)]


_WORDS = {
    "is": "is",
    "is_not": "is not",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "at_least": "is at least",
    "more_than": "is more than",
    "at_most": "is at most",
    "less_than": "is less than",
    "between": "is between",
}


def _in_words(name: str, condition: Condition) -> str:
    asked = [_operator_in_words(operator, constant) for operator, constant in condition.operators.items()]
    return f"{name} {texts.listed(asked)}"


def _operator_in_words(operator: str, constant: object) -> str:
    if operator == "is_empty":
        return "is empty" if constant else "is not empty"
    if isinstance(constant, tuple):
        constants = texts.listed([*map(texts.number, constant)], "and" if operator == "between" else "or")
        return f"{_WORDS[operator]} {constants}"
    return f"{_WORDS[operator]} {texts.number(constant)}"


def _value(name: str, values: Values, row: int, policy: Policy) -> str:
    if not isinstance(values, Numbers):
        code = values.codes[row]
        return f"'{values.texts[code]}'" if code >= 0 and values.texts[code].strip() else "empty"
    if not values.known[row]:
        return "unknown, since a currency has no exchange rate"
    exact = Fraction(int(values.numerators[row]), values.denominator)
    in_base = name in MONEY_FIGURES or name in INVOICE_AMOUNTS
    return texts.exact(exact, policy.organisation.base_currency) if in_base else f"{exact}"
