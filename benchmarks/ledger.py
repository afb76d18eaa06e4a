"""A seeded ledger in a warehouse file: a tenth as many customers as invoices, Zipf-like counts, lognormal amounts.

Two years of invoices in the order in which they were issued, about a tenth of them open on AS_OF; what was paid on
them; the reminders sent for what carried; and a few of everything else that the rules know. numpy draws the numbers,
DuckDB makes the texts from them, so that ten million invoices take a minute or two.
"""

from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks import sql
from benchmarks.policy import LADDER
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    CONTACTS,
    CUSTOMER_KEYS,
    CUSTOMERS,
    INVOICE_KEYS,
    INVOICES,
    PAUSES,
    PAYMENTS,
    PROMISES,
    SENT_HISTORY,
    Table,
)

AS_OF = date(2026, 11, 20)
TODAY = np.datetime64(AS_OF)
NEVER = np.datetime64("NaT")
DAYS_BACK = 730

ZIPF_EXPONENT = 1.0
ZIPF_SHIFT = 100
"""Zipf-Mandelbrot: the customer of rank r gets invoices in proportion to 1 / (r + shift): nobody has a tenth."""

TERMS = np.array([14, 30, 30, 30, 45, 60])
"""Days between issue and due date, each as likely as the others."""

LATE_PAYERS, LATE_DAYS = 0.2, 120
"""Share of the invoices that are paid so many days late on average; the others from 10 days early to 24 days late."""

SHARES = {
    "disputed": 0.004,
    "voided": 0.004,
    "written_off": 0.003,
    "draft": 0.001,
    "vanished": 0.0005,
    "paid_in_half": 0.01,
    "charged_back": 0.002,
}
"""Shares of the invoices, each invoice in one of them at most."""

HISTORY_OF_PAID = 0.1
"""Share of the paid invoices that the history holds reminders for."""

Columns = dict[str, np.ndarray]


