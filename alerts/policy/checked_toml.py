"""TOML files that an operator writes, checked: every fault in one line with its place.

Where in the file something stands is `pipelines.core.toml_lines`'.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.core.toml_lines import line_of
from schemas.errors import SettingsError

_Model = TypeVar("_Model", bound=BaseModel)


def read_toml(path: Path, what: str) -> str:
    """The text of a file. Raises `SettingsError`; `what` is how to call it."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"the {what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"the {what} {path} is not UTF-8: {error.reason}") from None


def parse_checked(
    text: str,
    name: str,
    model: type[_Model],
    *,
    tags: Collection[str] = (),
    unsaid: Collection[str] = (),
) -> _Model:
    """What a text describes.

    `tags` are what pydantic adds to a place and the file does not have; complaints with a tag in
    `unsaid` are left out if there are others. Raises `SettingsError` with the line and key of all
    that is wrong; `name` is how to call the file.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: {error}") from None
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        found = _complaints(error, text, name, {*tags, *unsaid}, unsaid)
        raise SettingsError("; ".join(found)) from None


def _complaints(
    error: ValidationError, text: str, name: str, tags: Collection[str], unsaid: Collection[str]
) -> list[str]:
    found: dict[tuple[int, str], str] = {}
    details = error.errors(include_url=False, include_input=False)
    said = [one for one in details if not set(unsaid).intersection(map(str, one["loc"]))]
    for detail in said or details:
        parts = [p for p in detail["loc"] if p not in tags]
        path = tuple("except" if p == "except_" else p for p in parts)
        what = {
            "extra_forbidden": "there is no such key",
            "missing": "is missing",
            "model_type": "write a table: name = value, one for each",
        }.get(detail["type"], detail["msg"].removeprefix("Value error, "))
        line, shown = line_of(text, path), _shown(path)
        found.setdefault((line, shown), f"{name}, line {line}: {shown}{': ' * bool(shown)}{what}")
    return [found[key] for key in sorted(found)]


def _shown(path: tuple[str | int, ...]) -> str:
    shown = ""
    for part in path:
        shown += f"[{part + 1}]" if isinstance(part, int) else f"{'.' * bool(shown)}{part}"
    return shown
