"""`dunning/open_invoices` (with `dunning.balances`) and `dunning/carrying_invoices`: what is owed, what carries."""

from decimal import Decimal

import duckdb
import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.assets.derived import Derivation, Frames
from dunning_pipeline.assets.metadata import counts
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules import carrying, holds, receivables
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.tables import (
    BALANCES,
    CARRYING_INVOICES,
    INVOICES,
    MANUAL,
    OPEN_INVOICES,
    PAUSES,
    PAYMENTS,
    PROMISES,
    Table,
)


def derive_open_invoices(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `open_invoices` and `balances` for each day (RULES 1, 6.1, 6.2)."""
    invoices, payments, pauses, promises = _read_receivables(warehouse, policy, days)
    open_invoices, balances = [], []
    for day in days:
        owed = receivables.owed_invoices(invoices, payments, policy.receivables.tolerance_minor, day)
        owed = holds.mark_holds(owed, pauses, promises, day)
        unapplied = receivables.unapplied_payments(payments, day)
        minimum = policy.receivables.minimum_amount_minor
        balances.append(receivables.balances(owed, unapplied, minimum).assign(as_of=pd.Timestamp(day)))
        open_invoices.append(receivables.open_invoices(owed, day).assign(as_of=pd.Timestamp(day)))
    return _with_ids(warehouse, pd.concat(open_invoices), pd.concat(balances))


def _read_receivables(warehouse: Warehouse, policy: Policy, days: Days) -> list[pd.DataFrame]:
    until: dict[str, object] = {"last": days.last}
    sources = {"sources": [*policy.sources, MANUAL]}
    with warehouse.transaction() as connection:
        create_enums(connection)
        return [
            fetch(connection, sql.load("invoices"), {**until, **sources}),
            fetch(connection, sql.load("payments"), {**until, **sources}),
            fetch(connection, sql.load("pauses"), until),
            fetch(connection, sql.load("promises"), until),
        ]


def create_enums(connection: duckdb.DuckDBPyConnection) -> None:
    """Types that let DuckDB hand over currencies and states as categories instead of strings."""
    for name, values in (("currency_code", CURRENCY.categories), ("invoice_status", INVOICES.column("status").allowed)):
        listed = ", ".join(f"'{value}'" for value in values)
        connection.execute(f"create temp type {name} as enum ({listed})")


def _with_ids(warehouse: Warehouse, open_invoices: pd.DataFrame, balances: pd.DataFrame) -> Frames:
    """The frames with ids and numbers, which the rules do not work on."""
    with warehouse.transaction() as connection:
        invoice_keys = open_invoices[["invoice_key"]].drop_duplicates()
        connection.register("open_keys", invoice_keys)
        texts = fetch(connection, sql.load("open_invoice_texts"))
        connection.register("owing_keys", balances[["customer_key"]].drop_duplicates())
        customers = fetch(connection, "select * from source.customer_keys semi join owing_keys using (customer_key)")
    return {
        OPEN_INVOICES.name: open_invoices.merge(texts, on="invoice_key", validate="m:1"),
        BALANCES.name: balances.merge(customers, on="customer_key", validate="m:1"),
    }


def derive_carrying_invoices(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `carrying_invoices` for each day (RULES 2.1, 2.2)."""
    with warehouse.transaction() as connection:
        open_invoices = fetch_days(connection, OPEN_INVOICES, days)
        balances = fetch_days(connection, BALANCES, days)
    rates = {**policy.organisation.exchange_rates, policy.organisation.base_currency: Decimal(1)}
    frames = [
        carrying.carrying_invoices(
            receivables.chaseable_invoices(
                open_invoices[open_invoices["as_of"] == pd.Timestamp(day)],
                balances[balances["as_of"] == pd.Timestamp(day)],
            ),
            rates,
        )
        for day in days
    ]
    return {CARRYING_INVOICES.name: pd.concat(frames, ignore_index=True).assign(level="customer")}


def fetch_days(connection: duckdb.DuckDBPyConnection, table: Table, days: Days) -> pd.DataFrame:
    """The rows of a derived table for the days of a window, currencies as the rules want them."""
    query = f"select * from {table.qualified} where as_of between $first and $last"
    frame = fetch(connection, query, {"first": days.first, "last": days.last})
    return frame.astype({"currency": CURRENCY}) if "currency" in frame else frame


OPEN_INVOICES_DERIVATION = Derivation(
    tables=(OPEN_INVOICES, BALANCES),
    deps=(INVOICES, PAYMENTS, PAUSES, PROMISES),
    derive=derive_open_invoices,
    describe=lambda frame: {
        "customers": int(frame["customer_key"].nunique()),
        "by_currency": counts(frame["currency"].astype("str")),
    },
)

CARRYING_INVOICES_DERIVATION = Derivation(
    tables=(CARRYING_INVOICES,), deps=(OPEN_INVOICES,), derive=derive_carrying_invoices
)
