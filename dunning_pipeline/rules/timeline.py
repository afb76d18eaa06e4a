"""What customers are under on each day of a window, whatever is sent: the invoice that carries, and the workflow.

RULES.md 2 and 3 for all days at once, as spans of days in which nothing changes; the rules themselves are those of a
single day (carrying.py, assignment.py, smart_rules.py). What is then sent is in calendar_queue.py.
"""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Level, Policy
from dunning_pipeline.rules import carrying
from dunning_pipeline.rules.assignment import NO_WORKFLOW, assign_customers, default_position, own_workflows
from dunning_pipeline.rules.figures import FiguresOfDays
from dunning_pipeline.rules.holds import pause_spans
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.smart_rules import ASKED, FIGURES, customer_columns, holds
from dunning_pipeline.rules.spans import Spans, begins, crossed, cut, distinct, first_of, joined, packed, unpacked
from dunning_pipeline.rules.standing import (
    NEVER,
    TEXTS,
    Records,
    Standing,
    Texts,
    Window,
    chaseable,
    due_dates,
    ends,
    standing,
)
from dunning_pipeline.rules.timing import day_numbers

OF_CUSTOMER = NO_WORKFLOW - 1
"""Stands for "at the customer level" among workflows of invoices' own."""


@dataclass(frozen=True)
class Courses:
    """While what a workflow with actions runs because of an invoice that carries.

    The key of `spans` is the customer_key. `row`: the carrying invoice's row. `workflow`: position in the policy.
    `own`: it is the invoice's own, so that others of the customer run beside it; the others are disjoint.
    """

    spans: Spans
    row: np.ndarray
    workflow: np.ndarray
    own: np.ndarray

    def take(self, rows: np.ndarray) -> "Courses":
        """Some of the spans."""
        return Courses(self.spans.take(rows), self.row[rows], self.workflow[rows], self.own[rows])


@dataclass(frozen=True)
class Timeline:
    """The courses of a window, and the keys of all customers that had something chaseable in it."""

    courses: Courses
    chased: np.ndarray


def timeline(records: Records, policy: Policy, window: Window) -> Timeline:
    """What every customer, and every invoice of its own workflow, is under from day to day (RULES 1 to 3).

    Args:
        records: what was known by the last day.
        policy: workflows, smart rules, tolerances, minimum amounts and exchange rates.
        window: the days.

    Returns:
        Courses within the window, those of customers before those of invoices; days on which the organisation is paused
        are cut out of them, but do not matter for `chased`, which is in order.

    Raises:
        KeyError: a smart rule asks for a column that `records.customers` does not have.
    """
    invoices, amounts = records.invoices, policy.receivables
    customer = invoices["customer_key"].to_numpy()
    stood = standing(records, amounts.tolerance_minor, window)
    unpaid = stood.take(np.flatnonzero(stood.unpaid))
    unpaid, own = _own_workflows(records, unpaid, policy, window)
    free = np.flatnonzero(~unpaid.paused)
    spans, of_free = chaseable(records, stood, unpaid.spans.take(free), amounts.minimum_amount_minor, window)
    own = own[free[of_free]]
    together, single = np.flatnonzero(own == OF_CUSTOMER), np.flatnonzero(own >= 0)
    carried, row = carrying_spans(records, spans.take(together), policy.organisation.rates)
    found, piece, workflow = _customers_workflows(records, carried, unpaid, policy, window)
    courses = Courses(
        Spans(
            np.append(found.key, customer[spans.key[single]]),
            np.append(found.start, spans.start[single]),
            np.append(found.stop, spans.stop[single]),
        ),
        np.append(row[piece], spans.key[single]),
        np.append(workflow, own[single]),
        np.repeat([False, True], [len(found), len(single)]),
    )
    return Timeline(_running(courses, records, policy, window), distinct(customer[spans.key]))


def _running(courses: Courses, records: Records, policy: Policy, window: Window) -> Courses:
    """The courses with actions, on days on which the organisation is not paused (RULES 6.1)."""
    actions = np.array([*(len(workflow.actions) for workflow in policy.workflows), 0])
    courses = courses.take(np.flatnonzero(actions[courses.workflow] > 0))
    everybody = np.zeros(len(courses.spans), dtype="int64")
    open_days = _open_days(records.pauses, policy, window)
    spans, row, _ = crossed(Spans(everybody, courses.spans.start, courses.spans.stop), open_days)
    courses = courses.take(row)
    return Courses(Spans(courses.spans.key, spans.start, spans.stop), courses.row, courses.workflow, courses.own)


