"""Which action comes next in a workflow, and from which day: RULES.md section 4."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy, Workflow
from dunning_pipeline.rules.assignment import NO_WORKFLOW
from dunning_pipeline.rules.timing import AsOf, WorkingDays, trigger_dates

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
class Executed:
    """Per row: the last position executed or NOTHING_EXECUTED, how often, and the latest day (datetime64[D]) or NaT."""

    position: np.ndarray
    times: np.ndarray
    last_on: np.ndarray

    @classmethod
    def nothing(cls, rows: int) -> "Executed":
        """No action executed in any row."""
        return cls(
            np.full(rows, NOTHING_EXECUTED), np.zeros(rows, dtype="int64"), np.full(rows, np.datetime64("NaT", "D"))
        )

    @classmethod
    def by(cls, rows: int, row: np.ndarray, position: np.ndarray, day: np.ndarray) -> "Executed":
        """What executions (of `position` in `row` on `day`) leave of `rows` rows."""
        executed = cls.nothing(rows)
        np.maximum.at(executed.position, row, position)
        of_last = position == executed.position[row]
        np.add.at(executed.times, row[of_last], 1)
        np.fmax.at(executed.last_on, row[of_last], day[of_last])
        return executed

    def add(self, row: np.ndarray, position: np.ndarray, day: np.ndarray) -> None:
        """Notes that on `day` the actions at `position`, the last one or a later one, were executed in some rows."""
        again = self.position[row] == position
        self.times[row] = np.where(again, self.times[row], 0) + 1
        self.position[row] = position
        self.last_on[row] = day

    def take(self, rows: np.ndarray) -> "Executed":
        """Some of the rows."""
        return Executed(self.position[rows], self.times[rows], self.last_on[rows])

    def and_then(self, other: "Executed") -> "Executed":
        """What two histories of the same rows make together: the ladder never goes back (RULES 4.2)."""
        position = np.maximum(self.position, other.position)
        mine, its = self.position == position, other.position == position
        return Executed(
            position,
            np.where(mine, self.times, 0) + np.where(its, other.times, 0),
            np.fmax(np.where(mine, self.last_on, _NO_DAY), np.where(its, other.last_on, _NO_DAY)),
        )


_NO_DAY = np.datetime64("NaT", "D")


@dataclass(frozen=True)
class NextActions:
    """Per row: position in the ladder or COMPLETED, number of the execution from 1, datetime64[D] trigger or NaT."""

    position: np.ndarray
    occurrence: np.ndarray
    trigger: np.ndarray


class Named(NamedTuple):
    """Contacts that name an action: their rows, the place of the workflow in the policy and of the action in it."""

    row: np.ndarray
    workflow: np.ndarray
    position: np.ndarray

    def take(self, which: np.ndarray) -> "Named":
        """Some of them."""
        return Named(self.row[which], self.workflow[which], self.position[which])


def named_actions(contacts: pd.DataFrame, policy: Policy) -> Named:
    """The contacts whose `workflow` and `action` are a present or former action of the policy (RULES 4.2)."""
    workflow, action = (contacts[name].astype("category").cat for name in ("workflow", "action"))
    names = _action_names(policy)
    # One place more than there are categories: the last one, -1, is for names that no contact has, and for no name.
    places = np.full((len(workflow.categories) + 1, len(action.categories) + 1), NOTHING_EXECUTED)
    named = (
        workflow.categories.get_indexer(pd.Index(names["workflow"])),
        action.categories.get_indexer(pd.Index(names["action"])),
    )
    places[named] = np.arange(len(names))
    places[-1], places[:, -1] = NOTHING_EXECUTED, NOTHING_EXECUTED
    place = places[workflow.codes.to_numpy(), action.codes.to_numpy()]
    known = np.flatnonzero(place != NOTHING_EXECUTED)
    at = place[known]
    return Named(known, names["workflow_at"].to_numpy()[at], names["position"].to_numpy()[at])


def next_actions(
    workflow: np.ndarray,
    anchor: np.ndarray,
    executed: Executed,
    day: AsOf,
    ladders: Ladders,
    calendar: WorkingDays,
) -> NextActions:
    """The next action of each row and its trigger date (RULES 4.1, 4.3, 4.4, 4.6).

    Args:
        workflow: position in `policy.workflows`, or NO_WORKFLOW.
        anchor: datetime64[D]; NaT where nothing carries.
        executed: what was executed before.
        day: the as-of date, one for all rows or one for each.
        ladders: the policy's ladders.
        calendar: the working days of each row.
    """
    carried = (workflow != NO_WORKFLOW) & ~np.isnat(anchor)
    at = np.where(carried, workflow, 0)
    length = np.where(carried, _of_workflow(ladders.length, at), 0)
    day = np.broadcast_to(np.asarray(day, dtype="datetime64[D]"), anchor.shape)

    expired = np.where(day >= anchor, _of_workflow(ladders.before_anchor, at), 0)
    position = np.maximum(executed.position + 1, expired)
    contextual = np.flatnonzero(carried & _of_workflow(ladders.contextual, at))
    reached = _latest_reached(
        workflow[contextual], anchor[contextual], day[contextual], ladders, calendar.take(contextual)
    )
    position[contextual] = np.maximum(position[contextual], reached)

    behind = np.flatnonzero(position >= length)
    repeated = behind[_is_repeated(executed.take(behind), at[behind], length[behind], expired[behind], ladders)]
    position[behind] = COMPLETED
    position[repeated] = length[repeated] - 1
    occurrence = np.ones(len(position), dtype="int64")
    occurrence[repeated] += executed.times[repeated]

    trigger = trigger_dates(anchor, ladders.days(workflow, position), calendar)
    trigger[repeated] = executed.last_on[repeated] + ladders.every[at[repeated]]
    trigger[position == COMPLETED] = _NO_DAY
    return NextActions(position, occurrence, trigger)


def _is_repeated(
    executed: Executed, workflow: np.ndarray, length: np.ndarray, expired: np.ndarray, ladders: Ladders
) -> np.ndarray:
    """Whether the last action, executed and unexpired, comes up again (RULES 4.6)."""
    return (
        (length > 0)
        & (_of_workflow(ladders.every, workflow) > 0)
        & (executed.position == length - 1)
        & (executed.position >= expired)
        & (executed.times <= _of_workflow(ladders.limit, workflow))
    )


def _latest_reached(
    workflow: np.ndarray, anchor: np.ndarray, day: np.ndarray, ladders: Ladders, calendar: WorkingDays
) -> np.ndarray:
    """Position of the latest action whose trigger has come, else NOTHING_EXECUTED; ladders ascend."""
    latest = np.full(len(workflow), NOTHING_EXECUTED, dtype="int64")
    for position in range(ladders.length[workflow].max(initial=0)):
        trigger = trigger_dates(anchor, ladders.days(workflow, np.full(len(workflow), position)), calendar)
        latest[(position < ladders.length[workflow]) & (trigger <= day)] = position
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
