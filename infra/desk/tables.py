"""A table that sorts, filters, pages and downloads; its state is the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from infra.desk.formats import NUMBER_OF_A_PERSON
from infra.desk.freshness import JobRun, of_job, of_stream
from infra.desk.page import Answer, Freshness, Page, ViewRequest
from infra.desk.parts import ColumnSpec, CustomSection, Part
from infra.desk.sheets import FORMATS, download

PAGE_ROWS: Final = 50
#: More rows than a person reads, fewer than would hold up the other pages.
MOST_DOWNLOADED: Final = 100_000
_LAST_PAGE: Final = 100_000
_MOST_CHOICES: Final = 500


@dataclass(frozen=True)
class ListPage:
    """A table: `sql` gives its rows, `order` is its first order, `filled_by` the command.

    `choices` are columns to choose one value of; with `first`, the greatest value of the first of
    them is chosen to begin with. `job` computes it for its `period` or `as_of`; without one it is
    the stream's.
    """

    path: str
    title: str
    about: str
    sql: str
    columns: tuple[ColumnSpec, ...]
    order: str
    down: bool = True
    filled_by: str = "zerostock run"
    choices: tuple[str, ...] = ()
    first: bool = False
    job: JobRun | None = None


@dataclass(frozen=True)
class State:
    """What was request of a table, put right where it makes no sense."""

    order: str
    down: bool
    text: str
    number: int
    chosen: Mapping[str, str]

    def address(self, **changed: object) -> str:
        """The query that context the table so, with something changed."""
        now: dict[str, object] = {
            "sort": self.order,
            "dir": "desc" if self.down else "asc",
            "q": self.text,
            "page": self.number,
        }
        return "?" + urlencode({**self.chosen, **now, **changed})


def state_of(listing: ListPage, query: Mapping[str, str], newest: str = "") -> State:
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


def table_page(listing: ListPage, request: ViewRequest) -> Answer:
    """The table as its address wants it: a page of it, or a file."""
    choices = _choices(listing, request)
    newest = max(choices[listing.choices[0]], default="") if listing.first else ""
    state = state_of(listing, request.query, newest)
    shown, parameters = _rows(listing, state, request.visitor.may("see_numbers"))
    direction = "DESC" if state.down else "ASC"
    # Equals are in order as well: else a row might stand on two pages, and another on none.
    ordered = f"{shown} ORDER BY {state.order} {direction} NULLS LAST, {_names(listing)}"
    if request.query.get("format") in FORMATS:
        rows = request.table(f"{ordered} LIMIT {MOST_DOWNLOADED}", parameters)
        name = listing.path.strip("/").replace("/", "-")
        return download(name, request.query["format"], rows, listing.columns, request)
    found = request.rows(f"SELECT toInt64(count()) AS n FROM ({shown})", parameters)[0]["n"]
    start = (state.number - 1) * PAGE_ROWS
    return Page(
        listing.title,
        [
            _part(listing, state, choices, found),
            CustomSection(
                "listing.html.j2",
                {
                    "listing": listing,
                    # What was chosen is the same in every row.
                    "columns": [one for one in listing.columns if not state.chosen.get(one.name)],
                    "state": state,
                    "rows": request.rows(f"{ordered} LIMIT {PAGE_ROWS} OFFSET {start}", parameters),
                    "found": found,
                    "pages": max(1, -(-found // PAGE_ROWS)),
                    "start": start,
                },
            ),
        ],
        about=listing.about,
        freshness=_freshness(listing, request, state),
    )


def _freshness(listing: ListPage, request: ViewRequest, state: State) -> Freshness:
    if listing.job is None:
        return of_stream(request)
    period = state.chosen.get("period") or state.chosen.get("as_of") or ""
    return of_job(request, listing.job, period)


def _part(listing: ListPage, state: State, choices: Mapping[str, list[str]], found: int) -> Part:
    headings = {column.name: column.heading for column in listing.columns}
    asked_for = [
        # One that no row has stands among them: nothing fits, and this is why.
        (name, headings[name], sorted({*values, state.chosen.get(name, "")} - {""}))
        for name, values in choices.items()
    ]
    return CustomSection(
        "filter.html.j2",
        {
            "state": state,
            "choices": asked_for,
            "most_choices": _MOST_CHOICES,
            "cut_at": MOST_DOWNLOADED if found > MOST_DOWNLOADED else 0,
        },
    )


def _choices(listing: ListPage, request: ViewRequest) -> dict[str, list[str]]:
    """What each can be, in order; all from one look at the rows."""
    if not listing.choices:
        return {}
    each = (
        f"groupUniqArray({_MOST_CHOICES})(toString({name})) AS {name}" for name in listing.choices
    )
    rows = f"SELECT {', '.join(listing.choices)} FROM ({listing.sql})"
    [found] = request.rows(f"SELECT {', '.join(each)} FROM ({rows})")
    return {name: sorted(filter(None, found[name])) for name in listing.choices}


def _rows(listing: ListPage, state: State, all_numbers: bool) -> tuple[str, dict[str, object]]:
    """The statement for all rows that fit, and its parameters.

    Without `all_numbers` those that name a person are not looked for: what is masked must not be
    found by trying.
    """
    fits, parameters = list[str](), dict[str, object]()
    for place, (name, value) in enumerate(state.chosen.items()):
        if value:
            fits.append(f"toString({name}) = {{c{place}:String}}")
            parameters[f"c{place}"] = value
    if state.text:
        texts = [_found_in(column, all_numbers) for column in listing.columns]
        whole = f"concat({', '.join(filter(None, texts))}, '')"
        fits.append(f"positionCaseInsensitiveUTF8({whole}, {{q:String}}) > 0")
        parameters["q"] = state.text
    names = _names(listing)
    rows = f"SELECT {names} FROM ({listing.sql})"
    where = f" WHERE {' AND '.join(fits)}" if fits else ""
    return f"SELECT {names} FROM ({rows}){where}", parameters


def _names(listing: ListPage) -> str:
    columns = (name for column in listing.columns for name in (column.name, column.to))
    return ", ".join(dict.fromkeys(filter(None, columns)))


def _found_in(column: ColumnSpec, all_numbers: bool) -> str:
    """What of a column is looked through for a text, and what parts it from the next."""
    text = f"ifNull(toString({column.name}), '')"
    if column.kind == "secret" and not all_numbers:
        return ""
    if column.kind == "long" and not all_numbers:
        text = f"replaceRegexpAll({text}, '{NUMBER_OF_A_PERSON}', '…')"
    return f"{text}, ' '"
