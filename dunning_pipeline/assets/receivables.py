"""`dunning/open_invoices` (with `dunning.balances`) and `dunning/carrying_invoices`: what is owed, what carries."""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial

import dagster as dg
import duckdb
import numpy as np
import pandas as pd

from dunning_pipeline import doubts, sql
from dunning_pipeline.assets.customers import fetch_customers
from dunning_pipeline.assets.derived import Derivation, Frames, counted
from dunning_pipeline.assets.metadata import Metadata, counts_table
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.checks import TIES_RATED, check_doubts, doubt_spec
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.unsettled import Unsettled
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.assignment import own_workflows
from dunning_pipeline.rules.carrying import carrying_changes, carrying_invoices
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.owed import are_paid, balances, chaseable_invoices, open_invoices, owed_invoices
from dunning_pipeline.rules.smart_rules import ASKED
from dunning_pipeline.rules.standing import Ledger
from dunning_pipeline.settings import Settings
from dunning_pipeline.sql import quoted
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    BALANCES,
    CARRYING_INVOICES,
    CUSTOMERS,
    INVOICES,
    MANUAL,
    OPEN_INVOICES,
    PAUSES,
    PAYMENTS,
    PROMISES,
    Table,
)
from dunning_pipeline.threads import side_by_side


def derive_open_invoices(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `open_invoices` and `balances` for each day (RULES 1, 2.4, 6.1, 6.2)."""
    ranges = [
        found
        for part in unsettled_parts(warehouse, policy, days)
        for found in owed_on(warehouse, policy, read_ledger(warehouse, part), days)
    ]
    unpaid, owing = zip(*ranges, strict=True)
    return {OPEN_INVOICES.name: together(unpaid), BALANCES.name: together(owing)}


def unsettled_parts(warehouse: Warehouse, policy: Policy, days: Days) -> list[Unsettled]:
    """What can still matter on one of the days: in one piece, or in parts that fit into the memory limit."""
    with warehouse.transaction() as connection:
        sources = [*policy.sources, MANUAL]
        unsettled = Unsettled.of(connection, days.first, days.last, sources, policy.organisation.base_currency)
        return unsettled.split(connection, unsettled.parts_within(warehouse.memory_limit))


def read_ledger(warehouse: Warehouse, part: Unsettled) -> Ledger:
    """What was known of a part of the customers by its last day and can still matter on one of its days."""
    last: dict[str, object] = {"last": part.last}
    with warehouse.transaction() as connection:
        invoices, payments = part.fetch(connection)
        pauses = fetch(connection, sql.load("pauses"), last)
        promises = fetch(connection, sql.load("promises"), last)
    return Ledger(invoices, payments, pauses, promises)


Owing = tuple[pd.DataFrame, pd.DataFrame]
"""Rows of `open_invoices` and of `balances`."""


def owed_on(warehouse: Warehouse, policy: Policy, ledger: Ledger, days: Days) -> list[Owing]:
    """What is owed on each of some days that a ledger was read for, range by range of its customers."""
    return side_by_side(partial(_owed_within, warehouse, policy, ledger, days), ledger.key_ranges(len(days)))


def _owed_within(warehouse: Warehouse, policy: Policy, ledger: Ledger, days: Days, keys: range) -> Owing:
    some = ledger.within(keys)
    owed = owed_invoices(some, policy.receivables.tolerance_minor, days.window)
    unpaid = with_own_workflows(warehouse, policy, open_invoices(owed), days.last)
    return unpaid, balances(owed, some.payments, policy.receivables.minimum_amount_minor)


def together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts of the customers, in order within each."""
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def with_own_workflows(warehouse: Warehouse, policy: Policy, unpaid: pd.DataFrame, last: date) -> pd.DataFrame:
    """Adds `level`, `workflow` and `assigned_by`; reads of customers and invoices only what the rules ask for."""
    with warehouse.transaction() as connection:
        assignments = fetch(connection, sql.load("assignments"), {"last": last})
        if policy.rules_for("invoice"):
            customers = fetch_customers(connection, policy, unpaid["customer_key"])
            asked = customers[["customer_key", *customers.columns[customers.columns.str.startswith(ASKED)]]]
            connection.register("open_keys", unpaid[["invoice_key"]].drop_duplicates())
            texts = fetch(connection, sql.load("invoices_for_rules"))
            unpaid = unpaid.merge(texts, on="invoice_key", validate="m:1")
            unpaid = unpaid.merge(asked, on="customer_key", how="left", validate="m:1")
    return own_workflows(unpaid, assignments, policy)


def derive_carrying_invoices(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `carrying_invoices` for each day, with what changed since the day before (RULES 2)."""
    day_before = days.first - timedelta(days=1)
    parts = unsettled_parts(warehouse, policy, Days(day_before, days.last))
    return {CARRYING_INVOICES.name: together([_carrying_of(warehouse, policy, days, part) for part in parts])}


def _carrying_of(warehouse: Warehouse, policy: Policy, days: Days, part: Unsettled) -> pd.DataFrame:
    """The rows of a part of the customers, which begins on the day before."""
    with warehouse.transaction() as connection:
        unpaid = fetch_days(connection, OPEN_INVOICES, days, part.part, part.parts)
        owing = fetch_days(connection, BALANCES, days, part.part, part.parts)
    ledger = read_ledger(warehouse, part)
    before = owed_on(warehouse, policy, ledger, Days(part.first, part.first))
    chaseable = [chaseable_invoices(*found).astype({"level": "str"}) for found in before]
    candidates = pd.concat([*chaseable, chaseable_invoices(unpaid, owing)], ignore_index=True)
    carried = carrying_invoices(candidates, policy.organisation.rates, partial(invoice_ids, warehouse))
    is_paid = partial(are_paid, ledger, policy.receivables.tolerance_minor)
    rows = carried.join(carrying_changes(carried, candidates, is_paid, partial(_recorded_on, warehouse)))
    return rows[rows["as_of"] >= pd.Timestamp(days.first)].reset_index(drop=True)


def invoice_ids(warehouse: Warehouse, keys: np.ndarray) -> np.ndarray:
    """The ids of invoices by key, in their order."""
    ids = _of_invoices(warehouse, "select * from source.invoice_keys semi join open_keys using (invoice_key)", keys)
    return ids["invoice_id"].reindex(keys).to_numpy()


def _recorded_on(warehouse: Warehouse, keys: np.ndarray) -> np.ndarray:
    """The day on which each invoice became known."""
    query = "select invoice_key, recorded_on from source.invoices semi join open_keys using (invoice_key)"
    return _of_invoices(warehouse, query, keys)["recorded_on"].reindex(keys).to_numpy()


def _of_invoices(warehouse: Warehouse, query: str, keys: np.ndarray) -> pd.DataFrame:
    """Rows about the invoices in `open_keys`, by invoice_key."""
    with warehouse.transaction() as connection:
        connection.register("open_keys", pd.DataFrame({"invoice_key": keys}).drop_duplicates())
        return fetch(connection, query).set_index("invoice_key")


def fetch_days(
    connection: duckdb.DuckDBPyConnection, table: Table, days: Days, part: int = 0, parts: int = 1
) -> pd.DataFrame:
    """The rows of a derived table for the days of a window as the rules want them: by key, without ids.

    Of several `parts` of the customers one is read: those whose key leaves the remainder `part`.
    """
    query = (
        f"select {quoted(table.keyed.column_names)} from {table.qualified}"
        " where as_of between $first and $last and customer_key % $parts = $part"
    )
    frame = fetch(connection, query, {"first": days.first, "last": days.last, "part": part, "parts": parts})
    return frame.astype({"currency": CURRENCY}) if "currency" in frame else frame


def _describe_open_invoices(warehouse: Warehouse, days: Days) -> Metadata:
    customers = (
        "select count(distinct customer_key) as n from dunning.open_invoices where as_of between $first and $last"
    )
    window = {"first": days.first, "last": days.last}
    return {
        "customers": int(warehouse.fetch(customers, window)["n"].iloc[0]),
        "by_currency": counts_table(counted(warehouse, OPEN_INVOICES, "currency", days)),
    }


def _check_rates(warehouse: Warehouse, settings: Settings, days: Days) -> list[dg.AssetCheckResult]:
    ties = doubts.about_ties(warehouse.fetch, settings.policy, days)
    return [check_doubts(asset_key(CARRYING_INVOICES), TIES_RATED, ties)]


OPEN_INVOICES_DERIVATION = Derivation(
    tables=(OPEN_INVOICES, BALANCES),
    deps=(INVOICES, PAYMENTS, PAUSES, PROMISES, CUSTOMERS, ASSIGNMENTS),
    derive=derive_open_invoices,
    describe=_describe_open_invoices,
)

CARRYING_INVOICES_DERIVATION = Derivation(
    tables=(CARRYING_INVOICES,),
    deps=(OPEN_INVOICES,),
    derive=derive_carrying_invoices,
    describe=lambda warehouse, days: {
        "by_change": counts_table(counted(warehouse, CARRYING_INVOICES, "coalesce(carrying_change, 'unchanged')", days))
    },
    checks=(doubt_spec(asset_key(CARRYING_INVOICES), TIES_RATED),),
    check=_check_rates,
)
