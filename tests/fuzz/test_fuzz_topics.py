"""Spoiled Kafka messages, as the workers take them: each is used or a dead letter; none stops one.

Damage is found by the checksum. The harder half seals what was spoiled with a checksum that fits,
as a foreign program would: what the workers then take must not make them fail, now or later.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from datetime import UTC
from random import Random
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from spoil import MANY, spoiled

from alerts.lifecycle.stage import WholesalerStage
from alerts.policy.policy import parse_policy
from alerts.policy.rules import AlertRules
from pipelines.core.service.case_stage import CaseStage
from pipelines.core.service.repeat_stage import RepeatStage
from pipelines.core.stage import Stage
from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.stream.messages import EnvelopeReader
from pipelines.stream.warehouse_worker import RESULT_TOPICS
from pipelines.warehouse.rows import to_rows
from schemas import topics
from schemas.envelope import KINDS, SCHEMAS, Header, pack, unpack
from schemas.errors import EnvelopeError
from schemas.service.rules import CaseKind, Limit, ServiceRules, StepRule

T = 1_772_409_600_000
FIRST = 460_001_000_001_000
RANGES = [SimRange(FIRST, 3_000, "prepaid", "8986001000000000000")]
RULES = AlertRules(
    60_000,
    parse_policy(
        """
        repeat_interval = "1h"
        resolved_notes = true
        quiet_hours = { start = "22:00", end = "06:00" }
        escalation = [{ after = "30m", to = "backup_phone" }]
        flapping = { incidents = 2, within = "6h" }
        """
    ),
    zone=UTC,
    wall=True,
)


def holder(outlet_id: str, at: int) -> str:
    return f"w-{outlet_id}"


#: A good row of each kind, for a number.
GOOD: dict[str, Callable[[int], dict[str, Any]]] = {
    "uses": lambda i: {"imsi": FIRST + i, "at": T + i, "event_id": f"c{i}"},
    "unregistered_uses": lambda i: {"imsi": FIRST + i * 10**6, "at": T + i, "event_id": f"c{i}"},
    "late_uses": lambda i: {"imsi": FIRST + i, "at": T, "event_id": f"c{i}", "known_at": T + i},
    "placements": lambda i: {
        "event_id": f"d{i}", "at": T + i, "known_at": T + i, "type": 1 + i % 4, "outlet_id": "o1",
        "to_outlet_id": "o2", "first_imsi": FIRST + i, "count": 1 + i,
    },
    "sim_ranges": lambda i: {
        "range_start": FIRST + i * 1_000, "sims": 1 + i, "sku": "prepaid",
        "first_iccid": "8986001000000000000", "luhn": False,
    },
    "sim_cards": lambda i: {
        "imsi": FIRST + i * 10**6, "iccid": f"89860010000000A{i:05}", "sku": "prepaid",
    },
    "movements": lambda i: {
        "movement_id": f"d{i}/8986/delivery", "at": T + i, "known_at": T + i, "outlet_id": "o1",
        "sku": "prepaid", "imsi": FIRST + i, "iccid": "8986001000000000000",
        "delta": 1 if i % 3 else -1, "cause": "delivery", "event_id": f"d{i}", "wholesaler_id": "w",
        "withdrawn": i % 5 == 4,
    },
    "incidents": lambda i: {
        "incident_id": f"o1/prepaid/c{i}", "outlet_id": "o1", "sku": "prepaid",
        "wholesaler_id": "w", "opened_at": T, "closed_at": T + i if i % 2 else None, "at": T + i,
        "restated_at": T + i if i % 3 else None, "withdrawn": i % 4 == 3,
    },
    "answers": lambda i: {
        "answer_id": f"n{i}", "at": T + i, "wholesaler_id": "w",
        "kind": ("status", "acknowledged", "delivering", "cannot")[i % 4], "message_id": f"m{i}",
        "incident_id": "", "detail": '{"status":"failed","by":1772409600000}', "by": "",
    },
    "alert_events": lambda i: {
        "incident_id": f"o1/prepaid/c{i}", "wholesaler_id": "w", "at": T + i, "kind": "waiting",
        "message_id": "", "detail": "{}", "by": "policy", "slot": f"waiting/{T}", "version": i,
    },
    "levels": lambda i: {
        "outlet_id": "o1", "sku": "prepaid", "on_hand": i, "wholesaler_id": "w", "as_of": T + i,
        "withdrawn": i == 3,
    },
    "messages": lambda i: {
        "message_id": f"m{i}", "wholesaler_id": "w", "incident_ids": ["i1", "i2"], "body": "呼",
        "segments": 1, "created_at": T, "status": "sent", "attempts": 1, "provider_id": "SM1",
        "error": "", "version": i,
    },
    "anomalies": lambda i: {
        "event_id": f"d{i}", "iccid": "8986", "kind": "late", "at": T, "detail": "",
        "known_at": T + i, "withdrawn": i == 3,
    },
    "policies": lambda i: {
        "record_id": f"p{i}", "at": T, "name": "policy.toml", "text": "grace = '1m'", "error": "",
    },
    "registrations": lambda i: {
        "event_id": f"r{i}", "imsi": FIRST + i, "at": T, "complete": True,
    },
    "case_events": lambda i: {
        "event_id": f"k{i}", "at": T + i, "known_at": T + i,
        "event_type": ("case_opened", "case_step", "case_closed")[i % 3], "case_id": f"c{i // 3}",
        "subject": ("complaint", "accept", "")[i % 3], "unit_id": "u1", "customer_id": "k",
        "about": "bill", "severity": "high", "flag": False, "repeat_of": "",
        "source": "events/a.ndjson", "position": i,
    },
    "cases": lambda i: {
        "case_id": f"c{i}", "kind": "complaint", "unit_id": "u1", "severity": "high",
        "green": False, "step": "accept", "customer_id": "k", "about": "bill", "opened_at": T,
        "due_at": T + i if i % 2 else None, "answered_at": None, "closed_at": None,
        "paused_s": 0.5, "on_time": None, "repeat_of": "", "reopened": 0, "satisfied": None,
        "outcome": "", "version": T,
    },
    "case_steps": lambda i: {
        "case_id": f"c{i}", "step": "accept", "n": 1, "unit_id": "u1", "started_at": T,
        "due_at": None, "warn_at": None, "finished_at": T + i, "paused_s": 0.0, "late_s": None,
        "withdrawn": i == 3, "version": T,
    },
    "contacts": lambda i: {
        "event_id": f"k{i}", "at": T, "unit_id": "u1", "agent_id": "a", "direction": "in",
        "answered_after_s": None, "duration_s": 3.5, "second": False,
    },
    "inspections": lambda i: {
        "event_id": f"k{i}", "at": T, "unit_id": "u1", "form": "f", "item": "x", "points": 1.0,
        "of": 2.0, "inspector_id": "", "note": "",
    },
    "ratings": lambda i: {
        "event_id": f"k{i}", "at": T, "unit_id": "u1", "satisfied": True, "agent_id": "",
    },
    "exams": lambda i: {
        "event_id": f"k{i}", "at": T, "unit_id": "u1", "agent_id": "a", "kind": "test",
        "score": None, "attended": False,
    },
    "dead_letters": lambda i: {
        "source": "cdr/a.csv", "position": i, "received_at": T, "reason": "malformed: x",
        "payload": b"\xff,",
    },
    "unread_inputs": lambda i: {
        "reader": "here:/city", "at": T, "n": i, "input": f"cdr/{i}.bin", "reason": "x",
    },
}  # fmt: skip
SOURCES = {topics.SIM_EVENTS: "cdr/a", topics.STOCK_MOVEMENTS: "sims/0",
           topics.STOCK_INCIDENTS: "outlets/0", topics.CASE_EVENTS: "events",
           topics.CASES: "repeats/0"}  # fmt: skip


def message(kind: str, source: str, count: int = 6, mark: int = T) -> bytes:
    rows = pa.RecordBatch.from_pylist([GOOD[kind](i) for i in range(count)], schema=SCHEMAS[kind])
    return pack(Header(kind, source, mark, False, (source,)), rows)


def good_messages(topic: str) -> list[bytes]:
    source = SOURCES.get(topic, "x/0")
    return [message(kind, source, count) for kind in KINDS[topic] for count in (1, 6)] + [
        pack(Header("none", source, T, False, (source,))),
        pack(Header("none", source, T, True)),
    ]


GOOD_VERSION = pack(Header("none", "x", T))[2:3]


def sealed(data: bytes) -> bytes:
    """The bytes with our version and a checksum that fits, as far as there can be any."""
    if len(data) < 16:
        return data
    version = GOOD_VERSION
    check = struct.pack("<I", zlib.crc32(data[16:], zlib.crc32(version)))
    return data[:2] + version + data[3:8] + check + data[12:]


def letter(data: bytes | None, topic: str) -> dict[str, Any]:
    """The dead letter of a message, having travelled to the warehouse like any other."""
    message = SimpleNamespace(topic=topic, partition=0, offset=7, value=data)
    header, again = unpack(pack(*EnvelopeReader().open(message)), topics.DEAD_LETTERS)
    assert again is not None
    found: dict[str, Any] = to_rows(header.kind, again).rows.to_pylist()[0]
    return found


@pytest.mark.parametrize("topic", KINDS)
def test_damage_is_always_seen_and_said(topic: str) -> None:
    rng, good, same = Random(topic), good_messages(topic), 0
    for _ in range(MANY):
        whole = rng.choice(good)
        data = spoiled(whole, rng)
        if data == whole:
            same += 1
            continue
        with pytest.raises(EnvelopeError) as told:
            unpack(data, topic)
        if same % 50 == 0:
            row = letter(data, topic)
            assert (row["payload"], row["source"], row["position"]) == (data, f"{topic}/0", 7)
            assert row["reason"].startswith("malformed: ")
        assert "\n" not in str(told.value)
    assert same < 0.1 * MANY


@pytest.mark.parametrize("topic", KINDS)
@pytest.mark.parametrize("value", [None, b"", b"{}", b"ZS", b'{"type":"call"}', b"\0" * 64])
def test_what_is_no_envelope_is_a_letter(topic: str, value: bytes | None) -> None:
    with pytest.raises(EnvelopeError):
        unpack(value, topic)
    assert letter(value, topic)["payload"] == (value or b"")


@pytest.mark.parametrize("topic", KINDS)
def test_rows_on_a_topic_that_is_not_theirs_are_a_letter(topic: str) -> None:
    for kind in set(GOOD) - set(KINDS[topic]):
        with pytest.raises(EnvelopeError, match=f"'{kind}' does not belong on {topic}"):
            unpack(message(kind, "x"), topic)


#: Columns in which nothing is an answer.
NULLABLE = {
    *("closed_at", "restated_at", "due_at", "answered_at", "warn_at", "finished_at", "late_s"),
    *("on_time", "satisfied", "answered_after_s", "duration_s", "score"),
}

SIDES: dict[str, Callable[[], Stage[Any]]] = {
    topics.SIM_EVENTS: lambda: SimStage(0, 1, SimRegistry(RANGES), holder),
    topics.STOCK_MOVEMENTS: lambda: OutletStage(0, 1, holder),
    topics.STOCK_INCIDENTS: lambda: WholesalerStage(0, 1, RULES),
    topics.CASE_EVENTS: lambda: RepeatStage(0, 1, lambda: SERVICE),
    topics.CASES: lambda: CaseStage(0, 1, lambda: SERVICE),
}

_HOUR = Limit(3_600_000, False)
SERVICE = ServiceRules(
    {}, {"complaint": CaseKind("complaint", "", ("high",), _HOUR, (StepRule("accept", (_HOUR,)),))}
)


def fold(stage: Any) -> None:
    """Everything that was taken, to its end; what follows must be fit to travel."""
    for source in list(stage.watermarks.marks):
        stage.process(Header("none", source, T * 2, True), None)
    told = stage.advance(0) if isinstance(stage, WholesalerStage) else stage.advance()
    if isinstance(told, list):
        for effect in told:
            _, rows = unpack(pack(effect.header, effect.rows), effect.topic)
            if rows is not None and effect.topic not in (topics.STOCK_MOVEMENTS, topics.CASES):
                to_rows(effect.header.kind, rows)


@pytest.mark.parametrize("topic", SIDES)
def test_what_a_worker_takes_never_stops_it(topic: str) -> None:
    rng, good = Random(topic), good_messages(topic)
    taken = 0
    told: list[str] = []
    while taken + len(told) < MANY:
        stage = SIDES[topic]()
        for _ in range(50):
            data = sealed(spoiled(rng.choice(good), rng))
            try:
                header, rows = unpack(data, topic)
            except EnvelopeError as error:
                told.append(str(error))
                continue
            taken += 1
            stage.process(header, rows)
        stage.process(*unpack(message(KINDS[topic][0], SOURCES[topic], 6, T + 10), topic))
        before = dict(stage.snapshot())
        fold(stage)
        # Written state is read back by whoever comes next.
        heir = SIDES[topic]()
        for key, value in (before | dict(stage.snapshot())).items():
            heir.restore(key, value)
        fold(heir)
    assert taken > 0.05 * MANY
    assert len(told) > 0.1 * MANY
    assert [why for why in told if "\n" in why] == []


#: Kinds that are for the alerts worker alone.
FOR_ALERTS = ("answers", "policies")


@pytest.mark.parametrize("topic", RESULT_TOPICS)
def test_what_the_warehouse_takes_is_rows_of_its_tables(topic: str) -> None:
    rng, good, taken = Random(topic), good_messages(topic), 0
    for _ in range(MANY):
        try:
            header, rows = unpack(sealed(spoiled(rng.choice(good), rng)), topic)
        except EnvelopeError:
            continue
        taken += 1
        if rows is not None and header.kind not in FOR_ALERTS:
            table = to_rows(header.kind, rows).rows
            table.validate(full=True)
            assert table.num_rows == rows.num_rows
            for name, column in zip(table.column_names, table.columns, strict=True):
                assert not column.null_count or name in NULLABLE
    assert taken > 0.05 * MANY
