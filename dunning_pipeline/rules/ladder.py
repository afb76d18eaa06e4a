"""Which action comes next in a workflow: RULES.md section 4."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy, Workflow
from dunning_pipeline.rules.assignment import NO_WORKFLOW

COMPLETED = -1
"""Stands for "no action left" (or no workflow, or nothing carries) among positions in a ladder."""


@dataclass(frozen=True)
class Ladders:
    """The policy's ladders as arrays: the actions of all workflows behind one another.

    `start[w]` is where workflow w begins, `length[w]` how many actions it has, `before_anchor[w]` how many of
    them have a negative day. `day` and `name` are per action.
    """

    start: np.ndarray
    length: np.ndarray
    before_anchor: np.ndarray
    day: np.ndarray
    name: np.ndarray

    @classmethod
    def of(cls, policy: Policy) -> "Ladders":
        """The ladders of the policy's workflows, in their order."""
        ladders = [workflow.actions for workflow in policy.workflows]
        length = np.array([len(actions) for actions in ladders], dtype="int64")
        return cls(
            start=np.cumsum(length) - length,
            length=length,
            before_anchor=np.array([sum(a.day < 0 for a in actions) for actions in ladders], dtype="int64"),
            day=np.array([action.day for actions in ladders for action in actions], dtype="int64"),
            name=np.array([action.name for actions in ladders for action in actions], dtype=object),
        )

    def days(self, workflow: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The day of each action; 0 where `position` is COMPLETED."""
        return self._take(self.day, workflow, position, 0)

    def names(self, workflow: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The name of each action; None where `position` is COMPLETED."""
        return self._take(self.name, workflow, position, None)

    def _take(self, values: np.ndarray, workflow: np.ndarray, position: np.ndarray, default: object) -> np.ndarray:
        taken = np.full(len(workflow), default, dtype=values.dtype)
        there = position != COMPLETED
        taken[there] = values[self.start[workflow[there]] + position[there]]
        return taken


def last_executed(rows: pd.DataFrame, contacts: pd.DataFrame, policy: Policy) -> np.ndarray:
    """Position of the last action executed for each row's (customer, workflow, carrying invoice), else -1.

    Implements RULES 4.2 and 4.5. Former names of an action (`was`) count as the action; a contact about an action
    that the ladder no longer has executes nothing.

    Args:
        rows: customer_key, invoice_key, workflow (position in `policy.workflows`).
        contacts: customer_key, invoice_key, workflow and action (names); only those that execute actions.
        policy: the ladders.
    """
    named = contacts.merge(_action_names(policy), on=["workflow", "action"], validate="m:1")
    group = ["customer_key", "invoice_key", "workflow"]
    executed = named.drop(columns="workflow").rename(columns={"workflow_at": "workflow"})
    furthest = executed.groupby(group)["position"].max().reset_index()
    merged = rows[group].merge(furthest, on=group, how="left", validate="1:1")
    return merged["position"].fillna(-1).to_numpy(dtype="int64")


def next_action(
    workflow: np.ndarray, executed: np.ndarray, anchor: np.ndarray, day: np.datetime64, ladders: Ladders
) -> np.ndarray:
    """Position of the next action under the standard logic, or COMPLETED (RULES 4.3).

    The first after the last executed one; actions before the anchor expire on the anchor date itself.

    Args:
        workflow: position in `policy.workflows`, or NO_WORKFLOW.
        executed: position of the last executed action, -1 for none.
        anchor: datetime64[D]; NaT where nothing carries, which gives COMPLETED.
        day: the as-of date.
        ladders: the policy's ladders.
    """
    known = (workflow != NO_WORKFLOW) & ~np.isnat(anchor)
    position = np.full(len(workflow), COMPLETED, dtype="int64")
    at = workflow[known]
    expired = np.where(day >= anchor[known], ladders.before_anchor[at], 0)
    candidate = np.maximum(executed[known] + 1, expired)
    position[known] = np.where(candidate < ladders.length[at], candidate, COMPLETED)
    return position


def _action_names(policy: Policy) -> pd.DataFrame:
    """Every present and former action name of each workflow with its place."""
    return pd.DataFrame(
        [
            (workflow.name, name, at, position)
            for at, workflow in enumerate(policy.workflows)
            for position, names in enumerate(_names(workflow))
            for name in names
        ],
        columns=["workflow", "action", "workflow_at", "position"],
    ).astype({"workflow": "str", "action": "str", "workflow_at": "int64", "position": "int64"})


def _names(workflow: Workflow) -> list[tuple[str, ...]]:
    return [(action.name, *action.was) for action in workflow.actions]
