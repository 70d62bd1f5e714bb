"""A table that sorts, filters, pages and downloads; its state is the page's address."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import pyarrow.csv

from infra.desk.page import Asked, Page

PAGE_ROWS: Final = 50
#: More rows than a person reads, fewer than would hold up the other pages.
MOST_DOWNLOADED: Final = 100_000
_LAST_PAGE: Final = 100_000


@dataclass(frozen=True)
class Column:
    """A column of the query and its heading; `number` ones stand to the right."""

    name: str
    heading: str
    number: bool = False
    link: str = ""


@dataclass(frozen=True)
class Listing:
    """A table: `sql` gives its rows, `order` is its first order, `filled_by` the command."""

    path: str
    title: str
    about: str
    sql: str
    columns: tuple[Column, ...]
    order: str
    down: bool = True
    filled_by: str = "zerostock run"


@dataclass(frozen=True)
class State:
    """What was asked of a table, put right where it makes no sense."""

    order: str
    down: bool
    text: str
    number: int

    def address(self, **changed: object) -> str:
        """The query that shows the table so, with something changed."""
        now: dict[str, object] = {
            "sort": self.order,
            "dir": "desc" if self.down else "asc",
            "q": self.text,
            "page": self.number,
        }
        return "?" + urlencode(now | changed)


def state_of(listing: Listing, query: Mapping[str, str]) -> State:
    """Reads the address; columns that the table has not are passed over."""
    names = {column.name for column in listing.columns}
    order = query.get("sort", "")
    known = order in names
    page = query.get("page", "1")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1
    return State(
        order if known else listing.order,
        query.get("dir") != "asc" if known else listing.down,
        query.get("q", "")[:100],
        min(max(number, 1), _LAST_PAGE),
    )


def table_page(listing: Listing, asked: Asked) -> Page:
    """The table as its address wants it: a page of it, or as CSV."""
    state = state_of(listing, asked.query)
    names = ", ".join(column.name for column in listing.columns)
    texts = ", ' ', ".join(f"toString({column.name})" for column in listing.columns)
    shown = f"SELECT {names} FROM ({listing.sql})"
    parameters: dict[str, object] = {}
    if state.text:
        shown = (
            f"SELECT {names} FROM ({shown}) WHERE "
            f"positionCaseInsensitiveUTF8(concat({texts}), {{q:String}}) > 0"
        )
        parameters["q"] = state.text
    direction = "DESC" if state.down else "ASC"
    ordered = f"{shown} ORDER BY {state.order} {direction} NULLS LAST"
    if asked.query.get("format") == "csv":
        rows = asked.warehouse.query(f"{ordered} LIMIT {MOST_DOWNLOADED}", parameters)
        written = io.BytesIO()
        pyarrow.csv.write_csv(rows, written)
        return Page("", csv=written.getvalue())
    found = asked.rows(f"SELECT count() AS n FROM ({shown})", parameters)[0]["n"]
    start = (state.number - 1) * PAGE_ROWS
    rows_shown = asked.rows(f"{ordered} LIMIT {PAGE_ROWS} OFFSET {start}", parameters)
    return Page(
        "table.html.j2",
        {
            "title": listing.title,
            "listing": listing,
            "state": state,
            "rows": rows_shown,
            "found": found,
            "pages": max(1, -(-found // PAGE_ROWS)),
        },
    )