def _open_days(pauses: pd.DataFrame, policy: Policy, window: Window) -> Spans:
    """While what the organisation is not paused, under the key 0."""
    paused = pause_spans(pauses[pauses["scope"] == "organisation"])
    day = np.arange(window.first, window.stop)
    closed = np.full(len(day), policy.organisation.paused)
    for start, stop in zip(day_numbers(paused["held_from"]), ends(paused["held_until"]), strict=True):
        closed |= (start <= day) & (day < stop)
    free = day[~closed]
    key = np.zeros(len(free), dtype="int64")
    return joined(Spans(key, free, free + 1), key)[0]


def carrying_spans(records: Records, candidates: Spans, rates: Mapping[str, Decimal]) -> tuple[Spans, np.ndarray]:
    """While what which invoice carries for each customer (RULES 2.1, 2.2).

    Args:
        records: invoices and their ids.
        candidates: while what each invoice can carry; keys are rows of invoices.
        rates: units of base currency per unit of each currency, the base currency's own (1) included.

    Returns:
        Disjoint spans in order of customer and day, whose key is the customer_key, and the row of the invoice of each.
    """
    invoices = records.invoices
    order = order_of(invoices, distinct(candidates.key), rates, records.texts)
    place = np.zeros(len(invoices), dtype="int64")
    place[order.row] = np.arange(len(order.row))
    ordered = candidates.take(np.argsort(place[candidates.key]))
    customer = invoices["customer_key"].to_numpy()[ordered.key]
    spans, winner = first_of(Spans(customer, ordered.start, ordered.stop))
    row = ordered.key[winner]
    if order.unsettled.any():
        row = _settled(records, spans, row, ordered, order.of_unsettled(len(invoices)), rates)
    whole, first = joined(spans, row)
    return whole, row[first]


@dataclass(frozen=True)
class Order:
    """Rows of invoices, those of a customer that would carry first; `tie` numbers customers and due dates.

    `unsettled`: who comes first depends on which of the tie are there, because they cannot all be converted.
    """

    row: np.ndarray
    tie: np.ndarray
    unsettled: np.ndarray

    def of_unsettled(self, invoices: int) -> np.ndarray:
        """The number of the tie of each row of `invoices`, or -1 where it is settled."""
        tie = np.full(invoices, -1)
        tie[self.row[self.unsettled]] = self.tie[self.unsettled]
        return tie


def order_of(invoices: pd.DataFrame, rows: np.ndarray, rates: Mapping[str, Decimal], texts: Texts) -> Order:
    """Some rows of invoices in the order of RULES 2.1, as far as it does not depend on which of them are there."""
    oldest = packed(invoices["customer_key"].to_numpy(), due_dates(invoices))[rows]
    order = np.argsort(oldest)
    rows, new = rows[order], begins(oldest[order])
    tie = np.cumsum(new) - 1
    tied = np.flatnonzero(~(new & np.append(new[1:], True)))
    equals = invoices[["invoice_key", "currency", "total_minor"]].iloc[rows[tied]].assign(customer_key=tie[tied])
    total = carrying.comparable_totals(equals, rates).to_numpy()
    better = np.lexsort((_id_ranks(equals, total, texts), -total, tie[tied]))
    rows[tied] = rows[tied][better]
    unsettled = np.zeros(len(rows), dtype=bool)
    unsettled[tied] = _cannot_be_compared(equals, rates)
    return Order(rows, tie, unsettled)


def _id_ranks(equals: pd.DataFrame, total: np.ndarray, texts: Texts) -> np.ndarray:
    """Order of the ids where neither date nor total decides; 0 elsewhere."""
    twins = equals.assign(total=total).duplicated(["customer_key", "total"], keep=False).to_numpy()
    ranks = np.zeros(len(equals), dtype="int64")
    if twins.any():
        ids = texts(equals["invoice_key"].to_numpy()[twins])["invoice_id"]
        ranks[twins] = pd.factorize(ids, sort=True)[0]
    return ranks


def _cannot_be_compared(equals: pd.DataFrame, rates: Mapping[str, Decimal]) -> np.ndarray:
    """Whether an invoice's tie is in several currencies, not all of which have a rate."""
    rated = np.array([code in rates for code in equals["currency"].cat.categories])
    codes = equals["currency"].cat.codes.to_numpy()
    ties = pd.DataFrame({"code": codes, "rated": rated[codes]}).groupby(equals["customer_key"].to_numpy())
    several = ties["code"].transform("min") != ties["code"].transform("max")
    return (several & ~ties["rated"].transform("all")).to_numpy()


