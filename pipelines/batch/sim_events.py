"""Event files of the exchange directory: which SIMs were used, and which were placed where."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import apache_beam as beam
import polars as pl

from pipelines.batch.engine.columns import REJECTS
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.sources import FilePart, offsets_at_start, read_accepted
from pipelines.batch.engine.transforms import JoinedRows, JoinInput, Results, to_bytes
from pipelines.batch.subscriber_loss.files import HAPPENED, PLACED
from pipelines.core.stock.placement import PlacementType
from pipelines.ingest.accepted import AcceptedRows
from pipelines.ingest.sim_ranges import Placed, sim_ranges
from schemas.events import (
    Delivery,
    Refused,
    Return,
    Transfer,
    WriteOff,
)
from schemas.reference import Reference


class ReadEvents(beam.DoFn):  # type: ignore[misc]
    """Event files → figures by SIM; on the side placements, and the newest time."""

    def __init__(
        self,
        then: Callable[[pl.DataFrame], Iterator[object]],
        placed: JoinInput,
        reference: Reference,
        results: Results,
    ) -> None:
        self._then, self._placed = then, placed
        self._reference, self._results = reference, results

    def process(self, chunk: FilePart) -> Iterator[object]:
        self._results.offsets(f"events-{chunk.number:06d}", offsets_at_start(chunk))
        for block, some in enumerate(read_accepted(chunk)):
            yield from self._block(f"events-{chunk.number:06d}-{block:06d}", chunk, some)

    def _block(self, name: str, chunk: FilePart, some: AcceptedRows) -> Iterator[object]:
        source = chunk.file.source
        placed: list[tuple[object, ...]] = []
        rejects = [(source, row, reason) for row, reason in some.refused]
        for row, event in some.others:
            if isinstance(event, Placed):
                try:
                    ranges = list(_placed(event, self._reference))
                except Refused as reason:
                    rejects.append((source, row, str(reason)))
                    continue
                placed += [(*one, source, row) for one in ranges]
        self._results.count(name, source, some.count)
        self._results.refuse(name, pl.DataFrame(rejects, schema=REJECTS, orient="row"))
        uses = pl.from_arrow(some.uses)
        assert isinstance(uses, pl.DataFrame)
        charge = pl.when("call").then(pl.col("charge_fen").fill_null(0))
        number = pl.when(pl.col("msisdn") != "").then("msisdn")
        rows = uses.with_columns(charge.alias("charge_fen"), number.alias("msisdn"))
        rows = rows.select(*HAPPENED)
        self._results.reach("cdr", name, rows["at"])
        yield from self._then(rows)
        for part in self._placed.split(pl.DataFrame(placed, schema=PLACED, orient="row")):
            yield beam.pvalue.TaggedOutput("placed", part)


_TYPES: dict[type[Placed], PlacementType] = {
    Delivery: PlacementType.DELIVERY,
    Return: PlacementType.RETURN,
    Transfer: PlacementType.TRANSFER,
    WriteOff: PlacementType.WRITE_OFF,
}


def _placed(event: Placed, reference: Reference) -> Iterator[tuple[object, ...]]:
    """A row for each range of SIMs a delivery and its kin speak of. Raises `Refused`."""
    if isinstance(event, Transfer):
        outlet_id, to_outlet_id = event.from_outlet_id, event.to_outlet_id
    else:
        outlet_id, to_outlet_id = event.outlet_id, ""
    for first_imsi, count in sim_ranges(event, reference):
        kind = int(_TYPES[type(event)])
        yield event.at, event.event_id, kind, outlet_id, to_outlet_id, first_imsi, count


def placements_once(group: JoinedRows, results: Results) -> Iterator[bytes]:
    kept, rejects = deduplicate(group.frames["placed"], ["event_id", "first_imsi"])
    results.refuse("placements", rejects)
    yield to_bytes(kept.sort("at", "event_id"))
