"""What the stream should have come to, folded once more in memory, and how it differs. Pure.

`Rebuild` is the whole stream in one place without Kafka: envelopes of sim-events in, a
`StockState` out. However late an event comes, it is put in its true place: what comes out is the
fold of all facts. `compare` puts two states side by side.

The stream itself restates history only within a bound. An event that came later than that corrects
the stock, so stock has no excuse; what else it can reach is told apart as explained: stock-outs of
the shelves its SIMs passed through, and anomalies of those SIMs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.effects import Effect
from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.placement import LATE
from pipelines.core.stock.shelf import Holder
from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from schemas import topics
from schemas.envelope import Header
from schemas.fields import TIME_END

#: (outlet_id, sku)
Shelf = tuple[str, str]


class Stockout(NamedTuple):
    """An incident as the tables show it; times in ms, `closed_at` None while it lasts.

    Its id depends on the order in which late events came: it is shown, not compared.
    """

    incident_id: str
    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None


@dataclass
class StockState:
    """How things stand: SIMs on each shelf, stock-outs, anomalies by (kind, ICCID).

    `too_late` are the ICCIDs of which some event came too late for its place in history.
    """

    stock: dict[Shelf, int] = field(default_factory=dict)
    incidents: set[Stockout] = field(default_factory=set)
    anomalies: Counter[tuple[str, str]] = field(default_factory=Counter)
    too_late: set[str] = field(default_factory=set)


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

    `watched` are ICCIDs whose shelves are noted in `passed`; `partitions` those of sim-events.
    """

    def __init__(
        self,
        registry: SimRegistry,
        holder: Holder,
        watched: frozenset[str] = frozenset(),
        partitions: int = 1,
    ) -> None:
        self._sims = [
            SimStage(p, partitions, registry, holder, restate_within=TIME_END)
            for p in range(partitions)
        ]
        self._outlets = OutletStage(0, 1, holder, restate_within=TIME_END)
        self._watched = watched
        self._incidents: dict[str, Stockout] = {}
        self._anomalies: Counter[tuple[str, str]] = Counter()
        self.passed: set[Shelf] = set()

    def process(self, effects: list[Effect]) -> None:
        """Fold envelopes of sim-events as far as they allow; others are passed over."""
        for effect in effects:
            if effect.topic == topics.SIM_EVENTS:
                self.hold(effect.header, effect.rows, effect.partition)
        self.fold()

    def hold(self, header: Header, rows: pa.RecordBatch | None, partition: int) -> None:
        """Take one envelope and fold nothing yet: those of other partitions are still to come."""
        self._sims[partition].process(header, rows)

    def fold(self) -> None:
        """Fold as far as the watermarks allow."""
        for effect in [effect for sims in self._sims for effect in sims.advance()]:
            if effect.topic == topics.STOCK_MOVEMENTS:
                self._note_shelves(effect.rows)
                self._outlets.process(effect.header, effect.rows)
            elif effect.topic == topics.ANOMALIES and effect.rows is not None:
                self._note_anomalies(effect.rows)
        for effect in self._outlets.advance():
            if effect.topic == topics.STOCK_INCIDENTS and effect.rows is not None:
                for row in effect.rows.to_pylist():
                    stockout = Stockout(*(row[name] for name in Stockout._fields))
                    self._incidents[stockout.incident_id] = stockout
                    if row["withdrawn"]:
                        del self._incidents[stockout.incident_id]

    def _note_anomalies(self, rows: pa.RecordBatch) -> None:
        columns = (rows[name].to_pylist() for name in ("kind", "iccid", "withdrawn"))
        for kind, iccid, withdrawn in zip(*columns, strict=True):
            self._anomalies[kind, iccid] += -1 if withdrawn else 1

    def _note_shelves(self, rows: pa.RecordBatch | None) -> None:
        if rows is None or not self._watched:
            return
        watched = rows.filter(pc.is_in(rows["iccid"], pa.array(self._watched, pa.string())))
        self.passed.update(
            zip(watched["outlet_id"].to_pylist(), watched["sku"].to_pylist(), strict=True)
        )

    def state(self) -> StockState:
        """What has been folded so far."""
        stock = {
            (outlet.outlet_id, sku): len(shelf.stock)
            for outlet in self._outlets.outlets.values()
            for sku, shelf in outlet.shelves.items()
            if not shelf.never_was
        }
        return StockState(stock, set(self._incidents.values()), +self._anomalies)


def compare(expected: StockState, found: StockState, passed: set[Shelf]) -> list[Difference]:
    """All differences: stock, then incidents, then anomalies, each in the order of its names.

    `passed` are the shelves that SIMs with events that came too late passed through.
    """
    too_late = expected.too_late | found.too_late
    passed = passed if too_late else set()
    return [
        *_stock(expected, found, passed),
        *_incidents(expected, found, passed),
        *_anomalies(expected, found, too_late),
    ]


def _stock(expected: StockState, found: StockState, passed: set[Shelf]) -> Iterator[Difference]:
    for shelf in sorted(expected.stock.keys() | found.stock.keys()):
        one, other = expected.stock.get(shelf), found.stock.get(shelf)
        if one != other:
            # A SIM known to be used before its delivery came was never on the shelf, nor the shelf.
            explained = "late" if shelf in passed and not (one or other) else ""
            yield Difference("stock", *shelf, "", _count(one), _count(other), explained)


def _incidents(expected: StockState, found: StockState, passed: set[Shelf]) -> Iterator[Difference]:
    one, other = ({some[1:]: some for some in state.incidents} for state in (expected, found))
    missing, odd = ([here[key] for key in sorted(here.keys() - there.keys(), key=str)]
                    for here, there in ((one, other), (other, one)))  # fmt: skip
    by_opening: dict[tuple[str, str, int], list[Stockout | None]] = defaultdict(lambda: [None] * 2)
    for place, some in enumerate((missing, odd)):
        for stockout in some:
            key = (stockout.outlet_id, stockout.sku, stockout.opened_at)
            by_opening[key][place] = stockout
    for key, (there, here) in sorted(by_opening.items()):
        known = here or there
        assert known is not None
        explained = "late" if key[:2] in passed else ""
        yield Difference(
            "incident", *key[:2], known.incident_id, _span(there), _span(here), explained
        )


def _anomalies(expected: StockState, found: StockState, too_late: set[str]) -> Iterator[Difference]:
    (one, one_sure), (other, other_sure) = _by_kind(expected, too_late), _by_kind(found, too_late)
    for kind in sorted(one.keys() | other.keys()):
        if one[kind] != other[kind] or one_sure[kind] != other_sure[kind]:
            explained = "late" if one_sure[kind] == other_sure[kind] else ""
            yield Difference(
                "anomalies", "", "", kind, _count(one[kind]), _count(other[kind]), explained
            )


def _by_kind(state: StockState, too_late: set[str]) -> tuple[Counter[str], Counter[str]]:
    """Anomalies by kind: all of them, and those of SIMs that are not `too_late`.

    What came late is no matter of the facts: it depends on how they were read.
    """
    every: Counter[str] = Counter()
    sure: Counter[str] = Counter()
    for (kind, iccid), count in state.anomalies.items():
        if kind != LATE:
            every[kind] += count
            if iccid not in too_late:
                sure[kind] += count
    return every, sure


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _span(incident: Stockout | None) -> str:
    if incident is None:
        return ""
    closed = "open" if incident.closed_at is None else str(incident.closed_at)
    return f"{incident.opened_at}-{closed} {incident.wholesaler_id}".rstrip()
