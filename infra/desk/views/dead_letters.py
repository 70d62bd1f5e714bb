"""*Dead letters*: what could not be used and why, one of them, and replaying them after a fix."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from infra.desk.page import Answer, Page, ViewRequest
from infra.desk.parts import ColumnSpec, CustomSection, Facts, Figure, Figures, TableSection
from infra.desk.tables import Listing, table_page
from infra.desk.translation import N_
from infra.desk.views.not_found import missing

# Not the payload: it may hold numbers of persons. One letter shows its own.
LETTERS: Final = Listing(
    "/dead-letters",
    N_("Dead letters"),
    N_("Input that could not be used and that nobody has put right yet."),
    """SELECT received_at, source, position, reason, splitByChar(':', reason)[1] AS kind,
              concat('source=', encodeURLComponent(source), '&position=', toString(position)) AS one
       FROM dead_letters_open""",
    (
        ColumnSpec("received_at", N_("Received"), "time", link="/dead-letters/one?", to="one"),
        ColumnSpec("source", N_("Source")),
        ColumnSpec("position", N_("Line"), "number"),
        ColumnSpec("kind", N_("Kind"), "word"),
        ColumnSpec("reason", N_("Reason"), "long"),
    ),
    "received_at",
    choices=("kind",),
)
_ONE: Final = """
SELECT source, position, received_at, reason, payload FROM dead_letters
WHERE source = {source:String} AND position = {position:Int64}
"""


def page(asked: ViewRequest) -> Answer:
    """The letters that wait; a manager may replay them."""
    found = table_page(LETTERS, asked)
    if isinstance(found, Page):
        return Page(found.title, [*found.parts, _form(asked)], about=found.about)
    return found


def one(asked: ViewRequest) -> Page:
    """One letter, with its bytes for those who may see numbers of persons."""
    position = asked.query.get("position", "")
    known = position.isascii() and position.lstrip("-").isdigit() and len(position) < 19
    this = {"source": asked.query.get("source", ""), "position": int(position) if known else -1}
    letter = asked.row(_ONE, this)
    if letter is None:
        return missing(N_("Dead letter"), N_("See all dead letters"), "/dead-letters")
    raw = letter["payload"]
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
    return Page(
        N_("Dead letter"),
        [
            Facts([
                Figure(N_("Source"), letter["source"], "text"),
                Figure(N_("Line"), letter["position"]),
                Figure(N_("Received"), letter["received_at"], "time"),
                Figure(N_("Reason"), letter["reason"], "long"),
            ]),
            CustomSection("payload.html.j2", {"text": text}),
        ],
    )  # fmt: skip


def replay(asked: ViewRequest) -> Answer:
    """Letters are put to the checks as they are now; `do` says whether they are sent on as well."""
    if asked.means.replay is None:
        return page(asked)
    reason, source = asked.form.get("reason", "")[:200], asked.form.get("source", "")[:300]
    sends = asked.form.get("do") == "replay"
    found = asked.means.replay(asked.warehouse, reason, source, sends)
    if sends and found.resolved:
        about = f"{len(found.resolved)} of {reason or 'any reason'}, {source or 'any source'}"
        asked.note("replay", about, "")
    why = Counter(text.split(":")[0] for _, text in found.refused)
    return Page(
        N_("Replay of dead letters"),
        [
            Figures([
                Figure(N_("Accepted now"), len(found.accepted), tone="good"),
                Figure(N_("Settled by reference tables"), len(found.settled)),
                Figure(N_("Refused still"), len(found.refused),
                       tone="bad" if found.refused else ""),
            ]),
            _form(asked, reason, source, ready=bool(found.resolved) and not sends, done=sends),
            TableSection(N_("Why they are refused still"), (
                ColumnSpec("kind", N_("Kind"), "word"), ColumnSpec("n", N_("Letters"), "number"),
            ), [{"kind": kind, "n": n} for kind, n in why.most_common()], N_("None is.")),
        ],
    )  # fmt: skip


def _form(asked: ViewRequest, reason: str = "", source: str = "", **state: Any) -> CustomSection:
    shows = {"reason": reason, "source": source, "ready": False, "done": False}
    return CustomSection(
        "replay.html.j2", shows | {"possible": asked.means.replay is not None} | state
    )
