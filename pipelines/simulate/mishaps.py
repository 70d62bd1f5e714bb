"""What goes wrong in the city, or merely happens seldom: wrong papers, stolen cards, SIMs that
call before anybody delivered them. Each looks for shelves on which it makes sense; what it amounts
to in the books is the books' business.
"""

from __future__ import annotations

from collections.abc import Callable

from pipelines.simulate.books import ACTIVE, Shelf
from pipelines.simulate.demand import SKUS
from pipelines.simulate.plan import DAY_MS, HOUR_MS
from pipelines.simulate.trade import Trade

Mishap = Callable[[Trade, int], bool]
_RETRY_MS = 11 * 60_000


def schedule_mishaps(trade: Trade) -> None:
    """A few of each kind a day, between 9:30 and 20:00; one that finds no object tries again."""
    plan = trade.plan
    each = max(1, plan.outlets // 700)
    for day in range(plan.days):
        opening = plan.start_ms + day * DAY_MS + 9 * HOUR_MS + HOUR_MS // 2
        for mishap in MISHAPS:
            for _ in range(each):
                _try(trade, opening + trade.rng.randrange(10 * HOUR_MS), mishap)
    trade.at(plan.start_ms + 10 * HOUR_MS, lambda at: _seam(trade, at))
    nobodys = {outlet for outlet, holders in enumerate(trade.city.holders) if not holders}
    for outlet in sorted(nobodys):
        due = plan.start_ms + 12 * HOUR_MS + trade.rng.randrange(8 * HOUR_MS)
        trade.at(due, lambda at, outlet=outlet: _rob(trade, at, outlet))  # type: ignore[misc]
    for hour in range(plan.days * 24):
        due = plan.start_ms + hour * HOUR_MS + trade.rng.randrange(HOUR_MS)
        trade.at(due, trade.outsider)


def _try(trade: Trade, due: int, mishap: Mishap) -> None:
    def action(at: int) -> None:
        if not mishap(trade, at) and at + _RETRY_MS < trade.plan.end_ms:
            _try(trade, at + _RETRY_MS, mishap)

    trade.at(due, action)


def _stocked(trade: Trade, most: int = 10**9) -> Shelf | None:
    """A shelf drawn at random that has SIMs, not more than `most`."""
    shelves = [s for s, held in trade.books.shelves.items() if 0 < len(held) <= most]
    return trade.rng.choice(shelves) if shelves else None


def _run(trade: Trade, shelf: Shelf, most: int) -> range:
    """The longest run of neighbouring ICCIDs that ends with the shelf's last SIM."""
    held = trade.books.shelves[shelf]
    last = first = next(reversed(held))
    lane = trade.city.batch_of(last).lane
    while (
        last - first + 1 < most
        and first - 1 in held
        and trade.city.batch_of(first - 1).lane == lane
    ):
        first -= 1
    return range(first, last + 1)


def _sold(trade: Trade) -> range | None:
    """One to three neighbouring SIMs, at least one of them sold not long ago."""
    recent = [used for used in trade.used[-300:] if used.outlet >= 0]
    if not recent:
        return None
    sim = trade.rng.choice(recent).sim
    batch = trade.city.batch_of(sim)
    first = max(batch.first, sim - trade.rng.randrange(2))
    stop = min(batch.first + batch.count, sim + 1 + trade.rng.randrange(2))
    return range(first, stop)


def _another(trade: Trade, outlet: int) -> int:
    other = trade.rng.randrange(len(trade.city.outlets) - 1)
    return other + (other >= outlet)


def _leave(trade: Trade, at: int, outlet: int, sims: range) -> None:
    """A departure of any of the three kinds."""
    kind = trade.rng.choice(("return", "write_off", "transfer"))
    if kind == "transfer":
        trade.transfer(at, outlet, _another(trade, outlet), sims)
    else:
        trade.take(kind, at, outlet, sims)


def _return(trade: Trade, at: int) -> bool:
    shelf = _stocked(trade)
    if shelf:
        sims = _run(trade, shelf, trade.rng.choice((1, 2, 5)))
        trade.take("return", at, shelf[0], sims)
        if trade.rng.random() < 0.5:  # Sold out of the wholesaler's van, by no outlet.
            trade.at(at + trade.rng.randrange(HOUR_MS), lambda when: _use(trade, when, sims[0]))
        elif trade.rng.random() < 0.5:
            to = _another(trade, shelf[0])
            trade.at(at + HOUR_MS // 2, lambda when: trade.deliver(when, to, sims))
    return shelf is not None


def _write_off(trade: Trade, at: int) -> bool:
    shelf = _stocked(trade)
    if shelf:
        trade.take("write_off", at, shelf[0], _run(trade, shelf, trade.rng.choice((1, 2, 100))))
    return shelf is not None


def _transfer(trade: Trade, at: int) -> bool:
    shelf = _stocked(trade)
    if shelf:
        sims = _run(trade, shelf, trade.rng.choice((1, 3, 100)))
        trade.transfer(at, shelf[0], _another(trade, shelf[0]), sims)
    return shelf is not None


def _transfer_to_itself(trade: Trade, at: int) -> bool:
    """A slip of the pen that empties and refills a shelf in one event."""
    shelf = _stocked(trade, most=3)
    if shelf:
        trade.transfer(at, shelf[0], shelf[0], _run(trade, shelf, 3))
    return shelf is not None


def _recall(trade: Trade, at: int) -> bool:
    """A wholesaler takes back the last cards of some shops, one after another within minutes, so
    that what empties there belongs into one message, or just no more."""
    low = [shelf for shelf, held in trade.books.shelves.items() if 0 < len(held) <= 4]
    if not low:
        return False
    held_by = trade.city.holder(trade.rng.choice(low)[0], at)
    theirs = [shelf for shelf in low if trade.city.holder(shelf[0], at) == held_by]
    for shelf in trade.rng.sample(theirs, min(len(theirs), 6)):
        due = at + trade.rng.randrange(2 * 60_000)
        trade.at(due, lambda when, shelf=shelf: _clear(trade, when, shelf))  # type: ignore[misc]
    return True


def _clear(trade: Trade, at: int, shelf: Shelf, kind: str = "return") -> None:
    if trade.books.on_hand(shelf):
        trade.take(kind, at, shelf[0], _run(trade, shelf, 100))
        trade.at(at, lambda when: _clear(trade, when, shelf, kind))


def _rob(trade: Trade, at: int, outlet: int) -> None:
    """All of one SKU is stolen from an outlet; where nobody holds it, nobody can be notified."""
    stocked = [s for s, held in trade.books.shelves.items() if s[0] == outlet and held]
    if stocked:
        _clear(trade, at, stocked[0], "write_off")


def _refilled_at_once(trade: Trade, at: int) -> bool:
    """The van stands before the shop while its last cards are sold."""
    shelf = _stocked(trade, most=2)
    if shelf:
        for sim in list(trade.books.shelves[shelf]):
            trade.at(at, lambda when, sim=sim: _use(trade, when, sim))  # type: ignore[misc]
        cards = trade.fresh(shelf[1], 5)
        due = at + trade.rng.randrange(2_000, 90_000)
        if cards:
            trade.at(due, lambda when: trade.deliver(when, shelf[0], cards))
    return shelf is not None


def _wrong_outlet_named(trade: Trade, at: int) -> bool:
    shelf = _stocked(trade)
    if shelf:
        _leave(trade, at, _another(trade, shelf[0]), _run(trade, shelf, 2))
    return shelf is not None


def _sold_sims_sent_back(trade: Trade, at: int) -> bool:
    sims = _sold(trade)
    if sims:
        seller = next(u.outlet for u in reversed(trade.used) if u.sim in sims and u.outlet >= 0)
        _leave(trade, at, seller, sims)
    return sims is not None


def _delivered_twice(trade: Trade, at: int) -> bool:
    shelf = _stocked(trade)
    if shelf:
        trade.deliver(at, shelf[0], _run(trade, shelf, 3))
    return shelf is not None


def _moved_without_papers(trade: Trade, at: int) -> bool:
    shelf = _stocked(trade)
    if shelf:
        trade.deliver(at, _another(trade, shelf[0]), _run(trade, shelf, 4))
    return shelf is not None


def _delivered_after_use(trade: Trade, at: int) -> bool:
    sims = _sold(trade)
    if sims:
        trade.deliver(at, trade.rng.randrange(len(trade.city.outlets)), sims)
    return sims is not None


def _used_before_delivery(trade: Trade, at: int) -> bool:
    """A SIM from the store room calls; some of them are delivered all the same, later."""
    sku = trade.rng.randrange(len(SKUS))
    spare = trade.spare(sku, trade.rng.choice((2, 30, -1, -40)))
    if spare is not None:
        _use(trade, at, spare)
    return spare is not None


def _use(trade: Trade, at: int, sim: int) -> None:
    if trade.books.place(sim) != ACTIVE:
        trade.use(at, sim)


def _seam(trade: Trade, at: int) -> None:
    """One range of ICCIDs over two batches of different SKUs."""
    outlet = trade.rng.randrange(4, len(trade.city.outlets))
    trade.deliver(at, outlet, trade.seam)
    trade.at(at + HOUR_MS, lambda when: trade.transfer(when, outlet, 0, trade.seam))


MISHAPS: tuple[Mishap, ...] = (
    _return,
    _write_off,
    _transfer,
    _transfer_to_itself,
    _recall,
    _refilled_at_once,
    _wrong_outlet_named,
    _sold_sims_sent_back,
    _delivered_twice,
    _moved_without_papers,
    _delivered_after_use,
    _used_before_delivery,
)
