"""Which action comes next in a workflow, and from which day: RULES.md section 4."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy, Workflow
from dunning_pipeline.rules.assignment import NO_WORKFLOW
from dunning_pipeline.rules.timing import WorkingDays, trigger_dates

COMPLETED = -1
"""Stands for "no action left" (or no workflow, or nothing carries) among positions in a ladder."""

NOTHING_EXECUTED = -1
UNLIMITED = np.iinfo("int64").max


@dataclass(frozen=True)
class Ladders:
    """The policy's ladders as arrays: the actions of all workflows behind one another.

    `start[w]` is where workflow w begins, `length[w]` how many actions it has, `before_anchor[w]` how many of
    them have a negative day, `contextual[w]` its logic. `every[w]` is the days between repetitions of its last
    action (0: none), `limit[w]` their number. `day` and `name` are per action.
    """

    start: np.ndarray
    length: np.ndarray
    before_anchor: np.ndarray
    contextual: np.ndarray
    every: np.ndarray
    limit: np.ndarray
    day: np.ndarray
    name: np.ndarray

    @classmethod
    def of(cls, policy: Policy) -> "Ladders":
        """The ladders of the policy's workflows, in their order."""
        ladders = [workflow.actions for workflow in policy.workflows]
        repeats = [workflow.repeat_last for workflow in policy.workflows]
        length = np.array([len(actions) for actions in ladders], dtype="int64")
        return cls(
            start=np.cumsum(length) - length,
            length=length,
            before_anchor=np.array([sum(a.day < 0 for a in actions) for actions in ladders], dtype="int64"),
            contextual=np.array([workflow.logic == "contextual" for workflow in policy.workflows], dtype=bool),
            every=np.array([repeat.every if repeat else 0 for repeat in repeats], dtype="int64"),
            limit=np.array([repeat.limit or UNLIMITED if repeat else 0 for repeat in repeats], dtype="int64"),
            day=np.array([action.day for actions in ladders for action in actions], dtype="int64"),
            name=np.array([action.name for actions in ladders for action in actions], dtype=object),
        )

    def days(self, workflow: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The day of each action; 0 where the workflow has no such position."""
        return self._take(self.day, workflow, position, 0)

    def names(self, workflow: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The name of each action; None where the workflow has no such position."""
        return self._take(self.name, workflow, position, None)

    def _take(self, values: np.ndarray, workflow: np.ndarray, position: np.ndarray, default: object) -> np.ndarray:
        taken = np.full(len(workflow), default, dtype=values.dtype)
        there = (workflow != NO_WORKFLOW) & (position >= 0)
        there[there] = position[there] < self.length[workflow[there]]
        taken[there] = values[self.start[workflow[there]] + position[there]]
        return taken


@dataclass(frozen=True)
class NextActions:
    """Per row: position in the ladder or COMPLETED, number of the execution from 1, datetime64[D] trigger or NaT."""

    position: np.ndarray
    occurrence: np.ndarray
    trigger: np.ndarray


def executed_actions(rows: pd.DataFrame, contacts: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The last action executed for each row's (customer, workflow, carrying invoice).

    Implements RULES 4.2 and 4.5. Former names of an action (`was`) count as the action; a contact about an action
    that the ladder no longer has executes nothing.

    Args:
        rows: customer_key, invoice_key, workflow (position in `policy.workflows`).
        contacts: customer_key, invoice_key, workflow and action (names), contact_on; only those that execute actions.
        policy: the ladders.

    Returns:
        As many rows, in the same order: `position` (NOTHING_EXECUTED for none), `times` it was executed, `last_on`.
    """
    named = contacts.merge(_action_names(policy), on=["workflow", "action"], validate="m:1")
    group = ["customer_key", "invoice_key", "workflow"]
    named = named.drop(columns=["workflow", "action"]).rename(columns={"workflow_at": "workflow"})
    by_action = named.groupby([*group, "position"])["contact_on"].agg(times="size", last_on="max").reset_index()
    furthest = by_action.sort_values("position").drop_duplicates(group, keep="last")
    executed = rows[group].merge(furthest, on=group, how="left", validate="1:1")
    return executed.fillna({"position": NOTHING_EXECUTED, "times": 0}).astype({"position": "int64", "times": "int64"})[
        ["position", "times", "last_on"]
    ]


def next_actions(
    workflow: np.ndarray,
    anchor: np.ndarray,
    executed: pd.DataFrame,
    day: np.datetime64,
    ladders: Ladders,
    calendar: WorkingDays,
) -> NextActions:
    """The next action of each row and its trigger date (RULES 4.1, 4.3, 4.4, 4.6).

    Args:
        workflow: position in `policy.workflows`, or NO_WORKFLOW.
        anchor: datetime64[D]; NaT where nothing carries.
        executed: as from `executed_actions`.
        day: the as-of date.
        ladders: the policy's ladders.
        calendar: the working days of each row.
    """
    carried = (workflow != NO_WORKFLOW) & ~np.isnat(anchor)
    at = np.where(carried, workflow, 0)
    length = np.where(carried, _of_workflow(ladders.length, at), 0)
    last, times = executed["position"].to_numpy(), executed["times"].to_numpy()

    expired = np.where(day >= anchor, _of_workflow(ladders.before_anchor, at), 0)
    first_left = np.maximum(last + 1, expired)
    reached = _latest_reached(np.where(carried, workflow, NO_WORKFLOW), anchor, day, ladders, calendar)
    position = np.where(_of_workflow(ladders.contextual, at), np.maximum(first_left, reached), first_left)

    behind = position >= length
    every = np.where(carried, _of_workflow(ladders.every, at), 0)
    in_force = (last == length - 1) & (last >= expired)
    repeated = behind & (every > 0) & in_force & (times <= _of_workflow(ladders.limit, at))
    position = np.where(repeated, length - 1, np.where(behind, COMPLETED, position))

    trigger = trigger_dates(anchor, ladders.days(workflow, position), calendar)
    repeat_on = executed["last_on"].to_numpy().astype("datetime64[D]") + every
    trigger = np.where(repeated, repeat_on, trigger)
    return NextActions(
        position=position,
        occurrence=np.where(repeated, times + 1, 1),
        trigger=np.where(position == COMPLETED, np.datetime64("NaT"), trigger),
    )


def _latest_reached(
    workflow: np.ndarray, anchor: np.ndarray, day: np.datetime64, ladders: Ladders, calendar: WorkingDays
) -> np.ndarray:
    """Position of the latest action whose trigger has come, else NOTHING_EXECUTED; ladders ascend."""
    latest = np.full(len(workflow), NOTHING_EXECUTED, dtype="int64")
    for position in range(ladders.length.max(initial=0)):
        at = np.full(len(workflow), position)
        there = ladders.names(workflow, at) != None  # noqa: E711 (element by element)
        trigger = trigger_dates(anchor, ladders.days(workflow, at), calendar)
        latest[there & (trigger <= day)] = position
    return latest


def _of_workflow(values: np.ndarray, workflow: np.ndarray) -> np.ndarray:
    """The value of each row's workflow; zeros where the policy has no workflow at all."""
    return values[workflow] if len(values) else np.zeros(len(workflow), dtype=values.dtype)


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
