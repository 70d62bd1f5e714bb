"""Pages from templates, with headers under which a browser runs and fetches nothing."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

_FOLDER: Final = Path(__file__).parent / "templates"

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=select_autoescape(("j2", "html"), default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_STYLE: Final = (_FOLDER / "style.css").read_text()

_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def page(name: str, status: int = 200, **values: Any) -> Response:
    """The page that a template makes of some values; all of them are escaped."""
    html = _TEMPLATES.get_template(name).render(style=Markup(_STYLE), **values)  # noqa: S704
    return HTMLResponse(html, status, {"Content-Security-Policy": _POLICY})
