"""A table that sorts, filters, pages and downloads; its state is the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from infra.desk.page import Answer, Asked, Page
from infra.desk.parts import Column, Part, Piece
from infra.desk.sheets import FORMATS, download

PAGE_ROWS: Final = 50
#: More rows than a person reads, fewer than would hold up the other pages.
MOST_DOWNLOADED: Final = 100_000
_LAST_PAGE: Final = 100_000
_MOST_CHOICES: Final = 200


@dataclass(frozen=True)
class Listing:
    """A table: `sql` gives its rows, `order` is its first order, `filled_by` the command.

    `choices` are columns to choose one value of; with `first`, the greatest value of the first of
    them is chosen to begin with.
    """

    path: str
    title: str
    about: str
    sql: str
    columns: tuple[Column, ...]
    order: str
    down: bool = True
    filled_by: str = "zerostock run"
    choices: tuple[str, ...] = ()
    first: bool = False


@dataclass(frozen=True)
class State:
    """What was asked of a table, put right where it makes no sense."""

    order: str
    down: bool
    text: str
    number: int
    chosen: Mapping[str, str]

    def address(self, **changed: object) -> str:
        """The query that shows the table so, with something changed."""
        now: dict[str, object] = {
            "sort": self.order,
            "dir": "desc" if self.down else "asc",
            "q": self.text,
            "page": self.number,
        }
        return "?" + urlencode({**self.chosen, **now, **changed})


def state_of(listing: Listing, query: Mapping[str, str], newest: str = "") -> State:
    """Reads the address; columns that the table has not are passed over.

    `newest` is what the first choice is where the address says nothing of it.
    """
    names = {column.name for column in listing.columns}
    order = query.get("sort", "")
    known = order in names
    page = query.get("page", "1")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1
    chosen = {name: query[name][:100] for name in listing.choices if name in query}
    if listing.first:
        chosen.setdefault(listing.choices[0], newest)
    return State(
        order if known else listing.order,
        query.get("dir") != "asc" if known else listing.down,
        query.get("q", "")[:100],
        min(max(number, 1), _LAST_PAGE),
        chosen,
    )


def table_page(listing: Listing, asked: Asked) -> Answer:
    """The table as its address wants it: a page of it, or a file."""
    choices = {name: _choices(listing, name, asked) for name in listing.choices}
    newest = max(choices[listing.choices[0]], default="") if listing.first else ""
    state = state_of(listing, asked.query, newest)
    shown, parameters = _rows(listing, state)
    direction = "DESC" if state.down else "ASC"
    ordered = f"{shown} ORDER BY {state.order} {direction} NULLS LAST"
    if asked.query.get("format") in FORMATS:
        rows = asked.warehouse.query(f"{ordered} LIMIT {MOST_DOWNLOADED}", parameters)
        name = listing.path.strip("/").replace("/", "-")
        return download(name, asked.query["format"], rows, listing.columns, asked.visitor)
    found = asked.rows(f"SELECT toInt64(count()) AS n FROM ({shown})", parameters)[0]["n"]
    start = (state.number - 1) * PAGE_ROWS
    return Page(
        listing.title,
        [
            _part(listing, state, choices),
            Piece(
                "listing.html.j2",
                {
                    "listing": listing,
                    # What was chosen is the same in every row.
                    "columns": [one for one in listing.columns if not state.chosen.get(one.name)],
                    "state": state,
                    "rows": asked.rows(f"{ordered} LIMIT {PAGE_ROWS} OFFSET {start}", parameters),
                    "found": found,
                    "pages": max(1, -(-found // PAGE_ROWS)),
                    "start": start,
                },
            ),
        ],
        about=listing.about,
    )


def _part(listing: Listing, state: State, choices: Mapping[str, list[str]]) -> Part:
    headings = {column.name: column.heading for column in listing.columns}
    asked_for = [(name, headings[name], values) for name, values in choices.items()]
    return Piece("filter.html.j2", {"state": state, "choices": asked_for, "formats": FORMATS})


def _choices(listing: Listing, name: str, asked: Asked) -> list[str]:
    sql = f"SELECT DISTINCT toString({name}) AS value FROM ({listing.sql}) ORDER BY value"
    return [row["value"] for row in asked.rows(f"{sql} LIMIT {_MOST_CHOICES}") if row["value"]]


def _rows(listing: Listing, state: State) -> tuple[str, dict[str, object]]:
    """The statement for all rows that fit, and its parameters."""
    names = ", ".join(
        dict.fromkeys(
            name for column in listing.columns for name in (column.name, column.to) if name
        )
    )
    fits: list[str] = []
    parameters: dict[str, object] = {}
    for place, (name, value) in enumerate(state.chosen.items()):
        if value:
            fits.append(f"toString({name}) = {{c{place}:String}}")
            parameters[f"c{place}"] = value
    if state.text:
        # Not numbers that name a person: what is masked must not be found by trying.
        texts = ", ' ', ".join(
            f"ifNull(toString({column.name}), '')"
            for column in listing.columns
            if column.kind != "secret"
        )
        fits.append(f"positionCaseInsensitiveUTF8(concat({texts}, ''), {{q:String}}) > 0")
        parameters["q"] = state.text
    where = f" WHERE {' AND '.join(fits)}" if fits else ""
    return f"SELECT {names} FROM (SELECT {names} FROM ({listing.sql})){where}", parameters
