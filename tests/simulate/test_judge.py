"""The judge against answers worked out by hand, rule by rule, and against the cities' own books."""

from __future__ import annotations

import gzip
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import judge
from oracle.judge import fold_truth
from oracle.vary import vary
from simulate_harness import Made, Town

from pipelines.simulate import CityPlan, books, read_truth, simulate
from pipelines.simulate.truth import TrueAnomaly, TrueIncident, TrueMessage, incident_order
from schemas.errors import InputError

_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
_ids = itertools.count()
RED, BLUE = 8986000000000000000, 8986000000000000010


def ms(seconds: float) -> int:
    return round((_NOON + timedelta(seconds=seconds)).timestamp() * 1000)


def iso(seconds: float) -> str:
    return (_NOON + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def event(kind: str, at: float, first: int = RED, count: int = 1, **more: Any) -> dict[str, Any]:
    fields = {"type": kind, "event_id": f"e{next(_ids):05d}", "at": iso(at)}
    return fields | {"first_iccid": str(first), "count": count} | more


def delivery(at: float, outlet: str, first: int = RED, count: int = 1) -> dict[str, Any]:
    return event("delivery", at, first, count, outlet_id=outlet, wholesaler_id="W1")


def leaving(kind: str, at: float, outlet: str, first: int = RED, count: int = 1) -> dict[str, Any]:
    return event(kind, at, first, count, outlet_id=outlet, reason="lost")


def transfer(at: float, outlet: str, to: str, first: int = RED, count: int = 1) -> dict[str, Any]:
    return event("transfer", at, first, count, from_outlet_id=outlet, to_outlet_id=to)


def activation(at: float, imsi: int) -> dict[str, Any]:
    return {
        "type": "activation",
        "event_id": f"e{next(_ids):05d}",
        "at": iso(at),
        "imsi": str(imsi),
    }


def row(call_id: str, at: float, imsi: int) -> str:
    return f"{call_id},{iso(at)},{imsi},8613800000000,60,T.1,19\n"


def test_the_first_use_empties_a_shelf_once(town: Town) -> None:
    path = town(
        delivery(0, "A", count=2),
        activation(50, 460000000000000),
        activation(10, 460000000000001),
        cdr=row("c1", 20, 460000000000000) + row("c2", 60, 460000000000001),
    )
    truth = fold_truth(path)
    assert truth.stock == {("A", "RED"): 0}
    assert truth.incidents == [TrueIncident("A", "RED", "W1", ms(20), None)]
    assert truth.anomalies == []


def test_use_without_delivery_is_an_anomaly_once(town: Town) -> None:
    late = delivery(30, "A", count=2)
    path = town(activation(9, 460000000000000), late, cdr=row("c1", 5, 460000000000000) * 2)
    truth = fold_truth(path)
    iccid = str(RED)
    assert truth.anomalies == [
        TrueAnomaly("c1", iccid, "active_before_delivery", ms(5)),
        TrueAnomaly(late["event_id"], iccid, "delivered_after_use", ms(30)),
    ]
    assert truth.stock == {("A", "RED"): 1}


def test_deliveries_move_what_is_elsewhere_and_count_what_is_there(town: Town) -> None:
    moved, twice = delivery(10, "B", count=2), delivery(20, "B", count=3)
    truth = fold_truth(town(delivery(0, "A", count=2), moved, twice))
    assert truth.stock == {("A", "RED"): 0, ("B", "RED"): 3}
    assert truth.anomalies == sorted(
        [
            TrueAnomaly(e["event_id"], str(RED + i), kind, at)
            for e, kind, at in (
                (moved, "moved_without_transfer", ms(10)),
                (twice, "delivered_twice", ms(20)),
            )
            for i in (0, 1)
        ]
    )
    assert truth.incidents == [TrueIncident("A", "RED", "W1", ms(10), None)]


@pytest.mark.parametrize("kind", ["return", "write_off", "transfer"])
def test_sims_leave_only_the_outlet_named(town: Town, kind: str) -> None:
    def leave(at: float, outlet: str, first: int, count: int) -> dict[str, Any]:
        if kind == "transfer":
            return transfer(at, outlet, "N", first, count)
        return leaving(kind, at, outlet, first, count)

    wrong, used = leave(10, "B", RED, 1), leave(20, "A", RED + 1, 2)
    path = town(delivery(0, "A", count=3), wrong, used, cdr=row("c1", 5, 460000000000001))
    truth = fold_truth(path)
    assert truth.stock[("A", "RED")] == 1
    assert truth.stock.get(("N", "RED"), 0) == (1 if kind == "transfer" else 0)
    assert truth.anomalies == sorted(
        [
            TrueAnomaly(wrong["event_id"], str(RED), "not_at_outlet", ms(10)),
            TrueAnomaly(used["event_id"], str(RED + 1), "left_after_use", ms(20)),
        ]
    )


def test_an_event_that_empties_and_refills_opens_nothing(town: Town) -> None:
    truth = fold_truth(town(delivery(0, "A", count=2), transfer(5, "A", "A", count=2)))
    assert truth.stock == {("A", "RED"): 2}
    assert truth.incidents == truth.anomalies == []


def test_a_range_runs_over_two_batches(town: Town) -> None:
    path = town(
        delivery(0, "A", RED + 8, 4),
        cdr=row("c1", 5, 460000000000500) + row("c2", 6, 460000000000501),
    )
    truth = fold_truth(path)
    assert truth.stock == {("A", "RED"): 2, ("A", "BLUE"): 0}
    assert truth.incidents == [TrueIncident("A", "BLUE", "W1", ms(6), None)]


def test_the_order_is_that_of_times_then_ids(town: Town) -> None:
    back, again = leaving("return", 5, "A"), delivery(5, "A")
    back["event_id"], again["event_id"] = "a", "b"
    truth = fold_truth(town(again, back, delivery(0, "A")))
    assert truth.incidents == [TrueIncident("A", "RED", "W1", ms(5), ms(5))]
    back["event_id"] = "c"
    truth = fold_truth(town(again, back, delivery(0, "A")))
    assert [a.kind for a in truth.anomalies] == ["delivered_twice"]


def test_the_same_id_counts_once(town: Town) -> None:
    first, sent_back = delivery(0, "A", count=2), leaving("return", 9, "A")
    truth = fold_truth(town(first, sent_back, sent_back, first))
    assert truth.stock == {("A", "RED"): 1}
    assert truth.anomalies == []


def test_the_holder_is_the_one_at_the_opening(town: Town) -> None:
    path = town(
        delivery(-50, "B"),
        leaving("return", -0.001, "B"),
        delivery(-50, "B", BLUE),
        leaving("return", 0, "B", BLUE),
        delivery(3, "N", RED + 5),
        leaving("return", 5, "N", RED + 5),
    )
    truth = fold_truth(path)
    assert truth.incidents == [
        TrueIncident("B", "RED", "W1", ms(-0.001), None),
        TrueIncident("B", "BLUE", "W2", ms(0), None),
        TrueIncident("N", "RED", "", ms(5), None),
    ]
    assert [m.wholesaler_id for m in truth.messages] == ["W1", "W2"]


def test_of_two_uses_at_one_time_the_lesser_id_is_the_first(town: Town) -> None:
    path = town(cdr=row("c2", 5, 460000000000000) + row("c1", 5, 460000000000000))
    assert [a.event_id for a in fold_truth(path).anomalies] == ["c1"]
    call = {"type": "activation", "event_id": "b9", "at": iso(5), "imsi": "460000000000000"}
    path = town(call, cdr=row("c1", 5, 460000000000000))
    assert [a.event_id for a in fold_truth(path).anomalies] == ["b9"]


_spans = st.tuples(st.integers(0, 30), st.none() | st.integers(0, 30), st.sampled_from(["W", "V"]))


@given(st.lists(_spans, max_size=12), st.integers(0, 12))
def test_both_bookkeepers_gather_the_same_messages(
    spans: list[tuple[int, int | None, str]], wait: int
) -> None:
    """Times so close that every border is met."""
    incidents = sorted(
        (
            TrueIncident(f"O{n:02d}", "RED", who, at, None if length is None else at + length)
            for n, (at, length, who) in enumerate(spans)
        ),
        key=incident_order,
    )
    assert books._messages(incidents, wait) == judge._messages(incidents, wait)


def test_messages_gather_what_opens_in_time_and_is_still_open(town: Town) -> None:
    def out(at: float, outlet: str, first: int, back: float | None = None) -> list[dict[str, Any]]:
        story = [delivery(-900, outlet, first), leaving("return", at, outlet, first)]
        return [*story, delivery(back, outlet, first)] if back is not None else story

    path = town(
        *out(-600, "A", RED),  # opens the group
        *out(-540, "A", BLUE),  # in time by a hair
        *out(-570, "B", RED + 1, back=-540),  # refilled as the group is sent
        *out(-539.999, "B", BLUE + 1, back=-300),  # opens the next group
    )
    truth = fold_truth(path, group_wait_ms=60_000)
    assert truth.messages == [
        TrueMessage("W1", ms(-540), (("A", "RED", ms(-600)), ("A", "BLUE", ms(-540)))),
        TrueMessage("W1", ms(-479.999), (("B", "BLUE", ms(-539.999)),)),
    ]
    one_each = fold_truth(path, group_wait_ms=0).messages
    assert [len(m.incidents) for m in one_each] == [1, 1, 1, 1]


GOOD = delivery(0, "A")
BAD = [
    (b"{", "malformed"),
    (b"[]", "malformed"),
    (b"\xff\xfe", "malformed"),
    (GOOD | {"type": "gift"}, "unknown_type"),
    (GOOD | {"at": "2026-03-02"}, "invalid_field: at"),
    (GOOD | {"at": "2026-03-02T10:00:00"}, "invalid_field: at"),
    (GOOD | {"event_id": ""}, "invalid_field: event_id"),
    (GOOD | {"count": 0}, "invalid_field: count"),
    (GOOD | {"count": True}, "invalid_field: count"),
    (GOOD | {"count": "1"}, "invalid_field: count"),
    (GOOD | {"first_iccid": "123"}, "invalid_field: first_iccid"),
    (GOOD | {"outlet_id": "Z"}, "unknown_outlet"),
    (GOOD | {"wholesaler_id": "Z"}, "unknown_wholesaler"),
    (GOOD | {"first_iccid": str(BLUE + 10)}, "unknown_sim"),
    (GOOD | {"first_iccid": str(BLUE + 9), "count": 2}, "unknown_sim"),
    (GOOD | {"first_iccid": str(RED), "count": 10**17}, "unknown_sim"),
    (transfer(0, "A", "Z"), "unknown_outlet"),
    (leaving("return", 0, "Z"), "unknown_outlet"),
    (activation(0, 46000), "invalid_field: imsi"),
    (activation(0, 460000000000000) | {"type": "registration"}, "invalid_field: complete"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_bad_events_are_dead_letters(town: Town, line: Any, reason: str) -> None:
    truth = fold_truth(town(GOOD, line))
    assert truth.dead_letters == [("events/all.ndjson", 2, reason)]
    assert truth.stock == {("A", "RED"): 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("c1,only,three", "malformed"),
        ("", "malformed"),
        (row("c1", 0, 460000000000000).strip() + ",more", "malformed"),
        (row("c1", 0, 46000).strip(), "invalid_field: imsi"),
        (
            row("c1", 0, 460000000000000).strip().replace("2026-03", "2026-13"),
            "invalid_field: start_time",
        ),
        (row("c1", 0, 460000000000000).strip().replace("+00:00", ""), "invalid_field: start_time"),
        (
            row("c1", 0, 460000000000000).strip().replace(",60,", ",sixty,"),
            "invalid_field: duration_s",
        ),
        (row("", 0, 460000000000000).strip(), "invalid_field: call_id"),
    ],
)
def test_bad_call_records_are_dead_letters(town: Town, line: str, reason: str) -> None:
    path = town(delivery(-5, "A"), cdr=f"{row('c0', 0, 460009999999999)}{line}\n")
    truth = fold_truth(path)
    assert truth.dead_letters == [("cdr/s/1.csv", 3, reason)]
    assert truth.stock == {("A", "RED"): 1}


def test_calls_are_read_in_every_dress(town: Town) -> None:
    local = "c1,2026-03-02T20:00:05.000+08:00,460000000000000,,60,T.1,19\r\n"
    west = 'c2,2026-03-02T11:00:06-01:00,460000000000001,"8,6",60,T.1,19\n'
    call = {
        "type": "call",
        "call_id": "c3",
        "start_time": iso(7),
        "imsi": "460000000000002",
        "msisdn": "86",
        "duration_s": 3,
        "cell_id": "T.1",
        "charge_fen": 0,
    }
    path = town(delivery(0, "A", count=6), call, cdr=local + west)
    (path / "cdr" / "p").mkdir()
    start = pl.Series([_NOON + timedelta(seconds=8)], dtype=pl.Datetime("ms", "UTC"))
    base = {"msisdn": ["86"], "duration_s": [1], "cell_id": ["T.1"], "charge_fen": [0]}
    frame = pl.DataFrame(base | {"call_id": ["c4"], "imsi": ["460000000000003"]})
    frame.with_columns(start_time=start).write_parquet(path / "cdr" / "p" / "1.parquet")
    header = "call_id,start_time,imsi,msisdn,duration_s,cell_id,charge_fen\n"
    packed = gzip.compress((header + row("c5", 9, 460000000000004)).encode())
    (path / "cdr" / "s" / "2.csv.gz").write_bytes(packed)
    for imsi, at in enumerate((5, 6, 7, 8, 9)):
        (path / "events" / f"{imsi}.ndjson").write_text("")
        truth = fold_truth(path)
        assert truth.stock == {("A", "RED"): 1}, at
    last = leaving("return", 9.5, "A", RED + 5)
    path = town(delivery(0, "A", count=6), call, last, cdr=local + west)
    assert fold_truth(path).incidents == [TrueIncident("A", "RED", "W1", ms(9.5), None)]


def test_rows_beyond_the_bound_are_counted(town: Town) -> None:
    path = town(
        cdr="".join(row(f"c{i}", at, 460009999999999) for i, at in enumerate((0, 60, 0, 59)))
    )
    assert fold_truth(path, disorder_ms=60_000).beyond_bound == 0
    assert fold_truth(path, disorder_ms=59_999).beyond_bound == 1


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"assignments\.csv is missing"):
        fold_truth(tmp_path)


def judged(path: Path, plan: CityPlan) -> Any:
    return fold_truth(path, group_wait_ms=plan.group_wait_s * 1000, disorder_ms=plan.disorder_ms)


def test_the_city_and_the_judge_agree(made: Made) -> None:
    assert judged(made.path, made.plan) == made.truth


@pytest.mark.parametrize("seed", range(20, 32))
def test_they_agree_whatever_the_seed(seed: int, tmp_path: Path) -> None:
    plan = CityPlan(
        seed=seed,
        outlets=30 + 5 * (seed - 20),
        cdrs=1_500,
        days=1 + seed % 2,
        territories=1 + seed % 4,
        wholesalers=4 + seed % 3,
        switches=1 + seed % 3,
        duplicates=0.2,
        disorder_s=seed % 4 * 30,
        group_wait_s=seed % 3 * 90,
    )
    simulate(plan, tmp_path)
    assert judged(tmp_path, plan) == read_truth(tmp_path)


def test_they_agree_on_a_city_of_daily_files(tmp_path: Path) -> None:
    plan = CityPlan(seed=33, outlets=15, cdrs=1_500, days=12, territories=2, wholesalers=4)
    simulate(plan, tmp_path)
    assert judged(tmp_path, plan) == read_truth(tmp_path)
    sources = [tmp_path / "events", *(tmp_path / "cdr").iterdir()]
    assert [len([*source.iterdir()]) for source in sources] == [12, 12, 12]


@pytest.mark.parametrize(
    "change",
    [
        {"shuffle": True},
        {"shuffle": False, "double": True},
        {"shuffle": False, "split": 7},
        {"shuffle": True, "double": True, "split": 100},
    ],
    ids=str,
)
def test_telling_it_differently_changes_nothing(
    made: Made, tmp_path: Path, change: dict[str, Any]
) -> None:
    told = tmp_path / "told"
    vary(made.path, told, seed=1, disorder_ms=made.plan.disorder_ms, **change)
    verdict, truth = judged(told, made.plan), made.truth
    assert verdict.dead_reasons() == truth.dead_reasons()
    for part in ("stock", "incidents", "messages", "anomalies", "beyond_bound"):
        assert getattr(verdict, part) == getattr(truth, part), part


def test_it_is_really_told_differently(made: Made, tmp_path: Path) -> None:
    told = tmp_path / "told"
    vary(made.path, told, shuffle=True, double=True, split=5)
    before = sum(1 for p in (made.path / "events").iterdir())
    after = sorted(p.name for p in (told / "events").iterdir())
    assert before != len(after) == 5
    assert any(name.endswith(".gz") for name in after)

    def size(path: Path) -> int:
        return sum(
            len(gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes())
            for p in (path / "events").iterdir()
        )

    assert 1.8 * size(made.path) < size(told) < 2 * size(made.path)
