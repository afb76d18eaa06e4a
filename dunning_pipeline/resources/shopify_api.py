"""Shopify's Admin API over GraphQL: the way in, its throttle, what goes wrong and whether to try again.

What is asked for belongs in shopify.py. Source: Shopify's Admin API reference, versions 2025-10 to 2026-10.
"""

import itertools
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import requests
import urllib3
from pydantic import SecretStr
from requests.auth import AuthBase

from dunning_pipeline.errors import SourceError
from dunning_pipeline.masking import masked
from dunning_pipeline.resources.klaviyo_addresses import is_loopback
from dunning_pipeline.resources.rate_limits import decimal_seconds

TIMEOUT_SECONDS = (5.0, 30.0)
"""To connect, and between bytes of an answer."""
MOST_SECONDS_READ = 120.0
MOST_BYTES_READ = 64 * 1024 * 1024
MOST_ATTEMPTS = 5
MOST_THROTTLED = 20
MOST_SECONDS_WAITED = 120.0
"""Told to wait longer than this, a pull had better end and go on another time."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
MARGIN_SECONDS = 0.02
"""Waited longer than points take to come back, because both sides round."""
RENEWED_SECONDS_BEFORE = 300.0
MOST_COST = 1_000
"""Points that a single query may cost."""

Document: TypeAlias = Mapping[str, Any]


class ShopifyError(SourceError):
    """Shopify did not answer a query.

    ShopifyError
     ├─ TooCostly        MAX_COST_EXCEEDED: ask for less at once
     ├─ FieldGone        a field that is needed is not in this version
     ├─ AccessRefused    the token, or what it may read
     └─ Unavailable      no connection, time-out, 429, 5xx, throttled for too long: another time it may work
    """


class TooCostly(ShopifyError):
    """The query costs more points than a single one may."""


class FieldGone(ShopifyError):
    """A field that is needed is gone, or empty where it never is."""


class AccessRefused(ShopifyError):
    """The token is not known, expired, or may not read what is asked for."""


class Unavailable(ShopifyError):
    """Nothing is wrong with the query. `pause`: seconds that Shopify told to wait; None: it did not."""

    def __init__(self, message: str, pause: float | None = None, *, throttled: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.throttled = throttled


@dataclass(frozen=True)
class StaticToken:
    """An access token that stays as it is."""

    token: SecretStr


@dataclass(frozen=True)
class AppCredentials:
    """An app that is given a token for 24 hours."""

    client_id: str
    client_secret: SecretStr


@dataclass
class Throttle:
    """Shopify's leaky bucket as far as it told: points available at a time, and how many come back a second."""

    available: float = MOST_COST
    maximum: float = MOST_COST
    rate: float = 100.0
    at: float = 0.0

    def told(self, status: Document, now: float) -> None:
        """Takes over a `throttleStatus`."""
        self.available = float(status.get("currentlyAvailable", self.available))
        self.maximum = float(status.get("maximumAvailable", self.maximum))
        self.rate = max(float(status.get("restoreRate", self.rate)), 1e-3)
        self.at = now

    def pause(self, cost: float, now: float) -> float:
        """Seconds until a query of so many points has room."""
        available = min(self.maximum, self.available + max(0.0, now - self.at) * self.rate)
        missing = min(cost, self.maximum) - available
        return missing / self.rate + MARGIN_SECONDS if missing > 0 else 0.0


