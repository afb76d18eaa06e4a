"""What the client's errors say, and what they never do: the key, or anybody's address."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from test_klaviyo import answering, client, entry, errors, sandbox, server

from dunning_pipeline.resources.klaviyo import (
    ApiError,
    InvalidEvents,
    Klaviyo,
    KlaviyoError,
    OutcomeUnknown,
    RequestRefused,
    ScopeMissing,
    Unreachable,
)
from dunning_pipeline.resources.klaviyo_errors import BULK_POINTER, MOST_CHARACTERS, error_of

KEY = "pk_0123456789abcdef"

__all__ = ["server"]


def said(status: int, *entries: dict[str, Any], headers: dict[str, str] | None = None, **options: Any) -> KlaviyoError:
    return error_of(status, headers or {}, errors(*entries), KEY, **options)


def everything(error: KlaviyoError) -> str:
    return f"{error} {error!r} {error.args} {error.errors} {vars(error)}"


def test_a_message_has_code_detail_pointer_and_request() -> None:
    source = {"pointer": "/data/attributes/value"}
    error = said(
        400,
        {"code": "invalid", "detail": "Must be a number.", "source": source},
        headers={"X-Klaviyo-Req-Id": "req-42"},
    )
    assert str(error) == (
        "Klaviyo answered 400 (invalid: Must be a number., at /data/attributes/value), request req-42"
    )


def test_a_message_has_the_first_few_errors_and_the_number_of_the_others() -> None:
    error = said(400, *({"code": "invalid", "detail": f"No {n}."} for n in range(1000)))
    assert str(error) == "Klaviyo answered 400 (invalid: No 0.; invalid: No 1.; invalid: No 2.; and 997 more)"
    assert len(error.errors) == 1000


@pytest.mark.parametrize(
    ("detail", "pointer"),
    [
        ("ada.lovelace@ada-ltd.com is not valid", None),
        ("'ada.lovelace@ada-ltd.com' is not valid", f"{BULK_POINTER}/0/attributes/profile/data/attributes/email"),
        ("'ada.lovelace at ada-ltd' is not valid", f"{BULK_POINTER}/0/attributes/profile/data/attributes/email"),
        ('"030 901820" is no number', f"{BULK_POINTER}/0/attributes/profile/data/attributes/phone_number"),
        ("+4930901820 is no mobile number", None),
        ("no", "/data/attributes/profile/ada.lovelace@ada-ltd.com"),
        ("x" * (10 * MOST_CHARACTERS - 20) + " ada.lovelace@ada-ltd.com", None),
    ],
)
def test_no_address_is_in_any_text_of_an_error(detail: str, pointer: str | None) -> None:
    error = said(400, {"code": "invalid", "detail": detail, "source": {"pointer": pointer}})
    for secret in ("lovelace", "ada-ltd'", "901820", "0901"):
        assert secret not in everything(error)


def test_the_sandboxs_own_words_on_a_wrong_address_are_masked() -> None:
    with sandbox() as (url, _), pytest.raises(InvalidEvents) as raised:
        client(url).create_events([entry(1, "no one@nowhere"), entry(2, "ada.lovelace")])
    assert "is not a valid e-mail address" in str(raised.value)
    for secret in ("no one", "lovelace"):
        assert secret not in everything(raised.value)


def test_a_key_that_an_answer_repeats_is_not_repeated_any_further() -> None:
    error = said(401, {"code": KEY, "detail": f"unknown {KEY}"}, headers={"X-Klaviyo-Req-Id": KEY})
    assert KEY not in everything(error)
    assert "unknown ***" in str(error)


def test_texts_are_one_printable_line_of_bounded_length() -> None:
    error = said(400, {"code": "a\nb", "detail": "x\x1b[31m\r\n\u2028y " + "long " * 100_000})
    assert str(error).isprintable()
    assert len(str(error)) < 3 * MOST_CHARACTERS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b'{"errors": null}',
        b'{"errors": {}}',
        b'{"errors": [null]}',
        b'{"errors": ["no"]}',
        b'{"errors": "no"}',
    ],
)
@pytest.mark.parametrize("status", [302, 400, 403, 413])
def test_a_body_that_says_nothing_useful_refuses_the_request_and_no_event(body: bytes, status: int) -> None:
    error = error_of(status, {}, body, KEY)
    assert type(error) is RequestRefused
    assert str(error) == f"Klaviyo answered {status} (no reason given)"


@given(
    status=st.integers(300, 599),
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["errors", "code", "detail", "source", "pointer"]), inner, max_size=4)
        ),
        max_leaves=12,
    ),
)
def test_any_answer_at_all_becomes_an_error(status: int, document: object) -> None:
    assert isinstance(error_of(status, {}, json.dumps({"errors": document}).encode(), KEY), KlaviyoError)


@pytest.mark.parametrize(
    ("entry_", "shown"),
    [
        ({}, ApiError("no code", "no detail given")),
        ({"code": None, "title": "Invalid input."}, ApiError("no code", "Invalid input.")),
        ({"code": "invalid", "detail": "no", "source": None}, ApiError("invalid", "no")),
        ({"code": "invalid", "detail": "no", "source": {"parameter": "filter"}}, ApiError("invalid", "no")),
    ],
)
def test_missing_parts_of_an_error_are_said_to_be_missing(entry_: dict[str, Any], shown: ApiError) -> None:
    assert said(404, entry_).errors == (shown,)


def test_a_403_with_klaviyos_words_is_a_missing_scope() -> None:
    error = said(403, {"code": "permission_denied", "detail": "no"})
    assert isinstance(error, ScopeMissing)
    assert str(error).endswith("the key is good, but lacks a scope for this")


@pytest.mark.parametrize(
    ("pointer", "translated"),
    [
        ("/data/attributes/value", f"{BULK_POINTER}/0/attributes/events/data/0/attributes/value"),
        (
            "/data/attributes/profile/data/attributes/email",
            f"{BULK_POINTER}/0/attributes/profile/data/attributes/email",
        ),
        ("/data/type", "/data/type"),
        (None, None),
    ],
)
def test_pointers_into_a_single_event_become_those_of_the_entry_it_was_frozen_as(
    pointer: str | None, translated: str | None
) -> None:
    given_ = {"code": "invalid", "detail": "no", "source": {"pointer": pointer}}
    (error,) = said(400, given_, of_single_event=True).errors
    assert error.pointer == translated
    assert error.event == (0 if translated and translated.startswith(BULK_POINTER) else None)
    assert said(400, given_).errors[0].event is None


def test_an_invalid_single_event_is_named_by_its_place() -> None:
    with sandbox() as (url, account), pytest.raises(InvalidEvents) as raised:
        client(url).create_event(entry(1, "nobody"))
    assert [error.event for error in raised.value.errors] == [0]
    assert account.requests[0].path == "/api/events"


def test_a_single_event_is_accepted_by_its_own_endpoint() -> None:
    with sandbox() as (url, account):
        client(url).create_event(entry(1))
        client(url).create_events([entry(1)])
    assert [request.path for request in account.requests] == ["/api/events", "/api/event-bulk-create-jobs"]
    assert len(account.events) == len(account.discarded) == 1


def test_a_password_of_the_users_netrc_does_not_replace_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ada password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with answering(202) as (url, seen):
        client(url, KEY).create_events([entry()])
    assert seen[0]["authorization"] == f"Klaviyo-API-Key {KEY}"


@pytest.mark.parametrize("key", ["", "pk_ 1", "pk_\n1", "pk_é", "pk_\x00"])
def test_a_key_that_is_none_never_sent_anything(key: str) -> None:
    with answering(202) as (url, seen), pytest.raises(Unreachable, match="characters that no key has") as raised:
        client(url, key).create_events([entry()])
    assert seen == []
    assert not key or key not in everything(raised.value)


def test_a_user_and_password_in_the_url_are_in_no_message() -> None:
    klaviyo = Klaviyo("http://ada:secret@127.0.0.1:9", SecretStr(KEY))
    with pytest.raises(Unreachable) as raised:
        klaviyo.create_events([entry()])
    assert "secret" not in everything(raised.value) + repr(klaviyo)


def test_the_body_of_an_answer_beyond_any_reason_is_not_kept() -> None:
    with (
        answering(400, b'{"errors": [' + b" " * (65 * 1024 * 1024)) as (url, _),
        pytest.raises(RequestRefused) as raised,
    ):
        client(url).create_events([entry()])
    assert str(raised.value) == "Klaviyo answered 400 (no reason given)"


def test_an_answer_that_trickles_in_for_ever_is_given_up() -> None:
    times = iter([0.0])
    with answering(202, b"slow") as (url, _), pytest.raises(OutcomeUnknown, match="ReadTimeout"):
        client(url, clock=lambda: next(times, 1e9)).create_events([entry()])


class Watched(requests.Session):
    """A session that keeps what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[dict[str, Any]] = []

    def request(self, *args: Any, **options: Any) -> requests.Response:
        self.options.append(options)
        return super().request(*args, **options)


def test_every_call_has_a_time_out_and_verifies_certificates_and_follows_nothing() -> None:
    session = Watched()
    with sandbox() as (url, _):
        klaviyo = client(url, session=session)
        klaviyo.create_events([entry(1)])
        klaviyo.create_event(entry(2))
        klaviyo.account()
        list(klaviyo.recorded_events("Invoice Reminder", datetime(2025, 1, 1, tzinfo=UTC)))
    assert len(session.options) == 5
    for options in session.options:
        connecting, reading = options["timeout"]
        assert 0 < connecting <= 10
        assert 0 < reading <= 60
        assert (options["verify"], options["allow_redirects"]) == (True, False)
