"""What pages are made of: figures, tables, charts, messages. How they look is in the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

from infra.analysts.meanings import tables

Row = Mapping[str, Any]

#: How a value is written. `status` and `name` are one of a few values and are translated; a status
#: says whether all is well. `number` is a count; `share` 0 to 1, as per cent; `fen` money, as yuan;
#: `time` is to the minute; `secret` a number that names a person; `long` a text that runs on and
#: may quote such a number; `reasons` what a job said of a row, and is translated.
Kind = Literal[
    "text",
    "status",
    "name",
    "number",
    "decimal",
    "share",
    "fen",
    "kwh",
    "time",
    "second",
    "day",
    "secret",
    "long",
    "reasons",
]
Shape = Literal["bar", "stack", "line"]
NUMBERS = frozenset({"number", "decimal", "share", "fen", "kwh"})


@dataclass(frozen=True)
class ColumnSpec:
    """A column of rows and its heading.

    With `link`, a cell leads to `link` followed by the cell, or by the row's column `to`, and by
    the column `carry`, which the page it leads to chooses by. `bar` names a column of 0 to 1 that
    is drawn as a bar beside the number. `about` defines it.
    """

    name: str
    heading: str
    kind: Kind = "text"
    link: str = ""
    to: str = ""
    carry: str = ""
    bar: str = ""
    about: str = ""

    @property
    def number(self) -> bool:
        """Whether it stands to the right."""
        return self.kind in NUMBERS


def column(
    table: str, name: str, *, link: str = "", to: str = "", carry: str = "", bar: str = ""
) -> ColumnSpec:
    """A column of a table: its heading, kind and definition are in infra/clickhouse/meanings."""
    known = tables()[table]
    heading, kind = known.labels[name]
    about = known.definition(name) if kind in NUMBERS else ""
    return ColumnSpec(name, heading, cast(Kind, kind), link, to, carry, bar, about)


def columns(table: str, *these: str | ColumnSpec) -> tuple[ColumnSpec, ...]:
    """Columns of a table by name, others as they are."""
    return tuple(one if isinstance(one, ColumnSpec) else column(table, one) for one in these)


@dataclass(frozen=True)
class Figure:
    """One number that people look at first; `tone` is "bad" where somebody should do something.

    `about` defines it; `per_100` is a rate that stands beside the count, and what it is of.
    """

    label: str
    value: object
    kind: Kind = "number"
    tone: Literal["", "bad", "good"] = ""
    link: str = ""
    about: str = ""
    per_100: tuple[float, str] | None = None


def figure(
    table: str,
    name: str,
    value: object,
    *,
    tone: Literal["", "bad", "good"] = "",
    link: str = "",
) -> Figure:
    """A figure that is a column of a table: heading, kind and definition are the column's."""
    one = column(table, name)
    return Figure(one.heading, value, one.kind, tone, link, one.about)


@dataclass(frozen=True)
class Figures:
    """Some figures side by side."""

    template: ClassVar[str] = "figures.html.j2"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Facts:
    """What something is, line by line: label, value, kind."""

    template: ClassVar[str] = "facts.html.j2"
    facts: Sequence[Figure]


@dataclass(frozen=True)
class TableSection:
    """Some rows under a heading; `empty` is said where there are none, `note` under them.

    With a `limit` no more than that many rows are shown, and that there are more is said.
    """

    template: ClassVar[str] = "rows.html.j2"
    title: str
    columns: Sequence[ColumnSpec]
    rows: Sequence[Row]
    empty: str
    note: str = ""
    more: str = ""
    limit: int = 0


@dataclass(frozen=True)
class Chart:
    """Rows as a picture, the rows themselves beneath: `columns[0]` names each, others are drawn.

    A `line` joins points, `bar` and `stack` stand side by side and one on the other. Colours tell
    series apart, or go from young to old.
    """

    template: ClassVar[str] = "chart.html.j2"
    title: str
    shape: Shape
    columns: Sequence[ColumnSpec]
    rows: Sequence[Row]
    empty: str
    scale: Literal["series", "age"] = "series"


@dataclass(frozen=True)
class MessageList:
    """Texts that were sent: at, status, body, and the wholesaler where it is not said above."""

    template: ClassVar[str] = "messages.html.j2"
    title: str
    rows: Sequence[Row]
    empty: str


@dataclass(frozen=True)
class CustomSection:
    """Something of one page only, with a template of its own."""

    template: str
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two parts, side by side where there is room."""

    template: ClassVar[str] = "pair.html.j2"
    parts: tuple[Part, Part]


Part = Figures | Facts | TableSection | Chart | MessageList | CustomSection | Pair
