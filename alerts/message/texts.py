"""The wording of messages: a template for each kind and language, an operator's before our own.

A folder that a setting names has files `KIND.LANGUAGE.j2`: one replaces the text of that kind and
language, all kinds of a language that is not here add it. What the placeholders are filled with is
`alerts.message.compose`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    meta,
)
from jinja2.sandbox import SandboxedEnvironment

from alerts.message.segments import segments
from schemas.errors import SettingsError

#: Languages of our own; the first is for everybody whose language is not here.
LANGUAGES: Final = ("en", "zh")

KINDS: Final = ("stock_out", "digest", "reminder", "escalation", "resolved", "soon_empty")

#: What a template may name.
PLACEHOLDERS: Final = ("time", "now", "needs", "asks", "sku", "stops", "more")

#: Segments that a text about one shop may take.
_MOST_SEGMENTS: Final = 2

_OURS: Final = Path(__file__).parent / "templates"
_NAME: Final = re.compile(r"(\w+)\.([a-z]{2,3})\.j2")


class Stop(NamedTuple):
    """A territory and what to visit there."""

    territory: str
    outlets: list[str]


#: What a text is tried with: one shop with all there is to say, and three with as little.
SAMPLES: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "time": "10:12",
        "now": "12:15",
        "needs": True,
        "asks": True,
        "sku": "4G-50",
        "stops": [Stop("Xihu", ["Lake Shop (110)"])],
        "more": 0,
    },
    {
        "time": "03-02 21:40",
        "now": "",
        "needs": False,
        "asks": False,
        "sku": "",
        "stops": [Stop("", ["Canal Mobile", "Corner Store"]), Stop("Xihu", ["Lake Shop"])],
        "more": 7,
    },
)


class Texts:
    """All texts there are. Raises `SettingsError` that names the file, the line and the fault."""

    def __init__(self, folder: Path | None = None, *, signature: str = "") -> None:
        self._environment = _environment([folder, _OURS] if folder is not None else [_OURS])
        self.languages: tuple[str, ...] = LANGUAGES
        if folder is not None:
            if not folder.is_dir():
                raise SettingsError(f"the texts {folder} are no folder")
            self.languages += self._checked(folder, signature)

    def spoken(self, language: str) -> str:
        """The language of the texts for a reader of `language` (zh, zh-CN, en, …)."""
        spoken = re.split("[-_]", language.strip().lower(), maxsplit=1)[0]
        return spoken if spoken in self.languages else LANGUAGES[0]

    def render(self, kind: str, language: str, values: Mapping[str, Any]) -> str:
        """The text of a kind in one of the languages."""
        return self._environment.get_template(f"{kind}.{language}.j2").render(values).strip()

    def _checked(self, folder: Path, signature: str) -> tuple[str, ...]:
        """The languages that a folder adds."""
        found: dict[str, set[str]] = {}
        for path in sorted(folder.glob("*.j2")):
            name = _NAME.fullmatch(path.name)
            if name is None or name[1] not in KINDS:
                raise SettingsError(
                    f"{path} is no text: name it KIND.LANGUAGE.j2, with one of {', '.join(KINDS)}"
                )
            self._check(path, name[1], name[2], signature)
            found.setdefault(name[2], set()).add(name[1])
        added = sorted(set(found).difference(LANGUAGES))
        for language in added:
            if missing := [kind for kind in KINDS if kind not in found[language]]:
                raise SettingsError(
                    f"{folder} lacks {', '.join(f'{kind}.{language}.j2' for kind in missing)}"
                )
        return tuple(added)

    def _check(self, path: Path, kind: str, language: str, signature: str) -> None:
        try:
            source = path.read_text(encoding="utf-8")
            named = meta.find_undeclared_variables(self._environment.parse(source))
            if unknown := sorted(named.difference(PLACEHOLDERS)):
                line = next(n for n, text in enumerate(source.split("\n"), 1) if unknown[0] in text)
                raise SettingsError(
                    f"{path}, line {line}: {unknown[0]!r} is no placeholder; there are "
                    f"{', '.join(PLACEHOLDERS)}"
                )
            texts = [self.render(kind, language, sample) for sample in SAMPLES]
        except TemplateSyntaxError as error:
            raise SettingsError(f"{path}, line {error.lineno}: {error.message}") from None
        except (TemplateError, TypeError, ValueError) as error:
            raise SettingsError(f"{path}: {error}") from None
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
        signed = f"【{signature}】" if signature else ""
        if not all(texts):
            raise SettingsError(f"{path} says nothing")
        if (count := segments(signed + texts[0])) > _MOST_SEGMENTS:
            raise SettingsError(
                f"{path}: {count} segments about one shop, more than {_MOST_SEGMENTS}: shorten it"
            )


def _environment(folders: list[Path]) -> Environment:
    # Names are made fit for an SMS before they come here; there is no HTML to escape.
    return SandboxedEnvironment(
        loader=FileSystemLoader(folders), undefined=StrictUndefined, trim_blocks=True
    )


#: The texts that are used where no others are given.
OUR_TEXTS: Final = Texts()
