"""What each table means: its grain, its columns, and questions it answers.

One TOML file a table in infra/clickhouse/meanings. A key of `[columns]` names one column, or
several with commas that one sentence explains. `[labels]` has the heading of a column on the desk
and how its values are written (`infra.desk.parts.Kind`).
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from schemas.errors import InputError

#: The order of the page.
SECTIONS: Final = (
    "Stock",
    "Messages",
    "Channel",
    "Subscribers",
    "Service",
    "Energy",
    "Bills",
    "What was refused",
    "Runs",
    "Reference",
)


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a column means; `unit` is '' for text, times, rates and plain counts."""

    meaning: str
    unit: str = ""


class Worked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question, and the SQL that answers it."""

    question: str
    sql: str


class TableMeaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a table holds one row of, in words."""

    section: str
    grain: str
    columns: dict[str, str | Meaning]
    about: str = ""
    labels: dict[str, tuple[str, str]] = {}
    queries: list[Worked] = []

    def explained(self) -> dict[str, Meaning]:
        """The meaning of each column or group of columns, in the page's order."""
        return {
            names: what if isinstance(what, Meaning) else Meaning(what)
            for names, what in self.columns.items()
        }

    def definition(self, column: str) -> str:
        """What a column means, for people who see a dash where there is nothing (NULL)."""
        for names, what in self.explained().items():
            if column in (name.strip() for name in names.split(",")):
                return what.meaning.partition("; NULL")[0].replace("`", "")
        return ""

    def names(self) -> list[str]:
        """The columns by themselves."""
        return [name.strip() for names in self.columns for name in names.split(",")]


@cache
def tables() -> dict[str, TableMeaning]:
    """All tables by name, in the order of the page. Raises `InputError` for a file gone wrong."""
    found: dict[str, TableMeaning] = {}
    folder = files("infra").joinpath("clickhouse", "meanings")
    for file in folder.iterdir():
        if not file.name.endswith(".toml"):
            continue
        try:
            text = tomllib.loads(file.read_text(encoding="utf-8"))
            table = msgspec.convert(text, TableMeaning)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise InputError(f"infra/clickhouse/meanings/{file.name}: {error}") from None
        if table.section not in SECTIONS:
            raise InputError(
                f"infra/clickhouse/meanings/{file.name}: section {table.section!r} is none of "
                + ", ".join(SECTIONS)
            )
        found[file.name.removesuffix(".toml")] = table
    return dict(sorted(found.items(), key=lambda item: (SECTIONS.index(item[1].section), item[0])))


def introduction() -> str:
    """What stands before the tables."""
    file = files("infra").joinpath("clickhouse", "meanings", "intro.txt")
    return file.read_text(encoding="utf-8").strip()
