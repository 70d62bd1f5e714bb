"""Logging in and out, one's own password, the users, the trail."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.desk.access.guard import cookie_name, local
from infra.desk.access.passwords import SHORTEST
from infra.desk.access.store import SESSION_LASTS, AccessStore
from infra.desk.page import Page
from infra.desk.parts import ColumnSpec, CustomSection, TableSection
from infra.desk.render import Render
from infra.desk.translation import N_
from infra.desk.visitor import ROLES, STRANGER, Visitor
from infra.webhook.http import form_of
from schemas.errors import UsageError

log = logging.getLogger(__name__)

#: Tries to log in: of one name from one network, and from one network (an office may share it).
#: None of a name from anywhere: strangers could lock its owner out. The first is forgotten after a
#: login.
_LIMITS: Final[tuple[tuple[RateLimitItem, Callable[[str, str], tuple[str, ...]]], ...]] = (
    (parse("5/minute"), lambda name, network: ("both", name, network)),
    (parse("300/hour"), lambda name, network: ("network", network)),
)
#: Passwords of strangers that are looked at side by side: each takes 64 MiB.
_LOGINS_AT_ONCE: Final = 2
_FORM_COOKIE: Final = "desk-form"
_TRAIL_ROWS: Final = 100


class AccessPages:
    """Pages around logins; `render` gives the frame, `secure` says that people come by https."""

    def __init__(self, store: AccessStore, render: Render, *, secure: bool) -> None:
        self._store = store
        self._render = render
        self._secure = secure
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._logins = asyncio.Semaphore(_LOGINS_AT_ONCE)

    def routes(self) -> list[Route]:
        """What to serve."""
        return [
            Route("/login", self.log_in, methods=["GET", "POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
            Route("/account", self.account, methods=["GET", "POST"]),
            Route("/users", self.users, methods=["GET", "POST"]),
            Route("/trail", self.trail, methods=["GET"]),
        ]

    async def log_in(self, request: Request) -> Response:
        """The form; sent, a new session."""
        if request.method != "POST":
            return self._login_page(request)
        form = dict(await form_of(request))
        again = partial(self._login_page, request, going=form.get("next"))
        given, kept = form.get("token", ""), request.cookies.get(_FORM_COOKIE, "")
        if not kept or not secrets.compare_digest(given.encode(), kept.encode()):
            return again(N_("The form has expired. Try again."), 403)
        name, address = form.get("name", "").strip()[:100], _address(request)
        wait = self._wait(name.lower(), address)
        if wait:
            trouble = N_("Too many tries. Wait a minute, then try again.")
            page = again(trouble, 429, name)
            page.headers["Retry-After"] = str(wait)
            return page
        password = form.get("password", "")
        async with self._logins:
            token = await run_in_threadpool(self._store.log_in, name, password)
        if token is None:
            log.warning("somebody could not log in")
            await run_in_threadpool(self._store.note_failed_login, name, address)
            return again(N_("Name or password is wrong."), 403, name)
        await run_in_threadpool(self._store.note, Visitor(name, ""), "log in", "", "", address)
        limit, key = _LIMITS[0]
        self._limiter.clear(limit, *key(name.lower(), _network(address)))
        response = RedirectResponse(local(form.get("next", "/")), 303)
        # A new token each time: one that was planted before the login is worth nothing.
        response.set_cookie(
            cookie_name(self._secure), token, max_age=SESSION_LASTS, path="/",
            secure=self._secure, httponly=True, samesite="lax",
        )  # fmt: skip
        response.delete_cookie(_FORM_COOKIE, path="/login")
        return response

    async def log_out(self, request: Request) -> Response:
        """Ends the session."""
        token = request.cookies.get(cookie_name(self._secure), "")
        await run_in_threadpool(self._store.log_out, token)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(cookie_name(self._secure), path="/", secure=self._secure)
        return response

    async def account(self, request: Request) -> Response:
        """One's own password."""
        visitor: Visitor = request.scope["visitor"]
        if not visitor.name:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return self._account_page(request)
        form = dict(await form_of(request))
        if self._wait(visitor.name.lower(), _address(request)):
            trouble = N_("Too many tries. Wait a minute, then try again.")
            return self._account_page(request, trouble, 429)
        old, new = form.get("old", ""), form.get("new", "")
        if not await run_in_threadpool(self._store.knows, visitor.name, old):
            return self._account_page(request, N_("The old password is wrong."), 403)
        try:
            await run_in_threadpool(self._store.set_password, visitor.name, new)
        except UsageError as error:
            return self._account_page(request, str(error), 422)
        await self._note(request, "password", visitor.name)
        return RedirectResponse("/login", 303)  # the change ended all sessions

    async def users(self, request: Request) -> Response:
        """Everybody who may log in; an admin changes that."""
        visitor: Visitor = request.scope["visitor"]
        if not visitor.may("administer"):
            return self._not_allowed(request)
        trouble = ""
        if request.method == "POST":
            form = dict(await form_of(request))
            try:
                await run_in_threadpool(self._change, visitor, form)
            except UsageError as error:
                trouble = str(error)
            else:
                role = f": {form['role']}" if form["do"] in ("add", "role") else ""
                await self._note(request, form["do"], form.get("name", "") + role)
                return RedirectResponse("/users", 303)
        users = await run_in_threadpool(self._store.users)
        context = {"users": users, "roles": ROLES, "trouble": trouble, "shortest": SHORTEST}
        parts = [CustomSection("users.html.j2", context)]
        return self._page(request, Page(N_("Users"), parts), 422 if trouble else 200)

    def _change(self, visitor: Visitor, form: dict[str, str]) -> None:
        name = form.get("name", "")
        if name.lower() == visitor.name.lower():
            raise UsageError(N_("change your own login under your name, or ask another admin"))
        changes: dict[str, Callable[[], None]] = {
            "add": lambda: self._store.add(name, form.get("role", ""), form.get("password", "")),
            "role": lambda: self._store.set_role(name, form.get("role", "")),
            "password": lambda: self._store.set_password(name, form.get("password", "")),
            "disable": lambda: self._store.set_disabled(name, True),
            "enable": lambda: self._store.set_disabled(name, False),
            "remove": lambda: self._store.remove(name),
        }
        if form.get("do") not in changes:
            raise UsageError(N_("this form asks for nothing"))
        changes[form["do"]]()

    async def trail(self, request: Request) -> Response:
        """What people did, the newest first."""
        if not request.scope["visitor"].may("administer"):
            return self._not_allowed(request)
        text = request.query_params.get("before", "")
        before = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
        notes = await run_in_threadpool(self._store.trail, _TRAIL_ROWS, before)
        rows = [
            {**vars(note), "at": datetime.fromtimestamp(note.at / 1_000, UTC)} for _, note in notes
        ]
        more = f"/trail?before={notes[-1][0]}" if len(notes) == _TRAIL_ROWS else ""
        table = TableSection(N_("Newest first"), (
            ColumnSpec("at", N_("When"), "second"), ColumnSpec("who", N_("Who")),
            ColumnSpec("action", N_("What"), "status"), ColumnSpec("about", N_("About"), "long"),
            ColumnSpec("why", N_("Why"), "long"), ColumnSpec("address", N_("Address")),
        ), rows, N_("Nothing was recorded yet."), more=more)  # fmt: skip
        return self._page(request, Page(N_("Audit trail"), [table]))

    def _login_page(
        self,
        request: Request,
        trouble: str = "",
        status: int = 200,
        name: str = "",
        going: str | None = None,
    ) -> Response:
        token = secrets.token_urlsafe(24)
        going = local(going or request.query_params.get("next", "/"))
        context = {"trouble": trouble, "token": token, "name": name, "next": going}
        request.scope["visitor"] = STRANGER
        response = self._page(
            request, Page(N_("Log in"), [CustomSection("login.html.j2", context)]), status
        )
        response.set_cookie(
            _FORM_COOKIE,
            token,
            path="/login",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return response

    def _account_page(self, request: Request, trouble: str = "", status: int = 200) -> Response:
        context = {"trouble": trouble, "shortest": SHORTEST}
        return self._page(
            request, Page(N_("Your login"), [CustomSection("account.html.j2", context)]), status
        )

    def _not_allowed(self, request: Request) -> Response:
        text = N_("Your role does not allow this. Ask an admin for another one.")
        page = Page(N_("Not allowed"), [CustomSection("notice.html.j2", {"text": text})])
        return self._page(request, page, 403)

    def _page(self, request: Request, page: Page, status: int = 200) -> Response:
        return self._render(request, "page.html.j2", {"page": page, "live": False}, status)

    def _wait(self, name: str, address: str) -> int:
        """Counts a try; seconds to wait if there were too many."""
        for limit, key in _LIMITS:
            if not self._limiter.hit(limit, *key(name, _network(address))):
                return int(limit.get_expiry())
        return 0

    async def _note(self, request: Request, action: str, about: str) -> None:
        visitor, address = request.scope["visitor"], _address(request)
        await run_in_threadpool(self._store.note, visitor, action, about, "", address)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _network(address: str) -> str:
    """The network that one customer of a provider has: a /64 of IPv6, an address of IPv4."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(ip_network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)
