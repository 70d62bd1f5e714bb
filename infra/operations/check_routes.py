"""`zerostock routes check`: a table of routes, read as a worker reads it, in words."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.delivery.routes import Route
from alerts.message.phones import usable
from alerts.senders.table import load_table
from infra.settings import Settings
from infra.wiring import routes_of
from schemas.errors import UsageError


def check_routes(settings: Settings, to: str | None, language: str) -> Iterator[str]:
    """A line for each route; with a number, which of them a message there may take.

    Raises `SettingsError` for a table that is wrong, `UsageError` for a number that is none.
    """
    if to is not None and not usable(to):
        raise UsageError(f"--to {to} is no number: give +, country code and number")
    assert settings.routes is not None
    table = load_table(settings.routes)
    kinds = {entry.name: entry.kind for entry in table.routes}
    routes = routes_of(settings, lambda _: False)
    for number, route in enumerate(routes.all, 1):
        yield f"{number}. {_described(route, kinds[route.name])}"
    if to is not None:
        found = [route.name for route in routes.of(usable(to), language)]
        yield f"{to} in {language}: {', then '.join(found) or 'no route takes it'}"


def _described(route: Route, kind: str) -> str:
    said = [f"{route.name} ({kind})"]
    said.append(f"to {', '.join(route.prefixes)}" if route.prefixes else "to all numbers")
    if route.languages:
        said.append(f"in {', '.join(route.languages)}")
    if route.rate is not None:
        said.append(f"at most {route.rate:g} a second")
    if route.signature:
        said.append(f"signed 【{route.signature}】")
    return ", ".join(said)
