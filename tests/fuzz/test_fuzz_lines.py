"""Spoiled lines of events and CDRs: each is what the models say it is, or a dead letter that says
what they say. Nothing vanishes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ingest_harness import (
    FIRST_ICCID,
    FIRST_IMSI,
    HEADER,
    SIMS,
    ListPost,
    call_json,
    call_row,
    put,
    read,
)
from spoil import MANY, spoiled_line

from pipelines.ingest.reading import files
from schemas import golden
from schemas.events import (
    Activation,
    Call,
    Event,
    Refused,
    Registration,
    Transfer,
    accept_call,
    accept_line,
)
from schemas.service.events import ServiceEvent

OUTLETS, WHOLESALERS = {"O1", "O2"}, {"W1"}
COLUMNS = HEADER.split(",")

#: What a line comes to: ("use", id, IMSI, ms), ("event", id), ("paper", id), ("stranger",),
#: ("letter", position, reason, payload).
Outcome = tuple[Any, ...]


def of_csv(line: bytes) -> Event:
    """One line of CDRs as the models see it."""
    try:
        fields = next(csv.reader([line.decode()], strict=True), [])
    except UnicodeDecodeError:
        raise Refused("malformed: not UTF-8; a mapping can give the encoding") from None
    except csv.Error:
        why = (
            "a carriage return stands within the line"
            if b"\r" in line
            else "its quotes do not come in pairs around whole fields"
        )
        raise Refused(f"malformed: not CSV: {why}") from None
    if len(fields) == len(COLUMNS) + 1 and not fields[-1]:
        fields.pop()
    if len(fields) != len(COLUMNS):
        raise Refused(f"malformed: {len(COLUMNS)} fields expected")
    return accept_call(dict(zip(COLUMNS, fields, strict=True)))


def ours(imsi: str) -> bool:
    return FIRST_IMSI <= int(imsi) < FIRST_IMSI + SIMS


def outcome(number: int, line: bytes, model: Callable[[bytes], Event]) -> Outcome | None:
    """What has to become of a line; None for an empty one."""
    line = line.removesuffix(b"\r")
    if not line.strip():
        return None
    try:
        event = model(line)
    except Refused as reason:
        return "letter", number, str(reason), line
    if isinstance(event, Call | Activation):
        found = ("use", event.event_id, int(event.imsi), event.at)
        return found if ours(event.imsi) else ("stranger",)
    if isinstance(event, Registration):
        return ("paper", event.event_id) if ours(event.imsi) else ("stranger",)
    kind = "service" if isinstance(event, ServiceEvent) else "event"
    why = unknown(event)
    return ("letter", number, why, line) if why else (kind, event.event_id)


def unknown(event: Any) -> str | None:
    """Which thing an event names that no reference table has."""
    if isinstance(event, ServiceEvent):  # There are neither units nor kinds of cases.
        if (unit := getattr(event, "unit_id", None)) is not None:
            return f"unknown_unit: {unit} is not in units.csv"
        step = getattr(event, "step", None)
        return step and f"unknown_step: no kind in cases.toml has a step {step}"
    if isinstance(event, Transfer):
        named = [event.from_outlet_id, event.to_outlet_id]
    else:
        named = [event.outlet_id]
    for outlet in named:
        if outlet not in OUTLETS:
            return f"unknown_outlet: {outlet} is not in outlets.csv"
    wholesaler = getattr(event, "wholesaler_id", "W1")
    if wholesaler not in WHOLESALERS:
        return f"unknown_wholesaler: {wholesaler} is not in wholesalers.csv"
    plain = event.first_iccid.isdigit() and len(event.first_iccid) == 19
    first = int(event.first_iccid) if plain else 0
    held = first >= FIRST_ICCID and first + event.count <= FIRST_ICCID + SIMS
    return None if held else (
        f"unknown_sim: sim_batches.csv does not hold {event.first_iccid} and the"
        f" {event.count - 1} after it"
    )  # fmt: skip


def came_out(post: ListPost, outsiders: int) -> Counter[Outcome]:
    """What became of the lines, placements once however they were cut."""
    found: Counter[Outcome] = Counter()
    found.update(("use", *use[:3]) for use in post.uses())
    found.update(("paper", row["event_id"]) for row in post.rows("registrations"))
    found.update(("letter", *letter[1:]) for letter in post.letters())
    found["stranger",] = outsiders
    return +found


def good_lines(kind: str) -> list[bytes]:
    if kind == "csv":
        return [call_row(i).encode() for i in range(50)]
    first = str(FIRST_ICCID).encode()
    lines = [line.replace(b"89860001234500000012", first) for line in golden.accepted()]
    lines += [call_json(i).encode() for i in range(40)]
    for number in range(4):
        delivery = {"type": "delivery", "event_id": f"d{number}", "at": "2026-03-02T08:00:00Z"}
        delivery |= {"outlet_id": "O1", "wholesaler_id": "W1", "count": 20}
        lines.append(json.dumps(delivery | {"first_iccid": str(FIRST_ICCID + number)}).encode())
    return lines


@pytest.mark.parametrize(
    ("name", "model"), [("events/a.ndjson", accept_line), ("cdr/s/a.csv", of_csv)]
)
def test_each_spoiled_line_is_what_the_models_say(
    city: Path, name: str, model: Callable[[bytes], Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 20_000)
    rng = Random(name)
    good = good_lines(Path(name).suffix.removeprefix("."))
    lines = [good[0]] + [spoiled_line(rng.choice(good), rng) for _ in range(MANY)]
    assert len(set(lines)) > 0.9 * MANY
    top = [HEADER.encode()] if name.endswith("csv") else []
    put(city / name, b"\n".join([*top, *lines]) + b"\n")
    post, report = read(city)
    numbered = enumerate(lines, start=1 + len(top))
    expected = Counter(filter(None, (outcome(n, line, model) for n, line in numbered)))
    placed = Counter({k: v for k, v in expected.items() if k[0] == "event"})
    service = Counter({k: v for k, v in expected.items() if k[0] == "service"})
    assert came_out(post, report.outsiders) == expected - placed - service
    assert {row["event_id"] for row in post.rows("case_events")} == {k[1] for k in service}
    assert report.placements == placed.total()
    assert {row["event_id"] for row in post.rows("placements")} == {k[1] for k in placed}
    assert report.rows == sum(bool(line.strip()) for line in lines)
    letters = [k for k in expected if k[0] == "letter"]
    assert 0.2 * MANY < len(letters) < 0.9 * MANY, "spoiled neither too little nor too much"
    assert all(": " in why and "\n" not in why for _, _, why, _ in letters)


def test_any_json_value_in_any_field(city: Path) -> None:
    values: list[Any] = [None, True, 0, -1, 1.5, 1e308, 2**63, 2**200, "", "0", "x" * 300, [], {},
                         "\0", "呼", "\u2028"]  # fmt: skip
    lines = []
    for line in good_lines("ndjson"):
        row = json.loads(line)
        lines += [json.dumps(row | {name: value}).encode() for name in row for value in values]
    put(city / "events/a.ndjson", b"\n".join(lines))
    post, report = read(city)
    expected = Counter(outcome(n, line, accept_line) for n, line in enumerate(lines, start=1))
    found = came_out(post, report.outsiders)
    assert found == Counter(
        {k: v for k, v in expected.items() if k and k[0] not in ("event", "service")}
    )
    assert report.rows == sum(bool(line.strip()) for line in lines)
