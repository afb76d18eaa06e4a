"""Requests to REST APIs: patience with throttling and faults, proof of who asks, and no secret in any sentence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from rest_apis import CUT, Api, Asked, Hangup, Reply, serving, unused_address
from support import MovingClock

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import MissingVariable, RestSource
from dunning_pipeline.resources.rest_client import ATTEMPTS, MOST_SECONDS_BETWEEN, TIMEOUT_SECONDS, Refused, RestClient

SECRET = "s3cr3t-token"


class Patient:
    """A client of a stand-in, which notes how long it would have slept."""

    def __init__(self, url: str, **settings: object) -> None:
        self.slept: list[float] = []
        source = RestSource.model_validate({"kind": "rest", "url": url, "tables": {}, **settings})
        environment = {"TOKEN": SECRET, "EMPTY": "", "ID": "client-7"}
        self.client = RestClient("crm", source, environment, MovingClock(), self.slept.append)

    def get(self, address: str = "/v1/invoices", **params: str) -> object:
        return self.client.get(address, params).data


@pytest.fixture
def api() -> Api:
    return Api(lambda _: Reply({"ok": True}))


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    with serving(api) as address:
        yield address


@pytest.mark.parametrize("fault", [Reply({}, 500), Reply({}, 503), Reply({}, 429), Reply({}, 408), CUT, Hangup()])
def test_a_request_is_repeated_until_it_is_answered(api: Api, url: str, fault: Reply | Hangup | str) -> None:
    api.faults.extend([fault] * (ATTEMPTS - 1))
    patient = Patient(url)
    assert patient.get() == {"ok": True}
    assert len(api.asked) == ATTEMPTS
    assert len(patient.slept) == ATTEMPTS - 1
    assert max(patient.slept) <= MOST_SECONDS_BETWEEN


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Reply({"message": "boom"}, 500), r'GET /v1/invoices answered 500 \({"message": "boom"}\)'),
        (Reply({}, 429), r"GET /v1/invoices answered 429"),
        (CUT, r"GET /v1/invoices: (127.0.0.1 broke the connection|the answer broke off)"),
        (Hangup(), r"GET /v1/invoices: 127.0.0.1 broke the connection"),
        (Reply(text="<html>maintenance"), r"answered what is no JSON: '<html>maintenance'"),
        (Reply(text=""), r"answered what is no JSON: ''"),
    ],
)
def test_what_never_gets_better_is_given_up_with_a_sentence(
    api: Api, url: str, fault: Reply | Hangup | str, sentence: str
) -> None:
    api.faults.extend([fault] * ATTEMPTS)
    with pytest.raises(SourceError, match=f"source crm: .*{sentence}"):
        Patient(url).get()
    assert len(api.asked) == ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 422])
def test_a_refusal_is_not_repeated(api: Api, url: str, status: int) -> None:
    api.faults.append(Reply({"message": "no"}, status))
    with pytest.raises(Refused, match=f"answered {status}") as refused:
        Patient(url).get()
    assert refused.value.is_gone == (status in (404, 410))
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Mon, 16 Nov 2026 08:30:45 GMT", 45.0),
        ("Mon, 16 Nov 2026 08:00:00 GMT", 0.0),
    ],
)
def test_a_server_that_says_how_long_to_wait_is_obeyed(api: Api, url: str, retry_after: str, seconds: float) -> None:
    api.faults.append(Reply({}, 429, {"Retry-After": retry_after}))
    patient = Patient(url)
    patient.get()
    assert patient.slept == [seconds]


def test_a_retry_after_that_is_neither_number_nor_date_is_a_pause_of_our_own(api: Api, url: str) -> None:
    api.faults.append(Reply({}, 429, {"Retry-After": "soon"}))
    patient = Patient(url)
    patient.get()
    assert len(patient.slept) == 1


def test_a_server_that_asks_to_wait_for_hours_is_given_up_at_once(api: Api, url: str) -> None:
    api.faults.append(Reply({}, 429, {"Retry-After": "7200"}))
    with pytest.raises(SourceError, match="asks to wait for 7200 s; try again then"):
        Patient(url).get()
    assert len(api.asked) == 1


class Silent(requests.Session):
    """A session whose server never says a word; notes the time-outs that it was asked with."""

    def __init__(self) -> None:
        super().__init__()
        self.patience: list[object] = []

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        self.patience.append(options["timeout"])
        raise requests.ReadTimeout(f"read timed out: {url}?api_key={SECRET}")


def test_a_server_that_never_answers_is_given_up(url: str) -> None:
    patient, silent = Patient(url), Silent()
    with pytest.raises(SourceError, match=r"GET /v1/invoices: no answer from 127.0.0.1 within 60 s$"):
        replace(patient.client, session=silent).get("/v1/invoices", {"api_key": "${TOKEN}"})
    assert silent.patience == [TIMEOUT_SECONDS] * ATTEMPTS


def test_nobody_at_the_address_is_told_after_some_patience() -> None:
    patient = Patient(unused_address())
    with pytest.raises(SourceError, match=r"source crm: GET /v1/invoices: 127.0.0.1 cannot be reached"):
        patient.get()
    assert len(patient.slept) == ATTEMPTS - 1


@pytest.mark.parametrize(
    ("settings", "header", "value"),
    [
        ({"auth": {"bearer": "${TOKEN}"}}, "Authorization", f"Bearer {SECRET}"),
        ({"auth": {"basic": {"user": "${TOKEN}"}}}, "Authorization", "Basic czNjcjN0LXRva2VuOg=="),
        (
            {"auth": {"basic": {"user": "ada", "password": "${TOKEN}"}}},
            "Authorization",
            "Basic YWRhOnMzY3IzdC10b2tlbg==",
        ),
        ({"headers": {"X-Api-Key": "${TOKEN}"}}, "X-Api-Key", SECRET),
        ({}, "Authorization", None),
    ],
)
def test_a_request_proves_who_it_is_of(
    api: Api, url: str, settings: dict[str, object], header: str, value: str | None
) -> None:
    Patient(url, **settings).get()
    assert api.asked[0].headers.get(header) == value


def test_a_netrc_of_the_user_proves_nothing_here(
    api: Api, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Patient(url, auth={"bearer": "${TOKEN}"}).get()
    Patient(url).get()
    assert [asked.headers.get("Authorization") for asked in api.asked] == [f"Bearer {SECRET}", None]


def test_a_variable_that_is_not_set_is_named(url: str) -> None:
    with pytest.raises(MissingVariable, match="EMPTY"):
        Patient(url, auth={"bearer": "${EMPTY}"}).get()


@pytest.mark.parametrize(
    "settings",
    [{"auth": {"bearer": "${TOKEN}"}}, {"headers": {"X-Key": "${TOKEN}"}}, {"auth": {"basic": {"user": "${TOKEN}"}}}],
)
@pytest.mark.parametrize("fault", [Reply({"error": f"bad key {SECRET}"}, 403), Reply(text=f"{SECRET} it was")])
def test_a_secret_that_comes_back_in_an_answer_is_not_shown(
    api: Api, url: str, settings: dict[str, object], fault: Reply
) -> None:
    api.faults.extend([fault] * ATTEMPTS)
    with pytest.raises(SourceError) as told:
        Patient(url, **settings).get(api_key="${TOKEN}")
    assert SECRET not in str(told.value)
    assert "***" in str(told.value)


def test_a_secret_in_a_parameter_is_not_shown_when_the_connection_breaks(api: Api, url: str) -> None:
    api.faults.extend([Hangup()] * ATTEMPTS)
    with pytest.raises(SourceError) as told:
        Patient(url).get(api_key="${TOKEN}")
    assert SECRET not in str(told.value)
    assert api.asked[0].query == {"api_key": [SECRET]}


def test_a_key_that_fits_no_header_is_told_without_showing_it(url: str) -> None:
    patient = Patient(url, headers={"X-Key": "${TOKEN}"})
    object.__setattr__(patient.client, "environment", {"TOKEN": "two\nlines"})
    with pytest.raises(SourceError, match="a key or a header has a character too many") as told:
        patient.get()
    assert "lines" not in str(told.value)


def test_a_redirect_on_the_same_host_is_followed(api: Api, url: str) -> None:
    api.faults.append(Reply(status=307, headers={"Location": "/v2/invoices?a=1"}))
    assert Patient(url).get() == {"ok": True}
    assert [asked.path for asked in api.asked] == ["/v1/invoices", "/v2/invoices"]


def test_a_redirect_to_another_host_is_not_followed_with_our_secrets(api: Api, url: str) -> None:
    other = Api(lambda _: Reply({}))
    with serving(other) as elsewhere:
        api.faults.append(Reply(status=302, headers={"Location": f"{elsewhere}/v1/invoices"}))
        with pytest.raises(SourceError, match=r"it points to 127.0.0.1:\d+, and nothing but its own host is asked"):
            Patient(url, auth={"bearer": "${TOKEN}"}).get()
    assert other.asked == []


def test_redirects_without_end_are_given_up(api: Api, url: str) -> None:
    api.answer = lambda _: Reply(status=302, headers={"Location": "/again"})
    with pytest.raises(SourceError, match="is redirected more than 3 times"):
        Patient(url).get()


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_has_no_data(api: Api, url: str, status: int) -> None:
    api.faults.append(Reply(text="", status=status))
    assert Patient(url).get() is None


def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises(SourceError, match=r"source crm: its url is no address such as https://api.example.com"):
        Patient("${ID}").get()


def with_client(url: str) -> Patient:
    client = {"token_url": f"{url}/token", "client_id": "${ID}", "client_secret": "${TOKEN}", "scope": "a b"}
    return Patient(url, auth={"client_credentials": client})


def give_tokens(asked: Asked) -> Reply:
    return Reply({"access_token": "fresh-access-token"} if asked.path == "/token" else {"ok": True})


def test_a_client_gets_one_token_for_all_its_requests(api: Api, url: str) -> None:
    api.answer = give_tokens
    patient = with_client(url)
    patient.get()
    patient.get()
    assert [asked.path for asked in api.asked] == ["/token", "/v1/invoices", "/v1/invoices"]
    assert api.asked[0].body == "grant_type=client_credentials&scope=a+b"
    assert api.asked[1].headers["Authorization"] == "Bearer fresh-access-token"


def test_a_token_that_is_refused_again_and_again_is_told(api: Api, url: str) -> None:
    api.answer = lambda asked: give_tokens(asked) if asked.path == "/token" else Reply("fresh-access-token?", 401)
    with pytest.raises(Refused, match="answered 401") as told:
        with_client(url).get()
    assert "fresh-access-token" not in str(told.value)
    assert [asked.path for asked in api.asked] == ["/token", "/v1/invoices"] * 2


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply({"error": f"invalid_client {SECRET}"}, 400), r"POST /token answered 400 .*invalid_client \*\*\*"),
        (Reply({"token": "x"}), "POST /token gave no access_token"),
    ],
)
def test_a_client_that_gets_no_token_is_told_why(api: Api, url: str, reply: Reply, sentence: str) -> None:
    api.answer = lambda _: reply
    with pytest.raises(SourceError, match=sentence):
        with_client(url).get()
