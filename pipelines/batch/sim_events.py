"""Event files of the exchange directory: which SIMs were used, and which were placed where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.engine.columns import REJECTS
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.sources import FilePart
from pipelines.batch.engine.transforms import JoinedRows, JoinInput, Results, to_bytes
from pipelines.batch.subscriber_loss.files import HAPPENED, PLACED
from pipelines.core.stock.placement import PlacementType
from pipelines.ingest.csv_rows import BOM
from pipelines.ingest.sim_ranges import Placed, sim_ranges
from schemas.events import (
    Activation,
    Call,
    Delivery,
    Refused,
    Registration,
    Return,
    Transfer,
    WriteOff,
    accept_line,
)
from schemas.reference import Reference

#: Lines of events looked at together.
_LINES = 50_000


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
        with FileSystems.open(chunk.file.path) as stream:
            first = stream.readline().removeprefix(BOM)
            lines = enumerate(chain([first], iter(stream.readline, b"")), start=1)
            for block, some in enumerate(iter(lambda: list(islice(lines, _LINES)), [])):
                yield from self._block(f"events-{chunk.number:06d}-{block:06d}", chunk, some)

    def _block(
        self, name: str, chunk: FilePart, lines: list[tuple[int, bytes]]
    ) -> Iterator[object]:
        source = chunk.file.source
        happened: list[tuple[int, int, str, int | None, str | None]] = []
        placed: list[tuple[object, ...]] = []
        rejects: list[tuple[str, int, str]] = []
        full = [(number, line) for number, line in lines if line.strip()]
        for number, line in full:
            try:
                event = accept_line(line)
                if isinstance(event, Call):
                    happened.append(
                        (
                            int(event.imsi),
                            event.at,
                            event.event_id,
                            event.charge_fen or 0,
                            event.msisdn or None,
                        )
                    )
                elif isinstance(event, Activation):
                    happened.append((int(event.imsi), event.at, event.event_id, None, None))
                elif not isinstance(event, Registration):
                    placed += [(*row, source, number) for row in _placed(event, self._reference)]
            except Refused as reason:
                rejects.append((source, number, str(reason)))
        self._results.count(name, source, len(full))
        self._results.refuse(name, pl.DataFrame(rejects, schema=REJECTS, orient="row"))
        rows = pl.DataFrame(happened, schema=HAPPENED, orient="row")
        self._results.reach(name, rows["at"])
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
