"""The desk as a web application: views as routes, static files, headers, the answer to a fault."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import date, datetime
from importlib import resources
from typing import Final

import jinja2
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.desk.page import Asked, Page, View
from infra.desk.reading import Opens
from infra.desk.views import VIEWS
from infra.web.plumbing import web_app
from schemas.errors import ZerostockError

log = logging.getLogger(__name__)

#: How old a *Now* may be, in seconds: all who watch it share one.
SHARED_FOR: Final = 2.0
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
}
_STATIC: Final = {"desk.css": "text/css", "htmx.min.js": "text/javascript"}
#: The page has no logins yet, so it answers to this machine's own names only (DNS rebinding).
_HOSTS: Final = ["127.0.0.1", "localhost"]


def desk_app(opens: Opens, clock: Callable[[], float] = time.monotonic) -> ASGIApp:
    """The application; `opens` gives the warehouse for one page, `clock` counts seconds."""
    render = _templates()
    shared: dict[str, tuple[float, Response]] = {}
    turn = threading.Lock()

    def endpoint(view: View) -> Callable[[Request], Response]:
        def made(request: Request) -> Response:
            try:
                with opens() as warehouse:
                    page = view.page(Asked(warehouse, request.path_params, request.query_params))
                    return _response(render, view, page)
            except ZerostockError as error:
                log.error("a page cannot be made: %s", error)  # noqa: TRY400
                page = Page("fault.html.j2", {"title": "Not now"}, 503)
                return _response(render, view, page)

        def answer(request: Request) -> Response:
            if view.path != "/":
                return made(request)
            with turn:  # the first of many makes it, the others wait for that one
                if "at" not in shared or clock() - shared["at"][0] >= SHARED_FOR:
                    response = made(request)
                    shared["at"] = clock(), response
                return shared["at"][1]

        return answer

    routes = [Route(view.path, endpoint(view), methods=["GET"]) for view in VIEWS]
    routes.append(Route("/static/{name}", _static, methods=["GET"]))
    return TrustedHostMiddleware(web_app(routes), allowed_hosts=_HOSTS)


def _response(render: jinja2.Environment, view: View, page: Page) -> Response:
    if page.csv is not None:
        name = view.path.strip("/")
        offered = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return Response(page.csv, headers=offered, media_type="text/csv")
    text = render.get_template(page.template).render(
        page.shows, views=[one for one in VIEWS if one.title], here=view.path
    )
    return Response(text, page.status, headers=_POLICY, media_type="text/html")


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response("no such file\n", 404, media_type="text/plain")
    content = (resources.files("infra.desk") / "static" / name).read_bytes()
    return Response(content, headers={"Cache-Control": "max-age=3600"}, media_type=_STATIC[name])


def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("infra.desk"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["shown"] = shown
    return made


def shown(value: object) -> str:
    """A value as a person reads it: times to the second (UTC), numbers in groups."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
