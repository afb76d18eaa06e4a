"""The stand-in served over HTTP on loopback: its API and its page.

What the account accepts and answers is in account.py, which fault a request meets in faults.py, how connections are
served and broken in ../serving.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dunning_pipeline.sandbox.klaviyo.account import ApiRequest, KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo.body import MAX_BODY_BYTES
from dunning_pipeline.sandbox.klaviyo.controls import apply_conditions, apply_faults
from dunning_pipeline.sandbox.klaviyo.reading import Query
from dunning_pipeline.sandbox.serving import PAGE_HEADERS, Ending, Exchange, bounded_body, from_elsewhere, serving

_CONTROLS = {"faults": apply_faults, "conditions": apply_conditions}


def create_app(account: KlaviyoAccount) -> Starlette:
    """Return the application: the account's API under /api, the page of what it received and its controls at /."""

    async def show_page(request: Request) -> Response:
        return HTMLResponse(account.page(), headers=PAGE_HEADERS)

    async def control(request: Request) -> Response:
        if from_elsewhere(request):
            return PlainTextResponse("Only from the sandbox's own page.", 403)
        fields = dict(parse_qsl((await bounded_body(request, MAX_BODY_BYTES)).decode(errors="replace")))
        try:
            _CONTROLS[request.url.path.strip("/")](account, fields)
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        return RedirectResponse("/", 303)

    async def answer(request: Request) -> Response:
        asked = await _api_request(request)
        fault = account.faults.take(asked.method)
        response = account.handle(asked, fault)
        await asyncio.sleep(account.conditions.latency + (fault.seconds if fault else 0.0))
        ending = fault.ending if fault else Ending.ANSWERED
        return Exchange(response.status, response.headers, response.body, ending)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    controls = [Route(f"/{name}", control, methods=["POST"]) for name in _CONTROLS]
    return Starlette(routes=[Route("/", show_page), *controls, Route("/{path:path}", answer, methods=methods)])


@contextmanager
def running(account: KlaviyoAccount, port: int = 0) -> Iterator[str]:
    """Serve the account on 127.0.0.1 in a background thread; yield the base URL `http://127.0.0.1:<port>`.

    Port 0 takes a free one. Raises OSError when the port is taken.
    """
    with serving(create_app(account), port) as url:
        yield url


class Switch:
    """A sandbox that is switched off and on at one address: meanwhile connections to it are refused."""

    def __init__(self, account: KlaviyoAccount, port: int = 0) -> None:
        self._account = account
        self._stack = ExitStack()
        self._port = port
        self.url = ""

    def __enter__(self) -> Switch:
        self.on()
        return self

    def __exit__(self, *_: object) -> None:
        self.off()

    def on(self) -> None:
        """Serve, always at the same port. Raises OSError when somebody took it meanwhile."""
        self.url = self._stack.enter_context(running(self._account, self._port))
        self._port = int(self.url.rpartition(":")[2])

    def off(self) -> None:
        """Stop serving; what the account knows stays."""
        self._stack.close()


async def _api_request(request: Request) -> ApiRequest:
    url = str(request.url.replace(query="", fragment=""))
    return ApiRequest(
        method=request.method,
        path=request.url.path.rstrip("/"),
        query=Query(url, tuple(request.query_params.multi_items())),
        query_string=request.url.query,
        headers=dict(request.headers),
        body=await bounded_body(request, MAX_BODY_BYTES),
    )
