"""What can go wrong between a client and Shopify, to be planned request by request.

How planned faults are used up, and those that any server has, are Klaviyo's (sandbox/klaviyo/faults.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from dunning_pipeline.sandbox.klaviyo.faults import Fault

QUERY, GRANT = "POST", "GRANT"
"""Requests that faults are planned for: GraphQL queries, and those for a token."""


def _answer(name: str, status: int, document: object, headers: Mapping[str, str] | None = None) -> Fault:
    body = json.dumps(document).encode()
    return Fault(name, code=status, headers={"Content-Type": "application/json", **(headers or {})}, body=body)


def too_many_requests(retry_after: str | None = "1.0") -> Fault:
    """429, with `Retry-After` unless it is None."""
    told = {"Retry-After": retry_after} if retry_after is not None else {}
    return _answer("429", 429, {"errors": "Exceeded 2 calls per second for api client."}, told)


def _graphql(name: str, message: str, code: str) -> Fault:
    return _answer(name, 200, {"errors": [{"message": message, "extensions": {"code": code}}]})


INTERNAL_ERROR = _graphql(
    "internal error with status 200",
    "Internal error. Something went wrong on our end.",
    "INTERNAL_SERVER_ERROR",
)
UNAUTHORIZED = _answer("401", 401, {"errors": "[API] Invalid API key or access token (unrecognized login)"})
FROZEN = _answer("402", 402, {"errors": "Unavailable Shop"})
LOCKED = _answer("423", 423, {"errors": "Locked"})
MOVED = Fault("301", code=301, headers={"Location": "https://elsewhere.invalid/"})
NO_JSON = Fault("no JSON", code=200, headers={"Content-Type": "text/html"}, body=b"<html>maintenance</html>")
ERROR_BESIDE_DATA = Fault("error beside data", accepted=True)
"""The answer comes, but its last order is missing, and an error tells so."""
FIELD_EMPTY = Fault("needed field empty", accepted=True)
"""The answer comes, but an amount that is never empty is so, without an error."""

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        too_many_requests(),
        *(Fault.status(status) for status in (500, 502, 503, 504)),
        Fault.status(503, html=True),
        INTERNAL_ERROR,
        ERROR_BESIDE_DATA,
        FIELD_EMPTY,
        NO_JSON,
        Fault.slow(),
        Fault.silent(accepted=False),
        Fault.lost_answer(),
        Fault.cut_short(),
        Fault.reset_before_acceptance(),
        Fault.reset_after_acceptance(),
        UNAUTHORIZED,
        FROZEN,
        LOCKED,
        MOVED,
    )
}
"""The usual faults by their names, for the page and for tests that try them all."""

PASSING = frozenset(
    fault.name for fault in FAULTS.values() if fault not in (FIELD_EMPTY, UNAUTHORIZED, FROZEN, LOCKED, MOVED)
)
"""Names of those after which the same query may work."""
