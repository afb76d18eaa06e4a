"""The stand-in served over HTTP on loopback: its API and its page.

What the shop answers is in shop.py, which fault a request meets in faults.py, how connections are served and broken in
../serving.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dunning_pipeline.sandbox.serving import PAGE_HEADERS, Ending, Exchange, bounded_body, from_elsewhere, serving
from dunning_pipeline.sandbox.shopify.controls import apply_action, apply_conditions, apply_faults
from dunning_pipeline.sandbox.shopify.faults import GRANT, QUERY
from dunning_pipeline.sandbox.shopify.page import render
from dunning_pipeline.sandbox.shopify.shop import ShopifyShop

MOST_BYTES = 1024 * 1024
_CONTROLS = {"orders": apply_action, "faults": apply_faults, "conditions": apply_conditions}


def create_app(shop: ShopifyShop) -> Starlette:
    """The application: the shop's API under /admin, the page of its orders and its controls at /."""

    async def show_page(_: Request) -> Response:
        return HTMLResponse(render(shop), headers=PAGE_HEADERS)

    async def control(request: Request) -> Response:
        if from_elsewhere(request):
            return PlainTextResponse("Only from the sandbox's own page.", 403)
        fields = dict(parse_qsl((await bounded_body(request, MOST_BYTES)).decode(errors="replace")))
        try:
            _CONTROLS[request.url.path.strip("/")](shop, fields)
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        return RedirectResponse("/", 303)

    async def answer(request: Request) -> Response:
        path = request.url.path.rstrip("/")
        body = await bounded_body(request, MOST_BYTES)
        fault = shop.faults.take(GRANT if path.endswith("/access_token") else QUERY)
        answered = await run_in_threadpool(shop.handle, path, dict(request.headers), body, fault)
        await asyncio.sleep(shop.conditions.latency + (fault.seconds if fault else 0.0))
        ending = fault.ending if fault else Ending.ANSWERED
        return Exchange(answered.status, answered.headers, answered.body, ending)

    controls = [Route(f"/{name}", control, methods=["POST"]) for name in _CONTROLS]
    api = Route("/admin/{path:path}", answer, methods=["POST"])
    return Starlette(routes=[Route("/", show_page), *controls, api])


@contextmanager
def running(shop: ShopifyShop, port: int = 0) -> Iterator[str]:
    """Serve the shop on 127.0.0.1 in a background thread; yield the base URL `http://127.0.0.1:<port>`.

    Port 0 takes a free one. Raises OSError when the port is taken.
    """
    with serving(create_app(shop), port) as url:
        yield url
