"""A loopback stand-in for Klaviyo's API, served over HTTP with a page that shows what it received.

Only the web application and the server; what the account accepts and answers is in klaviyo_account.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dunning_pipeline.sandbox.klaviyo_account import ALL_SCOPES, DEFAULT_KEY, ApiRequest, KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo_body import MAX_BODY_BYTES
from dunning_pipeline.sandbox.klaviyo_limits import DEFAULT_RATES, RateLimit
from dunning_pipeline.sandbox.klaviyo_reading import Query

__all__ = [
    "ALL_SCOPES",
    "DEFAULT_KEY",
    "DEFAULT_RATES",
    "KlaviyoAccount",
    "RateLimit",
    "create_app",
    "running",
    "serving",
]

_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def create_app(account: KlaviyoAccount) -> Starlette:
    """Return the application: the account's API under /api, and the page of what it received at /."""

    async def show_page(request: Request) -> Response:
        return HTMLResponse(account.page(), headers=_PAGE_HEADERS)

    async def answer(request: Request) -> Response:
        response = account.handle(await _api_request(request))
        return Response(response.body, response.status, response.headers)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(routes=[Route("/", show_page), Route("/{path:path}", answer, methods=methods)])


@contextmanager
def running(account: KlaviyoAccount, port: int = 0) -> Iterator[str]:
    """Serve the account on 127.0.0.1 in a background thread; yield the base URL `http://127.0.0.1:<port>`.

    Port 0 takes a free one. Raises OSError when the port is taken.
    """
    with serving(create_app(account), port) as url:
        yield url


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve an ASGI application like `running` serves an account."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = uvicorn.Server(_server_config(app))
        thread = threading.Thread(target=server.run, args=([listener],), name="klaviyo-sandbox", daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=5)


def _server_config(app: ASGIApp) -> uvicorn.Config:
    # log_config=None leaves the logging of the process that embeds the server as it is.
    return uvicorn.Config(
        app,
        log_level="warning",
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("The sandbox's server did not start.")
        time.sleep(0.002)


async def _api_request(request: Request) -> ApiRequest:
    url = str(request.url.replace(query="", fragment=""))
    return ApiRequest(
        method=request.method,
        path=request.url.path.rstrip("/"),
        query=Query(url, tuple(request.query_params.multi_items())),
        query_string=request.url.query,
        headers=dict(request.headers),
        body=await _bounded_body(request),
    )


async def _bounded_body(request: Request) -> bytes:
    # The rest of a body that is too large is read but not kept, so that the client gets to see the 413.
    kept = bytearray()
    async for chunk in request.stream():
        kept += chunk[: MAX_BODY_BYTES + 1 - len(kept)]
    return bytes(kept)
