"""`dunning/decisions`: who is reminded on a day, and why everybody else who owes is not."""

from dataclasses import replace

import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.assets.derived import Derivation, Frames
from dunning_pipeline.assets.metadata import counts
from dunning_pipeline.assets.receivables import fetch_days
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.checks import check_completeness, completeness_spec
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.decisions import Facts, decide
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    BALANCES,
    CARRYING_INVOICES,
    CONTACTS,
    CUSTOMERS,
    DECISIONS,
    OPEN_INVOICES,
)


def derive_decisions(warehouse: Warehouse, policy: Policy, days: Days) -> Frames:
    """Rows of `decisions` for each day, from what was owed and the contacts before it (RULES 3 to 6)."""
    facts = _read_facts(warehouse, days)
    decided = [decide(_of_day(facts, pd.Timestamp(day)), policy, day) for day in days]
    return {
        DECISIONS.name: pd.concat(decided, ignore_index=True),
        OPEN_INVOICES.name: facts.open_invoices,
        BALANCES.name: facts.balances,
    }


def _read_facts(warehouse: Warehouse, days: Days) -> Facts:
    window = {"first": days.first, "last": days.last}
    with warehouse.transaction() as connection:
        return Facts(
            open_invoices=fetch_days(connection, OPEN_INVOICES, days),
            balances=fetch_days(connection, BALANCES, days),
            carrying=fetch_days(connection, CARRYING_INVOICES, days),
            customers=fetch(connection, sql.load("owing_customers"), window),
            assignments=fetch(connection, sql.load("assignments"), {"last": days.last}),
            pauses=fetch(connection, sql.load("pauses"), {"last": days.last}),
            contacts=fetch(connection, sql.load("contacts"), {"last": days.last}),
            rejections=fetch(connection, sql.load("rejections")),
        )


def _of_day(facts: Facts, day: pd.Timestamp) -> Facts:
    return replace(
        facts,
        open_invoices=facts.open_invoices[facts.open_invoices["as_of"] == day],
        balances=facts.balances[facts.balances["as_of"] == day],
        carrying=facts.carrying[facts.carrying["as_of"] == day],
    )


def outcome(decisions: pd.DataFrame) -> "pd.Series[str]":
    """`remind`, or the reason why not, of each decision."""
    return decisions["reason"].fillna("remind").rename("outcome")


DECISIONS_DERIVATION = Derivation(
    tables=(DECISIONS,),
    deps=(OPEN_INVOICES, CARRYING_INVOICES, CUSTOMERS, ASSIGNMENTS, CONTACTS),
    derive=derive_decisions,
    describe=lambda frame: {
        "reminders": int((frame["decision"] == "remind").sum()),
        "by_reason": counts(outcome(frame)),
    },
    checks=(completeness_spec(asset_key(DECISIONS)),),
    check=lambda frames: [
        check_completeness(
            asset_key(DECISIONS), frames[OPEN_INVOICES.name], frames[BALANCES.name], frames[DECISIONS.name]
        )
    ],
)
