"""What a day writes to the state tables' changelogs, counted by folding activations one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from infra.bench.common.seeded_state import SOURCE, START, SeededState
from infra.bench.common.traffic import call_ids
from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from schemas.envelope import USES, Header

#: Activations of a busy day in a city, and commits of a day at one a second.
ACTIVATIONS = 50_000
COMMITS = 86_400


def bytes_a_day(state: SeededState, sample: int = 200) -> float:
    """Bytes written when each activation is held, folded and committed by itself.

    That is the most they can cost: those that share a block and a commit are written once.
    """
    one = SeededState(state.sims, state.shelved, state.outlets, partitions=1)
    sims = SimStage(0, 1, SimRegistry(one.ranges), one.holder)
    outlets = OutletStage(0, 1, one.holder)
    for _, key, value in one.sim_state():
        sims.restore(key, value)
    for _, key, value in one.outlet_state():
        outlets.restore(key, value)
    facts = watermark_entries = 0

    def commit() -> None:
        nonlocal facts, watermark_entries
        for stage in (sims, outlets):
            *some, (_, watermarks) = stage.snapshot()
            facts += sum(len(key) + len(value) for key, value in some)
            watermark_entries += len(watermarks)

    at = START
    for imsi in np.random.default_rng(1).choice(one.on_shelf, sample, replace=False):
        at += 1_000
        use = pa.record_batch([[int(imsi)], [at], call_ids(np.array([at]))], schema=USES)
        for header, rows in (
            (Header("uses", SOURCE, at), use),
            (Header("none", SOURCE, at + 1), None),
        ):
            sims.process(header, rows)
            for effect in sims.advance():
                outlets.process(effect.header, effect.rows)
            outlets.advance()
            commit()
    return (
        facts / sample * ACTIVATIONS + watermark_entries / (2 * sample) * COMMITS * state.partitions
    )
