"""What every page and endpoint shares: bounded forms, headers, a log without numbers, errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import BrokerError, InputError

log = logging.getLogger(__name__)

#: The largest form there is, in bytes, and how long one may take to come, in seconds.
MOST_BYTES: Final = 64 * 1024
LONGEST: Final = 10.0
_MOST_FIELDS: Final = 200

#: A browser shall run nothing, fetch nothing, be framed by nobody and tell nobody the link.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    # Not no-referrer: a browser would hide the origin of our own form from us.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def web_app(
    routes: Sequence[Route],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """An application of some routes with all that is shared around them."""
    return Starlette(
        routes=list(routes),
        lifespan=lifespan,
        middleware=[Middleware(_Wrapped, paths=[route.path for route in routes])],
        exception_handlers={
            HTTPException: _refused,
            ClientDisconnect: _gone,
            BrokerError: _not_now,
            InputError: _not_now,
            OSError: _not_now,
        },
    )


async def form_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a URL-encoded form, in order.

    Raises `HTTPException` for anything else, and for what is too large or too slow.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send a URL-encoded form")
    body = await body_of(request)
    try:
        return parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise HTTPException(400, "not a form") from None


async def body_of(request: Request) -> bytes:
    """What came with a request. Raises `HTTPException` for what is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(LONGEST):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, "too large")
    except TimeoutError:
        raise HTTPException(408, "too slow") from None
    return bytes(body)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return PlainTextResponse("", 400)


async def _not_now(request: Request, error: Exception) -> Response:
    """Nothing was taken: whoever asked should ask again."""
    log.error("%s cannot be served now: %s", request.scope["shown"], error)
    return PlainTextResponse("not now, try again\n", 503, headers={"Retry-After": "5"})


class _Wrapped:
    """Headers for every answer, and a line in the log that names neither links nor numbers."""

    def __init__(self, app: ASGIApp, paths: Sequence[str]) -> None:
        self._app = app
        self._whole = {path for path in paths if "{" not in path}
        # What comes after such a beginning may be a link.
        self._beginnings = [path.partition("{")[0] for path in paths if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        scope["shown"] = self._shown(scope["path"])

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in given
                ]
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        finally:
            took = (time.monotonic() - began) * 1_000
            log.info("%s %s %d in %.0f ms", scope["method"], scope["shown"], status, took)

    def _shown(self, path: str) -> str:
        if path in self._whole:
            return path
        return next((b for b in self._beginnings if path.startswith(b)), "/") + "…"
