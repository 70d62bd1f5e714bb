"""What is counted on the way, and that it costs nothing a row."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from pipelines.core.effects import Effect, RowBuilder
from pipelines.core.stock.sim_registry import SimRange
from pipelines.stream import metrics
from schemas.envelope import SCHEMAS, USES, Header

IMSI = 460_001_000_001_000


@pytest.fixture
def grown():
    """What a sample grew by since the test began."""

    def value(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    before: dict[tuple, float] = {}
    for metric in metrics.REGISTRY.collect():
        for sample in metric.samples:
            before[sample.name, *sorted(sample.labels.items())] = sample.value
    return lambda name, **labels: (
        value(name, **labels) - before.get((name, *sorted(labels.items())), 0.0)
    )


def incidents(*rows: tuple[str, int | None], restated: int | None = None) -> Effect:
    some = RowBuilder("incidents")
    for wholesaler, closed in rows:
        some.add(
            incident_id="i",
            outlet_id="o",
            sku="s",
            wholesaler_id=wholesaler,
            opened_at=1,
            closed_at=closed,
            at=1,
            restated_at=restated,
            withdrawn=restated == 1 and closed is not None,
        )
    return Effect("stock-incidents", 0, Header("incidents"), some.batch())


def test_uses_and_candidates_are_counted(grown) -> None:
    registry = metrics.CountedSimRegistry([SimRange(IMSI, 1_000, "std", "8986001000000000000")])
    stage = metrics.CountedSimStage(0, 1, registry, lambda outlet, at: "")
    rows = pa.record_batch(
        [pa.array([IMSI, IMSI, IMSI + 1]), pa.array([5, 5, 6]), pa.array(["a", "a", "c"])],
        schema=USES,
    )
    stage.process(Header("uses", "cdr", 7), rows)
    stage.process(Header("none", "cdr", 8, True), None)
    stage.advance()
    stage.process(Header("uses", "cdr", 8), rows)
    assert grown("zerostock_events_in_total", kind="uses") == 6
    assert grown("zerostock_candidates_total") == 3, "SIMs that are used already are none"


def test_uses_of_unknown_sims_are_counted(grown) -> None:
    registry = metrics.CountedSimRegistry([SimRange(IMSI, 1_000, "std", "8986001000000000000")])
    before = grown("zerostock_unknown_sim_uses_total")
    imsis = np.array([IMSI, IMSI + 5_000, IMSI - 5_000, IMSI + 999])
    assert registry.candidates(imsis, np.full(4, 5)).tolist() == [0, 3]
    assert grown("zerostock_unknown_sim_uses_total") - before == 2


def test_movements_of_late_events_are_counted_as_restated(grown) -> None:
    rows = [{"at": 10, "known_at": 10 + late} for late in (0, 5, 0, 7)]
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMAS["movements"])
    metrics.count_effects([Effect("stock-movements", 0, Header("movements"), batch)])
    assert grown("zerostock_restated_rows_total") == 2


def test_effects_are_counted_and_handed_on(grown) -> None:
    moved = RowBuilder("movements")
    moved.extend(
        3,
        **dict.fromkeys(SCHEMAS["movements"].names, "x")
        | dict.fromkeys(("at", "known_at", "imsi", "delta"), 1)
        | {"withdrawn": False},
    )
    effects = [
        Effect("stock-movements", 0, Header("movements"), moved.batch()),
        Effect("stock-movements", 1, Header("none")),
        incidents(("w", None), ("", None), ("w", 5)),
        incidents(("w", None), ("w", 5), ("w", None), restated=1),
    ]
    assert metrics.count_effects(effects) is effects
    assert grown("zerostock_movements_total") == 3
    assert grown("zerostock_incidents_total", change="opened") == 2
    assert grown("zerostock_incidents_total", change="closed") == 1
    assert grown("zerostock_incidents_total", change="restated") == 2
    assert grown("zerostock_incidents_total", change="withdrawn") == 1
    assert grown("zerostock_incidents_unassigned_total") == 1


def test_what_is_written_is_counted_with_both_latencies(grown) -> None:
    rows = RowBuilder("dead_letters")
    now = time.time()
    for number, reason in enumerate(("malformed", "unknown_sim: x", "unknown_sim: y")):
        rows.add(
            source="f",
            position=number,
            received_at=int(now * 1_000) - 20_000,
            reason=reason,
            payload=b"",
        )
    metrics.count_written("dead_letters", rows.batch(), now - 3)
    assert grown("zerostock_rows_written_total", kind="dead_letters") == 3
    assert grown("zerostock_dead_letters_total", reason="malformed") == 1
    assert grown("zerostock_dead_letters_total", reason="unknown_sim") == 2
    for name, seconds in (("event", 20), ("broker", 3)):
        total = grown(f"zerostock_{name}_to_written_seconds_sum", kind="dead_letters")
        assert seconds <= total < seconds + 60


@pytest.mark.parametrize("kind", ["movements", "incidents", "levels", "messages", "anomalies"])
def test_every_kind_has_an_event_time(kind: str) -> None:
    empty = pa.RecordBatch.from_pylist([], schema=SCHEMAS[kind])
    metrics.count_written(kind, empty, time.time())
