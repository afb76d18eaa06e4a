"""What can go wrong between a client and Klaviyo, to be planned request by request.

Only which fault a request meets and what it does to the answer; connections are broken in ../serving.py.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dunning_pipeline.sandbox.klaviyo.body import MEDIA_TYPE
from dunning_pipeline.sandbox.klaviyo.validation import BULK_POINTER
from dunning_pipeline.sandbox.serving import Ending

_PAGE = b"<!doctype html><html><body><h1>Service unavailable</h1><p>Please try again later.</p></body></html>"


@dataclass(frozen=True)
class Fault:
    """What happens to one request. Made by its class methods; `FAULTS` has the usual ones by name.

    `accepted`: the account handles the request first, so that its events are recorded whatever the client sees.
    An answer of the fault's own has a `code`, its status; without one the account's answer is used.
    """

    name: str
    accepted: bool = False
    ending: Ending = Ending.ANSWERED
    seconds: float = 0.0
    code: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def status(cls, status: int, *, html: bool = False, accepted: bool = False) -> Fault:
        """An error of the server or of the way to it, as JSON:API or as a proxy's page.

        `accepted`: the request worked all the same.
        """
        name = f"{status}{' as a page' if html else ''}{' after acceptance' if accepted else ''}"
        kind, body = ("text/html", _PAGE) if html else (MEDIA_TYPE, _errors("error", ["Something went wrong."], [None]))
        return cls(name, accepted, code=status, headers={"Content-Type": kind}, body=body)

    @classmethod
    def throttled(cls, retry_after: int | str | None = 1) -> Fault:
        """429, with `Retry-After` unless it is None, and as at Klaviyo without RateLimit headers."""
        told = {} if retry_after is None else {"Retry-After": str(retry_after)}
        body = _errors("throttled", [f"Request was throttled, expected to be available in {retry_after} s."], [None])
        return cls("429", code=429, headers={"Content-Type": MEDIA_TYPE, **told}, body=body)

    @classmethod
    def unauthorized(cls) -> Fault:
        """401, as for a key that was revoked a moment ago."""
        body = _errors("not_authenticated", ["Missing or invalid private key."], [None])
        return cls("401", code=401, headers={"Content-Type": MEDIA_TYPE}, body=body)

    @classmethod
    def invalid(cls, events: Sequence[int] = (), pointer: str | None = None) -> Fault:
        """400 that names the `events` of a bulk request, from 0; with none of them, one error with this `pointer`."""
        pointers: list[str | None] = [pointer]
        if events:
            pointers = [f"{BULK_POINTER}/{event}/attributes/profile/data/attributes/email" for event in events]
        name = f"400 at {', '.join(map(str, events))}" if events else "400 without pointers"
        body = _errors("invalid", ["Invalid email address."] * len(pointers), pointers)
        return cls(name, code=400, headers={"Content-Type": MEDIA_TYPE}, body=body)

    @classmethod
    def slow(cls, seconds: float = 2.0) -> Fault:
        """The right answer, late."""
        return cls("slow", accepted=True, seconds=seconds)

    @classmethod
    def silent(cls, *, accepted: bool) -> Fault:
        """No answer, until the client gives up."""
        return cls(f"silent {_when(accepted)}", accepted, Ending.SILENT)

    @classmethod
    def lost_answer(cls) -> Fault:
        """The request is handled and the connection closed without a word."""
        return cls("answer lost after acceptance", accepted=True, ending=Ending.CLOSED)

    @classmethod
    def cut_short(cls) -> Fault:
        """The request is handled, and the connection closed in the middle of the answer."""
        return cls("answer cut short after acceptance", accepted=True, ending=Ending.CUT_SHORT)

    @classmethod
    def reset_before_acceptance(cls) -> Fault:
        """The connection is reset and nothing recorded."""
        return cls("reset before acceptance", ending=Ending.RESET)

    @classmethod
    def reset_after_acceptance(cls) -> Fault:
        """The connection is reset after the events were recorded."""
        return cls("reset after acceptance", accepted=True, ending=Ending.RESET)


def _when(accepted: bool) -> str:
    return f"{'after' if accepted else 'before'} acceptance"


def _errors(code: str, details: Sequence[str], pointers: Sequence[str | None]) -> bytes:
    entries = [
        {"id": "fault", "code": code, "title": "A planned fault", "detail": detail, "source": {"pointer": pointer}}
        for detail, pointer in zip(details, pointers, strict=True)
    ]
    return json.dumps({"errors": entries}).encode()


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault.throttled(),
        *(Fault.status(status) for status in (500, 502, 503, 504)),
        Fault.status(503, html=True),
        Fault.status(504, accepted=True),
        Fault.slow(),
        Fault.silent(accepted=False),
        Fault.silent(accepted=True),
        Fault.lost_answer(),
        Fault.cut_short(),
        Fault.reset_before_acceptance(),
        Fault.reset_after_acceptance(),
        Fault.invalid([0]),
        Fault.invalid(),
        Fault.unauthorized(),
    )
}
"""The usual faults by their names, for the page and for tests that try them all."""

Choice = Callable[[int], Fault | None]


class Faults:
    """Which requests meet which fault. Thread-safe.

    Planned faults are used up, one each request of their method; after them the rule of `when` applies.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._rules: dict[str, Choice] = {}
        self._seen: Counter[str] = Counter()

    def plan(self, faults: Iterable[Fault | None], method: str = "POST") -> None:
        """The next requests of `method` meet these, after those planned before; None: nothing goes wrong."""
        with self._lock:
            self._planned[method].extend(faults)

    def when(self, choose: Choice, method: str = "POST") -> None:
        """Each request of `method` meets what `choose` returns for its number, from 1 over the account's life."""
        with self._lock:
            self._rules[method] = choose

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        with self._lock:
            self._planned.clear()
            self._rules.clear()

    def planned(self) -> list[str]:
        """What is planned and not used up, in words."""
        with self._lock:
            return [
                f"{method}: {fault.name if fault else 'no fault'}"
                for method, faults in self._planned.items()
                for fault in faults
            ]

    def take(self, method: str) -> Fault | None:
        """The fault of a request that has just come in."""
        with self._lock:
            self._seen[method] += 1
            planned = self._planned[method]
            if planned:
                return planned.popleft()
            choose = self._rules.get(method)
            return choose(self._seen[method]) if choose else None
