"""A partition that is taken away before a commit and comes back is worked on as if for the first
time, although the registry of SIMs outlives it."""

from __future__ import annotations

import pyarrow as pa
from oracle.stream_harness import IMSIS, RANGES, holder

from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from schemas.envelope import PLACEMENTS, USES, Header


def movements_of(stage: SimStage) -> list[tuple[int, str]]:
    delivery = {
        "event_id": "d", "at": 100, "known_at": 100, "type": 1, "outlet_id": "o1",
        "to_outlet_id": "", "first_imsi": IMSIS[0], "count": 2,
    }  # fmt: skip
    placements = pa.RecordBatch.from_pylist([delivery], schema=PLACEMENTS)
    use = {"imsi": IMSIS[0], "at": 200, "event_id": "c"}
    uses = pa.RecordBatch.from_pylist([use], schema=USES)
    stage.process(Header("placements", "s", 100), placements)
    stage.process(Header("uses", "s", 300), uses)
    return [
        (row["imsi"], row["cause"])
        for effect in stage.advance()
        if effect.rows is not None
        for row in effect.rows.to_pylist()
    ]


def test_what_was_folded_but_never_written_is_folded_again() -> None:
    registry = SimRegistry(RANGES)
    once = movements_of(SimStage(0, 1, registry, holder))
    again = movements_of(SimStage(0, 1, registry, holder))
    assert once == again
    assert (IMSIS[0], "first_use") in again