def _settled(
    records: Records,
    spans: Spans,
    row: np.ndarray,
    candidates: Spans,
    tie: np.ndarray,
    rates: Mapping[str, Decimal],
) -> np.ndarray:
    """`row`, with the carrying invoice of unsettled ties found among those that are there in each span."""
    cells = np.flatnonzero(tie[row] >= 0)
    cells = cells[np.argsort(packed(tie[row[cells]], spans.start[cells]))]
    rivals = candidates.take(np.flatnonzero(tie[candidates.key] >= 0))
    _, rival, cell = crossed(
        Spans(tie[rivals.key], rivals.start, rivals.stop),
        Spans(tie[row[cells]], spans.start[cells], spans.stop[cells]),
    )
    there = records.invoices[["invoice_key", "due_on", "currency", "total_minor"]].iloc[rivals.key[rival]]
    there = there.assign(due_on=np.datetime64("1970-01-01"))  # All of a tie are due on the same day.
    chosen = carrying.first_of_each(
        there, cells[cell], rates, lambda keys: records.texts(keys)["invoice_id"].to_numpy()
    )
    settled = row.copy()
    settled[cells[cell[chosen]]] = rivals.key[rival[chosen]]
    return settled


def _own_workflows(records: Records, unpaid: Standing, policy: Policy, window: Window) -> tuple[Standing, np.ndarray]:
    """Unpaid invoices, cut where a workflow of their own may begin or end, and that workflow (RULES 2.4).

    Returns:
        The pieces, and for each a position in the policy, NO_WORKFLOW (an assignment to what is no workflow of
        invoices) or OF_CUSTOMER.
    """
    named = records.assignments[records.assignments["invoice_key"] != NO_KEY]
    asked = _asked_names(policy, "invoice")
    if not asked and named.empty:
        return unpaid, np.full(len(unpaid.spans), OF_CUSTOMER)
    invoice, customer = (records.invoices[name].to_numpy() for name in ("invoice_key", "customer_key"))
    row, day = _days_of_assignments(named, pd.Index(invoice).get_indexer(pd.Index(named["invoice_key"])))
    if "days_overdue" in asked:
        overdue = _crossings(unpaid.spans.key, due_dates(records.invoices)[unpaid.spans.key], asked["days_overdue"])
        row, day = np.append(row, overdue[0]), np.append(day, overdue[1])
    figures = _figures(records.invoices, unpaid, policy, asked)
    unpaid = _cut(unpaid, np.arange(len(invoice)), *window.inner(row, day))
    if figures:
        unpaid = _cut(unpaid, customer, *window.inner(*_changes(figures, records.invoices, unpaid, policy, "invoice")))
    spans = unpaid.spans
    rows = np.arange(len(spans)) if asked else np.flatnonzero(np.isin(invoice[spans.key], named["invoice_key"]))
    frame = _on_first_days(records, unpaid.take(rows), asked)
    assigned = own_workflows(frame, named, policy, figures)
    own = np.full(len(spans), OF_CUSTOMER)
    own[rows] = np.where(assigned["level"] == "invoice", assigned["workflow"].cat.codes, OF_CUSTOMER)
    return unpaid, own


def _cut(unpaid: Standing, of_row: np.ndarray, key: np.ndarray, day: np.ndarray) -> Standing:
    """Unpaid invoices, cut at days of keys; `of_row` is the key of each row of invoices."""
    spans = unpaid.spans
    pieces, piece = cut(Spans(of_row[spans.key], spans.start, spans.stop), key, day)
    unpaid = unpaid.take(piece)
    return replace(unpaid, spans=Spans(unpaid.spans.key, pieces.start, pieces.stop))


def _customers_workflows(
    records: Records, carried: Spans, unpaid: Standing, policy: Policy, window: Window
) -> tuple[Spans, np.ndarray, np.ndarray]:
    """The workflow of customers while an invoice carries (RULES 3.1).

    Returns:
        `carried`, cut where the workflow may change; the row of `carried` that each piece is of; its workflow.
    """
    named = records.assignments[records.assignments["invoice_key"] == NO_KEY]
    asked = _asked_names(policy, "customer")
    key, day = _days_of_assignments(named, named["customer_key"].to_numpy())
    figures = _figures(records.invoices, unpaid, policy, asked)
    if figures:
        whose, changed = _changes(figures, records.invoices, unpaid, policy, "customer")
        key, day = np.append(key, whose), np.append(day, changed)
    spans, piece = cut(carried, *window.inner(key, day))
    rows = np.arange(len(spans)) if asked else np.flatnonzero(np.isin(spans.key, named["customer_key"]))
    customers = records.customers
    place = pd.Index(customers["customer_key"]).get_indexer(pd.Index(spans.key[rows]))
    frame = pd.DataFrame({"customer_key": spans.key[rows], "day": spans.start[rows], "customer": place})
    columns = customer_columns(frame, customers, figures or _NOTHING_UNPAID, policy)
    workflow = np.full(len(spans), default_position(policy))
    workflow[rows] = assign_customers(frame, columns, named, policy)["workflow"]
    return spans, piece, workflow


