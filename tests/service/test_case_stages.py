"""The two stages of cases, over logs in memory: whatever happens, the outcome is the fold.

Arrival order, late and doubled events, partitions, batches and deaths change nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from oracle.plain_cases import PlainCases
from oracle.stream_harness import Stage as DyingStage
from service_harness import CALENDARS, CASES, DAYS, MINUTE, START, histories, rules_of

from pipelines.core.effects import RowBuilder
from pipelines.core.service.case_rows import add_row
from pipelines.core.service.case_stage import CaseStage
from pipelines.core.service.repeat_stage import RepeatStage, matter_key
from pipelines.ingest.service.rows import as_happened
from schemas import topics
from schemas.envelope import NO_WATERMARK, Header, pack, unpack
from schemas.events import accept
from schemas.fields import parse_time
from schemas.service.rules import ServiceRules
from schemas.topics import partition_of_key

#: Later than all that is due in a history.
END = START + (DAYS + 60) * 1_440 * MINUTE


def line_of(event: dict) -> dict:
    """The event as an exchange directory has it."""
    at = datetime.fromtimestamp(event["at"] / 1_000, UTC).isoformat()
    return {k: v for k, v in event.items() if v is not None} | {"at": at}


class Cases:
    """Two stages and their logs; `rules` may be changed under way."""

    def __init__(self, rules: ServiceRules, partitions: int, seed: int) -> None:
        self.rules, self.partitions = rules, partitions
        self.random = Random(seed)
        names = (topics.CASE_EVENTS, topics.CASES, topics.CASE_STATES, topics.DEAD_LETTERS)
        self.topics = {name: [[] for _ in range(partitions)] for name in names}
        self.newest = NO_WATERMARK
        self.line = 0
        makes = ((RepeatStage, topics.CASE_EVENTS), (CaseStage, topics.CASES))
        self.stages = [
            DyingStage(
                lambda make=make, p=p: make(p, partitions, lambda: self.rules),
                self.topics[topic][p],
                self.send,
                self.random,
            )
            for make, topic in makes
            for p in range(partitions)
        ]
        self.say(Header("none", "events", NO_WATERMARK, False, ("events",)))

    def say(self, header: Header, rows: dict[int, RowBuilder] | None = None) -> None:
        for p in range(self.partitions):
            batch = rows[p].batch() if rows and p in rows else None
            kind = "case_events" if batch is not None else "none"
            fields = (kind, header.source, header.watermark, header.ended, header.peers)
            self.topics[topics.CASE_EVENTS][p].append(pack(Header(*fields), batch))

    def read(self, events: list[dict], disorder: int) -> None:
        """What a reader says of events in the order of their arrival."""
        while events:
            size = self.random.randint(1, 4)
            chunk, events = events[:size], events[size:]
            rows: dict[int, RowBuilder] = {}
            for event in chunk:
                self.line += 1
                mark = self.newest - disorder if self.newest != NO_WATERMARK else NO_WATERMARK
                self.newest = max(self.newest, event["at"])
                known = max(mark, event["at"])
                one = as_happened(accept(line_of(event)), known, "events/1", self.line)
                key = matter_key(one) if one.type == "case_opened" else None
                partition = partition_of_key(key or event["case_id"], self.partitions)
                batch = rows.setdefault(partition, RowBuilder("case_events"))
                add_row(batch, event["case_id"], one)
            self.say(Header("none", "events", self.newest - disorder), rows)

    def end(self, at: int) -> None:
        self.newest = max(self.newest, at)
        self.say(Header("none", "events", self.newest, True))

    def send(self, effects) -> None:
        for effect in effects:
            data = pack(effect.header, effect.rows)
            self.topics[effect.topic][effect.partition].append(data)

    def run(self) -> None:
        busy = list(self.stages)
        while busy:
            if not self.random.choice(busy).work():
                busy = [
                    s for s in self.stages if s.position < len(s.log) or s.committed < s.position
                ]

    def rows(self, topic: str, kind: str, key: tuple[str, ...]) -> dict[tuple, dict]:
        """The newest row of each key, of equal versions the one said last; as the tables show."""
        found: dict[tuple, dict] = {}
        for log in self.topics[topic]:
            for data in log:
                header, batch = unpack(data, topic)
                if header.kind != kind or batch is None:
                    continue
                for row in batch.to_pylist():
                    name = tuple(row[column] for column in key)
                    known = found.get(name)
                    if known is None or row.get("version", 0) >= known.get("version", 0):
                        found[name] = row
        return {name: row for name, row in found.items() if not row.get("withdrawn")}

    def check(self, events: list[dict], until: int) -> None:
        cases, steps, refused = PlainCases(self.rules).all(events, until)
        found = self.rows(topics.CASE_STATES, "cases", ("case_id",))
        shown = {name: found[name,] for name in cases}
        assert {name for (name,) in found} == set(cases)
        for name, expected in cases.items():
            assert {key: shown[name][key] for key in expected} == expected
        rows = self.rows(topics.CASE_STATES, "case_steps", ("case_id", "step", "n"))
        assert {
            key: (r["unit_id"], r["started_at"], r["due_at"], r["finished_at"])
            for key, r in rows.items()
        } == steps
        letters = self.rows(topics.DEAD_LETTERS, "dead_letters", ("source", "position"))
        bad = {str(r["payload"]) for r in letters.values() if r["reason"]}
        assert len(bad) == len(refused)
        assert all(any(f'"event_id":"{e}"' in text for text in bad) for e in refused)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[ServiceRules]:
    folder: Path = tmp_path_factory.mktemp("rules")
    other = CASES.replace('"1wd"', '"3wh"').replace('repeat_within = "3d"', 'repeat_within = "9d"')
    return [
        rules_of(folder / "a"),
        rules_of(folder / "b", CALENDARS.replace("2026-03-25", "2026-03-26"), other),
    ]


@settings(max_examples=25)
@given(
    histories(),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.sampled_from([0, 40 * 1_440 * MINUTE]),
    st.booleans(),
)
def test_whatever_happens_the_outcome_is_the_fold(
    both, history: list[dict], partitions: int, seed: int, disorder: int, changed: bool
) -> None:
    # Without disorder allowed for, most of these events are late.
    city = Cases(both[0], partitions, seed)
    half = len(history) // 2
    city.read(history[:half], disorder)
    city.run()
    if changed:
        city.rules = both[1]
    city.read(history[half:] + history[:2], disorder)
    city.end(END)
    city.run()
    note(repr((history, partitions, seed, disorder, changed)))
    city.check(history, END)
    assert all(stage.position == len(stage.log) for stage in city.stages)


def test_a_step_is_late_once_the_watermark_has_passed_its_time(both) -> None:
    at = parse_time("2026-03-30T09:00:00+08:00")
    opened = {
        "type": "case_opened", "event_id": "1", "at": at, "case_id": "c", "kind": "complaint",
        "unit_id": "u",
    }  # fmt: skip
    city = Cases(both[0], 1, 1)
    city.read([opened], 0)
    city.say(Header("none", "events", at + 30 * MINUTE))
    city.run()
    assert city.rows(topics.CASE_STATES, "cases", ("case_id",))["c",]["on_time"] is None
    city.say(Header("none", "events", at + 30 * MINUTE + 1))
    city.run()
    assert city.rows(topics.CASE_STATES, "cases", ("case_id",))["c",]["on_time"] == 0


def test_rows_of_foreign_programs_that_say_too_little_are_passed_over(both) -> None:
    rows = RowBuilder("case_events")
    for kind in ("case_opened", "case_step", "case_assigned", "case_closed", "nonsense"):
        texts = dict.fromkeys(("subject", "unit_id", "customer_id", "about", "severity"), "")
        rows.add(
            event_id=kind, at=START, known_at=START, event_type=kind, case_id="c", flag=False,
            repeat_of="", source="", position=0, **texts,
        )  # fmt: skip
    city = Cases(both[0], 1, 1)
    city.say(Header("none", "events", START), {0: rows})
    city.end(START + 1)
    city.run()
    assert city.rows(topics.CASE_STATES, "cases", ("case_id",)) == {}
    letters = city.rows(topics.DEAD_LETTERS, "dead_letters", ("payload",))
    assert [row["reason"].split(":")[0] for row in letters.values()] == ["unknown_case"]


def test_a_case_is_forgotten_long_after_it_was_closed(both) -> None:
    at = parse_time("2026-03-30T09:00:00+08:00")
    case = {"case_id": "c", "at": at}
    events = [
        case | {"type": "case_opened", "event_id": "1", "kind": "complaint", "unit_id": "u",
                "customer_id": "k", "about": "x"},
        case | {"type": "case_closed", "event_id": "2", "at": at + MINUTE},
    ]  # fmt: skip
    city = Cases(both[0], 1, 1)
    city.read(events, 0)
    city.run()
    assert list(city.stages[1].stage._parts)
    for day in (30, 90, 91, 92, 93, 94):
        city.say(Header("none", "events", at + day * 86_400_000))
        city.run()
    assert not list(city.stages[1].stage._parts)
    assert all(not value for key, value in city.stages[1].table.items() if key != b"watermarks")
