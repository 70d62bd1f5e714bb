"""The second opinion: what the files of an exchange directory amount to, by the plainest fold that
can be written. No batches, no blocks, no watermarks: read everything, sort it, go through it once.

Good for some millions of rows; it holds all placements and one use a SIM in memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from oracle.judge_reading import (
    Placement,
    Read,
    Reference,
    Use,
    read_events,
    read_reference,
)
from pipelines.simulate.truth import TrueAnomaly, TrueIncident, TrueMessage, Truth, incident_order

ShelfKey = tuple[str, str]
Sim = tuple[int, int]


def fold_truth(directory: Path, *, group_wait_ms: int = 60_000, disorder_ms: int = 60_000) -> Truth:
    """Judge `directory` by its reference/, events/ and cdr/ alone.

    Rows beyond the bound of their own source are counted, and folded like all others: stock is
    right with them, incidents may then differ from what a stream can know. Raises `InputError`
    where the directory cannot be read as one.
    """
    reference = read_reference(directory / "reference")
    read = read_events(directory, reference, disorder_ms)
    stock, spans, anomalies = _fold(read, reference)
    incidents = sorted(
        (TrueIncident(*shelf, _holder(reference, shelf[0], a), a, b) for shelf, a, b in spans),
        key=incident_order,
    )
    return Truth(
        stock=dict(stock),
        incidents=incidents,
        messages=_messages(incidents, group_wait_ms),
        anomalies=sorted(anomalies),
        dead_letters=read.dead,
        beyond_bound=read.beyond_bound,
    )


def _fold(
    read: Read, reference: Reference
) -> tuple[Counter[ShelfKey], list[tuple[ShelfKey, int, int | None]], list[TrueAnomaly]]:
    """Stock, spans of empty shelves, anomalies: rules 1 to 4 and 6 of the contract, in order."""
    where: dict[Sim, str | None] = {}  # None: in use
    stock: Counter[ShelfKey] = Counter()
    empty_since: dict[ShelfKey, int] = {}
    spans: list[tuple[ShelfKey, int, int | None]] = []
    anomalies: list[TrueAnomaly] = []
    events: list[Placement | Use] = [*read.placements.values(), *read.uses.values()]
    for event in sorted(events, key=lambda e: (e.at, e.event_id)):
        change: defaultdict[ShelfKey, int] = defaultdict(int)
        sims = [event.sim] if isinstance(event, Use) else event.sims
        for sim in sims:
            before = where.get(sim, "")
            after, kind = _step(event, before)
            batch = reference.batches[sim[0]]
            if kind:
                iccid = str(batch.first_iccid + sim[1])
                anomalies.append(TrueAnomaly(event.event_id, iccid, kind, event.at))
            where[sim] = after
            if before:
                change[before, batch.sku] -= 1
            if after:
                change[after, batch.sku] += 1
        for shelf, delta in change.items():
            had = stock[shelf]
            stock[shelf] = had + delta
            if had and not stock[shelf]:
                empty_since[shelf] = event.at
            elif stock[shelf] and shelf in empty_since:
                spans.append((shelf, empty_since.pop(shelf), event.at))
    spans += [(shelf, since, None) for shelf, since in empty_since.items()]
    return stock, spans, anomalies


def _step(event: Placement | Use, before: str | None) -> tuple[str | None, str]:
    """Where a SIM is after an event ("" nowhere, None in use), and the anomaly it makes."""
    if isinstance(event, Use):
        return None, "" if before else "active_before_delivery"
    if event.kind == "delivery":
        if before is None:
            return None, "delivered_after_use"
        if before == event.outlet_id:
            return before, "delivered_twice"
        return event.outlet_id, "moved_without_transfer" if before else ""
    if before is None:
        return None, "left_after_use"
    if before != event.outlet_id:
        return before, "not_at_outlet"
    return event.to_outlet_id, ""


def _holder(reference: Reference, outlet_id: str, at: int) -> str:
    held = [who for since, who in reference.assignments.get(outlet_id, []) if since <= at]
    return held[-1] if held else ""


def _messages(incidents: list[TrueIncident], group_wait_ms: int) -> list[TrueMessage]:
    """Rule 8 of the contract under the event clock."""
    messages = []
    for wholesaler in {i.wholesaler_id for i in incidents} - {""}:
        left = [i for i in incidents if i.wholesaler_id == wholesaler]
        while left:
            until = left[0].opened_at + group_wait_ms
            group = [i for i in left if i.opened_at <= until]
            left = left[len(group) :]
            open_then = [i for i in group if i.closed_at is None or i.closed_at > until]
            if open_then:
                listed = tuple((i.outlet_id, i.sku, i.opened_at) for i in open_then)
                messages.append(TrueMessage(wholesaler, until, listed))
    return sorted(messages)
