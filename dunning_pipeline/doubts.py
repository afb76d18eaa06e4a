"""Input that was taken, but does something else than somebody may have meant: each kind as one sentence with ids.

`dunning check` tells them as notes, Dagster as checks that warn and as metadata. What such input does is decided in
rules/ and resources/loading.py; nothing is changed here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.masking import masked
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Level, Policy
from dunning_pipeline.rules.smart_rules import INVOICE_AMOUNTS, MONEY_FIGURES
from dunning_pipeline.tables import ASSIGNMENTS, CONTACTS, PAYMENTS, PROMISES, Table

Read = Callable[[str, Mapping[str, object]], pd.DataFrame]
"""Rows of a query with its parameters: `Warehouse.fetch`, or `Warehouse.look` where nothing may be changed."""

ASKING_FOR_MONEY: Mapping[Level, Sequence[str]] = {
    "customer": MONEY_FIGURES,
    "invoice": (*MONEY_FIGURES, *INVOICE_AMOUNTS),
}
"""What conditions of smart rules compare in base currency."""


@dataclass(frozen=True)
class Doubt:
    """How many rows, or customers, a sentence is about. The sentence names the first few."""

    count: int
    sentence: str


def about_invoices(read: Read, table: Table) -> list[Doubt]:
    """Rows of a table that name an invoice which nobody knows, or which their customer does not have."""
    if table is PAYMENTS:
        query, effect = sql.load("unknown_payment_invoices"), "they count as unapplied (rule 1.4)"
        what = "payments are of invoices that no source has"
    else:
        named = f"with named as (select {table.key[0]} as id, customer_id, invoice_id from {table.qualified})"
        query, effect = f"{named}\n{sql.load('unowned_invoices')}", _WITHOUT_INVOICE[table.name]
        what = f"{table.name} name an invoice that their customer does not have"
    return [Doubt(n, f"{n} {what} ({ids}): {effect}") for n, ids in _found(read(query, {}))]


def about_other_currencies(read: Read) -> list[Doubt]:
    """Payments in another currency than their invoice, known too early to be rejected for it (RULES 1.2)."""
    what = "payments are in another currency than their invoice"
    effect = "they neither pay it nor count as unapplied (rule 1.2)"
    return [
        Doubt(n, f"{n} {what} ({ids}): {effect}") for n, ids in _found(read(sql.load("payments_in_other_currency"), {}))
    ]


_WITHOUT_INVOICE = {
    PROMISES.name: "they hold nothing",
    ASSIGNMENTS.name: "they assign nothing",
    CONTACTS.name: "they count for no invoice, and for the customer's minimum contact delay only",
}


def about_workflows(read: Read, policy: Policy, day: date) -> list[Doubt]:
    """Assignments in force that leave a customer or an invoice without a workflow (RULES 2.4, 3.1)."""
    names = {level: [flow.name for flow in policy.workflows if flow.carried_by == level] for level in _LEVELS}
    parameters = {
        "day": day,
        "of_customers": names["customer"],
        "of_invoices": names["invoice"],
        "workflows": [flow.name for flow in policy.workflows],
    }
    rows = read(sql.load("assignments_without_workflow"), parameters)
    return [
        Doubt(int(n), f"{n} assignments {_MISFIT[bool(known)]} ({ids}): nobody is reminded by them (no_workflow)")
        for known, n, ids in rows.itertuples(index=False)
    ]


_LEVELS: tuple[Level, ...] = ("customer", "invoice")
_MISFIT = {
    False: "name a workflow that the policy does not have",
    True: "put a customer under a workflow carried by invoices, or an invoice under one carried by customers",
}


def about_overlaps(read: Read, day: date) -> list[Doubt]:
    """Customers and invoices with several assignments in force on a day (RULES 3.1)."""
    rows = read(sql.load("overlapping_assignments"), {"day": day})
    return [
        Doubt(n, f"{n} customers or invoices have several assignments in force, of which the first counts ({ids})")
        for n, ids in _found(rows)
    ]


def about_ties(read: Read, policy: Policy, days: Days) -> list[Doubt]:
    """Ties across currencies that are decided without the rates of all of them (RULES 2.1)."""
    rows = read(sql.load("tied_without_rate"), _unrated(policy, days))
    return [
        Doubt(
            n,
            f"organisation.exchange_rates has no rate for {currencies}: totals of invoices in several currencies with "
            f"one due date are compared by number of major units, for {n} customers ({ids}; rule 2.1)",
        )
        for n, ids, currencies in _found(rows)
    ]


def about_figures(read: Read, policy: Policy, days: Days) -> list[Doubt]:
    """Conditions on amounts that fail because there is no rate (RULES 3.2)."""
    asking = [rule.name for rule in policy.smart_rules if set(rule.when) & set(ASKING_FOR_MONEY[rule.for_])]
    if not asking:
        return []
    rules = ", ".join(repr(name) for name in asking)
    return [
        Doubt(
            n,
            f"organisation.exchange_rates has no rate for {currencies}: conditions on amounts fail for {n} customers "
            f"({ids}); smart rules that have some: {rules} (rule 3.2)",
        )
        for n, ids, currencies in _found(read(sql.load("owing_without_rate"), _unrated(policy, days)))
    ]


def about_rejected_rows(read: Read) -> list[Doubt]:
    """Rows of the newest pulls that were not taken over, by source and table; those left out by the mapping apart."""
    rows = read(sql.load("rejected_by_table"), {})
    return [
        Doubt(int(n), f"{n} rows of {source}.{table} were {what} ({masked(reason)}); source.rejected_rows has them all")
        for source, table, n, reason, what in rows.itertuples(index=False)
    ]


def _unrated(policy: Policy, days: Days) -> dict[str, object]:
    return {"first": days.first, "last": days.last, "rated": list(policy.organisation.rates)}


def _found(rows: pd.DataFrame) -> list[tuple[int, ...]]:
    """The rows that count something: `n` first."""
    return [(int(row[0]), *row[1:]) for row in rows[rows["n"] > 0].itertuples(index=False)]
