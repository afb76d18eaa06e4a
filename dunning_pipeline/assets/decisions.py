"""`dunning/decisions`: who is reminded on a day, and why everybody else who owes is not."""

import dagster as dg
import duckdb
import pandas as pd

from dunning_pipeline import doubts, sql
from dunning_pipeline.assets.customers import fetch_customers
from dunning_pipeline.assets.derived import Derivation, Frames, counted
from dunning_pipeline.assets.metadata import Metadata, counts_table
from dunning_pipeline.assets.receivables import (
    CARRYING_INVOICES_DERIVATION,
    OPEN_INVOICES_DERIVATION,
    fetch_days,
    together,
)
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.checks import (
    RULES_RATED,
    WORKFLOWS_FIT,
    check_completeness,
    check_doubts,
    check_soundness,
    completeness_spec,
    doubt_spec,
    soundness_spec,
)
from dunning_pipeline.masking import masked
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.contacts import fetch_contacts
from dunning_pipeline.resources.unsettled import parts_within
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.decisions import STREAM, Facts, decide
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    BALANCES,
    CARRYING_INVOICES,
    CONTACTS,
    CUSTOMER_LINKS,
    CUSTOMERS,
    DECISIONS,
    OPEN_INVOICES,
)
from dunning_pipeline.threads import side_by_side

OUTCOME = "coalesce(reason, 'remind')"
"""SQL of `remind`, or the reason why not, of a decision."""


def derive_decisions(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `decisions` for each day, from what was owed and the contacts before it (RULES 3 to 6)."""
    count = "select count(*) as n from dunning.open_invoices where as_of between $first and $last"
    rows = int(warehouse.fetch(count, {"first": days.first, "last": days.last})["n"].iloc[0])
    parts = parts_within(rows, warehouse.memory_limit)
    decided = [
        decide_customers(_read_facts(warehouse, policy, days, part, parts), policy, days) for part in range(parts)
    ]
    return {DECISIONS.name: together(decided)}


def decide_customers(facts: Facts, policy: Policy, days: Days) -> pd.DataFrame:
    """The decisions of some days. Those of one day are made range by range of customers, which keeps their order."""
    if len(days) > 1:
        return decide(facts, policy)
    return together(side_by_side(lambda keys: decide(facts.within(keys), policy), facts.key_ranges()))


def _read_facts(warehouse: Warehouse, policy: Policy, days: Days, part: int, parts: int) -> Facts:
    with warehouse.transaction() as connection:
        balances, carrying, open_invoices = (
            fetch_days(connection, table, days, part, parts) for table in (BALANCES, CARRYING_INVOICES, OPEN_INVOICES)
        )
        return read_beside(connection, policy, days, open_invoices, balances, carrying)


def read_beside(
    connection: duckdb.DuckDBPyConnection,
    policy: Policy,
    days: Days,
    open_invoices: pd.DataFrame,
    balances: pd.DataFrame,
    carrying: pd.DataFrame,
) -> Facts:
    """The facts of the days: what was derived, and beside it what was pulled, sent or recorded by hand."""
    last = {"last": days.last}
    customers = fetch_customers(connection, policy, balances["customer_key"])
    own = open_invoices[(open_invoices["level"] == "invoice").to_numpy()]
    that_carry = pd.concat([frame[["customer_key", "invoice_key"]] for frame in (carrying, own)])
    invoices = that_carry.drop_duplicates("invoice_key")
    return Facts(
        open_invoices=open_invoices,
        balances=balances,
        carrying=carrying,
        customers=customers,
        invoice_ids=fetch_invoice_ids(connection, invoices),
        assignments=fetch(connection, sql.load("assignments"), last),
        pauses=fetch(connection, sql.load("pauses"), last),
        contacts=fetch_contacts(
            connection, policy, days.first, days.last, customers["customer_key"].to_numpy(), invoices
        ),
        rejections=fetch(connection, sql.load("rejections"), {"stream": STREAM}),
        order_events=fetch(connection, sql.load("order_events"), last),
    )


def fetch_invoice_ids(connection: duckdb.DuckDBPyConnection, invoices: pd.DataFrame) -> pd.DataFrame:
    """invoice_key and invoice_id of some invoices."""
    connection.register("open_keys", invoices[["invoice_key"]])
    return fetch(connection, "select * from source.invoice_keys semi join open_keys using (invoice_key)")


def _describe(warehouse: Warehouse, days: Days) -> Metadata:
    outcomes = counted(warehouse, DECISIONS, OUTCOME, days)
    overlaps = doubts.about_overlaps(warehouse.fetch, days.last)
    return {
        "reminders": outcomes.get("remind", 0),
        "by_reason": counts_table(outcomes),
        "overlapping_assignments": masked("; ".join(doubt.sentence for doubt in overlaps)) or "none",
    }


def _check(warehouse: Warehouse, settings: Settings, days: Days) -> list[dg.AssetCheckResult]:
    """Assignments are looked at as they stand on the last of the days."""
    asset, policy = asset_key(DECISIONS), settings.policy
    misfits = doubts.about_workflows(warehouse.fetch, policy, days.last)
    return [
        check_completeness(asset, warehouse, days),
        check_soundness(asset, warehouse, settings, days),
        check_doubts(asset, WORKFLOWS_FIT, misfits),
        check_doubts(asset, RULES_RATED, doubts.about_figures(warehouse.fetch, policy, days)),
    ]


DECISIONS_DERIVATION = Derivation(
    tables=(DECISIONS,),
    deps=(OPEN_INVOICES, CARRYING_INVOICES, CUSTOMERS, CUSTOMER_LINKS, ASSIGNMENTS, CONTACTS),
    derive=derive_decisions,
    describe=_describe,
    checks=(
        completeness_spec(asset_key(DECISIONS)),
        soundness_spec(asset_key(DECISIONS)),
        doubt_spec(asset_key(DECISIONS), WORKFLOWS_FIT),
        doubt_spec(asset_key(DECISIONS), RULES_RATED),
    ),
    check=_check,
)

DERIVATIONS = (OPEN_INVOICES_DERIVATION, CARRYING_INVOICES_DERIVATION, DECISIONS_DERIVATION)
"""All of them, in the order in which each finds what it needs."""
