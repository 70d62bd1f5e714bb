"""The desk as a web application: views as routes, actions, static files, the answer to a fault."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.desk.access.guard import local
from infra.desk.page import Answer, Download, Page, Redirect, Services, View, ViewRequest
from infra.desk.parts import CustomSection
from infra.desk.reading import Opens
from infra.desk.render import LOOKS, Render, language_of, renderer
from infra.desk.translation import LANGUAGES, N_
from infra.desk.views import MENU, VIEWS
from infra.desk.views.common import first_run
from infra.desk.visitor import ANONYMOUS, Visitor
from infra.webhook.http import form_of, web_app
from schemas.errors import NoWarehouse, WarehouseDown, WarehouseError, ZerostockError

log = logging.getLogger(__name__)

T = TypeVar("T")
_Showing = Callable[[Mapping[str, str]], Page]

NOTHING_SENT: Final[Mapping[str, str]] = {}

#: How old a page that renews itself may be, in seconds: all who watch it share one. One that takes
#: long is kept for as many times as long as this: watching leaves nine tenths of a core to others.
SHARED_FOR: Final = 2.0
_KEPT_FOR: Final = 9
_YEAR: Final = 365 * 86_400
#: Pages ask for a file by its content (`?…`), so a new one is another address.
_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_STATIC: Final = {
    "desk.css": "text/css",
    "desk.js": "text/javascript",
    "chart.min.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def desk_app(
    opens: Opens,
    services: Services = Services(),  # noqa: B008 - frozen
    clock: Callable[[], float] = time.monotonic,
    more: Callable[[Render], list[Route]] = lambda render: [],
) -> ASGIApp:
    """The application without its guard; `opens` gives the warehouse for one page.

    `clock` counts seconds, `more` gives routes beside the views.
    """
    render = renderer(MENU, ZoneInfo(services.zone))
    shared = _Shared(clock)

    def answer(
        request: Request, made: Callable[[ViewRequest], T], form: Mapping[str, str] = NOTHING_SENT
    ) -> T | Page:
        path, query, visitor = request.path_params, request.query_params, _visitor(request)
        address = request.client.host if request.client else ""
        language = language_of(request)
        try:
            for last in (False, True):
                try:
                    with opens() as warehouse:
                        return made(
                            ViewRequest(
                                warehouse, path, query, visitor, form, services, address, language
                            )
                        )
                except WarehouseDown:  # given up for a run, or left by one: found anew
                    if last:
                        raise
            raise AssertionError
        except NoWarehouse:
            return first_run(services)
        except ZerostockError as error:
            log.error("a page cannot be made: %s", error)  # noqa: TRY400
            return _fault(error)

    def watched(request: Request, view: View, live: Callable[[ViewRequest], _Showing]) -> Response:
        """A page that renews itself: all who watch share what the warehouse said."""

        def made() -> Response:
            found = shared.of((view.path,), lambda: answer(request, live))
            page = found if isinstance(found, Page) else found(request.query_params)
            return _response(render, request, page, live=True)

        if request.headers.get("hx-request") != "true":
            return made()
        # What is renewed has nothing of one visitor's own: those of a role share it as well.
        role = _visitor(request).role
        request.scope["visitor"] = Visitor("", role)
        key = (view.path, role, language_of(request), request.url.query)
        return _unless_seen(request, shared.of(key, made))

    def endpoint(view: View) -> Callable[..., object]:
        def shown(request: Request) -> Response:
            if view.live:
                return watched(request, view, view.live)
            return _response(render, request, answer(request, view.page))

        async def answered(request: Request) -> Response:
            if request.method != "POST":
                return await run_in_threadpool(shown, request)
            if not _visitor(request).may(view.action):
                return _response(render, request, _forbidden())
            form = dict(await form_of(request))
            assert view.act is not None
            done = await run_in_threadpool(answer, request, view.act, form)
            return _response(render, request, done)

        return answered

    routes = [
        Route(view.path, endpoint(view), methods=["GET", "POST"] if view.act else ["GET"])
        for view in VIEWS
    ]
    routes += [
        Route("/static/{name}", _static, methods=["GET"]),
        Route("/prefer/{what}/{value}", _prefer, methods=["GET"]),
        *more(render),
        Route("/{path:path}", lambda request: _response(render, request, _nowhere())),
    ]
    return web_app(routes)


class _Shared:
    """What all who watch share: the first of many makes it, the others wait for that one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turn = threading.RLock()  # one who makes a page makes what it is made of
        self._made: dict[tuple[str, ...], tuple[float, Any]] = {}  # until when it is shown

    def of(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        with self._turn:
            began = self._clock()
            self._made = {k: v for k, v in self._made.items() if began < v[0]}
            if key in self._made:
                found: T = self._made[key][1]
                return found
            made = make()
            now = self._clock()
            self._made[key] = now + max(SHARED_FOR, _KEPT_FOR * (now - began)), made
            return made


def _visitor(request: Request) -> Visitor:
    found: Visitor = request.scope.get("visitor", ANONYMOUS)
    return found


def _unless_seen(request: Request, response: Response) -> Response:
    """The answer, or that it is the one that the page has already."""
    tag = hashlib.blake2b(bytes(response.body), digest_size=12).hexdigest()
    response.headers["ETag"] = f'"{tag}"'
    if request.headers.get("x-seen") == tag:
        return Response(status_code=204, headers={"ETag": f'"{tag}"'})
    return response


def _response(render: Render, request: Request, answer: Answer, live: bool = False) -> Response:
    if isinstance(answer, Redirect):
        return RedirectResponse(answer.address, 303)
    if isinstance(answer, Download):
        offered = {"Content-Disposition": f'attachment; filename="{answer.name}"'}
        return Response(answer.content, headers=offered, media_type=answer.media)
    return render(request, "page.html.j2", {"page": answer, "live": live}, answer.status)


def _fault(error: ZerostockError) -> Page:
    refused = isinstance(error, WarehouseError) and not isinstance(error, WarehouseDown)
    text = (
        N_("The warehouse could not answer this query. The server's log says why.")
        if refused
        else N_(
            "The warehouse does not answer. Reload the page in a moment; the server's log says why."
        )
    )
    return _notice(N_("Temporarily unavailable"), text, 503)


def _forbidden() -> Page:
    text = N_("Your role does not allow this. Ask an admin for another one.")
    return _notice(N_("Not allowed"), text, 403)


def _nowhere() -> Page:
    text = N_("There is no page at this address.")
    return _notice(N_("Not found"), text, 404)


def _notice(title: str, text: str, status: int) -> Page:
    return Page(title, [CustomSection("notice.html.j2", {"text": text})], status=status)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response("no such file\n", 404, media_type="text/plain")
    content = (resources.files("infra.desk") / "static" / name).read_bytes()
    return Response(content, headers=_FOR_EVER, media_type=_STATIC[name])


def _prefer(request: Request) -> Response:
    """Keeps a language or a look in a cookie, and goes back."""
    what, value = request.path_params["what"], request.path_params["value"]
    if value not in {"language": [*LANGUAGES], "look": [*LOOKS, "auto"]}.get(what, []):
        return Response("no such choice\n", 404, media_type="text/plain")
    response = RedirectResponse(local(request.query_params.get("next", "/")), 303)
    response.set_cookie(what, value, max_age=_YEAR, httponly=True, samesite="lax")
    return response
