"""Errors as Klaviyo answers them: one exception type and its JSON:API document.

Which request deserves which error is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One entry of an error document; `pointer` leads into the body, `parameter` names a query parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ApiError(Exception):
    """An answer other than success.

    `status` is the HTTP status, `code` Klaviyo's error code, `problems` the entries of the document,
    `headers` what the answer carries besides the usual headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        problems: Sequence[Problem],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {'; '.join(problem.detail for problem in problems)}")
        self.status = status
        self.code = code
        self.title = title
        self.problems = tuple(problems)
        self.headers = dict(headers or {})

    def document(self, request_id: str) -> dict[str, Any]:
        """Return `{"errors": [{id, status, code, title, detail, source}]}` (reference: Klaviyo errors)."""
        return {"errors": [self._entry(problem, request_id) for problem in self.problems]}

    def _entry(self, problem: Problem, request_id: str) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": request_id,
            "status": self.status,
            "code": self.code,
            "title": self.title,
            "detail": problem.detail,
        }
        source = {"pointer": problem.pointer, "parameter": problem.parameter}
        given = {key: value for key, value in source.items() if value is not None}
        return {**entry, "source": given} if given else entry


def invalid(problems: Sequence[Problem]) -> ApiError:
    """Return the 400 for a body or parameter that breaks a rule."""
    return ApiError(400, "invalid", "Invalid input.", problems)
