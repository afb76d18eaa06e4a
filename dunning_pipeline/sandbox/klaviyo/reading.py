"""Filters, sorting and pages of the endpoints that read, over lists of any record.

Understands the part of Klaviyo's filter language that these endpoints offer; knows no account.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from dunning_pipeline.sandbox.klaviyo.errors import ApiError, Problem, invalid

T = TypeVar("T")
SortKey = tuple[float, int]

_TERM = r'([a-z-]+)\((\w+),("[^"]*"|[^",()]+)\)'
_TERMS = re.compile(rf"{_TERM}(?:,{_TERM})*")
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "greater-or-equal": lambda left, right: left >= right,
    "greater-than": lambda left, right: left > right,
    "less-or-equal": lambda left, right: left <= right,
    "less-than": lambda left, right: left < right,
}


@dataclass(frozen=True)
class Query:
    """A request for a list: its URL without the query, and the query's parameters in order."""

    url: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return the parameter's value, None when it is absent."""
        return dict(self.parameters).get(name)

    def allow_only(self, *names: str) -> None:
        """Raise ApiError 400 at a parameter that is not among `names`."""
        for name, _ in self.parameters:
            if name not in names:
                raise bad_parameter(name, f"The sandbox supports here: {', '.join(names) or 'no parameters'}.")

    def links(self, cursor: str | None) -> dict[str, str | None]:
        """Return `self` and `next` as full URLs; `next` is None without a cursor."""
        return {"self": self._url(self.parameters), "next": self._next(cursor)}

    def _next(self, cursor: str | None) -> str | None:
        if cursor is None:
            return None
        others = tuple(pair for pair in self.parameters if pair[0] != "page[cursor]")
        return self._url((*others, ("page[cursor]", cursor)))

    def _url(self, parameters: Sequence[tuple[str, str]]) -> str:
        return f"{self.url}?{urlencode(parameters)}" if parameters else self.url


@dataclass(frozen=True)
class Listing(Generic[T]):
    """How one endpoint lists its records.

    `texts` are the fields for `equals`, `times` those for comparisons and sorting (seconds since the epoch).
    """

    sequence: Callable[[T], int]
    texts: Mapping[str, Callable[[T], str | None]]
    times: Mapping[str, Callable[[T], float]]
    default_size: int
    max_size: int

    def select(self, records: Sequence[T], query: Query, largest_page: int) -> tuple[list[T], str | None]:
        """Return one page of the matching records, and the cursor of the next or None.

        Raises ApiError 400, with the parameter as its source, for an invalid filter, sort, size or cursor.
        """
        matches = self._predicate(query.get("filter"))
        key, descending = self._order(query.get("sort"))
        position = _position(query.get("page[cursor]"))
        found = sorted((record for record in records if matches(record)), key=key, reverse=descending)
        if position is not None:
            found = [r for r in found if (key(r) < position if descending else key(r) > position)]
        size = min(self._size(query.get("page[size]")), largest_page)
        page = found[:size]
        return page, _cursor(key(page[-1])) if len(found) > size else None

    def _order(self, sort: str | None) -> tuple[Callable[[T], SortKey], bool]:
        if sort is None and not self.times:
            return (lambda record: (0.0, self.sequence(record))), False
        name = "-datetime" if sort is None else sort
        moment = self.times.get(name.removeprefix("-"))
        if moment is None:
            allowed = ", ".join(f"{field}, -{field}" for field in self.times) or "nothing"
            raise bad_parameter("sort", f"{sort!r} cannot be sorted by; allowed: {allowed}.")
        return (lambda record: (moment(record), self.sequence(record))), name.startswith("-")

    def _size(self, size: str | None) -> int:
        if size is None:
            return self.default_size
        if not re.fullmatch(r"[0-9]{1,6}", size) or not 1 <= int(size) <= self.max_size:
            raise bad_parameter("page[size]", f"{size!r} is not a page size from 1 to {self.max_size}.")
        return int(size)

    def _predicate(self, text: str | None) -> Callable[[T], bool]:
        terms = [self._term(*match) for match in _split_filter(text)] if text is not None else []
        return lambda record: all(term(record) for term in terms)

    def _term(self, operator: str, field: str, operand: str) -> Callable[[T], bool]:
        if operator == "equals" and field in self.texts and operand.startswith('"'):
            text, wanted = self.texts[field], operand[1:-1]
            return lambda record: text(record) == wanted
        if operator in _COMPARISONS and field in self.times:
            moment, limit, compare = self.times[field], _instant(operand), _COMPARISONS[operator]
            return lambda record: compare(moment(record), limit)
        raise bad_parameter("filter", f"{operator}({field},{operand}) is not a filter of this endpoint.")


def bad_parameter(name: str, detail: str) -> ApiError:
    """Return the 400 that names a query parameter."""
    return invalid([Problem(detail, parameter=name)])


def _split_filter(text: str) -> list[tuple[str, str, str]]:
    inner = text[4:-1] if text.startswith("and(") and text.endswith(")") else text
    if not _TERMS.fullmatch(inner):
        raise bad_parameter("filter", f"{text!r} is not a filter expression.")
    return [(match[1], match[2], match[3]) for match in re.finditer(_TERM, inner)]


def _instant(operand: str) -> float:
    if re.fullmatch(r"[0-9]{1,12}", operand):
        return float(operand)
    try:
        moment = datetime.fromisoformat(operand)
    except ValueError:
        raise bad_parameter("filter", f"{operand} is not an ISO 8601 date and time, unquoted.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _cursor(key: SortKey) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _position(cursor: str | None) -> SortKey | None:
    if cursor is None:
        return None
    try:
        key: Any = json.loads(base64.urlsafe_b64decode(cursor))
        moment, sequence = key
        return (float(moment), int(sequence))
    except (ValueError, TypeError):
        raise bad_parameter("page[cursor]", f"{cursor!r} is not a cursor of this endpoint.") from None
