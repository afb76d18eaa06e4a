"""Which workflow a customer, or an invoice of its own, is under: RULES.md section 3 and 2.4."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dunning_pipeline.policy import UNASSIGNED, Level, Policy
from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.smart_rules import Figures, Values, invoice_columns, rows_fulfilling
from dunning_pipeline.rules.timing import day_numbers

NO_WORKFLOW = -1
"""Stands for "no workflow" among positions in `policy.workflows`."""


def assign_customers(
    rows: pd.DataFrame, columns: Mapping[str, Values], assignments: pd.DataFrame, policy: Policy
) -> pd.DataFrame:
    """The workflow of each customer: an assignment in force, else a smart rule, else the default (RULES 3.1).

    An assignment that names `unassigned`, a workflow that the policy does not have, or one that is carried by
    invoices, leaves the customer without one: nobody is reminded by a workflow that was not meant for them.

    Args:
        rows: customer_key, day (since 1970); the customers on the days to derive.
        columns: what the rules for customers ask for, by name, one value per row.
        assignments: assignment_id, customer_key, invoice_key, workflow, assigned_from, assigned_until, recorded_on.
        policy: workflows and smart rules in order, at most one default.

    Returns:
        Indexed like `rows`: `workflow` (position in `policy.workflows` or NO_WORKFLOW) and `assigned_by` (categorical:
        `default`, `rule:<name>`, `assignment:<id>` or empty).
    """
    of_customers = assignments[assignments["invoice_key"] == NO_KEY]
    explicit = _by_assignment(rows, of_customers, ["customer_key"], policy, "customer")
    default = default_position(policy)
    unless = _Choice.same_for_all(len(rows), default, "default" if default != NO_WORKFLOW else None)
    chosen = _in_turn([explicit, _by_rules(rows, columns, policy, "customer")], policy).else_(unless)
    return pd.DataFrame({"workflow": chosen.workflow, "assigned_by": chosen.assigned_by}, index=rows.index)


def own_workflows(
    unpaid: pd.DataFrame, assignments: pd.DataFrame, policy: Policy, figures: Figures | None = None
) -> pd.DataFrame:
    """Adds to unpaid invoices their `level`, and `workflow` and `assigned_by` where that is `invoice` (RULES 2.4).

    An invoice is under a workflow of its own by an assignment that names it, else by a smart rule. An assignment to
    `unassigned` leaves it to its customer's workflow; one to a workflow that the policy does not have, or that is
    carried by customers, leaves it without any.

    Args:
        unpaid: customer_key, invoice_key, as_of, and what `smart_rules.invoice_columns` needs where there are rules.
        assignments: as for `assign_customers`.
        policy: workflows and smart rules in order.
        figures: of the customers; by default they are made of `unpaid`.
    """
    of_invoices = assignments[assignments["invoice_key"] != NO_KEY]
    rows = unpaid[["customer_key", "invoice_key"]].assign(day=day_numbers(unpaid["as_of"]))
    explicit = _by_assignment(rows, of_invoices, ["customer_key", "invoice_key"], policy, "invoice")
    columns = invoice_columns(unpaid, policy, figures)
    chosen = _in_turn([explicit, _by_rules(rows, columns, policy, "invoice")], policy)
    own = chosen.made & ~chosen.unassigned
    names = [workflow.name for workflow in policy.workflows]
    return unpaid.assign(
        level=labelled(own, ["customer", "invoice"]),
        workflow=labelled(np.where(own, chosen.workflow, NO_WORKFLOW), names),
        assigned_by=labelled(np.where(own, chosen.assigned_by.codes, -1), chosen.assigned_by.categories),
    )


def default_position(policy: Policy) -> int:
    """Where the default workflow stands in the policy; NO_WORKFLOW without one."""
    return next((at for at, workflow in enumerate(policy.workflows) if workflow.default), NO_WORKFLOW)


def workflow_positions(names: pd.Series, policy: Policy) -> np.ndarray:
    """Where each workflow stands in the policy; NO_WORKFLOW for an empty name."""
    position = {workflow.name: at for at, workflow in enumerate(policy.workflows)}
    return names.map(position).astype("float64").fillna(NO_WORKFLOW).to_numpy(dtype="int64")


class _Choice:
    """Per row: whether a choice was `made`, its workflow's position, by what, and whether it is `unassigned`."""

    def __init__(self, workflow: np.ndarray, assigned_by: pd.Categorical, unassigned: np.ndarray) -> None:
        self.made = assigned_by.codes >= 0
        self.workflow = workflow
        self.assigned_by = assigned_by
        self.unassigned = unassigned

    @classmethod
    def same_for_all(cls, rows: int, workflow: int, assigned_by: str | None) -> "_Choice":
        by = labelled(np.full(rows, -1 if assigned_by is None else 0, dtype="int8"), [assigned_by or "default"])
        return cls(np.full(rows, workflow), by, np.zeros(rows, dtype=bool))

    def else_(self, other: "_Choice") -> "_Choice":
        """This choice, or the other where it was not made."""
        if not self.made.any():
            return other
        if not other.made.any():
            return self
        mine, its = self.assigned_by, other.assigned_by
        # Codes are as small as their number allows, and a sum may not be.
        other_codes = its.codes.astype("int64") + len(mine.categories)
        codes = np.where(self.made, mine.codes, np.where(other.made, other_codes, -1))
        return _Choice(
            np.where(self.made, self.workflow, other.workflow),
            labelled(codes, [*mine.categories, *its.categories]),
            np.where(self.made, self.unassigned, other.unassigned),
        )