def _asked_names(policy: Policy, level: Level) -> dict[str, list[int]]:
    """What the rules of a level ask for by name, each with the numbers that it is compared with, rounded down."""
    asked: dict[str, list[int]] = {}
    for name, _, constant in _conditions(policy, level):
        constants = constant if isinstance(constant, tuple) else (constant,)
        compared = [math.floor(one) for one in constants if isinstance(one, int | Decimal)]
        asked.setdefault(name, []).extend(min(max(one, -NEVER), NEVER) for one in compared)
    return asked


def _conditions(policy: Policy, level: Level) -> Iterator[tuple[str, str, Any]]:
    """Name, operator and constant of each condition of a level's rules."""
    for rule in policy.rules_for(level):
        for name, condition in rule.when.items():
            for operator, constant in condition.operators.items():
                yield name, operator, constant


def _days_of_assignments(assignments: pd.DataFrame, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys, and days on which their assignments begin and end; -1 stands for a key that is not known."""
    begun = np.maximum(day_numbers(assignments["assigned_from"]), day_numbers(assignments["recorded_on"]))
    known = np.flatnonzero(key >= 0)
    return np.tile(key[known], 2), np.append(begun[known], ends(assignments["assigned_until"])[known])


def _figures(invoices: pd.DataFrame, unpaid: Standing, policy: Policy, asked: Container[str]) -> FiguresOfDays | None:
    if not any(name in asked for name in FIGURES):
        return None
    return FiguresOfDays(invoices, unpaid, policy.organisation.rates)


def _changes(
    figures: FiguresOfDays, invoices: pd.DataFrame, unpaid: Standing, policy: Policy, level: Level
) -> tuple[np.ndarray, np.ndarray]:
    """Customers, and days on which what rules ask of their figures has another answer than before."""
    row = unpaid.spans.key
    late = _asked_names(policy, level).get("oldest_days_overdue", ())
    overdue = packed(*_crossings(invoices["customer_key"].to_numpy()[row], due_dates(invoices)[row], late))
    customer, day = unpacked(distinct(np.append(figures.days, overdue)))
    values = figures.on(customer, day)
    another = begins(customer)
    for name, operator, constant in _conditions(policy, level):
        if name in values:
            another |= begins(holds(values[name], operator, constant))
    return customer[another], day[another]


def _crossings(key: np.ndarray, due: np.ndarray, late: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys, and days on which what is due becomes so many days late, or later."""
    afterwards = np.array(sorted({days + more for days in late for more in (0, 1)}), dtype="int64")
    return np.repeat(key, len(afterwards)), (due[:, None] + afterwards).ravel()


def _on_first_days(records: Records, unpaid: Standing, asked: Container[str]) -> pd.DataFrame:
    """Unpaid invoices on the first day of each span, as `dunning.open_invoices` has them, and what rules ask for."""
    row, day = unpaid.spans.key, unpaid.spans.start
    invoices = records.invoices.iloc[row].reset_index(drop=True)
    due = due_dates(invoices)
    invoices = invoices.assign(
        as_of=_instants(day), due_on=_instants(due), open_minor=unpaid.open_minor, days_overdue=np.maximum(day - due, 0)
    )
    if any(name in asked for name in TEXTS):
        rows = distinct(row)
        texts = records.texts(records.invoices["invoice_key"].to_numpy()[rows])
        place = np.searchsorted(rows, row)
        invoices = invoices.assign(**{name: texts[name].array[place] for name in TEXTS})
    return invoices.merge(_asked_columns(records.customers), on="customer_key", how="left", validate="m:1")


_NOTHING_UNPAID = pd.DataFrame({"customer_key": [], "as_of": []})


def _asked_columns(customers: pd.DataFrame) -> pd.DataFrame:
    return customers[["customer_key", *customers.columns[customers.columns.str.startswith(ASKED)]]]


def _instants(days: np.ndarray) -> np.ndarray:
    """Days since 1970 as frames have them."""
    return days.astype("datetime64[D]").astype("datetime64[s]")
