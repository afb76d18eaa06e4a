"""`dunning/open_invoices` (with `dunning.balances`) and `dunning/carrying_invoices`: what is owed, what carries."""

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


def derive_open_invoices(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `open_invoices` and `balances` for each day (RULES 1, 2.4, 6.1, 6.2)."""
    ledger = read_ledger(warehouse, policy, days)
    owed = owed_invoices(ledger, policy.receivables.tolerance_minor, days.window)
    return {
        OPEN_INVOICES.name: with_own_workflows(warehouse, policy, open_invoices(owed), days.last),
        BALANCES.name: balances(owed, ledger.payments, policy.receivables.minimum_amount_minor),
    }


def read_ledger(warehouse: Warehouse, policy: Policy, days: Days) -> Ledger:
    """What was known by the last day and can still matter on one of the days."""
    last: dict[str, object] = {"last": days.last}
    with warehouse.transaction() as connection:
        unsettled = Unsettled.of(
            connection, days.first, days.last, [*policy.sources, MANUAL], policy.organisation.base_currency
        )
        invoices, payments = unsettled.fetch(connection)
        pauses = fetch(connection, sql.load("pauses"), last)
        promises = fetch(connection, sql.load("promises"), last)
    return Ledger(invoices, payments, pauses, promises)


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
    with warehouse.transaction() as connection:
        unpaid = fetch_days(connection, OPEN_INVOICES, days)
        owing = fetch_days(connection, BALANCES, days)
    day_before = days.first - timedelta(days=1)
    before = derive_open_invoices(warehouse, policy, Days(day_before, day_before))
    candidates = pd.concat(
        [
            chaseable_invoices(before[OPEN_INVOICES.name], before[BALANCES.name]).astype({"level": "str"}),
            chaseable_invoices(unpaid, owing),
        ],
        ignore_index=True,
    )
    carried = carrying_invoices(candidates, policy.organisation.rates, partial(invoice_ids, warehouse))
    ledger = read_ledger(warehouse, policy, Days(day_before, days.last))
    is_paid = partial(are_paid, ledger, policy.receivables.tolerance_minor)
    rows = carried.join(carrying_changes(carried, candidates, is_paid, partial(_recorded_on, warehouse)))
    return {CARRYING_INVOICES.name: rows[rows["as_of"] > pd.Timestamp(day_before)].reset_index(drop=True)}


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


def fetch_days(connection: duckdb.DuckDBPyConnection, table: Table, days: Days) -> pd.DataFrame:
    """The rows of a derived table for the days of a window as the rules want them: by key, without ids."""
    query = f"select {quoted(table.keyed.column_names)} from {table.qualified} where as_of between $first and $last"
    frame = fetch(connection, query, {"first": days.first, "last": days.last})
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


def _check_rates(warehouse: Warehouse, policy: Policy, days: Days) -> list[dg.AssetCheckResult]:
    ties = doubts.about_ties(warehouse.fetch, policy, days)
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
