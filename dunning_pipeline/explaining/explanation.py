"""An explanation as data: parts of steps of sentences, each step with the rules behind it. Printed in terminal.py."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Said:
    """A sentence and the numbers of the rules behind it (`"2.1"`)."""

    text: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One step of the story."""

    title: str
    sentences: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What is told about one decision, or about the customer as a whole; `heading` is empty for the latter."""

    heading: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Explanation:
    """The story of a customer on a day: what is decided, in a sentence for each decision, and how it comes to that."""

    customer_id: str
    customer_name: str
    as_of: date
    outcomes: tuple[str, ...]
    parts: tuple[Part, ...]


def said(text: str, *rules: str) -> Said:
    """A sentence with the rules behind it."""
    return Said(text, rules)


def step(title: str, sentences: list[Said]) -> Step:
    """A step with the rules of its sentences, each once and in order."""
    rules = {rule for sentence in sentences for rule in sentence.rules}
    return Step(title, tuple(sentence.text for sentence in sentences), tuple(sorted(rules, key=_place)))


def _place(rule: str) -> tuple[int, ...]:
    return tuple(map(int, rule.split(".")))
