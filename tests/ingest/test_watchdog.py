"""The watchdog: its stock-outs come round by round, are nobody's, and are missed when they stop."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.core.watchdog import WATCHDOG, without_watchdog
from pipelines.ingest.source_clock import SourceClock
from pipelines.ingest.watchdog import Watchdog
from pipelines.stream.watchdog import WatchdogWatch
from schemas import topics
from schemas.envelope import SCHEMAS, Header

EVERY, START = 300_000, 1_772_323_200_000


@given(st.lists(st.integers(1, 2 * EVERY), min_size=1, max_size=30), st.integers(1, 60_000))
def test_each_round_that_a_reader_saw_is_one_stock_out(steps: list[int], disorder: int) -> None:
    """Whenever the reader looks: a round missed is left out, none is late, none comes twice."""
    clock = SourceClock(disorder)
    dog = Watchdog(EVERY, START, 1)
    sims, outlets = (
        SimStage(0, 1, SimRegistry([]), lambda *_: WATCHDOG),
        OutletStage(0, 1, lambda *_: WATCHDOG),
    )
    for effect in dog.cards():
        sims.process(effect.header, effect.rows)
    now, opened = START, list[int]()

    def through() -> None:
        for effect in sims.advance():
            if effect.topic == topics.STOCK_MOVEMENTS:
                outlets.process(effect.header, effect.rows)
            assert effect.topic != topics.ANOMALIES or effect.rows is None
        for effect in outlets.advance():
            if effect.topic == topics.STOCK_INCIDENTS and effect.rows is not None:
                opened.extend(
                    row["opened_at"] for row in effect.rows.to_pylist() if not row["closed_at"]
                )

    seen = set()
    for step in [*steps, disorder + 1]:
        rounds = range(now // EVERY + 1, (now + step - 1) // EVERY + 1)
        now += step
        for effect in dog.beat("dog", clock, now):
            sims.process(effect.header, effect.rows)
        if rounds and now - rounds[-1] * EVERY <= disorder:
            seen.add(rounds[-1] * EVERY + 1)
        clock.floor = max(clock.floor, now - disorder)
        sims.process(Header("none", "dog", clock.watermark), None)
        through()
    assert set(opened) <= {at + 1 for at in range(START, now, EVERY)}
    assert len(set(opened)) == len(opened)
    assert {at for at in seen if at < clock.watermark} <= set(opened)


@pytest.mark.parametrize("kind", ["movements", "incidents", "levels", "anomalies"])
def test_no_table_hears_of_it(kind: str) -> None:
    def row(real: bool) -> dict[str, object]:
        found: dict[str, object] = dict.fromkeys(SCHEMAS[kind].names)
        for name in ("outlet_id", "event_id"):
            if name in found:
                found[name] = "O1" if real else f"{WATCHDOG}{'/7/return' * (name == 'event_id')}"
        return found

    rows = pa.RecordBatch.from_pylist([row(True), row(False)] * 2, schema=SCHEMAS[kind])
    assert without_watchdog(rows).num_rows == 2


def test_one_that_does_not_come_through_is_said_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = WatchdogWatch(EVERY, 60_000)
    caplog.set_level(logging.WARNING)
    watch.look(START, mine=True)
    for now in range(START, START + 20 * EVERY, 10_000):
        watch.look(now, mine=False)  # they come to another worker
    watch.look(START + 21 * EVERY, mine=True)
    assert caplog.messages == [] or "come through" not in caplog.text
    end = START + 21 * EVERY + EVERY + 60_000
    watch.arrived(START + 20 * EVERY)
    watch.look(end, mine=True)
    watch.look(end + 1_000, mine=True)
    assert watch.alarmed
    watch.arrived(end)
    watch.look(end + 2_000, mine=True)
    assert not watch.alarmed
    assert [m.split(" ")[0] for m in caplog.messages] == ["no", "the"]
