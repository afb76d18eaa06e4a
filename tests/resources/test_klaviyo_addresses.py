import pytest

from dunning_pipeline.resources.klaviyo_addresses import is_loopback, shown, will_be_dropped


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.com",
        "ADA@Example.ORG",
        " ada@example.net ",
        "ada@mail.example.com",
        "ada@test.com",
        "ada@shop.test",
        "ada@shop.example",
        "ada@nobody.invalid",
        "ada@localhost",
        "ada@example.com.",
    ],
)
def test_addresses_that_klaviyo_drops_or_no_mail_reaches_are_known(email: str) -> None:
    assert will_be_dropped(email)


@pytest.mark.parametrize(
    "identifier",
    [
        "ada@ada-ltd.com",
        "ada@myexample.com",
        "ada@mail.test.com",
        "ada@test.company",
        "+4930901820",
        "c-1",
        "test.com",
        "",
    ],
)
def test_other_addresses_and_identifiers_are_not_dropped(identifier: str) -> None:
    assert not will_be_dropped(identifier)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8765", "http://localhost", "https://[::1]:80/", "http://127.9.9.9", "HTTP://LOCALHOST:1"]
)
def test_a_sandbox_is_on_this_machine(url: str) -> None:
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.klaviyo.com",
        "http://127.0.0.1.evil.test",
        "http://localhost.evil.test",
        "http://127.0.0.1@evil.test",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "127.0.0.1",
        "http://[::1",
        "http://",
        "",
    ],
)
def test_anything_else_is_not_the_sandbox(url: str) -> None:
    assert not is_loopback(url)


def test_a_url_is_shown_without_user_and_password() -> None:
    assert shown("https://ada:secret@a.klaviyo.com/x@y") == "https://***@a.klaviyo.com/x@y"
    assert shown("https://a.klaviyo.com") == "https://a.klaviyo.com"
