"""What a view is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pyarrow as pa

from infra.dead_letters.replay import Recheck
from infra.desk.parts import Chart, Pair, Part, Row
from infra.desk.visitor import ANONYMOUS, Visitor
from pipelines.warehouse.port import Warehouse

#: Puts open letters whose reason and source begin so to the checks; sends them on if told to.
Replay = Callable[[Warehouse, str, str, bool], Recheck]


@dataclass(frozen=True)
class Services:
    """What the desk can do beside asking the warehouse.

    `zone` cuts the business days. `note` keeps who did what to what, why, and from which address.
    `replay` is None without an input directory. `data` is the data directory, for commands that a
    page proposes; `now` is the clock.
    """

    zone: str = "Asia/Shanghai"
    note: Callable[[Visitor, str, str, str, str], None] = lambda visitor, action, about, why, at: (
        None
    )
    replay: Replay | None = None
    data: str = "DATA"
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True)
class ViewRequest:
    """One request: the parts of its path, its query, who asks, and the warehouse to ask.

    `form` is what was sent with an action, from the network address `address`; `language` is
    the visitor's.
    """

    warehouse: Warehouse
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    visitor: Visitor = ANONYMOUS
    form: Mapping[str, str] = field(default_factory=dict)
    services: Services = Services()
    address: str = ""
    language: str = "en"

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """The rows of a reading statement, each by column name; `{zone:String}` is the desk's."""
        rows: list[Row] = self.table(sql, parameters).to_pylist()
        return rows

    def table(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The same in columns."""
        return self.warehouse.query(sql, {"zone": self.services.zone, **(parameters or {})})

    def row(self, sql: str, parameters: Mapping[str, object] | None = None) -> Row | None:
        """The first row, if there is one."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def note(self, action: str, about: str, why: str) -> None:
        """Keep in the trail what the visitor did."""
        self.services.note(self.visitor, action, about, why, self.address)


@dataclass(frozen=True)
class Freshness:
    """Until when the data of a view reach, when it was computed, and for which days.

    `warning` says that the figures are out of date or incomplete; `values` fill its {}.
    """

    until: datetime | None = None
    computed_at: datetime | None = None
    span: tuple[date, date] | None = None
    warning: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A heading, what stands under it, and the parts; `about` explains the view in a sentence.

    `name` is a thing's own name and is not translated; `title` is what the view is called. What
    is `above` stays as it is where the parts renew themselves.
    """

    title: str
    parts: Sequence[Part] = ()
    name: str = ""
    about: str = ""
    status: int = 200
    above: Sequence[Part] = ()
    freshness: Freshness | None = None

    @property
    def drawn(self) -> bool:
        """Whether there is a chart on it."""
        flat = (
            one for part in self.parts for one in (part.parts if isinstance(part, Pair) else [part])
        )
        return any(isinstance(one, Chart) for one in flat)


@dataclass(frozen=True)
class Download:
    """A file to keep."""

    name: str
    content: bytes
    media: str


@dataclass(frozen=True)
class Redirect:
    """Look there instead; after an action, that is what it changed."""

    address: str


Answer = Page | Download | Redirect


@dataclass(frozen=True)
class View:
    """A page and where it is; without a title it does not stand in the menu.

    `act` answers a form sent to it, by visitors who may do `action`. A page that renews itself has
    `live`: it asks the warehouse once for all who watch, and gives what makes the page of a query.
    """

    path: str
    title: str
    page: Callable[[ViewRequest], Answer]
    act: Callable[[ViewRequest], Answer] | None = None
    action: str = "look"
    live: Callable[[ViewRequest], Callable[[Mapping[str, str]], Page]] | None = None


@dataclass(frozen=True)
class MenuEntry:
    """A page that is served beside the views, as it stands in the menu."""

    path: str
    title: str
    action: str


@dataclass(frozen=True)
class MenuGroup:
    """What stands together in the menu."""

    title: str
    views: Sequence[View | MenuEntry]
