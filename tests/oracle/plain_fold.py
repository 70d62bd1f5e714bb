"""The rules of the stream once more, as plainly as they can be written: the judge of the core."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fact:
    """An accepted event; `type` is use, delivery, return, transfer or write_off."""

    at: int
    event_id: str
    type: str
    imsis: tuple[int, ...]
    outlet: str = ""
    to_outlet: str = ""


@dataclass
class Outcome:
    stock: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    incidents: set[tuple[str, str, int, int | None]] = field(default_factory=set)
    anomalies: set[tuple[str, int, str]] = field(default_factory=set)
    movements: set[tuple[int, str, int, str, int]] = field(default_factory=set)


def fold(facts: list[Fact], sku_of) -> Outcome:
    out = Outcome()
    place: dict[int, str] = {}
    active: set[int] = set()
    open_since: dict[tuple[str, str], int] = {}
    for fact in sorted({f.event_id: f for f in facts}.values(), key=lambda f: (f.at, f.event_id)):
        before = {shelf: len(sims) for shelf, sims in out.stock.items()}

        def move(imsi: int, target: str, fact: Fact = fact) -> None:
            if place.get(imsi):
                out.stock[place[imsi], sku_of(imsi)].discard(imsi)
                out.movements.add((fact.at, fact.event_id, imsi, place[imsi], -1))
            place[imsi] = target
            if target:
                out.movements.add((fact.at, fact.event_id, imsi, target, +1))
                out.stock.setdefault((target, sku_of(imsi)), set()).add(imsi)

        for imsi in fact.imsis:
            where, odd = place.get(imsi, ""), None
            if fact.type == "use":
                if imsi not in active:
                    odd = None if where else "active_before_delivery"
                    active.add(imsi)
                    move(imsi, "")
            elif fact.type == "delivery":
                if imsi in active:
                    odd = "delivered_after_use"
                elif where == fact.outlet:
                    odd = "delivered_twice"
                else:
                    odd = "moved_without_transfer" if where else None
                    move(imsi, fact.outlet)
            elif imsi in active:
                odd = "left_after_use"
            elif where != fact.outlet:
                odd = "not_at_outlet"
            else:
                move(imsi, fact.to_outlet if fact.type == "transfer" else "")
            if odd:
                out.anomalies.add((fact.event_id, imsi, odd))
        for shelf, sims in out.stock.items():
            had = before.get(shelf, 0)
            if had and not sims:
                open_since[shelf] = fact.at
            elif sims and shelf in open_since:
                out.incidents.add((*shelf, open_since.pop(shelf), fact.at))
    out.incidents |= {(*shelf, at, None) for shelf, at in open_since.items()}
    return out
