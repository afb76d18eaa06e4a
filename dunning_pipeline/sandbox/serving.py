"""Serving a stand-in over HTTP on loopback, and breaking its connections as planned.

What a stand-in accepts and answers is in its own package.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}
_TRANSPORT = "dunning.transport"
"""Where a request's scope holds its connection."""


class Ending(Enum):
    """How an exchange ends."""

    ANSWERED = "answered"
    CUT_SHORT = "cut short"
    """Status and headers arrive, the body does not."""
    CLOSED = "closed"
    """The connection is closed in good order, without an answer."""
    RESET = "reset"
    SILENT = "silent"
    """Nothing arrives, until the client gives up."""


@dataclass(frozen=True)
class Answer:
    """What a stand-in answers: status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve an ASGI application on 127.0.0.1 in a background thread; yield the base URL `http://127.0.0.1:<port>`.

    Port 0 takes a free one. Raises OSError when the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = uvicorn.Server(_server_config(app))
        thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=5)


class Exchange(Response):
    """An answer that may end otherwise than with all of it."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, ending: Ending) -> None:
        super().__init__(body, status or 200, headers)
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ending is Ending.ANSWERED:
            await super().__call__(scope, receive, send)
            return
        if self._ending is Ending.CUT_SHORT:
            headers = [*self.raw_headers, (b"connection", b"close")]
            longer = [(name, b"1000" if name == b"content-length" else value) for name, value in headers]
            await send({"type": "http.response.start", "status": self.status_code, "headers": longer})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
        if self._ending is not Ending.SILENT:
            _break(scope[_TRANSPORT], reset=self._ending is Ending.RESET)
        while (await receive())["type"] != "http.disconnect":
            pass


def _break(transport: Any, *, reset: bool) -> None:
    if reset:
        # To linger for no time at all is what makes the system reset a connection instead of closing it.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


class _Protocol(H11Protocol):
    """Hands each request its connection, so that it can be broken."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        app = self.config.loaded_app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, _TRANSPORT: transport}, receive, send)

        self.app = with_transport


def _server_config(app: ASGIApp) -> uvicorn.Config:
    # log_config=None leaves the logging of the process that embeds the server as it is. The account gives the date.
    return uvicorn.Config(
        app,
        http=_Protocol,
        loop="asyncio",
        log_level="warning",
        log_config=None,
        access_log=False,
        date_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("The sandbox's server did not start.")
        time.sleep(0.002)


async def bounded_body(request: Request, most: int) -> bytes:
    """The body of a request, and a byte more than `most` where it is longer."""
    # The rest of a body that is too large is read but not kept, so that the client gets to see the 413.
    kept = bytearray()
    async for chunk in request.stream():
        kept += chunk[: most + 1 - len(kept)]
    return bytes(kept)


def from_elsewhere(request: Request) -> bool:
    """Whether a page of the internet posts a form to this machine: browsers tell."""
    return request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