def _in_turn(choices: list[_Choice], policy: Policy) -> _Choice:
    """The assignment before the rule, or the other way round where the policy says so."""
    first, second = reversed(choices) if policy.smart_rules_override_manual else choices
    return first.else_(second)


def _by_assignment(
    rows: pd.DataFrame, assignments: pd.DataFrame, key: list[str], policy: Policy, level: Level
) -> _Choice:
    """What the assignment in force says: of several the latest, then the one with the highest id."""
    in_force = _in_force(rows, assignments, key)
    position = {workflow.name: at for at, workflow in enumerate(policy.workflows) if workflow.carried_by == level}
    workflow, unassigned = np.full(len(rows), NO_WORKFLOW), np.zeros(len(rows), dtype=bool)
    by = np.full(len(rows), -1)
    at = in_force["row"].to_numpy()
    workflow[at] = in_force["workflow"].map(position).astype("float64").fillna(NO_WORKFLOW)
    unassigned[at] = in_force["workflow"] == UNASSIGNED
    by[at], ids = pd.factorize(in_force["assignment_id"])
    return _Choice(workflow, labelled(by, [f"assignment:{one}" for one in ids]), unassigned)


def _in_force(rows: pd.DataFrame, assignments: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """At most one assignment for each row of `rows`, whose place is `row`."""
    days = rows[[*key, "day"]].assign(row=np.arange(len(rows)))
    days = days[days[key[-1]].isin(assignments[key[-1]])]
    pairs = days.merge(assignments, on=key, validate="m:m")
    as_of = pairs["day"].to_numpy().astype("datetime64[D]")
    begun = (pairs["recorded_on"].to_numpy() <= as_of) & (pairs["assigned_from"].to_numpy() <= as_of)
    in_force = pairs[begun & ~(pairs["assigned_until"].to_numpy() <= as_of)]
    return in_force.sort_values(["assigned_from", "assignment_id"]).drop_duplicates("row", keep="last")


def _by_rules(rows: pd.DataFrame, columns: Mapping[str, Values], policy: Policy, level: Level) -> _Choice:
    """What the first smart rule that holds says."""
    rules = policy.rules_for(level)
    position = {workflow.name: at for at, workflow in enumerate(policy.workflows)}
    first = np.full(len(rows), -1)
    for at, rule in reversed(list(enumerate(rules))):
        first[rows_fulfilling(rule, columns, len(rows))] = at
    workflow = np.array([*(position[rule.workflow] for rule in rules), NO_WORKFLOW])[first]
    by = labelled(first, [f"rule:{rule.name}" for rule in rules])
    return _Choice(workflow, by, np.zeros(len(rows), dtype=bool))