class ShopifyApi:
    """A shop's Admin API; used by one thread at a time. Queries change nothing, so they are repeated here.

    Args:
        name: of the source, for messages.
        shop: its domain, such as `acme.myshopify.com`; or an address with `http://` on this machine, the sandbox's.
        version: of the API. An answer of another version is refused.
        credentials: the way in. Neither token nor secret is in a message or in the text of this object.
        sleep: how pauses are waited for; seconds.
        clock: seconds from any start, never going back.
        random: numbers from 0 to 1, for jitter.
        attempts: how often a query is tried that fails for a reason that may pass.
        timeout: seconds to connect, and between bytes of an answer.
        session: keeps the connection.
    """

    def __init__(
        self,
        name: str,
        shop: str,
        version: str,
        credentials: StaticToken | AppCredentials,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
        attempts: int = MOST_ATTEMPTS,
        timeout: tuple[float, float] = TIMEOUT_SECONDS,
        session: requests.Session | None = None,
    ) -> None:
        self.name = name
        self.url = _address(name, shop)
        self.version = version
        self.throttle = Throttle(at=clock())
        self.requests = 0
        self._credentials = credentials
        self._sleep, self._clock, self._random = sleep, clock, random
        self._attempts, self._timeout = attempts, timeout
        self._session = requests.Session() if session is None else session
        self._granted: tuple[SecretStr, float] | None = None

    def __repr__(self) -> str:
        return f"ShopifyApi({self.url!r}, {self.version!r})"

    def query(self, document: str, variables: Document, cost: float = 0) -> tuple[Document, float]:
        """The `data` that a query yields, and the points that were asked for it.

        Args:
            document: the query.
            variables: of the query.
            cost: points that it is expected to cost; it waits until there is room for them.

        Raises:
            ShopifyError: as its kinds say. An answer with errors beside its data is none: what the errors left out
                is not known.
        """
        body = json.dumps({"query": document, "variables": dict(variables)}).encode()
        failed = throttled = 0
        for attempt in itertools.count():
            pause = self.throttle.pause(cost, self._clock())
            if pause:
                self._sleep(pause)
            try:
                return self._answered(body, renewed=attempt > 0)
            except Unavailable as error:
                throttled += error.throttled
                failed += not error.throttled
                if failed >= self._attempts or throttled >= MOST_THROTTLED or (error.pause or 0) > MOST_SECONDS_WAITED:
                    raise
                wait = error.pause if error.pause is not None else self._backoff(failed)
            self._sleep(wait)
        raise AssertionError("unreachable: the count has no end")

    def _backoff(self, failed: int) -> float:
        """Exponential with full jitter, so that processes that failed together do not come back together."""
        return self._random() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (failed - 1))

    def _answered(self, body: bytes, *, renewed: bool) -> tuple[Document, float]:
        try:
            answer = self._post(f"/admin/api/{self.version}/graphql.json", body, self._token())
        except AccessRefused:
            # A token that was granted may have been revoked before its time; a second one is not refused for that.
            if renewed or self._granted is None:
                raise
            self._granted = None
            answer = self._post(f"/admin/api/{self.version}/graphql.json", body, self._token())
        return self._data(answer)

    def _data(self, answer: Document) -> tuple[Document, float]:
        cost = _mapping(_mapping(answer.get("extensions")).get("cost"))
        requested = float(cost.get("requestedQueryCost") or 0)
        self.throttle.told(_mapping(cost.get("throttleStatus")), self._clock())
        errors = answer.get("errors")
        if errors:
            raise self._failure(errors, requested)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise Unavailable(f"{self._shop}'s answer has no data")
        return data, requested

    def _failure(self, errors: object, requested: float) -> ShopifyError:
        """The error for what stands in an answer's `errors`, whatever data is beside them."""
        listed = [_mapping(error) for error in errors] if isinstance(errors, list) else [{"message": errors}]
        codes = [str(_mapping(error.get("extensions")).get("code") or "") for error in listed]
        words = self._clean("; ".join(_in_words(error) for error in listed[:3]))
        if "THROTTLED" in codes:
            pause = max(self.throttle.pause(requested, self._clock()), 0.1)
            return Unavailable(f"{self._shop} throttles: {words}", pause, throttled=True)
        if "MAX_COST_EXCEEDED" in codes:
            return TooCostly(f"{self._shop}: {words}")
        if "ACCESS_DENIED" in codes:
            return AccessRefused(
                f"{self._shop} does not let the token read what is needed: {words}. It needs the scopes read_orders "
                "and read_customers, and access to protected customer data"
            )
        if any(code in _OF_THE_SCHEMA for code in codes):
            return FieldGone(f"{self._shop} no longer has what is needed in version {self.version}: {words}")
        return Unavailable(f"{self._shop} answered with errors, so nothing of the answer was taken over: {words}")

    def _token(self) -> SecretStr:
        if isinstance(self._credentials, StaticToken):
            return self._credentials.token
        if self._granted is None or self._granted[1] <= self._clock():
            self._granted = self._grant(self._credentials)
        return self._granted[0]

    def _grant(self, app: AppCredentials) -> tuple[SecretStr, float]:
        """A token, and when to ask for the next one."""
        asked = {
            "grant_type": "client_credentials",
            "client_id": app.client_id,
            "client_secret": app.client_secret.get_secret_value(),
        }
        answer = self._post("/admin/oauth/access_token", json.dumps(asked).encode(), None)
        token, seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token:
            raise AccessRefused(f"{self._shop} gave no token for the client_id and client_secret of the policy")
        lasts = float(seconds) if isinstance(seconds, int | float) else 3600.0
        return SecretStr(token), self._clock() + max(lasts - RENEWED_SECONDS_BEFORE, lasts / 2)

    def _post(self, path: str, body: bytes, token: SecretStr | None) -> Document:
        """One exchange, as JSON. Raises ShopifyError for all but 200."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self.requests += 1
        deadline = self._clock() + MOST_SECONDS_READ
        try:
            with self._session.post(
                self.url + path,
                data=body,
                headers=headers,
                auth=_Authorisation(self._header(token)),
                timeout=self._timeout,
                allow_redirects=False,
                verify=True,
                stream=True,
            ) as answer:
                content = self._read(answer, deadline)
        except requests.exceptions.SSLError:
            raise ShopifyError(
                f"{self._shop} cannot be reached: TLS failed, or its certificate is not trusted"
            ) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            raise ShopifyError(f"{self._shop} cannot be reached: this is no address") from None
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(f"{self._shop} cannot be reached: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise self._refusal(answer.status_code, answer.headers, path)
        return self._document(content, answer.headers, path)

    def _header(self, token: SecretStr | None) -> str | None:
        if token is None:
            return None
        if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise AccessRefused(f"{self._shop}: the token is empty or has characters that no token has")
        return token.get_secret_value()

    def _read(self, answer: requests.Response, deadline: float) -> bytes:
        """The body; nothing of one beyond any reason."""
        read = bytearray()
        for piece in answer.iter_content(65_536):
            read += piece
            if self._clock() > deadline or len(read) > MOST_BYTES_READ:
                raise requests.ReadTimeout
        return bytes(read)

    def _document(self, content: bytes, headers: Mapping[str, str], path: str) -> Document:
        version = headers.get("X-Shopify-API-Version")
        if path.startswith("/admin/api/") and version and version != self.version:
            raise ShopifyError(
                f"{self._shop} answered in version {version} of its API, not {self.version}, which it may no longer "
                f"serve: read what changed, then set api_version: {version}"
            )
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Unavailable(f"{self._shop}'s answer is no JSON")
        return document

    def _refusal(self, status: int, headers: Mapping[str, str], path: str) -> ShopifyError:
        """The error for a status other than 200."""
        if status == 429:
            return Unavailable(
                f"{self._shop} answered 429: too many requests", decimal_seconds(headers.get("Retry-After"))
            )
        if status >= 500:
            return Unavailable(f"{self._shop} answered {status}")
        if 300 <= status < 400:
            return ShopifyError(f"{self._shop} sends elsewhere ({status}): name the shop's myshopify.com domain")
        if status in (401, 403) or (status == 400 and path.endswith("access_token")):
            what = "token" if path.startswith("/admin/api/") else "app's id and secret"
            return AccessRefused(f"{self._shop} answered {status}: it does not accept the {what}")
        reason = _REASONS.get(status, "which is not expected")
        return ShopifyError(f"{self._shop} answered {status}: {reason}")

    @property
    def _shop(self) -> str:
        return f"source {self.name}: Shopify at {self.url}"

    def _clean(self, words: str) -> str:
        """Without addresses, and without what lets somebody in."""
        known = [self._granted[0]] if self._granted else []
        held = self._credentials
        known.append(held.token if isinstance(held, StaticToken) else held.client_secret)
        for secret in known:
            words = words.replace(secret.get_secret_value(), "***")
        return masked(" ".join(words.split()))


class _Authorisation(AuthBase):
    """As `auth`, or requests would put a password of the user's .netrc beside the token."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["X-Shopify-Access-Token"] = self._token
        return request


_OF_THE_SCHEMA = ("undefinedField", "undefinedType", "argumentNotAccepted", "missingRequiredArguments", "undefinedEnum")

_REASONS = {
    402: "the shop is frozen until its bill is paid",
    404: "there is no such shop, or no such version of the API",
    423: "the shop is locked",
}


def _address(name: str, shop: str) -> str:
    """Where a shop is reached. Raises ShopifyError where its token would be readable on the way."""
    address = shop.strip().rstrip("/")
    if "://" not in address:
        address = f"https://{address}"
    if re.fullmatch(r"https://[A-Za-z0-9.-]+(:\d+)?", address):
        return address
    if re.fullmatch(r"http://[A-Za-z0-9.:\[\]-]+", address) and is_loopback(address):
        return address
    raise ShopifyError(
        f"source {name}: shop must be a domain such as acme.myshopify.com; http is allowed on this machine only, "
        "because the token would be readable on the way"
    )


def _in_words(error: Document) -> str:
    path = error.get("path")
    where = ".".join(map(str, path)) if isinstance(path, Sequence) and not isinstance(path, str) else ""
    return f"{error.get('message')}{f' (at {where})' if where else ''}"


def _mapping(value: object) -> Document:
    return value if isinstance(value, dict) else {}
