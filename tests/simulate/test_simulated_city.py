"""What any made city must be: the same for the same plan, plausible, in bounds, full of trouble."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import phonenumbers
import polars as pl
import pytest
from simulate_harness import Made

from pipelines.simulate import CityPlan, simulate
from pipelines.simulate.calls import rows_a_slice
from schemas.errors import InputError, UsageError

KINDS = {
    "active_before_delivery",
    "delivered_after_use",
    "delivered_twice",
    "moved_without_transfer",
    "left_after_use",
    "not_at_outlet",
}
REASONS = {
    "malformed",
    "unknown_type",
    "invalid_field",
    "unknown_outlet",
    "unknown_wholesaler",
    "unknown_sim",
}


def table(made: Made, name: str) -> list[dict[str, str]]:
    with (made.path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()


def good_lines(made: Made, folder: str, pattern: str) -> dict[str, list[bytes]]:
    """The usable lines of each file, in the order of the names."""
    dead = {letter[:2] for letter in made.truth.dead_letters}
    found: dict[str, list[bytes]] = {}
    for path in sorted((made.path / folder).glob(pattern)):
        file = path.relative_to(made.path).as_posix()
        found[file] = [row for n, row in enumerate(lines(path), 1) if (file, n) not in dead]
    return found


def events(made: Made) -> list[dict[str, Any]]:
    return [json.loads(row) for rows in good_lines(made, "events", "*").values() for row in rows]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_plan_writes_the_same_bytes(made: Made, tmp_path: Path) -> None:
    simulate(made.plan, tmp_path)
    assert files(tmp_path) == files(made.path)


def test_another_seed_is_another_city(tmp_path: Path) -> None:
    for seed in (1, 2):
        plan = CityPlan(seed=seed, outlets=30, cdrs=100, territories=2, wholesalers=4)
        simulate(plan, tmp_path / str(seed))
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in ("truth/incidents.csv", "reference/outlets.csv"))


def test_when_it_is_heard_of_changes_nothing_that_is_true(tmp_path: Path) -> None:
    plan = CityPlan(
        seed=4, outlets=40, days=2, cdrs=2_000, territories=2, wholesalers=4, bad_lines=0,
        duplicates=0, cdr_format="csv",
    )  # fmt: skip
    heard_late = replace(plan, calls_by="end", late_papers=0.3)
    for folder, one in (("punctual", plan), ("late", heard_late)):
        simulate(one, tmp_path / folder)
    punctual, late = (files(tmp_path / name) for name in ("punctual", "late"))
    differ = {name for name in punctual if punctual[name] != late[name]}
    assert {name.split("/")[0] for name in differ} == {"events", "cdr"}
    assert sorted(_rows(punctual)) == sorted(_rows(late))


def _rows(city: dict[str, bytes]) -> list[bytes]:
    """The lines of all feeds in the order in which they were written."""
    return [
        line
        for name, content in city.items()
        if name.startswith(("events/", "cdr/"))
        for line in (gzip.decompress(content) if name.endswith(".gz") else content).splitlines()
    ]


@pytest.mark.parametrize("calls_by", ["start", "end"])
def test_switches_write_calls_when_they_start_or_end(calls_by: str, tmp_path: Path) -> None:
    plan = CityPlan(
        seed=5, outlets=20, cdrs=3_000, territories=1, wholesalers=1, switches=2, bad_lines=0,
        duplicates=0, cdr_format="csv", disorder_s=0, calls_by=calls_by,  # type: ignore[arg-type]
    )  # fmt: skip
    simulate(plan, tmp_path / "city")
    for switch in sorted((tmp_path / "city/cdr").iterdir()):
        calls = pl.concat([pl.read_csv(file) for file in sorted(switch.iterdir())])
        start = calls["start_time"].str.to_datetime(time_zone="UTC").dt.timestamp("ms")
        end = start + calls["duration_s"] * 1_000
        assert (end if calls_by == "end" else start).is_sorted()
        assert start.is_sorted() == (calls_by == "start")


def test_every_kind_of_trouble_occurs(made: Made) -> None:
    assert made.summary.anomalies.keys() == KINDS
    assert made.summary.dead_letters.keys() == REASONS
    assert 0 < made.summary.still_out < made.summary.stock_outs
    assert made.summary.messages


@pytest.mark.parametrize("seed", range(10, 16))
def test_so_it_does_in_the_smallest_city(seed: int, tmp_path: Path) -> None:
    plan = CityPlan(seed=seed, outlets=10, cdrs=0, territories=1, wholesalers=1, switches=1)
    summary = simulate(plan, tmp_path)
    assert summary.anomalies.keys() == KINDS
    assert summary.dead_letters.keys() == REASONS
    assert summary.stock_outs


def test_stock_is_what_came_less_what_went(made: Made) -> None:
    """Counted from the papers and the anomalies, without following a single SIM."""
    by_id = {e["event_id"]: e for e in events(made)}
    counts = Counter[str]()
    for event in by_id.values():
        counts[event["type"]] += event.get("count", 0)
    wrong = Counter[str]()
    for anomaly in made.truth.anomalies:
        kind = by_id[anomaly.event_id]["type"] if anomaly.event_id in by_id else "use"
        wrong["use" if anomaly.kind == "active_before_delivery" else kind] += 1
    came = counts["delivery"] - wrong["delivery"]
    went = counts["return"] + counts["write_off"] - wrong["return"] - wrong["write_off"]
    used = made.summary.first_uses - wrong["use"]
    assert sum(made.truth.stock.values()) == came - went - used
    assert min(made.truth.stock.values()) == 0
    assert max(made.truth.stock.values()) > 0


def test_incidents_are_spans_that_do_not_touch(made: Made) -> None:
    last: dict[tuple[str, str], int] = {}
    for incident in made.truth.incidents:
        shelf = incident[:2]
        assert incident.opened_at > last.get(shelf, 0)
        last[shelf] = 2**62 if incident.closed_at is None else incident.closed_at
        assert last[shelf] > incident.opened_at
    still_out = {i[:2] for i in made.truth.incidents if i.closed_at is None}
    assert {shelf for shelf, on_hand in made.truth.stock.items() if not on_hand} == still_out


def test_an_outlet_that_nobody_holds_runs_dry_too(made: Made) -> None:
    held = {row["outlet_id"] for row in table(made, "reference/assignments")}
    every = {row["outlet_id"] for row in table(made, "reference/outlets")}
    assert every - held
    nobodys = {i.outlet_id for i in made.truth.incidents if not i.wholesaler_id}
    assert nobodys <= every - held


def test_no_row_comes_later_than_the_bound(made: Made) -> None:
    sources: dict[str, list[int]] = {"events": [ms(e["at"]) for e in events(made)]}
    for switch in sorted((made.path / "cdr").iterdir()):
        times = sources.setdefault(switch.name, [])
        for rows in good_lines(made, f"cdr/{switch.name}", "*.csv*").values():
            times += [ms(row.split(b",")[1].decode()) for row in rows[1:]]
        for path in sorted(switch.glob("*.parquet")):
            times += pl.read_parquet(path)["start_time"].dt.epoch("ms").to_list()
    assert len(sources) == 1 + made.plan.switches
    for times in sources.values():
        newest, delays = 0, []
        for at in times:
            newest = max(newest, at)
            delays.append(newest - at)
        assert max(delays) < made.plan.disorder_ms
        assert max(delays) > made.plan.disorder_ms / 10  # The bound is used, not only kept.


def test_enough_calls_are_written_and_some_of_them_twice(made: Made) -> None:
    ids = Counter[str]()
    for switch in sorted((made.path / "cdr").iterdir()):
        for rows in good_lines(made, f"cdr/{switch.name}", "*.csv*").values():
            ids.update(row.split(b",")[0].decode() for row in rows[1:])
        for path in sorted(switch.glob("*.parquet")):
            rows = pl.read_parquet(path).filter(pl.col("imsi").str.contains(r"^\d{15}$"))
            ids.update(rows["call_id"].to_list())
    assert len(ids) >= made.plan.cdrs
    assert ids.total() == made.summary.cdrs
    assert max(ids.values()) == 2
    assert sum(n == 2 for n in ids.values()) > made.plan.duplicates / 2 * len(ids)
    again = Counter(e["event_id"] for e in events(made))
    assert again.total() == made.summary.events
    assert not {"F", "C"} & {event_id[0] for event_id in again}


def test_events_that_matter_have_a_millisecond_each(made: Made) -> None:
    papers = {e["event_id"]: e["at"] for e in events(made) if "first_iccid" in e}
    assert len(set(papers.values())) == len(papers)


def test_reference_tables_hold_together(made: Made) -> None:
    territories = {
        row["territory_id"]: row["parent_id"] for row in table(made, "reference/territories")
    }
    assert all(parent in territories for parent in territories.values() if parent)
    assert {row["territory_id"] for row in table(made, "reference/cells")} <= territories.keys()
    outlets = {row["outlet_id"]: row for row in table(made, "reference/outlets")}
    assert len(outlets) == made.plan.outlets
    assert {row["territory_id"] for row in outlets.values()} <= territories.keys()
    wholesalers = {row["wholesaler_id"] for row in table(made, "reference/wholesalers")}
    assert len(wholesalers) == made.plan.wholesalers
    assigned = table(made, "reference/assignments")
    assert {row["wholesaler_id"] for row in assigned} <= wholesalers
    takeovers = [row for row in assigned if ms(row["valid_from"]) > made.plan.start_ms]
    assert takeovers


def test_wholesalers_can_be_phoned(made: Made) -> None:
    rows = table(made, "reference/wholesalers")
    phones = [p for row in rows for p in (row["phone"], row["backup_phone"]) if p]
    assert len(set(phones)) == len(phones)
    for phone in phones:
        number = phonenumbers.parse(phone)
        assert phonenumbers.is_valid_number(number)
        assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
    assert {row["language"] for row in rows} <= {"zh", "en"}


def test_batches_are_cut_awkwardly_but_never_overlap(made: Made) -> None:
    rows = table(made, "reference/sim_batches")
    assert {len(row["first_iccid"]) for row in rows} == {19, 20}
    assert all(len(row["first_imsi"]) == 15 for row in rows)
    assert all(int(row["count"]) % 1_000 for row in rows)
    joints = Counter[str]()
    for field in ("first_iccid", "first_imsi"):
        spans = sorted((int(r[field]), int(r[field]) + int(r["count"]), r["sku"]) for r in rows)
        for (_, stop, sku), (start, _, other) in pairwise(spans):
            assert stop <= start
            joints[f"{field} {'same' if sku == other else 'other'}"] += stop == start
    assert joints["first_iccid same"] == joints["first_imsi same"] == 2
    assert joints["first_iccid other"] == 1
    assert joints["first_imsi other"] == 0


def test_diverting_outlets_sell_to_other_counties(tmp_path: Path) -> None:
    plan = CityPlan(seed=8, outlets=300, days=5, cdrs=0, territories=6, wholesalers=12)
    simulate(plan, tmp_path)
    made = Made(plan, tmp_path, None)  # type: ignore[arg-type]
    rows = table(made, "truth/diversion")
    sold = sum(int(row["sold"]) for row in rows)
    assert len(rows) >= 2
    assert sold > 30
    assert sum(int(row["used_elsewhere"]) for row in rows) > 0.7 * sold


def test_some_sims_are_given_up_and_the_others_go_on_calling(tmp_path: Path) -> None:
    plan = CityPlan(
        seed=9, outlets=15, days=25, cdrs=30_000, territories=2, wholesalers=4, bad_lines=0,
        cdr_format="csv",
    )  # fmt: skip
    simulate(plan, tmp_path)
    made = Made(plan, tmp_path, None)  # type: ignore[arg-type]
    sold = set[int]()
    for row in table(made, "reference/sim_batches"):
        first = int(row["first_imsi"])
        sold.update(range(first, first + int(row["count"])))
    days: dict[int, set[int]] = {}
    for file in (tmp_path / "cdr").rglob("*.csv"):
        for at, imsi in pl.read_csv(file, columns=["start_time", "imsi"]).iter_rows():
            if imsi in sold:
                days.setdefault(imsi, set()).add((ms(at) - plan.start_ms) // 86_400_000)
    early = [seen for seen in days.values() if min(seen) < 5]
    silent = sum(max(seen) < 18 for seen in early)
    assert len(early) > 50
    assert 0.02 < silent / len(early) < 0.3


def test_progress_goes_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    plan = CityPlan(seed=1, outlets=20, cdrs=500, territories=1, wholesalers=1)
    simulate(plan, tmp_path, lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen)
    assert seen[-1] == (500, 500)


@pytest.mark.parametrize("cdrs", [0, 1, 999, 2_000_000, 10_000_000, 1_000_000_000])
def test_no_slice_is_too_big_to_hold(cdrs: int) -> None:
    plan = CityPlan(cdrs=cdrs)
    slices = rows_a_slice(plan)
    assert sum(rows for _, _, rows in slices) == cdrs
    assert max(rows for _, _, rows in slices) <= 400_001
    assert slices[0][0] == plan.start_ms
    assert slices[-1][1] == plan.end_ms
    assert all(a[1] == b[0] for a, b in pairwise(slices))


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not an empty directory"):
        simulate(CityPlan(outlets=10, cdrs=0), tmp_path)
    assert files(tmp_path) == {"mine.txt": b"keep me"}


def test_a_city_cut_short_is_none_and_is_made_again(tmp_path: Path) -> None:
    plan = CityPlan(outlets=10, cdrs=100)

    def cut(done: int, all_of_them: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(plan, tmp_path / "city", cut)
    assert not (tmp_path / "city").exists()
    simulate(plan, tmp_path / "city")
    simulate(plan, tmp_path / "other")
    assert files(tmp_path / "city") == files(tmp_path / "other")
    assert {one.name for one in tmp_path.iterdir()} == {"city", "other"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("outlets", 0), ("days", 0), ("cdrs", -1), ("wholesalers", 3), ("cdr_format", "xls")],
)
def test_impossible_cities_are_refused(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field):
        CityPlan(**{field: value})  # type: ignore[arg-type]
