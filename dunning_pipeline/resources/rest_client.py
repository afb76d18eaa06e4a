"""HTTP GET against a REST API: authentication, time-outs, patience with throttling and faults, errors as sentences.

What is asked for, and what the answers mean, belongs in rest_source.py.
"""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import tenacity

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import Authentication, ClientCredentials, RestSource, resolve
from dunning_pipeline.policy_file import VARIABLE
from dunning_pipeline.resources import records
from dunning_pipeline.resources.clock import Clock, system_clock
from dunning_pipeline.resources.rate_limits import decimal_seconds

TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect, and between bytes of the answer."""

ATTEMPTS = 6
"""How often a request is made that is throttled, meets a fault of the server, or whose answer is lost."""

MOST_SECONDS_BETWEEN = 30
MOST_SECONDS_ASKED = 120
"""For so long a server may ask us to wait; one that asks for more, such as until its next day, is given up."""

MOST_REDIRECTS = 3
SHOWN_CHARACTERS = 200
UNAUTHORISED, NOT_FOUND, GONE, TOO_MANY = 401, 404, 410, 429
WORTH_REPEATING = (408, 425, TOO_MANY)
NO_CONTENT = (204, 304)

Parameters = Mapping[str, str | Sequence[str]]


class Refused(SourceError):
    """The server said no to a request. Holds the HTTP `status`."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)

    @property
    def is_gone(self) -> bool:
        """Whether what was asked for does not exist, or no longer."""
        return self.status in (NOT_FOUND, GONE)


