"""What Klaviyo says no with, as exceptions whose messages hold neither the key nor anybody's address.

Which requests are made, and which of them again, is decided elsewhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dunning_pipeline.errors import DunningError
from dunning_pipeline.masking import masked
from dunning_pipeline.resources.rate_limits import whole_seconds

MOST_ERRORS_SHOWN = 3
MOST_CHARACTERS = 300
"""Of one text that Klaviyo sent; tables and logs are no place for a whole web page."""

BULK_POINTER = "/data/attributes/events-bulk-create/data"
_EVENT_POINTER = re.compile(rf"{BULK_POINTER}/(\d{{1,4}})(?:/|$)")
_IDENTIFIER_POINTER = re.compile(r"/profile(/|$)")
_QUOTED = re.compile(r"(['\"`]).+\1")


@dataclass(frozen=True)
class ApiError:
    """One error of an answer in JSON:API form; addresses in its texts are masked."""

    code: str
    detail: str
    pointer: str | None = None

    @property
    def event(self) -> int | None:
        """Place of the event that the error names within the bulk request, from 0."""
        named = _EVENT_POINTER.match(self.pointer or "")
        return int(named.group(1)) if named else None

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" + (f", at {self.pointer}" if self.pointer else "")


class KlaviyoError(DunningError):
    """Klaviyo did not take a request. Holds the HTTP `status` (None: no answer) and the `errors` of the answer.

    KlaviyoError
     ├─ RequestRefused       it said no to the request or the key: nothing was accepted, nobody is rejected
     │   ├─ KeyRefused       401: the key is wrong
     │   ├─ ScopeMissing     403: the key is good, but may not do this
     │   ├─ Throttled        429; holds how long to wait
     │   └─ Unreachable      no connection: the request never left
     ├─ InvalidEvents        400: it said no to events; nothing of the request was accepted
     ├─ OutcomeUnknown       time-out, reset or 5xx: it may have been accepted
     └─ UnreadableAnswer     an answer to a look-up is not what Klaviyo's documentation says
    """

    def __init__(self, message: str, status: int | None = None, errors: Sequence[ApiError] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.errors = tuple(errors)


class RequestRefused(KlaviyoError):
    """The request or the key was refused; nothing was accepted and no event is at fault."""


class KeyRefused(RequestRefused):
    """401: Klaviyo does not know the key."""


class ScopeMissing(RequestRefused):
    """403: Klaviyo knows the key, which lacks the scope for this."""


class Throttled(RequestRefused):
    """429: nothing was accepted; the same request may go again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float, errors: Sequence[ApiError] = ()) -> None:
        super().__init__(message, 429, errors)
        self.retry_after = retry_after


class Unreachable(RequestRefused):
    """No connection could be made, so the request never left. `temporary`: it may be possible a moment later."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class InvalidEvents(KlaviyoError):
    """Events were refused; of a bulk request with one invalid event none is accepted."""


class OutcomeUnknown(KlaviyoError):
    """The request may have been accepted."""


class UnreadableAnswer(KlaviyoError):
    """An answer to a look-up cannot be understood: a proxy's page, or another API than expected."""


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, key: str, *, of_single_event: bool = False
) -> KlaviyoError:
    """The exception for an answer other than success; never raises, whatever the body is.

    Args:
        key: removed from every text, should an answer repeat it.
        of_single_event: the request carried one event, not in bulk; pointers are made those of a bulk request with
            this event alone, which is the form it was frozen in.
    """
    errors = [_shown(error, key) for error in _api_errors(body)]
    if of_single_event:
        errors = [_as_of_entry(error) for error in errors]
    message = _message(status, errors, headers.get("X-Klaviyo-Req-Id"), key)
    if status == 429:
        retry_after = whole_seconds(headers.get("Retry-After"))
        return Throttled(message, 1.0 if retry_after is None else float(retry_after), errors)
    if status >= 500:
        return OutcomeUnknown(message, status, errors)
    if status == 401:
        return KeyRefused(f"{message}: it does not know the key", status, errors)
    # A page without Klaviyo's words is a firewall's 403, which tells nothing about the key.
    if status == 403 and errors:
        return ScopeMissing(f"{message}: the key is good, but lacks a scope for this", status, errors)
    if status == 400 and any(error.event is not None for error in errors):
        return InvalidEvents(message, status, errors)
    if status == 400 and errors and all(error.code == "invalid" for error in errors):
        return InvalidEvents(message, status, errors)
    return RequestRefused(message, status, errors)


def _message(status: int, errors: Sequence[ApiError], request_id: str | None, key: str) -> str:
    words = "; ".join(map(str, errors[:MOST_ERRORS_SHOWN])) or "no reason given"
    more = len(errors) - MOST_ERRORS_SHOWN
    words += f"; and {more} more" if more > 0 else ""
    named = f", request {_clean(request_id, key)}" if request_id else ""
    return f"Klaviyo answered {status} ({words}){named}"


def _api_errors(body: bytes) -> list[ApiError]:
    try:
        listed = json.loads(body)["errors"]
        return [_api_error(error) for error in listed]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _api_error(error: Mapping[str, object]) -> ApiError:
    source = error.get("source")
    pointer = source.get("pointer") if isinstance(source, Mapping) else None
    detail = error.get("detail") or error.get("title") or "no detail given"
    return ApiError(str(error.get("code") or "no code"), str(detail), str(pointer) if pointer else None)


def _shown(error: ApiError, key: str) -> ApiError:
    """An error fit for logs and tables: what it quotes of a profile is nobody's business there."""
    pointer = _clean(error.pointer, key) if error.pointer else None
    detail = _QUOTED.sub("'***'", error.detail) if _IDENTIFIER_POINTER.search(pointer or "") else error.detail
    return ApiError(_clean(error.code, key), _clean(detail, key), pointer)


def _clean(text: str, key: str) -> str:
    """One line, neither too long nor with addresses or the key in it."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 10 * MOST_CHARACTERS]).split())
    line = masked(line.replace(key, "***") if key else line)
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"


def _as_of_entry(error: ApiError) -> ApiError:
    pointer = error.pointer or ""
    if not pointer.startswith("/data/attributes/"):
        return error
    of_profile = pointer.startswith("/data/attributes/profile")
    event = "" if of_profile else "/attributes/events/data/0"
    return replace(error, pointer=f"{BULK_POINTER}/0{event}{pointer.removeprefix('/data')}")
