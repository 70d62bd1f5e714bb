"""Pages as HTML: templates, the language and the look that a visitor chose, the headers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import cache
from importlib import resources
from typing import Final

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from infra.desk.formats import NOTHING, redacted, shown
from infra.desk.page import MenuGroup
from infra.desk.parts import ColumnSpec, Kind, Row
from infra.desk.translation import (
    LANGUAGES,
    localized,
    preferred,
    translate_sentences,
    translator,
)
from infra.desk.visitor import ANONYMOUS

LOOKS: Final = ("light", "dark")
_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
}

Render = Callable[[Request, str, Mapping[str, object], int], Response]


def renderer(menu: Sequence[MenuGroup], zone: tzinfo) -> Render:
    """Gives an answer from a template and what it context; times are those of `zone`."""
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("infra.desk"), jinja2.PackageLoader("infra.desk.access")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def shown_here(value: object, kind: Kind = "text") -> str:
        return shown(value, kind, zone)

    templates.filters["shown"] = shown_here
    templates.globals["static"] = _static

    def render(
        request: Request, template: str, context: Mapping[str, object], status: int = 200
    ) -> Response:
        language = language_of(request)
        visitor = request.scope.get("visitor", ANONYMOUS)
        words = translator(language)

        def seen(value: object, kind: Kind) -> str:
            if kind == "reasons":
                return shown_here(translate_sentences(str(value or ""), words))
            return shown_here(value if visitor.may("see_numbers") else redacted(value, kind), kind)

        def hides(column: ColumnSpec) -> bool:
            return column.kind == "secret" and not visitor.may("see_numbers")

        def cell(row: Row, column: ColumnSpec) -> str | Markup:
            value = row[column.name]
            if column.kind == "status":
                text = localized(str(value), words, column.name) if value else NOTHING
                return Markup('<span class="status {}">{}</span>').format(str(value), text)
            if column.kind == "name" and value:
                return localized(str(value), words, column.name)
            return seen(value, column.kind)

        look = request.cookies.get("look")
        text = templates.get_template(template).render(
            context,
            _=words,
            cell=cell,
            hides=hides,
            seen=seen,
            localized=lambda value: localized(str(value), words),
            language=language,
            languages=LANGUAGES,
            look=look if look in LOOKS else "",
            visitor=visitor,
            menu=menu,
            here=_place(request.url.path, menu),
            address=request.url.path + ("?" + request.url.query if request.url.query else ""),
            zone=str(zone),
        )
        return Response(text, status, headers=_POLICY, media_type="text/html")

    return render


@cache
def _static(name: str) -> str:
    """Where a file of the desk's own is; another address whenever it has changed."""
    content = (resources.files("infra.desk") / "static" / name).read_bytes()
    return f"/static/{name}?{hashlib.blake2b(content, digest_size=6).hexdigest()}"


def language_of(request: Request) -> str:
    """The language to answer this request in."""
    return preferred(request.cookies.get("language"), request.headers.get("accept-language", ""))


def _place(path: str, menu: Sequence[MenuGroup]) -> str:
    """The view of the menu that a path belongs to."""
    paths = [view.path for group in menu for view in group.views]
    under = [one for one in paths if path == one or (one != "/" and path.startswith(one + "/"))]
    return max(under, key=len, default="")
