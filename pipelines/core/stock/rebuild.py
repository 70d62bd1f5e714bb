"""What the stream should have come to, folded once more in memory, and how it differs. Pure.

`Rebuild` is the whole stream as one partition without Kafka: envelopes of sim-events in, a
`StockState` out. `compare` puts two of them side by side.

An event that came late (see `placement.LATE`) corrects the stock but not the incidents that were
final before it. Input that was read in several goes has more of these than the same input read in
one, so what they can reach is told apart as explained: incidents of the shelves their SIMs passed
through, and anomalies of those SIMs. Stock has no excuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.effects import Effect
from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.placement import LATE
from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import Holder, SimStage
from schemas import topics
from schemas.envelope import Header

#: (outlet_id, sku)
Shelf = tuple[str, str]


class Stockout(NamedTuple):
    """An incident as the tables show it; times in ms, `closed_at` None while it lasts."""

    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None


@dataclass
class StockState:
    """How things stand: SIMs on each shelf, incidents by id, anomalies by (kind, ICCID)."""

    stock: dict[Shelf, int] = field(default_factory=dict)
    incidents: dict[str, Stockout] = field(default_factory=dict)
    anomalies: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def late_sims(self) -> set[str]:
        """ICCIDs of which some event came late."""
        return {iccid for kind, iccid in self.anomalies if kind == LATE}


class Difference(NamedTuple):
    """One thing that is not as expected; '' where there is nothing.

    `kind` is stock, incident or anomalies; `item` the incident's id or the kind of anomaly;
    `explained` is "late" for what late events may have done, else ''.
    """

    kind: str
    outlet_id: str
    sku: str
    item: str
    expected: str
    found: str
    explained: str


class Rebuild:
    """Folds envelopes of sim-events, given in the order in which a source sent them.

    `watched` are ICCIDs whose shelves are noted in `passed`, besides those that come late here.
    """

    def __init__(
        self, registry: SimRegistry, holder: Holder, watched: frozenset[str] = frozenset()
    ) -> None:
        self._sims = SimStage(0, 1, registry, holder)
        self._outlets = OutletStage(0, 1, holder)
        self._watched = set(watched)
        self._standing = StockState()
        self.passed: set[Shelf] = set()

    def process(self, effects: list[Effect]) -> None:
        """Fold envelopes of sim-events as far as they allow; others are passed over."""
        for effect in effects:
            if effect.topic == topics.SIM_EVENTS:
                self.hold(effect.header, effect.rows)
        self.fold()

    def hold(self, header: Header, rows: pa.RecordBatch | None) -> None:
        """Take one envelope and fold nothing yet: those of other partitions are still to come."""
        self._sims.process(header, rows)

    def fold(self) -> None:
        """Fold as far as the watermarks allow."""
        for effect in self._sims.advance():
            if effect.topic == topics.STOCK_MOVEMENTS:
                self._note_shelves(effect.rows)
                self._outlets.process(effect.header, effect.rows)
            elif effect.topic == topics.ANOMALIES and effect.rows is not None:
                self._note_anomalies(effect.rows)
        for effect in self._outlets.advance():
            if effect.topic == topics.STOCK_INCIDENTS and effect.rows is not None:
                for row in effect.rows.to_pylist():
                    self._standing.incidents[row["incident_id"]] = Stockout(
                        *(row[name] for name in Stockout._fields)
                    )

    def _note_anomalies(self, rows: pa.RecordBatch) -> None:
        pairs = zip(rows["kind"].to_pylist(), rows["iccid"].to_pylist(), strict=True)
        for kind, iccid in pairs:
            self._standing.anomalies[kind, iccid] += 1
            if kind == LATE:
                self._watched.add(iccid)

    def _note_shelves(self, rows: pa.RecordBatch | None) -> None:
        if rows is None or not self._watched:
            return
        watched = rows.filter(pc.is_in(rows["iccid"], pa.array(self._watched, pa.string())))
        self.passed.update(
            zip(watched["outlet_id"].to_pylist(), watched["sku"].to_pylist(), strict=True)
        )

    def standing(self) -> StockState:
        """What has been folded so far."""
        self._standing.stock = {
            (outlet.outlet_id, sku): len(imsis)
            for outlet in self._outlets.outlets.values()
            for sku, imsis in outlet.stock.items()
        }
        return self._standing


def compare(expected: StockState, found: StockState, passed: set[Shelf]) -> list[Difference]:
    """All differences: stock, then incidents, then anomalies, each in the order of its names.

    `passed` are the shelves that SIMs with late events passed through.
    """
    late = expected.late_sims ^ found.late_sims
    passed = passed if late else set()
    return [
        *_stock(expected, found, passed),
        *_incidents(expected, found, passed),
        *_anomalies(expected, found, late),
    ]


def _stock(expected: StockState, found: StockState, passed: set[Shelf]) -> Iterator[Difference]:
    for shelf in sorted(expected.stock.keys() | found.stock.keys()):
        one, other = expected.stock.get(shelf), found.stock.get(shelf)
        if one != other:
            # A SIM known to be used before its delivery came was never on the shelf, nor the shelf.
            explained = "late" if shelf in passed and not (one or other) else ""
            yield Difference("stock", *shelf, "", _count(one), _count(other), explained)


def _incidents(expected: StockState, found: StockState, passed: set[Shelf]) -> Iterator[Difference]:
    for incident_id in sorted(expected.incidents.keys() | found.incidents.keys()):
        one, other = expected.incidents.get(incident_id), found.incidents.get(incident_id)
        if one == other:
            continue
        known = one or other
        assert known is not None
        shelf = (known.outlet_id, known.sku)
        explained = "late" if shelf in passed else ""
        yield Difference("incident", *shelf, incident_id, _span(one), _span(other), explained)


def _anomalies(expected: StockState, found: StockState, late: set[str]) -> Iterator[Difference]:
    (one, one_sure), (other, other_sure) = _by_kind(expected, late), _by_kind(found, late)
    for kind in sorted(one.keys() | other.keys()):
        if one[kind] != other[kind] or one_sure[kind] != other_sure[kind]:
            explained = "late" if one_sure[kind] == other_sure[kind] else ""
            yield Difference(
                "anomalies", "", "", kind, _count(one[kind]), _count(other[kind]), explained
            )


def _by_kind(standing: StockState, late: set[str]) -> tuple[Counter[str], Counter[str]]:
    """Anomalies by kind: all of them, and those of SIMs that are not `late`."""
    every: Counter[str] = Counter()
    sure: Counter[str] = Counter()
    for (kind, iccid), count in standing.anomalies.items():
        every[kind] += count
        if iccid not in late:
            sure[kind] += count
    return every, sure


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _span(incident: Stockout | None) -> str:
    if incident is None:
        return ""
    closed = "open" if incident.closed_at is None else str(incident.closed_at)
    return f"{incident.opened_at}-{closed} {incident.wholesaler_id}".rstrip()
