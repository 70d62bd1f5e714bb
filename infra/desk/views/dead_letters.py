"""*Dead letters*: what could not be used and why, one of them, and replay after a fix."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from infra.desk.page import Answer, Page, ViewRequest
from infra.desk.parts import (
    ColumnSpec,
    CustomSection,
    Facts,
    Figure,
    Figures,
    TableSection,
    column,
    columns,
)
from infra.desk.tables import ListPage, table_page
from infra.desk.translation import N_
from infra.desk.views.common import not_found

# Not the payload: it may hold numbers of persons. One letter context its own.
DEAD_LETTERS: Final = ListPage(
    "/dead-letters",
    N_("Dead letters"),
    N_("Input that could not be used and has not been fixed yet."),
    """SELECT received_at, source, position, reason, splitByChar(':', reason)[1] AS kind,
              concat('source=', encodeURLComponent(source), '&position=', toString(position)) AS one
       FROM dead_letters_open""",
    (
        column("dead_letters_open", "received_at", link="/dead-letters/one?", to="one"),
        *columns("dead_letters_open", "source", "position"),
        ColumnSpec("kind", N_("Kind"), "status"),
        column("dead_letters_open", "reason"),
    ),
    "received_at",
    choices=("kind",),
)
_ONE: Final = """
SELECT source, position, received_at, reason, payload FROM dead_letters
WHERE source = {source:String} AND position = {position:Int64}
ORDER BY received_at DESC LIMIT 1
"""


def page(request: ViewRequest) -> Answer:
    """The open dead letters; a manager may replay them."""
    found = table_page(DEAD_LETTERS, request)
    if isinstance(found, Page):
        return Page(found.title, [*found.parts, _form(request)], about=found.about)
    return found


def one(request: ViewRequest) -> Page:
    """One dead letter, with its bytes for those who may see numbers of persons."""
    position = request.query.get("position", "")
    known = position.isascii() and position.lstrip("-").isdigit() and len(position) < 19
    this = {"source": request.query.get("source", ""), "position": int(position) if known else -1}
    letter = request.row(_ONE, this)
    if letter is None:
        return not_found(N_("Dead letter"), N_("See all dead letters"), "/dead-letters")
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


def replay(request: ViewRequest) -> Answer:
    """Checks dead letters again with the current reference tables; `do` says whether to resend."""
    if request.services.replay is None:
        return page(request)
    reason, source = request.form.get("reason", "")[:200], request.form.get("source", "")[:300]
    sends = request.form.get("do") == "replay"
    found = request.services.replay(request.warehouse, reason, source, sends)
    if sends and found.resolved:
        about = f"{len(found.resolved)} of {reason or 'any reason'}, {source or 'any source'}"
        request.note("replay", about, "")
    why = Counter(text.split(":")[0] for _, text in found.refused)
    return Page(
        N_("Replay of dead letters"),
        [
            Figures([
                Figure(N_("Accepted now"), len(found.accepted), tone="good"),
                Figure(N_("Settled by reference tables"), len(found.settled)),
                Figure(N_("Still refused"), len(found.refused),
                       tone="bad" if found.refused else ""),
            ]),
            _form(request, reason, source, ready=bool(found.resolved) and not sends, done=sends),
            TableSection(N_("Why they are still refused"), (
                ColumnSpec("kind", N_("Kind"), "status"), ColumnSpec("n",
                N_("Dead letters"), "number"),
            ), [{"kind": kind, "n": n} for kind, n in why.most_common()], N_("None.")),
        ],
    )  # fmt: skip


def _form(request: ViewRequest, reason: str = "", source: str = "", **state: Any) -> CustomSection:
    context = {"reason": reason, "source": source, "ready": False, "done": False}
    return CustomSection(
        "replay.html.j2", context | {"possible": request.services.replay is not None} | state
    )
