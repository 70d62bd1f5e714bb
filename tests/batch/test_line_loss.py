"""Line loss against plain sums, on random grids and on everything that goes wrong with meters."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from batch_harness import compute_tables, reasons, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.plain_batch import plain_line_loss

from pipelines.core.energy import line_loss as loss
from pipelines.core.energy import overlaps

START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
END = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
UNIT = ("unit_id", "level", "parent_id", "name")
BOUNDARY = ("meter_id", "unit_id", "direction", "start", "end", "kwh", "quality")
CUSTOMER = (
    "meter_id", "customer_id", "unit_id", "start", "end", "kwh", "quality", "register", "direction"
)  # fmt: skip
BEFORE = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp() * 1000)
Row = dict[str, Any]


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def unit(unit_id: str, parent_id: str = "", level: str = "feeder") -> Row:
    return {"unit_id": unit_id, "level": level, "parent_id": parent_id, "name": ""}


def reading(unit_id: str, kwh: float | None, meter: str = "", **more: Any) -> Row:
    return {
        "meter_id": meter or f"m-{unit_id}",
        "customer_id": "c",
        "unit_id": unit_id,
        "direction": "in",
        "start": START,
        "end": END,
        "kwh": kwh,
        "quality": "measured",
        "register": None,
    } | more


def write(root: Path, units: list[Row], boundary: list[Row], customer: list[Row]) -> None:
    def told(rows: list[Row]) -> list[Row]:
        return [r | {"start": iso(r["start"]), "end": iso(r["end"])} for r in rows]

    write_csv(root / "utility/grid_units.csv", UNIT, units)
    write_csv(root / "utility/boundary_readings.csv", BOUNDARY, told(boundary))
    ways = {"in": None, "out": None}  # of the boundary only
    sold = [r | {"direction": ways.get(r["direction"], r["direction"])} for r in told(customer)]
    write_csv(root / "utility/customer_readings.csv", CUSTOMER, sold)


def run(root: Path, **how: Any) -> dict[str, list[Row]]:
    return compute_tables("line-loss", root, "2026-01", **how)


def by_unit(tables: dict[str, list[Row]]) -> dict[str, Row]:
    return {row["unit_id"]: row for row in tables["line_loss"]}


def a_grid(rng: random.Random) -> tuple[list[Row], list[Row], list[Row]]:
    """A forest of units with readings: straddling, repeated, overlapping, unusable ones too."""
    units = [unit(f"u{i}", f"u{rng.randrange(i)}" if i and rng.random() < 0.9 else "")
             for i in range(rng.randint(1, 9))]  # fmt: skip

    def readings(meters: int, *ways: str) -> list[Row]:
        rows = []
        for _ in range(rng.randint(0, 4 * meters)):
            start = START + rng.randint(-300, 750) * HOUR + rng.choice((0, 0, 1, 1500))
            rows.append(
                reading(
                    rng.choice([u["unit_id"] for u in units] + ["nowhere"]),
                    rng.choice([round(rng.uniform(0, 500), 3), 0, None, -3.5]),
                    f"m{rng.randrange(meters)}",
                    direction=rng.choice(ways),
                    register=rng.choice((None, "peak", "valley")) if "use" in ways else None,
                    start=start,
                    end=start + rng.choice((0, 1, 24, 24, 100, 900)) * HOUR + rng.choice((0, 7)),
                    quality=rng.choice(("measured", "measured", "estimated", "missing")),
                )
            )
            if rng.random() < 0.2:
                rows.append(dict(rows[-1]))
        return rows

    return units, readings(6, "in", "in", "out"), readings(12, "use", "use", "feed_in")


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_equals_the_plain_sums(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    units, boundary, customer = a_grid(rng)
    root = tmp_path_factory.mktemp("grid")
    write(root, units, boundary, customer)
    found = by_unit(run(root, parts=rng.choice((1, 2, 5))))
    wanted = plain_line_loss(units, boundary, customer, START, END, BEFORE)
    assert found.keys() == wanted.keys()
    for unit_id, figures in wanted.items():
        for name, value in figures.items():
            got = found[unit_id][name]
            if value is None:
                assert got is None, (unit_id, name)
            else:
                assert got == pytest.approx(float(value), rel=1e-6, abs=1e-6), (unit_id, name)


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_order_chunks_parts_and_kind_of_file_change_nothing(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    units, boundary, customer = a_grid(rng)
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    write(one, units, boundary, customer)
    for rows in (units, boundary, customer):
        rng.shuffle(rows)
    write(other, units, boundary, customer)
    text = pl.read_csv(other / "utility/customer_readings.csv", infer_schema=False)
    typed = text.with_columns(
        pl.col("start", "end").str.to_datetime("%+", time_unit="ms"),
        pl.col("kwh").cast(pl.Float64),
    )
    (other / "utility/customer_readings.csv").unlink()
    (other / "utility/customer_readings").mkdir()
    half = typed.height // 2
    typed[:half].write_parquet(
        other / "utility/customer_readings/a.parquet", row_group_size=max(1, half // 3)
    )
    text[half:].write_csv(other / "utility/customer_readings/b.csv")
    assert run(one)["line_loss"] == run(other, chunk_rows=1, parts=3)["line_loss"]


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_own_losses_add_up_to_the_loss_of_the_tree(seed: int) -> None:
    rng = random.Random(seed)
    units = {
        f"u{i}": loss.GridNode(f"u{i}", "feeder", f"u{rng.randrange(i)}" if i else "")
        for i in range(rng.randint(1, 30))
    }
    energy = {
        unit_id: loss.Energy(rng.randrange(10**15), rng.randrange(10**13)) for unit_id in units
    }
    rows = loss.line_loss(units, energy)
    assert sum(row.own_loss for row in rows if row.own_loss is not None) == rows[0].loss


def test_statuses_and_what_cannot_be_known(tmp_path: Path) -> None:
    units = [
        unit("R", "", "region"), unit("F", "R"), unit("G", "R"),
        unit("T", "F", "transformer_area"), unit("orphan", "gone"),
    ]  # fmt: skip
    boundary = [
        reading("R", 1000), reading("F", 400), reading("T", 100), reading("orphan", 50),
        reading("G", 0, quality="missing"),
    ]  # fmt: skip
    customer = [reading("T", 120), reading("F", 260, "m2"), reading("orphan", 49.9, "m3")]
    write(tmp_path, units, boundary, customer)
    found = by_unit(run(tmp_path))
    assert {u: found[u]["status"] for u in found} == {
        "R": "high", "F": "ok", "G": "skipped", "T": "negative", "orphan": "ok",
    }  # fmt: skip
    assert found["G"]["reason"] == "no supply reading"
    assert found["G"]["supplied_kwh"] is None
    assert found["R"]["own_loss_kwh"] is None
    assert "1 of 2 children" in found["R"]["reason"]
    assert found["F"]["own_loss_kwh"] == 400 - 100 - 260
    assert found["F"]["loss_rate"] == (400 - 380) / 400
    assert "gone is not among" in found["orphan"]["reason"]


def test_nothing_supplied_has_no_rate_and_nothing_sold_no_estimates(tmp_path: Path) -> None:
    write(tmp_path, [unit("N"), unit("E")], [reading("N", 0), reading("E", 9)], [reading("N", 3)])
    found = by_unit(run(tmp_path))
    assert (found["N"]["supplied_kwh"], found["N"]["loss_rate"]) == (0, None)
    assert (found["E"]["sold_total_kwh"], found["E"]["estimated_share"]) == (0, None)


def test_a_loop_is_told_and_skipped_and_what_hangs_below_it_counts(tmp_path: Path) -> None:
    units = [unit("A", "C"), unit("B", "A"), unit("C", "B"), unit("D", "A"), unit("S", "S")]
    write(tmp_path, units, [reading(u, 100) for u in "ABCDS"], [reading("D", 99)])
    found = by_unit(run(tmp_path))
    assert found["A"]["reason"] == found["C"]["reason"] == "the hierarchy has a loop: A > C > B > A"
    assert found["S"]["reason"] == "the hierarchy has a loop: S > S"
    assert [found[u]["status"] for u in "ABCDS"] == [*["skipped"] * 3, "ok", "skipped"]
    assert found["A"]["supplied_kwh"] == 100
    assert found["A"]["loss_kwh"] is None
    assert found["D"]["loss_kwh"] == 1


def test_readings_that_clash_are_told_and_the_measured_one_counts(tmp_path: Path) -> None:
    estimate = reading("T", 900, quality="estimated")
    write(
        tmp_path,
        [unit("T")],
        [reading("T", 500)],
        [estimate, reading("T", 400, start=START + HOUR), reading("T", 400, start=START + HOUR)],
    )
    tables = run(tmp_path)
    assert by_unit(tables)["T"]["sold_kwh"] == 400
    assert tables["batch_rejects"] == [
        {
            "job": "line-loss",
            "period": "2026-01",
            "source": "utility/customer_readings.csv",
            "row": 1,
            "reason": "overlap: meter m-T has another reading of that time in"
            " utility/customer_readings.csv row 2",
        }
    ]


def test_what_cannot_be_used_is_told_with_its_row(tmp_path: Path) -> None:
    good = reading("T", 10)
    write(
        tmp_path,
        [unit("T"), unit("T"), unit("T", "X"), unit("L", "", "village")],
        [good],
        [
            good | {"unit_id": "nowhere", "meter_id": "a"},
            good | {"kwh": -1, "meter_id": "b"},
            good | {"kwh": None, "meter_id": "c"},
            good | {"end": START, "meter_id": "d"},
            good | {"quality": "guessed", "meter_id": "e"},
            good | {"kwh": None, "quality": "missing", "meter_id": "f"},
            good | {"kwh": -1, "start": END, "end": END + HOUR, "meter_id": "g"},
        ],
    )
    tables = run(tmp_path)
    told = {(r["source"].split("/")[1], r["row"]): r["reason"] for r in tables["batch_rejects"]}
    assert told == {
        (
            "grid_units.csv",
            3,
        ): "conflict: unit_id T has other values in utility/grid_units.csv row 1",
        ("grid_units.csv", 4): "invalid_field: level: 'village' is not one of"
        " region, voltage, feeder, transformer_area",
        ("customer_readings.csv", 1): "unknown_unit: nowhere",
        ("customer_readings.csv", 2): "negative_kwh: the meter ran backwards or rolled over",
        ("customer_readings.csv", 3): "invalid_field: kwh: missing",
        ("customer_readings.csv", 4): "invalid_field: end: not after start",
        ("customer_readings.csv", 5): "invalid_field: quality: 'guessed' is not one of"
        " measured, estimated, missing",
    }
    assert tables["_rows_read"] == [{"rows": 12}]
    assert by_unit(tables)["T"]["sold_kwh"] == 0


def test_the_same_file_twice_counts_once(tmp_path: Path) -> None:
    rows = [reading("T", 7.5, f"m{i}") for i in range(40)]
    write(tmp_path, [unit("T")], [reading("T", 400)], rows)
    once = run(tmp_path)
    copy = (tmp_path / "utility/customer_readings.csv").read_text()
    (tmp_path / "utility/customer_readings.csv").unlink()
    (tmp_path / "utility/customer_readings").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "utility/customer_readings" / name).write_text(copy)
    twice = run(tmp_path, parts=4)
    assert twice["line_loss"] == once["line_loss"]
    assert reasons(twice) == []


def test_thresholds_come_from_a_file_and_months_from_a_place(tmp_path: Path) -> None:
    shift = 8 * HOUR
    span = {"start": START - shift, "end": END - shift}
    write(tmp_path, [unit("T")], [reading("T", 100, **span)], [reading("T", 97, **span)])
    (tmp_path / "utility/loss_thresholds.csv").write_text("level,threshold\nfeeder,0.02\n")
    assert by_unit(run(tmp_path))["T"]["supplied_kwh"] < 100
    there = by_unit(run(tmp_path, args=["--time-zone=Asia/Shanghai"]))["T"]
    assert there["supplied_kwh"] == 100
    assert there["status"] == "high"


@given(st.data())
def test_fingerprints_miss_no_overlap(data: st.DataObject) -> None:
    spans = st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(1, 8))
    chunks = data.draw(st.lists(st.lists(spans, max_size=6), min_size=1, max_size=4))
    tick = data.draw(st.integers(1, 3))  # times are multiples of it, or not
    prints = overlaps.Prints()
    found: set[int] = set()
    told = []
    for chunk in chunks:
        meters = np.array([m for m, _, _ in chunk], np.uint64)
        starts = np.array([s // tick for _, s, _ in chunk], np.int64)
        ends = np.array([-(-(s + n) // tick) for _, s, n in chunk], np.int64)
        fewer, suspects = prints.compared(prints.of(meters, starts, ends))
        found |= set(suspects.tolist())
        told.append(fewer)
    found |= set(prints.compared(np.sort(np.concatenate(told)))[1].tolist())
    rows = [row for chunk in chunks for row in chunk]
    clashing = {
        m
        for i, (m, s, n) in enumerate(rows)
        for other, t, k in rows[:i]
        if m == other and s < t + k and t < s + n
    }
    assert found >= clashing
    if tick == 1:
        assert found == clashing


def test_overlaps_at_the_border_of_what_is_compared_at_a_time() -> None:
    prints = overlaps.Prints()
    meters = np.repeat(np.arange(40_000, dtype=np.uint64), 2)
    starts = np.tile(np.array([0, 10]), 40_000)
    ends = starts + 10
    fewer, suspects = prints.compared(prints.of(meters, starts, ends))
    assert len(fewer) == 80_000
    assert len(suspects) == 0
    ends[::2] += 1
    assert len(prints.compared(prints.of(meters, starts, ends))[1]) == 40_000


def test_the_tick_is_the_longest_that_the_times_allow() -> None:
    for times, tick in (([0, 1_800_000], 900_000), ([60_000], 60_000), ([60_000, 1], 1_000)):
        assert overlaps.tick_of([np.array(times)]) == tick
    for tick in overlaps.TICKS:
        assert overlaps.Prints(tick).meter_bits + overlaps.Prints(tick).time_bits == 63
        assert tick << overlaps.Prints(tick).time_bits >= 31 * 86_400_000 + 3_600_000
    assert overlaps.Prints(900_000).meter_bits == 51


def test_theory_stands_beside_the_statistics(tmp_path: Path) -> None:
    write(tmp_path, [unit("T")], [reading("T", 744_000)], [reading("T", 730_000)])
    (tmp_path / "utility/grid_lines.csv").write_text(
        "unit_id,resistance_ohm,voltage_kv,power_factor,shape_factor,no_load_kw\nT,2,10,1,1,0.5\n"
    )
    row = by_unit(run(tmp_path))["T"]
    # 1,000 kW at 10 kV are 57.735 A: 3 × 57.735² × 2 Ω = 20 kW, and 0.5 kW of iron, for 744 h.
    assert row["theoretical_kwh"] == pytest.approx(20.5 * 744)
    assert row["unexplained_kwh"] == pytest.approx(14_000 - 20.5 * 744)


def test_meters_that_break_from_their_past_are_listed(tmp_path: Path) -> None:
    month = {0: (START, END)}
    for age in range(1, 8):
        start = month[age - 1][0]
        first = datetime.fromtimestamp(start / 1000 - 86_400, UTC).replace(day=1)
        month[age] = (int(first.timestamp() * 1000), start)
    rows = []
    for meter, now, before in (
        ("thief", 30, 200), ("dead", 0, 90), ("steady", 95, 100), ("cold", 61, 100),
        ("mild", 102, 100), ("calm", 99, 100), ("boom", 900, 100), ("new", 10, None),
    ):  # fmt: skip
        for age, (start, end) in month.items():
            if age and (before is None or (meter == "new" and age > 2)):
                continue
            kwh = now if age == 0 else (before or 0) + age % 3
            rows.append(reading("T", kwh, meter, start=start, end=end))
    rows += rows[:3]
    write(tmp_path, [unit("T")], [], rows)
    tables = compute_tables("meter-suspects", tmp_path, "2026-01")
    found = {row["meter_id"]: row for row in tables["meter_suspects"]}
    assert found.keys() == {"thief", "dead", "boom"}
    assert found["thief"]["reasons"].startswith("85% less than its 7 months before; neighbours -")
    assert found["dead"]["reasons"].startswith("nothing used; neighbours ")
    assert found["boom"]["change"] == pytest.approx(900 / 101 - 1)
    assert found["thief"]["usual_kwh"] == pytest.approx(201)


def run_with(root: Path, *args: str, **how: Any) -> dict[str, Row]:
    return by_unit(run(root, args=args, **how))


def test_a_gap_is_not_a_loss(tmp_path: Path) -> None:
    units = [unit("F"), unit("all", "F"), unit("gap", "F"), unit("bad", "F"), unit("none", "F")]
    customer = [reading(u, 95, f"{u}{n}") for u in ("all", "gap", "bad") for n in range(9)]
    customer += [
        reading("all", 95, "all9"),
        reading("gap", None, "gap9", quality="missing"),
        reading("bad", -9, "bad9"),
    ]
    boundary = [reading(u, 1000, f"b{u}") for u in ("all", "gap", "bad", "none")]
    write(tmp_path, units, [reading("F", 4000), *boundary], customer)
    found = run_with(tmp_path)
    assert {u: (row["status"], row["read_share"], row["meters"]) for u, row in found.items()} == {
        "all": ("ok", 1, 10), "gap": ("incomplete", 0.9, 10), "bad": ("incomplete", 0.9, 10),
        "none": ("high", None, 0), "F": ("incomplete", 28 / 30, 30),
    }  # fmt: skip
    assert found["gap"]["loss_kwh"] == 1000 - 9 * 95
    assert found["gap"]["reason"].startswith("9 of 10 meters read: the loss may be a gap; ")
    assert run_with(tmp_path, "--least-read=0.9")["gap"]["status"] == "high"


def test_meters_read_last_month_and_not_now_are_known_and_listed(tmp_path: Path) -> None:
    last = {"start": BEFORE, "end": START}
    customer = [
        reading("T", 40, "stays", **last), reading("T", 41, "stays"),
        reading("T", 12.5, "lost", **last), reading("T", 7.5, "lost", register="peak", **last),
        reading("T", None, "never", quality="missing", **last),
        reading("T", 5, "moved", **last), reading("U", 5, "moved"),
        reading("T", 9, "old", start=BEFORE - HOUR, end=BEFORE),
    ]  # fmt: skip
    write(tmp_path, [unit("T"), unit("U")], [reading("T", 100), reading("U", 10)], customer)
    for parts in (1, 3):
        tables = run(tmp_path, parts=parts, chunk_rows=2)
        found = by_unit(tables)
        assert (found["T"]["meters"], found["T"]["meters_read"]) == (2, 1)
        assert (found["U"]["meters"], found["U"]["meters_read"]) == (1, 1)
        assert [
            (r["unit_id"], r["meter_id"], r["kwh_before"]) for r in tables["unread_meters"]
        ] == [("T", "lost", 20)]


def test_registers_add_up_and_feed_in_is_supply(tmp_path: Path) -> None:
    customer = [
        reading("T", 30, "m", register="peak"), reading("T", 20, "m", register="flat"),
        reading("T", 10, "m", register="valley"), reading("T", 25, "m", direction="feed_in"),
        reading("T", 3, "m", register="peak", start=START + HOUR),  # overlaps: refused
    ]  # fmt: skip
    write(tmp_path, [unit("T")], [reading("T", 40)], customer)
    tables = run(tmp_path)
    row = by_unit(tables)["T"]
    assert (row["supplied_kwh"], row["sold_kwh"], row["loss_kwh"]) == (65, 60, 5)
    assert (row["meters"], row["meters_read"]) == (1, 1)
    assert reasons(tables) == ["overlap"]


@pytest.mark.parametrize("end", ["T24:00:00Z", "T24:00Z", "T24:00:00.000+00:00"])
def test_a_day_may_end_at_twenty_four(end: str, tmp_path: Path) -> None:
    write(tmp_path, [unit("T")], [reading("T", 100)], [reading("T", 97)])
    file = tmp_path / "utility/customer_readings.csv"
    file.write_text(file.read_text().replace(iso(END), f"2026-01-31{end}"))
    tables = run(tmp_path)
    assert (by_unit(tables)["T"]["sold_kwh"], tables["batch_rejects"]) == (97, [])


@pytest.mark.parametrize("end", ["2026-01-31T24:01:00Z", "2026-01-31T25:00:00Z"])
def test_no_other_hour_is_beyond_the_day(end: str, tmp_path: Path) -> None:
    write(tmp_path, [unit("T")], [reading("T", 100)], [reading("T", 97)])
    file = tmp_path / "utility/customer_readings.csv"
    file.write_text(file.read_text().replace(iso(END), end))
    assert reasons(run(tmp_path)) == ["invalid_field"]


@pytest.mark.parametrize("side", ["boundary", "customer"])
def test_a_month_that_is_not_over_yet_is_incomplete(side: str, tmp_path: Path) -> None:
    tenth = {"end": START + 10 * 24 * HOUR}
    short = {"boundary": {}, "customer": {}} | {side: tenth}
    write(
        tmp_path,
        [unit("T")],
        [reading("T", 100, **short["boundary"])],
        [reading("T", 1, **short["customer"])],
    )
    row = by_unit(run(tmp_path))["T"]
    assert row["status"] == "incomplete"
    assert row["reason"].startswith("readings until 2026-01-11T00:00+00:00 only; loss rate over")


@pytest.mark.parametrize(
    "customer", [[], [{"quality": "missing"}], [{"start": END, "end": END + HOUR}]]
)
def test_a_month_without_any_customers_reading_is_no_loss(
    customer: list[Row], tmp_path: Path
) -> None:
    write(tmp_path, [unit("T")], [reading("T", 100)], [reading("T", 1, **how) for how in customer])
    row = by_unit(run(tmp_path))["T"]
    assert (row["loss_rate"], row["status"]) == (1, "incomplete")
