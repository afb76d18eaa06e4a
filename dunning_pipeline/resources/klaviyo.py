"""Klaviyo's API as far as reminders need it: bulk creation of events, and proof of a key.

What is sent, to whom and whether at all is decided elsewhere. Source: Klaviyo's API reference, revision 2026-07-15.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import requests
from pydantic import SecretStr

from dunning_pipeline.errors import DunningError

REVISION = "2026-07-15"
MEDIA_TYPE = "application/vnd.api+json"
TIMEOUT_SECONDS = (5.0, 60.0)
"""To connect, and between bytes of the answer."""

MOST_EVENTS = 1_000
MOST_BYTES = 5 * 1024 * 1024
MOST_THROTTLED_ATTEMPTS = 5
MOST_SECONDS_WAITED = 120

ACCEPTED = 202
NEVER_SENT = (
    requests.ConnectTimeout,
    requests.exceptions.SSLError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
)
"""Errors before a request leaves: no connection, a wrong address, a key that fits no header."""

BULK_HEAD = '{"data":{"type":"event-bulk-create-job","attributes":{"events-bulk-create":{"data":['
BULK_TAIL = "]}}}}"
_EVENT_POINTER = re.compile(r"/data/attributes/events-bulk-create/data/(\d+)(?:/|$)")


@dataclass(frozen=True)
class ApiError:
    """One error of an answer in JSON:API form."""

    code: str
    detail: str
    pointer: str | None = None

    @property
    def event(self) -> int | None:
        """Place of the event that the error names within the bulk request, from 0."""
        named = _EVENT_POINTER.match(self.pointer or "")
        return int(named.group(1)) if named else None


class KlaviyoError(DunningError):
    """Klaviyo did not take a request. Holds the HTTP `status` (None: no answer) and the `errors` of the answer.

    KlaviyoError
     ├─ RequestRefused       it said no to the request or the key: nothing was accepted, nobody is rejected
     │   ├─ Throttled        429; holds how long to wait
     │   └─ Unreachable      no connection: the request never left
     ├─ InvalidEvents        400: it said no to events; nothing of the request was accepted
     └─ OutcomeUnknown       time-out, reset or 5xx: it may have been accepted
    """

    def __init__(self, message: str, status: int | None = None, errors: Sequence[ApiError] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.errors = tuple(errors)


class RequestRefused(KlaviyoError):
    """The request or the key was refused; nothing was accepted and no event is at fault."""


class Throttled(RequestRefused):
    """429: nothing was accepted; the same request may go again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float, errors: Sequence[ApiError] = ()) -> None:
        super().__init__(message, 429, errors)
        self.retry_after = retry_after


class Unreachable(RequestRefused):
    """No connection could be made, so the request never left."""


class InvalidEvents(KlaviyoError):
    """Events were refused; of a bulk request with one invalid event none is accepted."""


class OutcomeUnknown(KlaviyoError):
    """The request may have been accepted."""


@dataclass(frozen=True)
class Klaviyo:
    """An account, reached at `url` with a private key. `sleep` is how its callers wait when throttled."""

    url: str
    key: SecretStr
    sleep: Callable[[float], None] = time.sleep
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def create_events(self, bodies: Sequence[str]) -> None:
        """Has events accepted (202) with one bulk request; `bodies` are entries of `events-bulk-create`.

        Raises:
            KlaviyoError: as its kinds say. After any but OutcomeUnknown nothing was accepted.
        """
        body = (BULK_HEAD + ",".join(bodies) + BULK_TAIL).encode()
        status = self._call("POST", "/api/event-bulk-create-jobs", body).status_code
        if status != ACCEPTED:
            raise RequestRefused(f"{self.url} answered {status}, and only {ACCEPTED} means accepted", status)

    def account(self) -> str:
        """The name of the account that the key belongs to. Raises KlaviyoError."""
        answer = self._call("GET", "/api/accounts")
        (account,) = answer.json()["data"][:1]
        information = account["attributes"].get("contact_information") or {}
        return str(information.get("organization_name") or account["id"])

    def _call(self, method: str, path: str, body: bytes | None = None) -> requests.Response:
        headers = {
            "Authorization": f"Klaviyo-API-Key {self.key.get_secret_value()}",
            "revision": REVISION,
            "Accept": MEDIA_TYPE,
            "Content-Type": MEDIA_TYPE,
        }
        try:
            answer = self.session.request(
                method,
                self.url.rstrip("/") + path,
                data=body,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except NEVER_SENT as error:
            raise Unreachable(f"Klaviyo at {self.url} cannot be reached: {type(error).__name__}") from None
        except requests.ConnectionError as error:
            if _never_connected(error):
                raise Unreachable(f"Klaviyo at {self.url} cannot be reached: connection refused") from None
            raise OutcomeUnknown("Klaviyo's answer was lost: the connection broke") from None
        except requests.RequestException as error:
            raise OutcomeUnknown(f"Klaviyo's answer was lost: {type(error).__name__}") from None
        if not answer.ok or answer.is_redirect:
            raise _error_of(answer)
        return answer


def _seconds(retry_after: str | None) -> float:
    """The integer that Klaviyo sends; a second where a proxy sends something else."""
    return float(retry_after) if retry_after and retry_after.isdigit() else 1.0


def _never_connected(error: requests.ConnectionError) -> bool:
    return "NewConnectionError" in str(error) or "NameResolutionError" in str(error)


def _error_of(answer: requests.Response) -> KlaviyoError:
    errors = _api_errors(answer)
    words = "; ".join(f"{error.code}: {error.detail}" for error in errors[:3]) or "no reason given"
    request_id = answer.headers.get("X-Klaviyo-Req-Id")
    message = f"Klaviyo answered {answer.status_code} ({words})" + (f", request {request_id}" if request_id else "")
    status = answer.status_code
    if status == 429:
        return Throttled(message, _seconds(answer.headers.get("Retry-After")), errors)
    if status >= 500:
        return OutcomeUnknown(message, status, errors)
    if status == 400 and any(error.event is not None for error in errors):
        return InvalidEvents(message, status, errors)
    if status == 400 and errors and all(error.code == "invalid" for error in errors):
        return InvalidEvents(message, status, errors)
    return RequestRefused(message, status, errors)


def _api_errors(answer: requests.Response) -> list[ApiError]:
    try:
        listed = answer.json()["errors"]
        return [_api_error(error) for error in listed]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _api_error(error: Mapping[str, object]) -> ApiError:
    source = error.get("source")
    pointer = source.get("pointer") if isinstance(source, Mapping) else None
    return ApiError(str(error.get("code")), str(error.get("detail")), str(pointer) if pointer else None)
