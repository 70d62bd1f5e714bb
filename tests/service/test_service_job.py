"""The job's figures equal those worked out plainly from the same events."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from oracle.plain_cases import PlainCases
from service_harness import CALENDARS, CASES, histories, rules_of

from schemas.fields import parse_time

sys.path.insert(0, str(Path(__file__).parent.parent / "batch"))
from batch_harness import compute_tables, write_csv

START, END = parse_time("2026-03-01T00:00:00Z"), parse_time("2026-04-01T00:00:00Z")


def exchange(root: Path, events: list[dict], targets: list[dict] = ()) -> None:
    """An exchange directory with these events."""
    tables = {
        "territories": "territory_id,name,parent_id",
        "cells": "cell_id,territory_id",
        "wholesalers": "wholesaler_id,name,phone,backup_phone,language",
        "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on",
        "assignments": "outlet_id,wholesaler_id,valid_from",
        "sim_batches": "batch_id,sku,first_iccid,first_imsi,count",
    }
    folder = root / "reference"
    for name, columns in tables.items():
        write_csv(folder / f"{name}.csv", columns.split(","), [])
    units = [{"unit_id": f"u{i}", "name": "U", "kind": "hall"} for i in (1, 2, 3)]
    write_csv(folder / "units.csv", ("unit_id", "name", "kind"), units)
    write_csv(folder / "service_targets.csv", ("unit_id", "kpi", "target"), targets)
    rules_of(folder, CALENDARS, CASES)
    lines = []
    for event in events:
        at = datetime.fromtimestamp(event["at"] / 1_000, UTC).isoformat()
        lines.append(json.dumps({k: v for k, v in event.items() if v is not None} | {"at": at}))
    (root / "events").mkdir()
    (root / "events" / "a.ndjson").write_text("\n".join(lines) + "\n")


def plain(root: Path, events: list[dict]) -> dict[tuple[str, str], tuple[float, float]]:
    """Figures of cases: (unit, kpi) → numerator, denominator."""
    from pipelines.ingest.service.rules import load_service_rules

    rules = load_service_rules(root / "reference")
    known = [event for event in events if event["at"] < END]
    day = 86_400_000
    over = min(END, (max(event["at"] for event in events) // day + 1) * day)
    cases, steps, _ = PlainCases(rules).all(known, END)
    opened = [e for e in known if e["type"] == "case_opened"]
    kind_of = {e["case_id"]: e["kind"] for e in opened}
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0])

    def add(unit: str, kpi: str, numerator: float, denominator: float = 1) -> None:
        sums[unit, kpi][0] += numerator
        sums[unit, kpi][1] += denominator

    for (case, step, _), (unit, _, due, end) in steps.items():
        if due is not None and START <= due < over:
            kept = end is not None and end <= due
            add(unit, f"on_time.{kind_of[case]}.{step}", kept)
    for case in cases.values():
        unit = case["unit_id"]
        if START <= case["opened_at"] < END:
            add(unit, "repeats", case["repeat_of"] != "")
        if case["answered_at"] is not None:
            hours = (case["answered_at"] - case["opened_at"]) / 3_600_000
            add(unit, "first_answer_h", hours)
        if case["closed_at"] is not None:
            add(unit, "commitments_kept", case["on_time"] == 1)
    return {key: (n, d) for key, (n, d) in sums.items()}


@settings(max_examples=4, phases=[Phase.generate])
@given(histories())
def test_figures_of_cases_are_those_worked_out_plainly(history: list[dict]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        exchange(root, history + history[:2])
        rows = compute_tables("service", root, "2026-03").get("service_kpis", [])
        found = {
            (row["unit_id"], row["kpi"]): (row["numerator"], row["denominator"])
            for row in rows
            if row["kpi"] != "case_satisfaction"
        }
        expected = plain(root, history)
        assert found.keys() == expected.keys()
        assert all(found[key] == pytest.approx(expected[key]) for key in expected)
        assert all(row["value"] == row["numerator"] / row["denominator"] for row in rows)


def test_what_falls_due_after_the_newest_event_is_not_late_yet(tmp_path: Path) -> None:
    """A visit is due half a working day after Monday, 5 o'clock in Chile: on Wednesday."""
    opened = parse_time("2026-03-23T20:00:00Z")
    event = {"type": "case_opened", "event_id": "e", "at": opened, "unit_id": "u1",
             "case_id": "c", "kind": "visit"}  # fmt: skip
    exchange(tmp_path / "cut", [event])
    told = {"type": "rating", "event_id": "r", "at": opened + 3 * 86_400_000, "unit_id": "u1"}
    exchange(tmp_path / "told", [event, told | {"satisfied": True}])
    kpis = {
        name: {
            row["kpi"]: row["value"]
            for row in compute_tables("service", tmp_path / name, "2026-03")["service_kpis"]
        }
        for name in ("cut", "told")
    }
    assert kpis == {
        "cut": {"repeats": 0},
        "told": {"repeats": 0, "on_time.visit.go": 0, "satisfaction": 1},
    }


def test_figures_of_halls_and_calls(tmp_path: Path) -> None:
    at = START + 3_600_000
    events: list[dict] = []

    def add(type_: str, /, **said: object) -> None:
        event = {"type": type_, "event_id": f"e{len(events)}", "at": at, "unit_id": "u1"}
        events.append(event | said)

    for seconds, again in ((3, False), (12, False), (12.5, True), (None, False)):
        add("contact", direction="in", answered_after_s=seconds, duration_s=60, second=again)
    add("contact", direction="out", answered_after_s=1, duration_s=5)
    add("inspection", form="f", item="a", points=3, of=5)
    add("inspection", form="f", item="b", points=0, of=5)
    for satisfied in (True, True, False):
        add("rating", satisfied=satisfied)
    add("exam", agent_id="a", kind="test", score=80)
    add("exam", agent_id="b", kind="monitoring", score=90)
    add("exam", agent_id="b", kind="test_call", score=70)
    add("exam", agent_id="a", kind="training", score=95)
    add("exam", agent_id="b", kind="training", attended=False)
    add("case_opened", case_id="c", kind="complaint")
    add("rating", satisfied=True, at=END)  # the next month's
    targets = [{"unit_id": "u1", "kpi": "calls", "target": 10},
               {"unit_id": "", "kpi": "inspection", "target": 0.9}]  # fmt: skip
    exchange(tmp_path, events + events[:1], targets)
    rows = compute_tables("service", tmp_path, "2026-03")["service_kpis"]
    found = {row["kpi"]: (row["value"], row["target"]) for row in rows}
    assert {kpi: (pytest.approx(value), target) for kpi, (value, target) in found.items()} == {
        "on_time.complaint.accept": (0, None),
        "repeats": (0, None),
        "calls_quick": (0.5, None),
        "calls_connected": (0.75, None),
        "call_length_s": (60, None),
        "call_quota": ((2 - 1) / 10, None),
        "call_quality": ((90 + 70) / 2 - 1, None),
        "call_training": (95 - 1, None),
        "inspection": (0.3, 0.9),
        "satisfaction": (2 / 3, 0.8),
        "test": (80, None),
    }
