"""Asset checks: what must hold before a run counts as successful, and what a person should look at.

A blocking check that fails fails the run, and the reminders of a failed run are never sent.
"""

import dagster as dg
import pandas as pd

COMPLETE = "every_owing_customer_is_decided_once"


def completeness_spec(asset: dg.AssetKey) -> dg.AssetCheckSpec:
    """The blocking check of `dunning/decisions`."""
    return dg.AssetCheckSpec(
        COMPLETE,
        asset=asset,
        blocking=True,
        description="Each customer with an unpaid invoice has exactly one decision a day (RULES 6).",
    )


def check_completeness(
    asset: dg.AssetKey, open_invoices: pd.DataFrame, balances: pd.DataFrame, decisions: pd.DataFrame
) -> dg.AssetCheckResult:
    """Compares the customers that owe, or of whom it is unclear, with the decisions, day by day."""
    unclear = balances[balances["unclear"].astype(bool)]
    owing = pd.concat([open_invoices, unclear])[["as_of", "customer_id"]].drop_duplicates()
    decided = decisions[["as_of", "customer_id"]]
    missing = owing.merge(decided.drop_duplicates(), how="left", indicator=True, validate="1:1")
    undecided = missing.loc[missing["_merge"] == "left_only", "customer_id"]
    twice = decided.loc[decided.duplicated(), "customer_id"]
    return dg.AssetCheckResult(
        check_name=COMPLETE,
        asset_key=asset,
        passed=bool(undecided.empty and twice.empty and len(owing) == len(decided)),
        metadata={
            "owing_customers": len(owing),
            "decisions": len(decided),
            "undecided": ", ".join(undecided.head(10)),
            "decided_twice": ", ".join(twice.head(10)),
        },
    )
