"""The desk's guard: no page without a session, no action without the session's CSRF token."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.desk.access.store import AccessStore
from infra.desk.visitor import ANONYMOUS, STRANGER, Visitor
from infra.webhook.http import HEADERS, LONGEST, MOST_BYTES
from schemas.errors import InputError

log = logging.getLogger(__name__)

#: What strangers may ask for.
_OPEN: Final = ("/static/", "/prefer/", "/login")
_SAFE: Final = frozenset({"GET", "HEAD"})
_HERE: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """Puts the visitor into `scope["visitor"]`, or sends them to the login.

    While there is no user at all, visitors of this machine are ANONYMOUS if `anonymous` allows it:
    only by this machine's own names, so that no other site's page can ask in their place. `url` is
    where people come from outside, if not by the address that this server sees.
    """

    def __init__(
        self, app: ASGIApp, store: AccessStore, *, anonymous: bool, url: str | None = None
    ) -> None:
        self._app = app
        self._store = store
        self._anonymous = anonymous
        self._cookie = cookie_name(by_https(url))
        self._public = urlsplit(url or "").netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            visitor = await run_in_threadpool(self._visitor, request)
        except InputError as error:
            log.error("nobody can be let in: %s", error)  # noqa: TRY400
            await _said(503, "not now: the file of logins cannot be read")(scope, receive, send)
            return
        scope["visitor"] = visitor
        refusal = self._refusal(request, visitor)
        if refusal is None and request.method not in _SAFE:
            body = await _body(receive)
            if body is None or not self._meant(request, visitor, body):
                refusal = _said(403, "this form is not from our own page")
            receive = _again(body or b"", receive)
        await (refusal or self._app)(scope, receive, send)

    def _visitor(self, request: Request) -> Visitor:
        token = request.cookies.get(self._cookie)
        known = self._store.visitor(token) if token else None
        if known is not None:
            return known
        if self._anonymous and _host(request) in _HERE and not self._store.any_user():
            return ANONYMOUS
        return STRANGER

    def _refusal(self, request: Request, visitor: Visitor) -> Response | None:
        path = request.url.path
        if visitor != STRANGER or path.startswith(_OPEN):
            return None
        if request.method not in _SAFE:
            return _said(401, "log in first")
        wanted = path + ("?" + request.url.query if request.url.query else "")
        login = "/login" + ("" if wanted == "/" else "?next=" + quote(wanted, safe=""))
        if request.headers.get("hx-request") == "true":
            return _said(401, "log in first", {"HX-Redirect": login})
        return RedirectResponse(login, 303)

    def _meant(self, request: Request, visitor: Visitor, body: bytes) -> bool:
        """Whether the visitor's own page sent this."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        ours = {request.headers.get("host"), self._public} - {"", None}
        if site not in (None, "same-origin"):
            return False
        if origin is not None and origin.rpartition("//")[2] not in ours:
            return False
        if request.url.path == "/login":  # has a token of its own, and checks it
            return True
        try:
            form = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=200))
        except ValueError:
            return False
        token = form.get("csrf", "")
        return bool(visitor.csrf) and secrets.compare_digest(token.encode(), visitor.csrf.encode())


def by_https(url: str | None) -> bool:
    """Whether people come by https."""
    return url is not None and url.startswith("https:")


def cookie_name(secure: bool) -> str:
    """`__Host-` binds a cookie to https and this very host; browsers take it by https only."""
    return "__Host-desk" if secure else "desk"


def local(address: str) -> str:
    """An address of our own to go on to; anything else is the first page."""
    try:
        parts = urlsplit(address.replace("\\", "/"))
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return "/"
    return "/" + parts.path.lstrip("/") + ("?" + parts.query if parts.query else "")


def _host(request: Request) -> str:
    """The name by which this server was asked for; "" for none that makes sense.

    Not `request.url`: where the header makes no sense, that has the server's own address instead.
    """
    try:
        return urlsplit("//" + request.headers.get("host", "")).hostname or ""
    except ValueError:
        return ""


def _said(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers={**HEADERS, **(headers or {})})


async def _body(receive: Receive) -> bytes | None:
    """What was sent; None if it is too large, too slow, or broke off."""
    whole = bytearray()
    try:
        async with asyncio.timeout(LONGEST):
            while True:
                message = await receive()
                if message["type"] != "http.request" or len(whole) > MOST_BYTES:
                    return None
                whole += message.get("body", b"")
                if not message.get("more_body"):
                    return bytes(whole)
    except TimeoutError:
        return None


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, for the application."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
