"""The leaky bucket of points, and what a query costs.

An object costs a point, a scalar or enum none, a connection two points and those of its nodes: as many as are asked for
before the query runs, as many as there are after it. Shopify charges large connections less than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)

MOST_COST = 1_000
_DEFAULT_SIZE = 50


@dataclass
class Bucket:
    """Points that are there, up to a maximum, so many a second coming back; `now` is in seconds."""

    maximum: float = 2_000.0
    restore_rate: float = 100.0
    available: float = 2_000.0
    at: float = 0.0

    def take(self, cost: float, now: float) -> bool:
        """Takes so many points, unless there are fewer."""
        self._refill(now)
        if cost > self.available:
            return False
        self.available -= cost
        return True

    def give_back(self, cost: float) -> None:
        """What a query cost less than was asked for."""
        self.available = min(self.maximum, self.available + cost)

    def status(self, now: float) -> dict[str, float]:
        """Shopify's `throttleStatus`."""
        self._refill(now)
        return {
            "maximumAvailable": self.maximum,
            "currentlyAvailable": int(self.available),
            "restoreRate": self.restore_rate,
        }

    def _refill(self, now: float) -> None:
        if now > self.at:
            self.available = min(self.maximum, self.available + (now - self.at) * self.restore_rate)
            self.at = now


class Costs:
    """What a query costs, with the variables that it is asked with."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        definitions = document.definitions
        self._fragments = {part.name.value: part for part in definitions if isinstance(part, FragmentDefinitionNode)}
        self._operations = [part for part in definitions if isinstance(part, OperationDefinitionNode)]
        self._variables = variables

    def requested(self) -> int:
        """At most, whatever there is."""
        return sum(self._asked(operation.selection_set) for operation in self._operations)

    def actual(self, data: Mapping[str, Any] | None) -> int:
        """For what the query yielded."""
        return sum(self._yielded(operation.selection_set, data) for operation in self._operations) if data else 0

    def _fields(self, selected: SelectionSetNode) -> list[FieldNode]:
        """The fields that are selected, those of fragments too; once where fragments on several types name one."""
        fields: list[FieldNode] = []
        for selection in selected.selections:
            if isinstance(selection, FieldNode):
                fields.append(selection)
            elif isinstance(selection, FragmentSpreadNode):
                fields += self._fields(self._fragments[selection.name.value].selection_set)
            elif isinstance(selection, InlineFragmentNode):
                fields += self._fields(selection.selection_set)
        return [*{(node.alias or node.name).value: node for node in fields}.values()]

    def _asked(self, selected: SelectionSetNode) -> int:
        return sum(self._asked_field(node) for node in self._fields(selected))

    def _asked_field(self, node: FieldNode) -> int:
        if node.selection_set is None:
            return 0
        inner = self._fields(node.selection_set)
        if _listed(inner):
            arguments = {argument.name.value: argument.value for argument in node.arguments}
            size = self._value(arguments["first"]) if "first" in arguments else _DEFAULT_SIZE
            return 2 + int(size) * sum(1 + self._asked(listed) for _, listed in _listed(inner))
        ids = next((self._value(argument.value) for argument in node.arguments if argument.name.value == "ids"), None)
        times = len(ids) if isinstance(ids, list) else 1
        return times * (1 + self._asked(node.selection_set))

    def _value(self, value: ValueNode) -> Any:
        if isinstance(value, VariableNode):
            return self._variables.get(value.name.value) or 0
        return int(value.value) if isinstance(value, IntValueNode) else 0

    def _yielded(self, selected: SelectionSetNode, data: Mapping[str, Any]) -> int:
        cost = 0
        for node in self._fields(selected):
            found = data.get(node.alias.value if node.alias else node.name.value)
            if node.selection_set is None or found is None:
                continue
            inner = self._fields(node.selection_set)
            if _listed(inner):
                cost += 2
                for name, listed in _listed(inner):
                    cost += sum(1 + self._yielded(listed, each) for each in found[name])
            elif isinstance(found, list):
                cost += sum(1 + self._yielded(node.selection_set, each) for each in found if each is not None)
            else:
                cost += 1 + self._yielded(node.selection_set, found)
        return cost


def _listed(fields: list[FieldNode]) -> list[tuple[str, SelectionSetNode]]:
    """What is selected of the nodes of a connection."""
    named = [(node.name.value, node.selection_set) for node in fields]
    return [(name, selected) for name, selected in named if name in ("nodes", "edges") and selected is not None]