class Lost(SourceError):
    """No answer worth having; the same request may have one later. `after`: seconds that the server asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


@dataclass(frozen=True)
class Answer:
    """The data of an answer, None where it has none; the `url` it came from; the next page by its header as `link`."""

    data: Any
    url: str = ""
    link: str | None = None


@dataclass(frozen=True)
class RestClient:
    """The API of a source named `name` in the policy. `${VAR}` in its settings are of `environment`.

    `clock`: for times in Retry-After. `sleep`: how to wait before a request is repeated.
    """

    name: str
    source: RestSource
    environment: Mapping[str, str] = field(repr=False)
    clock: Clock = system_clock
    sleep: Callable[[float], None] = time.sleep
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def get(self, address: str, params: Parameters, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to a GET for a path below the source's url, or for an address on its host.

        Throttled or lost requests are repeated: as the server asks, else with growing pauses.

        Raises:
            Refused: the server said no, for good.
            SourceError: there is no answer, none that is JSON, or it lies on another host.
            MissingVariable: a `${VAR}` of the source is not set.
        """
        url = self._address(address)
        resolved = {name: self._resolved(value) for name, value in params.items()}
        sent = {name: resolve(value, self.environment) for name, value in self.source.headers.items()}
        sent = {"Accept": "application/json", **sent, **(headers or {})}
        for attempt in self._patiently():
            with attempt:
                return self._get(url, resolved, sent)
        raise AssertionError  # tenacity returns or raises

    def _get(self, url: str, params: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        for _ in range(MOST_REDIRECTS + 1):
            response = self._request("GET", url, params=params, headers=headers, auth=self._authorise)
            if response.status_code == UNAUTHORISED and self._token.forget():
                response = self._request("GET", url, params=params, headers=headers, auth=self._authorise)
            if not response.is_redirect:
                return self._answer(response)
            url, params = self._address(urljoin(url, response.headers["Location"])), {}
        raise SourceError(f"source {self.name}: GET {_path(url)} is redirected more than {MOST_REDIRECTS} times")

    def _answer(self, response: requests.Response) -> Answer:
        if response.status_code in NO_CONTENT:
            return Answer(None, response.url)
        self._require_ok(response)
        return Answer(self._data(response), response.url, response.links.get("next", {}).get("url"))

    def _data(self, response: requests.Response) -> Any:
        try:
            return records.parse(response.content)
        except ValueError:
            start = self._without_secrets(response.text[:40])
            raise Lost(f"source {self.name}: {_what(response)} answered what is no JSON: '{start}'") from None

    def _require_ok(self, response: requests.Response) -> None:
        status = response.status_code
        if response.ok:
            return
        message = f"source {self.name}: {_what(response)} answered {status} ({self._words(response)})"
        if status not in WORTH_REPEATING and status < 500:
            raise Refused(message, status)
        after = self._seconds_asked(response.headers.get("Retry-After"))
        if after is not None and after > MOST_SECONDS_ASKED:
            raise Refused(f"{message} and asks to wait for {after:.0f} s; try again then", status)
        raise Lost(message, after)

    def _seconds_asked(self, retry_after: str | None) -> float | None:
        """Seconds from a number or an HTTP date; None where there is neither."""
        if retry_after is None:
            return None
        number = decimal_seconds(retry_after)
        if number is not None:
            return number
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (aware - self.clock()).total_seconds())

    def _patiently(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Lost),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_pause,
            sleep=self.sleep,
            reraise=True,
        )

    def _request(self, method: str, url: str, **options: Any) -> requests.Response:
        with self._in_words(method, url):
            return self.session.request(method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options)

    @contextmanager
    def _in_words(self, method: str, url: str) -> Iterator[None]:
        """What goes wrong on the way as a SourceError; the library's words may hold the address with its secrets."""
        what = f"source {self.name}: {method} {_path(url)}"
        try:
            yield
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
            raise SourceError(f"{what} cannot be made: the url, a key or a header has a character too many") from None
        except requests.exceptions.SSLError:
            raise SourceError(f"{what}: the certificate of {urlsplit(url).hostname} is not to be trusted") from None
        except requests.Timeout:
            raise Lost(f"{what}: no answer from {urlsplit(url).hostname} within {TIMEOUT_SECONDS[1]:.0f} s") from None
        except requests.ConnectionError as error:
            how = "cannot be reached" if _never_connected(error) else "broke the connection"
            raise Lost(f"{what}: {urlsplit(url).hostname} {how}") from None
        except requests.RequestException as error:
            raise Lost(f"{what}: the answer broke off ({type(error).__name__})") from None

    def _address(self, address: str) -> str:
        """The whole address. Raises SourceError for one that is not on the source's own host."""
        base = resolve(self.source.url, self.environment).rstrip("/")
        if _origin(base)[0] not in ("http", "https") or not _origin(base)[1]:
            raise SourceError(f"source {self.name}: its url is no address such as https://api.example.com")
        url = base + address if address.startswith("/") else address
        if _origin(url) != _origin(base):
            host = urlsplit(url).netloc.rpartition("@")[2]
            raise SourceError(f"source {self.name}: it points to {host}, and nothing but its own host is asked")
        return url

    def _resolved(self, value: str | Sequence[str]) -> str | list[str]:
        if isinstance(value, str):
            return resolve(value, self.environment)
        return [resolve(item, self.environment) for item in value]

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Puts the proof of who we are into a request; also keeps a .netrc of the user's from doing so."""
        if self.source.auth:
            request.headers["Authorization"] = self._proof(self.source.auth)
        return request

    def _proof(self, auth: Authentication) -> str:
        if auth.bearer:
            return f"Bearer {resolve(auth.bearer, self.environment)}"
        if auth.client_credentials:
            return f"Bearer {self._token.of(auth.client_credentials)}"
        if not auth.basic:
            raise SourceError(f"source {self.name}: auth needs bearer, basic or client_credentials")
        password = resolve(auth.basic.password, self.environment) if auth.basic.password else ""
        return _basic(resolve(auth.basic.user, self.environment), password)

    @cached_property
    def _token(self) -> "_Token":
        return _Token(self._fetch_token)

    def _fetch_token(self, client: ClientCredentials) -> str:
        """A new access token (RFC 6749, 4.4.2)."""
        credentials = [resolve(value, self.environment) for value in (client.client_id, client.client_secret)]
        form = {"grant_type": "client_credentials", **({"scope": client.scope} if client.scope else {})}
        url = resolve(client.token_url, self.environment)
        headers = {"Accept": "application/json"}
        response = self._request("POST", url, data=form, headers=headers, auth=_Header(_basic(*credentials)))
        self._require_ok(response)
        token = None if response.is_redirect else records.field(self._data(response), "access_token")
        if not isinstance(token, str):
            raise SourceError(f"source {self.name}: {_what(response)} gave no access_token")
        return token

    def _words(self, response: requests.Response) -> str:
        """The beginning of what an answer says, in one line and without secrets."""
        words = " ".join(response.text.split())[:SHOWN_CHARACTERS]
        return self._without_secrets(words) or response.reason or "no reason given"

    def _without_secrets(self, words: str) -> str:
        """The words without the values of the variables that the source's settings name."""
        named = {match[1] for match in VARIABLE.finditer(self.source.model_dump_json())}
        secrets = [self.environment[name] for name in named if self.environment.get(name)]
        if "_token" in self.__dict__ and self._token.value:
            secrets.append(self._token.value)
        for secret in sorted(secrets, key=len, reverse=True):
            words = words.replace(secret, "***")
        return words


@dataclass
class _Token:
    """An access token, kept until it is refused."""

    fetch: Callable[[ClientCredentials], str]
    value: str | None = None

    def of(self, client: ClientCredentials) -> str:
        if self.value is None:
            self.value = self.fetch(client)
        return self.value

    def forget(self) -> bool:
        """Whether there was one; the next request gets itself another."""
        had, self.value = self.value is not None, None
        return had


@dataclass(frozen=True)
class _Header(requests.auth.AuthBase):
    value: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self.value
        return request


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


_backoff = tenacity.wait_exponential_jitter(max=MOST_SECONDS_BETWEEN)


def _pause(state: tenacity.RetryCallState) -> float:
    """As long as the server asked for, else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    return error.after if isinstance(error, Lost) and error.after is not None else _backoff(state)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _what(response: requests.Response) -> str:
    return f"{response.request.method} {_path(response.url)}"


def _path(url: str) -> str:
    """The address without its parameters, which may hold a secret."""
    return urlsplit(url).path or "/"


def _never_connected(error: requests.ConnectionError) -> bool:
    return "NewConnectionError" in str(error) or "NameResolutionError" in str(error)
