"""Certificates are always verified, and a failed handshake is told from an answer lost after the request left.

The certificate of 127.0.0.1 is made for each run, by an authority that nobody trusts.
"""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import trustme
from pydantic import SecretStr
from test_klaviyo import entry

from dunning_pipeline.resources.klaviyo import Klaviyo, OutcomeUnknown, Unreachable, pause_before_retry
from dunning_pipeline.resources.rate_limits import NO_LIMITS, RateLimits

AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("127.0.0.1")
KEY = "pk_0123456789abcdef"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    """A file with the certificate of the authority."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return tmp_path / "authority.pem"


def read_request(secured: ssl.SSLSocket) -> bytes:
    """All of a request: a connection that is closed with some of it unread is reset."""
    with secured.makefile("rb") as file:
        head = b"".join(iter(file.readline, b"\r\n"))
        (length,) = re.findall(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
        return head + file.read(int(length))


@contextmanager
def tls_server(treat: Callable[[ssl.SSLSocket, socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server with the certificate; `treat` gets the connection after a request was read, and what lies below it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ISSUED.configure_cert(context)
    received: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    with context.wrap_socket(connection.dup(), server_side=True) as secured:
                        received.append(read_request(secured))
                        treat(secured, connection)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", received
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def accept(secured: ssl.SSLSocket, _: socket.socket) -> None:
    secured.sendall(ACCEPTED)


def garble(_: ssl.SSLSocket, below: socket.socket) -> None:
    below.sendall(b"\x17\x03\x03\x00\x20" + b"\x00" * 32)


def client(url: str, session: requests.Session | None = None) -> Klaviyo:
    return Klaviyo(url, SecretStr(KEY), session=session, limiter=RateLimits(NO_LIMITS))


def unverified() -> requests.Session:
    session = requests.Session()
    session.verify = False
    return session


@pytest.mark.parametrize("session", [None, unverified()], ids=["usual", "unverified"])
def test_a_certificate_that_nobody_trusts_gets_neither_key_nor_request(session: requests.Session | None) -> None:
    with (
        tls_server(accept) as (url, received),
        pytest.raises(Unreachable, match="certificate is not trusted") as raised,
    ):
        client(url, session).create_events([entry()])
    assert received == []
    assert pause_before_retry(1, raised.value, lambda: 0.5) is None


def test_a_certificate_that_the_environment_trusts_is_good(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    with tls_server(accept) as (url, received):
        client(url).create_events([entry()])
    assert KEY.encode() in received[0]


def test_a_bundle_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    with pytest.raises(Unreachable, match="REQUESTS_CA_BUNDLE"):
        client("https://127.0.0.1:9").create_events([entry()])


def test_a_connection_that_breaks_after_the_request_left_leaves_the_outcome_unknown(
    trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    with tls_server(garble) as (url, received), pytest.raises(OutcomeUnknown, match="SSLError"):
        client(url).create_events([entry()])
    assert len(received) == 1


def test_https_to_a_server_without_it_never_sent_anything() -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Unreachable, match="TLS failed"):
            client(f"https://127.0.0.1:{listener.getsockname()[1]}").create_events([entry()])


@pytest.mark.parametrize("url", ["http://a.klaviyo.com", "HTTP://a.klaviyo.com", "http://127.0.0.1.evil.test:80"])
def test_plain_http_is_for_this_machine_only(url: str) -> None:
    with pytest.raises(Unreachable, match="it must be https"):
        client(url).create_events([entry()])
