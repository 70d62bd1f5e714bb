"""What a view is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.desk.reading import Asks

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request: the parts of its path, its query, and the warehouse to ask."""

    warehouse: Asks
    path: Mapping[str, str]
    query: Mapping[str, str]

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """The rows of a reading statement, each by column name."""
        rows: list[Row] = self.warehouse.query(sql, parameters).to_pylist()
        return rows


@dataclass(frozen=True)
class Page:
    """A template and what it shows; or, with `csv`, a file to download."""

    template: str
    shows: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    csv: bytes | None = None


@dataclass(frozen=True)
class View:
    """A page and where it is; without a title it does not stand in the menu."""

    path: str
    title: str
    page: Callable[[Asked], Page]
