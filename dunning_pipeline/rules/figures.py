"""The receivable figures of customers on many days, as they change: RULES.md 3.2 for all days at once."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pandas as pd

from dunning_pipeline.rules.smart_rules import Numbers, sums_in_base, whole_numbers
from dunning_pipeline.rules.spans import Spans, Steps, distinct, first_of, packed
from dunning_pipeline.rules.standing import Standing, due_dates


class FiguresOfDays:
    """The figures of each customer on each day, from how the unpaid invoices stand (paused ones included)."""

    def __init__(self, invoices: pd.DataFrame, unpaid: Standing, rates: Mapping[str, Decimal]) -> None:
        row = unpaid.spans.key
        customer, due = invoices["customer_key"].to_numpy()[row], due_dates(invoices)[row]
        code = invoices["currency"].cat.codes.to_numpy()[row]
        owed = Spans(customer, unpaid.spans.start, unpaid.spans.stop)
        late = np.maximum(owed.start, due + 1)
        self._rates, self._oldest = rates, _first_due(owed, due)
        self._count: dict[str, Steps] = {}
        self._open: dict[str, Steps] = {}
        self._overdue: dict[str, Steps] = {}
        for at in distinct(code):
            mine, overdue = np.flatnonzero(code == at), np.flatnonzero((code == at) & (late < owed.stop))
            currency = invoices["currency"].cat.categories[at]
            self._count[currency] = Steps.sums(owed.take(mine), 1)
            self._open[currency] = Steps.sums(owed.take(mine), unpaid.open_minor[mine])
            spans = Spans(customer[overdue], late[overdue], owed.stop[overdue])
            self._overdue[currency] = Steps.sums(spans, unpaid.open_minor[overdue])
        self.days = distinct(np.concatenate([self._oldest.places, *(steps.places for steps in self._all())]))

    def _all(self) -> list[Steps]:
        return [*self._count.values(), *self._open.values(), *self._overdue.values()]

    def on(self, customer_key: np.ndarray, day: np.ndarray) -> Mapping[str, Numbers]:
        """The figures by name, one number for each customer and day (since 1970)."""
        rows = len(day)
        counts = {code: steps.on(customer_key, day) for code, steps in self._count.items()}
        there = {code: count > 0 for code, count in counts.items()}
        opened = {code: steps.on(customer_key, day) for code, steps in self._open.items()}
        overdue = {code: steps.on(customer_key, day) for code, steps in self._overdue.items()}
        invoices = np.add.reduce([np.zeros(rows, dtype="int64"), *counts.values()])
        oldest = np.where(invoices > 0, day - self._oldest.on(customer_key, day), 0)
        return {
            "open_balance": sums_in_base(rows, opened, there, self._rates),
            "overdue_balance": sums_in_base(rows, overdue, there, self._rates),
            "oldest_days_overdue": whole_numbers(np.maximum(oldest, 0)),
            "open_invoices": whole_numbers(invoices),
        }


def _first_due(owed: Spans, due: np.ndarray) -> Steps:
    """The oldest due date of each customer while something is owed."""
    order = np.argsort(packed(owed.key, due))
    spans, row = first_of(owed.take(order))
    return Steps(packed(spans.key, spans.start), due[order][row])
