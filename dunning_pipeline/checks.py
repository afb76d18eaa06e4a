"""Asset checks: what must hold before a run counts as successful, and what a person should look at.

A blocking check that fails fails the run, and the reminders of a failed run are never sent.
"""

from collections.abc import Sequence

import dagster as dg

from dunning_pipeline import sql
from dunning_pipeline.doubts import Doubt
from dunning_pipeline.errors import TooManyRejectedRows
from dunning_pipeline.masking import masked
from dunning_pipeline.partitions import Days
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.soundness import implausible_jumps, stale_tables

COMPLETE = "every_owing_customer_is_decided_once"
INVOICES_KNOWN = "invoices_are_known"
WORKFLOWS_FIT = "assignments_name_fitting_workflows"
TIES_RATED = "tied_currencies_have_rates"
RULES_RATED = "smart_rules_have_rates"
FEW_REJECTED = "few_rows_are_rejected"
SOUND = "input_is_fresh_and_plausible"
USUAL_SIZE = "batch_has_a_usual_size"

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


def rejected_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """The blocking check of a pulled table."""
    return dg.AssetCheckSpec(
        FEW_REJECTED,
        asset=asset,
        blocking=True,
        description="No more than the share quality.max_rejected of the rows was rejected; else none was taken over.",
    )


def check_rejected(asset: dg.AssetKey, error: TooManyRejectedRows | None = None) -> dg.AssetCheckResult:
    """Fails with the sentence of a pull that lost too many rows."""
    sentence = masked(str(error)) if error else None
    return dg.AssetCheckResult(check_name=FEW_REJECTED, asset_key=asset, passed=not error, description=sentence)


def soundness_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """The blocking check of today's input; past days are derived from whatever is stored."""
    return dg.AssetCheckSpec(
        SOUND,
        asset=asset,
        blocking=True,
        description="No source is older than quality.max_source_age, and what is owed today is neither more than "
        "quality.max_jump times as much as usual, nor as little.",
    )


def check_soundness(asset: dg.AssetKey, warehouse: Warehouse, settings: Settings, days: Days) -> dg.AssetCheckResult:
    """Looks at the input of today, if today is among the days."""
    today = settings.today()
    faults = []
    if today in days:
        faults += stale_tables(warehouse.fetch, settings.policy, settings.clock())
        faults += implausible_jumps(warehouse.fetch, settings.policy, today)
    return dg.AssetCheckResult(
        check_name=SOUND, asset_key=asset, passed=not faults, description="; ".join(faults) or None
    )


def size_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """The check of `dunning/reminders`. It blocks nothing: the batch is kept, and sent if somebody confirms it."""
    return dg.AssetCheckSpec(
        USUAL_SIZE,
        asset=asset,
        blocking=False,
        description="The batch is no larger than sending.max_batch, and not sending.max_growth times the usual size.",
    )


def check_size(asset: dg.AssetKey, unusual: str | None) -> dg.AssetCheckResult:
    """Passes unless something is `unusual` about the size of a batch (`guards.why_unusual`)."""
    return dg.AssetCheckResult(
        check_name=USUAL_SIZE,
        asset_key=asset,
        passed=unusual is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=unusual,
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
