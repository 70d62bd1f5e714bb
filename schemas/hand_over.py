"""A wholesaler leaves: who serves his outlets from then on. Pure.

An entry takes effect at its time and can be undone at another. It becomes assignments like any
others, so all that asks who holds an outlet at a time knows of it, and what was before stays as it
was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict

from schemas.fields import EmptyIsNone, Identifier, Time


class HandOver(BaseModel):
    """From `valid_from` on, outlets of one wholesaler are another's; without a territory, all.

    `undone_at` gives them back, those that were not handed on meanwhile. Times in ms.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    hand_over_id: Identifier
    wholesaler_id: Identifier
    successor_id: Identifier
    territory_id: Annotated[Identifier | None, EmptyIsNone] = None
    valid_from: Time
    undone_at: Annotated[Time | None, EmptyIsNone] = None


class Holding(NamedTuple):
    """From `valid_from` (ms) on, a wholesaler holds an outlet."""

    outlet_id: str
    wholesaler_id: str
    valid_from: int


class Takeover(NamedTuple):
    """An outlet that changed hands, for as long as that held (ms, None: still)."""

    hand_over_id: str
    outlet_id: str
    wholesaler_id: str
    valid_from: int
    until: int | None


def take_over(
    holdings: Iterable[Holding],
    hand_overs: Sequence[HandOver],
    territories: Callable[[str], Sequence[str]],
) -> tuple[list[Holding], list[Takeover]]:
    """What hand_overs add to the holdings, and which outlets changed hands by each.

    `territories` gives an outlet's territory and those it is part of, the smallest first: of two
    entries of one moment that fit an outlet, the one for the smaller territory holds.
    """
    history: dict[str, list[Holding]] = {}
    for holding in sorted(holdings, key=lambda h: h.valid_from):
        history.setdefault(holding.outlet_id, []).append(holding)
    added: list[Holding] = []
    taken: dict[tuple[str, str], Takeover] = {}

    def holder(outlet_id: str, at: int) -> str:
        held = [h for h in history[outlet_id] if h.valid_from <= at]
        return max(held, key=lambda h: h.valid_from).wholesaler_id if held else ""

    def hand(outlet_id: str, to: str, at: int) -> None:
        holding = Holding(outlet_id, to, at)
        # In front, so that of two of one moment the later written one wins, as in the table.
        history[outlet_id].insert(0, holding)
        added.append(holding)

    for at, undo, entry in _moments(hand_overs):
        if undo:
            for key, takeover in list(taken.items()):
                if key[0] == entry.hand_over_id and takeover.until is None:
                    taken[key] = takeover._replace(until=at)
                    if holder(key[1], at) == entry.successor_id:
                        hand(key[1], entry.wholesaler_id, at)
            continue
        rivals = [
            e
            for e in hand_overs
            if e.wholesaler_id == entry.wholesaler_id and e.valid_from == at and e is not entry
        ]
        for outlet_id in sorted(history):
            if holder(outlet_id, at) != entry.wholesaler_id:
                continue
            places = territories(outlet_id)
            fit = _fit(entry, places)
            if fit is None or any((f := _fit(r, places)) is not None and f < fit for r in rivals):
                continue
            taken[entry.hand_over_id, outlet_id] = Takeover(
                entry.hand_over_id, outlet_id, entry.wholesaler_id, at, None
            )
            hand(outlet_id, entry.successor_id, at)
    return added, list(taken.values())


def _moments(hand_overs: Sequence[HandOver]) -> list[tuple[int, bool, HandOver]]:
    """What happens when; an entry that was undone before it held never held."""
    moments = []
    for entry in hand_overs:
        if entry.undone_at is not None and entry.undone_at <= entry.valid_from:
            continue
        moments.append((entry.valid_from, False, entry))
        if entry.undone_at is not None:
            moments.append((entry.undone_at, True, entry))
    return sorted(moments, key=lambda m: (m[0], not m[1], m[2].hand_over_id))


def _fit(entry: HandOver, places: Sequence[str]) -> int | None:
    """How closely an entry fits a place: 0 is closest; None if it does not."""
    if entry.territory_id is None:
        return len(places)
    return places.index(entry.territory_id) if entry.territory_id in places else None
