"""Asset checks: what must hold before a run counts as successful, and what a person should look at.

A blocking check that fails fails the run, and the reminders of a failed run are never sent.
"""

from collections.abc import Sequence

import dagster as dg

from dunning_pipeline import sql
from dunning_pipeline.assets.metadata import masked
from dunning_pipeline.doubts import Doubt
from dunning_pipeline.partitions import Days
from dunning_pipeline.resources.warehouse import Warehouse

COMPLETE = "every_owing_customer_is_decided_once"
INVOICES_KNOWN = "invoices_are_known"
WORKFLOWS_FIT = "assignments_name_fitting_workflows"
TIES_RATED = "tied_currencies_have_rates"
RULES_RATED = "smart_rules_have_rates"

_ASKED = {
    INVOICES_KNOWN: "The invoices that rows name are known, and those of promises, assignments and contacts are of "
    "their customer (RULES 1.4, 5.2, 6.2).",
    WORKFLOWS_FIT: "Assignments in force name workflows that the policy has, for customers or for invoices.",
    TIES_RATED: "Invoices of several currencies that are due on one day can be compared in base currency (RULES 2.1).",
    RULES_RATED: "What smart rules ask of amounts can be told in base currency (RULES 3.2).",
}


def completeness_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """The blocking check of `dunning/decisions`."""
    return dg.AssetCheckSpec(
        COMPLETE,
        asset=asset,
        blocking=True,
        description="What is owed has one decision a day: per customer, and per invoice of its own workflow (RULES 6).",
    )


def check_completeness(asset: dg.AssetKey, warehouse: Warehouse, days: Days) -> dg.AssetCheckResult:
    """Compares what is owed, or unclear, with the decisions: customers, and invoices of their own, day by day."""
    wrong = warehouse.fetch(sql.load("undecided"), {"first": days.first, "last": days.last})
    undecided = wrong.loc[wrong["decisions"] == 0, "customer_id"]
    return dg.AssetCheckResult(
        check_name=COMPLETE,
        asset_key=asset,
        passed=wrong.empty,
        metadata={
            "undecided": ", ".join(undecided.head(10)),
            "decided_twice": ", ".join(wrong.loc[wrong["decisions"] > 1, "customer_id"].head(10)),
            "decided_without_debt": ", ".join(wrong.loc[wrong["without_debt"].astype(bool), "customer_id"].head(10)),
        },
    )


def doubt_spec(asset: dg.AssetKey, name: str) -> dg.AssetCheckSpec:
    """A check that only warns: a run in which it fails counts, and its reminders are sent."""
    return dg.AssetCheckSpec(name, asset=asset, blocking=False, description=_ASKED[name])


def check_doubts(asset: dg.AssetKey, name: str, doubts: Sequence[Doubt]) -> dg.AssetCheckResult:
    """Passes without doubts; addresses in their sentences are masked."""
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=not doubts,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(masked(doubt.sentence) for doubt in doubts) or None,
        metadata={"count": sum(doubt.count for doubt in doubts)},
    )
