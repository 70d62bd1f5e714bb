"""The stream without Kafka: logs are lists, tables are dicts, and every step can die."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple
from random import Random

import pyarrow as pa

from oracle.plain_fold import Fact
from pipelines.core.stage import RESTATE_WITHIN
from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.placement import PlacementType
from pipelines.core.stock.sim_registry import SimRange, SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from schemas import topics
from schemas.envelope import (
    LATE_USES,
    NO_WATERMARK,
    PLACEMENTS,
    SIM_CARDS,
    SIM_RANGES,
    USES,
    Header,
    pack,
    unpack,
)
from schemas.topics import SIM_BLOCK, block_of, partition_of_block

RANGES = [
    SimRange(460_001_000_000_990, 20, "prepaid", "8986001000000000000"),
    SimRange(460_001_000_001_010, 15, "tourist", "89860020000000000000"),
    SimRange(460_001_000_009_998, 12, "prepaid", "8986003000000000000"),
]
IMSIS = [r.first_imsi + i for r in RANGES for i in range(r.count)]
OUTLETS = ["o1", "o2", "o3"]


def sku_of(imsi: int) -> str:
    found = SimRegistry(RANGES).range_of(imsi)
    assert found is not None
    return found.sku


def holder(outlet_id: str, at: int) -> str:
    return f"w-{outlet_id}" if at < 5_000 else "w-late"


def pieces(fact: Fact) -> list[tuple[int, int]]:
    """The consecutive SIMs of a placement, cut at block and batch borders."""
    cuts: list[tuple[int, int]] = []
    for imsi in fact.imsis:
        same = (
            cuts
            and cuts[-1][0] + cuts[-1][1] == imsi
            and imsi % SIM_BLOCK
            and imsi not in {r.first_imsi for r in RANGES}
        )
        if same:
            cuts[-1] = (cuts[-1][0], cuts[-1][1] + 1)
        else:
            cuts.append((imsi, 1))
    return cuts


def envelopes_of(
    sources: dict[str, list[Fact]],
    partitions: int,
    disorder: int,
    random: Random,
    troubled: bool = False,
) -> list[list[bytes]]:
    """What readers would send for facts in arrival order, a log for each partition.

    If `troubled`, sources appear when others have long been read, they fall behind, are put on
    record as absent and return, and heartbeats say more of the silent than is true.
    """
    logs: list[list[bytes]] = [[] for _ in range(partitions)]
    if not troubled:
        for source in sources:
            for log in logs:
                log.append(pack(Header("none", source, NO_WATERMARK, False, tuple(sources))))
    newest = dict.fromkeys(sources, NO_WATERMARK)
    left = {s: list(facts) for s, facts in sources.items()}
    while left:
        source = min(left, key=lambda s: newest[s])
        if troubled:
            source = random.choice(sorted(left))
            for other in sorted(left):
                beat = random.choice([NO_WATERMARK, NO_WATERMARK, newest[source] + disorder])
                absent = other != source and random.random() < 0.2
                if absent or beat != NO_WATERMARK:
                    header = Header("none", other, beat, False, (), absent)
                    for log in logs:
                        log.append(pack(header))
        size = random.randint(1, 5)
        chunk, left[source] = left[source][:size], left[source][size:]
        before = newest[source]
        rows: dict[tuple[int, str], list[dict]] = {}
        for fact in chunk:
            promised = newest[source] - disorder if newest[source] != NO_WATERMARK else NO_WATERMARK
            newest[source] = max(newest[source], fact.at)
            known = max(fact.at, promised)
            for first, count in pieces(fact):
                target = partition_of_block(block_of(first), partitions)
                if fact.type == "use":
                    row = {"imsi": first, "at": fact.at, "event_id": fact.event_id}
                    row["known_at"] = known
                    rows.setdefault((target, "late_uses"), []).append(row)
                else:
                    row = {
                        "event_id": fact.event_id,
                        "at": fact.at,
                        "known_at": known,
                        "type": int(PlacementType[fact.type.upper()]),
                        "outlet_id": fact.outlet,
                        "to_outlet_id": fact.to_outlet,
                        "first_imsi": first,
                        "count": count,
                    }
                    rows.setdefault((target, "placements"), []).append(row)
        old = before - disorder if before != NO_WATERMARK else NO_WATERMARK
        for (target, kind), some in rows.items():
            schema = LATE_USES if kind == "late_uses" else PLACEMENTS
            batch = pa.RecordBatch.from_pylist(some, schema=schema)
            logs[target].append(pack(Header(kind, source, old), batch))
        ended = not left[source]
        if ended:
            del left[source]
        mark = newest[source] + 1 if ended else newest[source] - disorder
        for log in logs:
            log.append(pack(Header("none", source, mark, ended)))
    return logs


def iccid_of(imsi: int, listed: Collection[SimRange] = ()) -> str:
    """The number on a card; of a `listed` range the cards follow no rule."""
    found = next(r for r in RANGES if r.first_imsi <= imsi < r.first_imsi + r.count)
    return f"8986{imsi * 7919 % 10**15:015}A" if found in listed else found.iccids([imsi])[0]


def cards_message(imsis: list[int], listed: Collection[SimRange]) -> bytes:
    """What a reader sends of listed cards."""
    rows = [{"imsi": i, "iccid": iccid_of(i, listed), "sku": sku_of(i)} for i in imsis]
    return pack(Header("sim_cards"), pa.RecordBatch.from_pylist(rows, schema=SIM_CARDS))


def ranges_message(ranges: list[SimRange]) -> bytes:
    """What a reader sends of batches that it knows."""
    rows = [dict(zip(SIM_RANGES.names, astuple(r), strict=True)) for r in ranges]
    return pack(Header("sim_ranges"), pa.RecordBatch.from_pylist(rows, schema=SIM_RANGES))


def batches_come_later(
    logs: list[list[bytes]], random: Random, listed: Collection[SimRange] = ()
) -> list[list[bytes]]:
    """The same input of readers that learn of each batch at some moment only.

    Before that its uses are somebody else's, and its placements dead letters, which are sent again
    once they can be accepted. Batches are named again and again. Those `listed` are none: each of
    their cards is known by itself.
    """
    found: list[list[bytes]] = []
    for partition, log in enumerate(logs):
        since: dict[SimRange | int, int] = {}
        for r in RANGES:
            for unit in [r.first_imsi + i for i in range(r.count)] if r in listed else [r]:
                if isinstance(unit, SimRange) or _home(unit, len(logs)) == partition:
                    since[unit] = random.randint(0, len(log))
        told: list[bytes] = []
        letters: dict[SimRange | int, list[dict]] = {unit: [] for unit in since}
        for moment in range(len(log) + 1):
            new = [unit for unit in since if since[unit] == moment]
            random.shuffle(new)
            told += _naming(new, listed) * random.randint(1, 2)
            for unit in new:
                random.shuffle(letters[unit])
                for row in letters[unit]:
                    batch = pa.RecordBatch.from_pylist([row], schema=PLACEMENTS)
                    told.append(pack(Header("placements"), batch))
            if random.random() < 0.1:
                told += _naming([u for u in since if since[u] <= moment], listed)
            if moment < len(log):
                unknown = {unit for unit in since if since[unit] > moment}
                told += _told_without(log[moment], unknown, letters, listed)
        found.append(told)
    return found


def _home(imsi: int, partitions: int) -> int:
    return partition_of_block(block_of(imsi), partitions)


def _naming(units: list[SimRange | int], listed: Collection[SimRange]) -> list[bytes]:
    """The messages that name batches, and listed cards."""
    ranges = [u for u in units if isinstance(u, SimRange)]
    cards = [u for u in units if isinstance(u, int)]
    return [ranges_message(ranges)] * bool(ranges) + [cards_message(cards, listed)] * bool(cards)


def _told_without(
    data: bytes,
    unknown: set[SimRange | int],
    letters: dict[SimRange | int, list[dict]],
    listed: Collection[SimRange],
) -> list[bytes]:
    """An envelope as a reader has it who does not know some batches and cards."""
    header, rows = unpack(data)
    if rows is None:
        return [data]
    known, others = [], []
    for row in rows.to_pylist():
        name = "imsi" if "imsi" in row else "first_imsi"
        batch = next(r for r in RANGES if r.first_imsi <= row[name] < r.first_imsi + r.count)
        parts = [row]
        if batch in listed and name == "first_imsi":  # cards of a list are named one by one
            parts = [row | {name: row[name] + i, "count": 1} for i in range(row["count"])]
        for part in parts:
            unit = part[name] if batch in listed else batch
            if unit not in unknown:
                known.append(part)
            elif header.kind == "placements":
                letters[unit].append(part | {"known_at": part["at"]})
            else:
                others.append({column: part[column] for column in USES.names})
    told = [pack(header, pa.RecordBatch.from_pylist(known, schema=rows.schema))] if known else []
    if others:
        batch = pa.RecordBatch.from_pylist(others, schema=USES)
        told.append(pack(Header("unregistered_uses", header.source, header.watermark), batch))
    return told


class Stage:
    """One partition of a stage: reads a log, dies at any step, starts again from what was kept."""

    def __init__(self, make, log: list[bytes], send, random: Random) -> None:
        self.make, self.log, self.send, self.random = make, log, send, random
        self.table: dict[bytes, bytes] = {}
        self.committed = 0
        self.start()

    def start(self) -> None:
        self.stage, self.position = self.make(), self.committed
        for key, value in self.table.items():
            self.stage.restore(key, value)

    def work(self) -> bool:
        """Process a few envelopes, then perhaps commit or die; False when nothing is left."""
        if self.position >= len(self.log) and self.committed == self.position:
            return False
        for _ in range(self.random.randint(1, 4)):
            if self.position < len(self.log):
                header, rows = unpack(self.log[self.position])
                self.stage.process(header, rows)
                self.position += 1
        effects = self.stage.advance()
        if self.random.random() < 0.1:  # dies between effects
            self.send(effects[: self.random.randint(0, len(effects))])
            self.start()
            return True
        self.send(effects)
        if self.random.random() < 0.6:
            writes = list(self.stage.snapshot())
            if self.random.random() < 0.2:  # dies between state writes
                self.table.update(writes[: self.random.randint(0, len(writes))])
                self.start()
                return True
            self.table.update(writes)
            if self.random.random() < 0.2:  # dies before the offset
                self.start()
                return True
            self.committed = self.position
        return True


class Rig:
    """All partitions of both stages over logs in memory."""

    def __init__(
        self,
        logs: list[list[bytes]],
        seed: int,
        restate_within: int = RESTATE_WITHIN,
        known: list[SimRange] = RANGES,
    ) -> None:
        count = len(logs)
        self.random = Random(seed)
        self.topics: dict[str, list[list[bytes]]] = {
            t: [[] for _ in range(count)]
            for t in (
                topics.STOCK_MOVEMENTS,
                topics.STOCK_INCIDENTS,
                topics.STOCK_LEVELS,
                topics.ANOMALIES,
            )
        }
        self.stages = [
            Stage(
                lambda p=p: SimStage(p, count, SimRegistry(known), holder, restate_within),
                logs[p],
                self.send,
                self.random,
            )
            for p in range(count)
        ] + [
            Stage(
                lambda p=p: OutletStage(p, count, holder, restate_within),
                self.topics[topics.STOCK_MOVEMENTS][p],
                self.send,
                self.random,
            )
            for p in range(count)
        ]

    def reopen(self, logs: list[list[bytes]]) -> None:
        """More input, after all that was there has ended."""
        for stage, more in zip(self.stages, logs, strict=False):
            stage.log.extend(more)

    def send(self, effects) -> None:
        for effect in effects:
            data = pack(effect.header, effect.rows)
            self.topics[effect.topic][effect.partition].append(data)

    def run(self) -> None:
        busy = list(self.stages)
        while busy:
            stage = self.random.choice(busy)
            if not stage.work():
                busy = [
                    s for s in self.stages if s.position < len(s.log) or s.committed < s.position
                ]

    def rows(self, topic: str) -> list[dict]:
        return [
            row
            for log in self.topics[topic]
            for data in log
            if (batch := unpack(data)[1]) is not None
            for row in batch.to_pylist()
        ]

    def stock(self) -> dict[tuple[str, str], set[int]]:
        return {
            (outlet.outlet_id, sku): set(shelf.stock.tolist())
            for stage in self.stages
            if isinstance(stage.stage, OutletStage)
            for outlet in stage.stage.outlets.values()
            for sku, shelf in outlet.shelves.items()
            if not shelf.never_was
        }

    def incidents(self) -> set[tuple[str, str, int, int | None]]:
        found = [
            (row["outlet_id"], row["sku"], row["opened_at"], row["closed_at"])
            for row in self.newest(
                topics.STOCK_INCIDENTS,
                ("incident_id",),
                lambda row: 2 * row["at"] + (row["closed_at"] is not None or row["withdrawn"]),
            )
        ]
        assert len(set(found)) == len(found)
        return set(found)

    def newest(self, topic: str, key: tuple[str, ...], version=lambda row: row["known_at"]):
        """The rows that the tables show: of each key the newest, if it was not withdrawn.

        Rows of one version are equal: they are said again after a crash, and nothing else.
        """
        rows: dict[tuple, dict] = {}
        for row in self.rows(topic):
            name = tuple(row[column] for column in key)
            known = rows.get(name)
            if known is None or version(row) > version(known):
                rows[name] = row
            assert known is None or version(row) != version(known) or row == known
        return [row for row in rows.values() if not row["withdrawn"]]

    def movements(self) -> set[tuple[int, str, int, str, int]]:
        """(at, event, imsi, outlet, delta) of all that hold."""
        found = [
            (row["at"], row["event_id"], row["imsi"], row["outlet_id"], row["delta"])
            for row in self.newest(
                topics.STOCK_MOVEMENTS, ("outlet_id", "sku", "at", "movement_id")
            )
        ]
        assert len(set(found)) == len(found)
        return set(found)

    def anomalies(self) -> set[tuple[str, str, str]]:
        rows = self.newest(topics.ANOMALIES, ("kind", "event_id", "iccid"))
        return {(r["event_id"], r["iccid"], r["kind"]) for r in rows}

    def levels(self) -> dict[tuple[str, str], int]:
        """On hand by shelf; of levels of one time the one written last holds."""
        newest: dict[tuple[str, str], dict] = {}
        for r in self.rows(topics.STOCK_LEVELS):
            known = newest.setdefault((r["outlet_id"], r["sku"]), r)
            if r["as_of"] >= known["as_of"]:
                newest[r["outlet_id"], r["sku"]] = r
        return {shelf: r["on_hand"] for shelf, r in newest.items() if not r["withdrawn"]}
