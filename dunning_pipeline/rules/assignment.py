"""Which workflow a customer is under: RULES.md section 3."""

from datetime import date

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules.receivables import NO_KEY

NO_WORKFLOW = -1
"""Stands for "no workflow" among positions in `policy.workflows`."""


def assign_workflows(customer_key: pd.Series, assignments: pd.DataFrame, policy: Policy, as_of: date) -> pd.DataFrame:
    """The workflow of each customer: an explicit assignment in force, else the default (RULES 3.1).

    An assignment that names `unassigned`, or a workflow that the policy does not have, leaves the customer
    without one: nobody is reminded by a workflow that was not meant for them.

    Args:
        customer_key: the customers, each once.
        assignments: assignment_id, customer_key, invoice_key, workflow, assigned_from, assigned_until, recorded_on.
        policy: workflows in order, at most one default.
        as_of: the day to derive.

    Returns:
        Indexed like `customer_key`: `workflow` (position in `policy.workflows` or NO_WORKFLOW) and `assigned_by`
        (`default`, `assignment:<id>` or empty).
    """
    default = _default_position(policy)
    explicit = _in_force(assignments, as_of).set_index("customer_key")
    rows = explicit.index.get_indexer(pd.Index(customer_key))
    assigned = rows >= 0
    workflow = np.full(len(customer_key), default)
    workflow[assigned] = _positions(explicit["workflow"], policy)[rows[assigned]]
    assigned_by = np.full(len(customer_key), "default" if default != NO_WORKFLOW else None, dtype=object)
    assigned_by[assigned] = ("assignment:" + explicit["assignment_id"]).to_numpy(dtype=object)[rows[assigned]]
    return pd.DataFrame(
        {"workflow": workflow, "assigned_by": pd.Series(assigned_by, dtype="str").to_numpy()},
        index=customer_key.index,
    )


def _in_force(assignments: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """One assignment per customer: of several in force the latest, then the one with the highest id."""
    day = pd.Timestamp(as_of)
    ended = assignments["assigned_until"] <= day
    in_force = assignments[
        (assignments["recorded_on"] <= day)
        & (assignments["assigned_from"] <= day)
        & ~ended
        & (assignments["invoice_key"] == NO_KEY)
    ]
    return in_force.sort_values(["assigned_from", "assignment_id"]).drop_duplicates("customer_key", keep="last")


def _default_position(policy: Policy) -> int:
    return next((at for at, workflow in enumerate(policy.workflows) if workflow.default), NO_WORKFLOW)


def _positions(names: pd.Series, policy: Policy) -> np.ndarray:
    position = {workflow.name: at for at, workflow in enumerate(policy.workflows)}
    return names.map(position).fillna(NO_WORKFLOW).to_numpy(dtype="int64")