def write_ledger(path: Path, invoices: int, seed: int = 1) -> Warehouse:
    """A warehouse with `invoices` invoices in EUR for a tenth as many customers. The same seed gives the same rows."""
    warehouse = Warehouse(path)
    random = np.random.default_rng(seed)
    customers = {"customer_key": np.arange(1, invoices // 10 + 1)}
    ledger = _invoices(invoices, random)
    payments = _payments(ledger, random)
    with warehouse.transaction() as connection:
        connection.execute(f"set variable today = date '{AS_OF}'")
        connection.execute(f"set variable actions = {[*LADDER]}")
        for table, columns in {
            CUSTOMERS: customers,
            CUSTOMER_KEYS: customers,
            INVOICES: ledger,
            INVOICE_KEYS: ledger,
            PAYMENTS: payments,
            SENT_HISTORY: _reminders(ledger, random),
            CONTACTS: _calls(ledger, random),
            PAUSES: _some(customers, 0.002, random),
            PROMISES: _some(customers, 0.005, random),
            ASSIGNMENTS: _some(customers, 0.001, random),
        }.items():
            _insert(connection, table, columns)
    return warehouse


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, columns: Columns) -> None:
    """Adds a row for each number; `ledger_<table>.sql` makes the table's columns from them."""
    connection.register("numbers", pa.table({name: pa.array(values) for name, values in columns.items()}))
    connection.execute(f"insert into {table.qualified} by name {sql.load(f'ledger_{table.name}')}")
    connection.unregister("numbers")


def _invoices(count: int, random: np.random.Generator) -> Columns:
    issued = np.sort(TODAY - random.integers(0, DAYS_BACK, count))
    due = issued + random.choice(TERMS, count)
    state = _states(count, random)
    late = np.where(
        random.random(count) < LATE_PAYERS, random.exponential(LATE_DAYS, count), random.integers(-10, 25, count)
    )
    return {
        "invoice_key": np.arange(1, count + 1),
        "customer_key": _owners(count, random),
        "issued_on": issued,
        "due_on": due,
        "total_minor": np.maximum(random.lognormal(9.5, 1.2, count).astype("int64"), 100),
        "state": state,
        "paid_on": due + late.astype("int64"),
    }


def _states(count: int, random: np.random.Generator) -> np.ndarray:
    """The place of each invoice's state in SHARES, from 1; 0 for the ordinary ones."""
    bounds = np.cumsum([1 - sum(SHARES.values()), *SHARES.values()])
    return np.searchsorted(bounds[:-1], random.random(count), side="right")


def _owners(count: int, random: np.random.Generator) -> np.ndarray:
    """Who owes each invoice: few have many, most have few."""
    customers = count // 10
    weights = 1 / (np.arange(1, customers + 1) + ZIPF_SHIFT) ** ZIPF_EXPONENT
    key_of_rank = random.permutation(customers) + 1
    return key_of_rank[random.choice(customers, count, p=weights / weights.sum())]


def _is(state: np.ndarray, *names: str) -> np.ndarray:
    return np.isin(state, [[*SHARES].index(name) + 1 for name in names])


def _payments(ledger: Columns, random: np.random.Generator) -> Columns:
    """What was paid by TODAY, in the order in which it came to be known; some of it came back ten days later."""
    owed = ~_is(ledger["state"], "voided", "written_off", "draft", "vanished")
    paid = np.flatnonzero(owed & (ledger["paid_on"] <= TODAY))
    back = paid[_is(ledger["state"][paid], "charged_back") & (ledger["paid_on"][paid] + 10 <= TODAY)]
    total, half = ledger["total_minor"][paid], _is(ledger["state"][paid], "paid_in_half")
    rows = np.concatenate([paid, back])
    columns = {
        "customer_key": ledger["customer_key"][rows],
        "invoice_key": ledger["invoice_key"][rows],
        "amount_minor": np.concatenate([np.where(half, total // 2, total), -ledger["total_minor"][back]]),
        "paid_on": np.concatenate([ledger["paid_on"][paid], ledger["paid_on"][back] + 10]),
    }
    recorded = columns["paid_on"] + random.integers(0, 3, len(rows))
    order = np.argsort(recorded, kind="stable")
    return {name: values[order] for name, values in (columns | {"recorded_on": recorded}).items()}


def _reminders(ledger: Columns, random: np.random.Generator) -> Columns:
    """Reminders before TODAY: for each customer's oldest open invoice, and for some of those paid since."""
    key, state, paid_on = ledger["customer_key"], ledger["state"], ledger["paid_on"]
    counts = ~_is(state, "disputed", "voided", "written_off", "draft", "vanished")
    still_open = counts & (paid_on > TODAY)
    oldest = np.full(key.max() + 1, TODAY + DAYS_BACK)
    np.minimum.at(oldest, key[still_open], ledger["due_on"][still_open])
    carried = still_open & (ledger["due_on"] == oldest[key])
    rows = np.flatnonzero(carried | (counts & ~still_open & (random.random(len(key)) < HISTORY_OF_PAID)))
    made = [
        (rows[sent], np.full(sent.sum(), position), on[sent])
        for position, day in enumerate(LADDER.values())
        for on in [np.busday_offset(ledger["due_on"][rows] + day, 0, roll="forward")]
        for sent in [on < np.minimum(paid_on[rows], TODAY)]
    ]
    at, position, contact_on = (np.concatenate(parts) for parts in zip(*made, strict=True))
    order = np.argsort(contact_on, kind="stable")
    return {
        "number": np.arange(1, len(at) + 1),
        "customer_key": key[at[order]],
        "invoice_key": ledger["invoice_key"][at[order]],
        "position": position[order],
        "contact_on": contact_on[order],
    }


def _calls(ledger: Columns, random: np.random.Generator) -> Columns:
    """What was recorded by hand: one contact per 500 invoices, about an invoice or about none."""
    rows = np.flatnonzero(random.random(len(ledger["invoice_key"])) < 0.002)
    on = ledger["due_on"][rows] + random.integers(0, 60, len(rows))
    rows, on = rows[on <= TODAY], on[on <= TODAY]
    return {
        "number": np.arange(1, len(rows) + 1),
        "customer_key": ledger["customer_key"][rows],
        "invoice_key": ledger["invoice_key"][rows],
        "contacted_on": on,
    }


def _some(customers: Columns, share: float, random: np.random.Generator) -> Columns:
    """A share of the customers, with a number each to make dates from."""
    keys = customers["customer_key"]
    chosen = keys[random.random(len(keys)) < share]
    return {"customer_key": chosen, "days": random.integers(0, 20, len(chosen))}
