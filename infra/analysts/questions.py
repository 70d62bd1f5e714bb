"""Questions that people ask again and again, saved as SQL with parameters.

A file of infra/clickhouse/questions begins with comments: the question, `who: …` asks it, and
`param NAME = DEFAULT: meaning` for each `{NAME:Type}` of the statement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from pipelines.warehouse.sql.parameters import bind
from schemas.errors import UsageError

_PARAM: Final = re.compile(r"param (\w+) = (.*?): (.*)")
_DAY: Final = r"\d{4}-(0[1-9]|1[0-2])-\d\d"
_SHAPES: Final = {
    "period": (rf"{_DAY}|{_DAY[:-5]}", "a month like 2026-03, or a day like 2026-03-31"),
    "as_of": (_DAY, "a day like 2026-03-31"),
}
_PLACE: Final = re.compile(r"\{(\w+):(\w+)")


@dataclass(frozen=True)
class Param:
    """A value to fill in."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class SavedQuestion:
    """A saved question; `who` is the kind of person that asks it, `job` what works it out."""

    name: str
    question: str
    who: str
    params: tuple[Param, ...]
    sql: str
    job: str = ""

    def statement(self, given: Mapping[str, str]) -> str:
        """The SQL with its parameters filled in, defaults where none is given.

        Raises `UsageError` for a parameter it does not have, and for one that is no number, month
        or day where one belongs.
        """
        unknown = sorted(given.keys() - {param.name for param in self.params})
        if unknown:
            known = ", ".join(param.name for param in self.params) or "none"
            raise UsageError(f"{self.name} has no parameter {unknown[0]!r}; it has: {known}")
        text = {param.name: param.default for param in self.params} | dict(given)
        for name, (shape, wanted) in _SHAPES.items():
            if text.get(name) and not re.fullmatch(shape, text[name]):
                raise UsageError(f"{name} must be {wanted}, not {text[name]!r}")
        values: dict[str, object] = {}
        for name, kind in _PLACE.findall(self.sql):
            try:
                values[name] = int(text[name]) if "Int" in kind else text[name]
            except ValueError:
                raise UsageError(f"{name} must be a whole number, not {text[name]!r}") from None
        return bind(self.sql, values)


def questions() -> dict[str, SavedQuestion]:
    """All saved questions by name, in the order of their files."""
    folder = files("infra").joinpath("clickhouse", "questions")
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    read = [_read(f.name, f.read_text(encoding="utf-8")) for f in found]
    return {question.name: question for question in read}


def question(name: str) -> SavedQuestion:
    """One of them. Raises `UsageError` with those there are."""
    saved = questions()
    if name not in saved:
        raise UsageError(f"no question is saved as {name!r}; there are: {', '.join(saved)}")
    return saved[name]


def _read(file: str, text: str) -> SavedQuestion:
    lines = text.splitlines()
    head = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
    sql = "\n".join(line for line in lines if not line.startswith("--")).strip()
    params = [Param(*match.groups()) for line in head if (match := _PARAM.fullmatch(line))]
    who = next((line.removeprefix("who: ") for line in head if line.startswith("who: ")), "")
    job = next((line.removeprefix("job: ") for line in head if line.startswith("job: ")), "")
    asked = " ".join(line for line in head if not line.startswith(("who: ", "param ", "job: ")))
    return SavedQuestion(file[3:].removesuffix(".sql"), asked, who, tuple(params), sql, job)
