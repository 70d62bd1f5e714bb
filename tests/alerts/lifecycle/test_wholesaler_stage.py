"""A wholesaler stage over its log: answers count where they stand, deaths change nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pyarrow as pa
from alert_harness import BACKUP, PHONE, FakeClock, FakeDirectory, ScriptedSender, wholesaler
from lifecycle_harness import MINUTE, START, answer_of, at, closed, opened, rules

from alerts.delivery.delivery import MessageDelivery, Patience
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.log_receipts import LogReceipts
from alerts.delivery.outbox import Outbox
from alerts.delivery.receipts import FileReceipts
from alerts.lifecycle.grouping import Change, message_id
from alerts.lifecycle.stage import RECEIPTS, WholesalerStage, deliver
from pipelines.core.effects import Effect
from schemas.answers import Answer, pack_answers
from schemas.envelope import INCIDENTS, Header, pack, unpack
from schemas.messages import Message, Receipt

PEERS = ("outlets/0",)


def envelope(mark: int, *changes: Change, ended: bool = False) -> bytes:
    rows = [msgspec.structs.asdict(change) for change in changes]
    batch = pa.RecordBatch.from_pylist(rows, schema=INCIDENTS) if rows else None
    kind = "incidents" if rows else "none"
    return pack(Header(kind, "outlets/0", mark, ended, PEERS), batch)


A, B, C = opened("a", at(9, -1)), opened("b", at(9, -1)), opened("c", at(21, 30))
FIRST = message_id("w", at(9, -1), "a")

LATER = answer_of("delivering", FIRST, at(9, 41), by=at(12))

#: A day in a partition: openings, closings, promises, and answers between them.
LOG = [
    envelope(at(8)),
    envelope(at(9), A, B),
    envelope(at(9, 1)),
    pack_answers([Answer("n1", at(9, 3), "w", "acknowledged", FIRST, "a", "{}", "page")]),
    envelope(at(9, 20)),
    pack_answers([answer_of("status", FIRST, at(9, 21), status="delivered")]),
    envelope(at(9, 40)),
    pack_answers([msgspec.structs.replace(LATER, incident_id="b")]),
    envelope(at(11)),
    envelope(at(12, 16)),
    envelope(at(13), closed(A, at(12, 59))),
    envelope(at(21, 50), C),
    envelope(at(23)),
    envelope(at(31, 1)),
    envelope(at(31, 40)),
    envelope(at(40), closed(C, at(39, 59)), closed(B, at(39, 59))),
    envelope(at(41), ended=True),
]


class Died(Exception):
    """The worker is gone; what was on the disk and the broker is not."""


class World:
    """What outlives a worker: the changelog, the offset, the provider, the topics; `disk` maybe."""

    def __init__(self, folder: Path, machines: int = 1) -> None:
        self.changelog: dict[bytes, bytes] = {}
        self.offset = 0
        self.provider = ScriptedSender()
        self.folder = folder
        self.machines = machines
        self.said: list[dict[str, Any]] = []
        self.records: dict[str, str] = {}

    async def live(self, dice: Random, deadly: float) -> None:
        """One worker: read some, step, commit, and so on, until the log ends or death comes."""
        dead = False

        def step() -> None:
            nonlocal dead
            if dead or dice.random() < deadly:
                dead = True
                raise Died

        async def write(wholesaler_id: str, entry: bytes) -> None:
            step()
            self.changelog[RECEIPTS + wholesaler_id.encode()] = entry
            await asyncio.sleep(0)
            step()

        class Provider:
            remote = True
            finds = True
            find = self.provider.find

            async def send(_, message: Message) -> Receipt:
                step()
                receipt = await self.provider.send(message)
                await asyncio.sleep(0)
                step()
                return receipt

        machine = self.folder / str(dice.randrange(self.machines))
        machine.mkdir(exist_ok=True)
        receipts = LogReceipts(FileReceipts(machine / "receipts"))
        receipts.write = write
        clock = FakeClock(at(9))
        people = FakeDirectory({"w": wholesaler(PHONE, BACKUP)})
        delivery = MessageDelivery(
            Provider(), receipts, clock=clock, patience=Patience(look_ups=(0.0,))
        )
        outbox = Outbox(Dispatcher(delivery, people, timezone=rules()._zone))
        stage = WholesalerStage(0, 1, rules(), receipts)
        for key, value in self.changelog.items():
            stage.restore(key, value)
        try:
            position = self.offset
            while position < len(LOG) or stage.busy:
                for _ in range(dice.randint(1, 4)):
                    if position < len(LOG):
                        stage.process(*unpack(LOG[position]))
                        position += 1
                step()
                for effect in deliver(stage, outbox, 0):
                    self.publish(effect)
                    step()
                for _ in range(dice.randint(0, 3)):
                    await asyncio.sleep(0)
                if position == len(LOG) and dice.random() < 0.5:
                    await outbox.drain()
                step()
                if dice.random() < 0.5 or (position == len(LOG) and not stage.busy):
                    # A commit is whole or not at all here: `StatefulAgent` sees to that.
                    self.changelog |= dict(stage.snapshot())
                    step()
                    self.offset = position
        finally:
            outbox.stop()
            await asyncio.sleep(0)
            receipts.local.close()

    def publish(self, effect: Effect) -> None:
        """What the warehouse is told."""
        for row in effect.rows.to_pylist() if effect.rows is not None else ():
            if effect.header.kind == "alert_events":
                self.said.append(row)
            else:
                self.records[row["message_id"]] = row["status"]


def run_through(folder: Path, seed: int, deadly: float, machines: int = 1) -> World:
    """A world in which the whole log was read, after as many deaths as it took."""
    folder.mkdir()
    world, dice = World(folder, machines), Random(seed)
    for life in range(200):
        try:
            asyncio.run(world.live(dice, deadly if life < 30 else 0))
        except Died:
            continue
        break
    return world


def sent(world: World) -> list[tuple[str, str, str]]:
    return sorted((m.message_id, m.to, m.body) for m in world.provider.accepted)


def rows(world: World) -> dict[tuple[str, str], tuple[str, int, str]]:
    """The events as the table keeps them."""
    return {
        (n["incident_id"], n["slot"]): (n["kind"], n["at"], n["detail"])
        for n in sorted(world.said, key=lambda n: n["version"])
        if n["incident_id"]
    }


def test_deaths_between_any_two_steps_change_no_message(tmp_path: Path) -> None:
    whole = run_through(tmp_path / "whole", 0, 0)
    told = Counter(n["kind"] for n in whole.said)
    assert (told["notified"], told["acknowledged"], told["delivering"]) == (4, 1, 1), told
    assert told["waiting"] >= 1
    for seed in range(1, 61):
        # On one machine, or on three whose disks know nothing of each other: the log knows.
        world = run_through(tmp_path / str(seed), seed, 0.08, machines=1 + 2 * (seed % 2))
        assert sent(world) == sent(whole), seed
        assert rows(world) == rows(whole), seed
        assert set(world.records.values()) == {"sent"}
        assert world.offset == len(LOG)


def test_an_acknowledged_stock_out_is_left_alone(tmp_path: Path) -> None:
    whole = run_through(tmp_path / "whole", 0, 0)
    about_a = [n["kind"] for n in whole.said if n["incident_id"] == "a"]
    assert sorted(about_a) == ["acknowledged", "note", "notified", "resolved", "status"]


def test_an_answer_counts_at_the_watermark_it_met(tmp_path: Path) -> None:
    """Read in one go with what follows it, it still comes before the escalation of half past."""
    stage = WholesalerStage(0, 1, rules())
    for data in LOG[:4]:
        stage.process(*unpack(data))
    stage.process(*unpack(pack_answers([answer_of("acknowledged", FIRST, at(9, 4))])))
    stage.process(*unpack(envelope(at(11))))
    steps, _ = stage.advance(0)
    assert [g.kind for g in steps.groups] == ["stock_out"]


def test_an_answer_is_dealt_with_while_the_watermark_stands_still() -> None:
    stage = WholesalerStage(0, 1, rules())
    for data in LOG[:3]:
        stage.process(*unpack(data))
    stage.advance(0)
    assert stage.advance(0)[1] is None
    stage.process(*unpack(LOG[3]))
    steps, update = stage.advance(0)
    assert [n.kind for n in steps.events] == ["acknowledged"]
    assert update is not None
    assert stage.advance(0)[1] is None


def test_a_new_policy_finds_who_still_waits() -> None:
    silence = "silences = [{ territory = 'north' }]"
    old = WholesalerStage(0, 1, rules(silence))
    for data in LOG[:3]:
        old.process(*unpack(data))
    assert old.advance(0)[0].groups == []
    heir = WholesalerStage(0, 1, rules(""))
    for key, value in old.snapshot():
        heir.restore(key, value)
    heir.process(*unpack(LOG[4]))
    assert [g.kind for g in heir.advance(0)[0].groups] == ["delayed"]


def test_answers_of_unknown_wholesalers_and_nonsense_harm_nobody() -> None:
    stage = WholesalerStage(0, 1, rules())
    stage.process(*unpack(envelope(at(8))))
    odd = [
        Answer("x1", START, "nobody", "acknowledged", "m", "", "", ""),
        Answer("x2", START, "w", "cannot", "m", "i", "[1]", ""),
        Answer("x3", START, "w", "singing", "", "", "{", ""),
    ]
    stage.process(*unpack(pack_answers(odd)))
    steps, _ = stage.advance(0)
    assert steps.groups == []
    assert sorted(n.kind for n in steps.events) == ["acknowledged", "cannot", "singing"]


def test_a_new_owner_goes_on_from_the_written_state() -> None:
    old = WholesalerStage(0, 1, rules())
    old.process(*unpack(envelope(at(9), A)))
    old.advance(0)
    heir = WholesalerStage(0, 1, rules())
    for key, value in old.snapshot():
        heir.restore(key, value)
    heir.process(*unpack(envelope(at(9, 31))))
    steps, _ = heir.advance(0)
    assert [g.kind for g in steps.groups] == ["stock_out", "escalation"]
    assert steps.groups[0].message_id == FIRST
    assert steps.groups[0].due_at - A.at == MINUTE


def test_what_went_stale_unsent_is_one_digest_of_what_is_still_empty(tmp_path: Path) -> None:
    """The worker was down for eight hours, or the provider was: silence is no answer to that."""

    async def work() -> tuple[list[str], list[tuple[str, list[str]]]]:
        now = at(17)
        sender, clock = ScriptedSender(), FakeClock(now)
        delivery = MessageDelivery(
            sender, FileReceipts(tmp_path / "receipts"), clock=clock, stale_after=6 * 60 * MINUTE
        )
        people = FakeDirectory({"w": wholesaler(PHONE, BACKUP)})
        outbox = Outbox(Dispatcher(delivery, people, timezone=rules()._zone))
        stage = WholesalerStage(0, 1, rules("", wall=True))
        gone, early, late = (
            opened("gone", at(9)),
            opened("early", at(9, 30)),
            opened("late", at(16)),
        )
        log = [
            envelope(at(8)),
            envelope(at(10), gone, early),
            envelope(at(16), closed(gone, at(15))),
            envelope(at(16, 30), late),
            envelope(at(17, 10)),
        ]
        statuses = []
        for data in log:
            stage.process(*unpack(data))
            for _ in range(2):
                for effect in deliver(stage, outbox, now):
                    if effect.header.kind == "messages" and effect.rows is not None:
                        statuses += effect.rows["status"].to_pylist()
                await outbox.drain()
        sent = [(m.language, [i.incident_id for i in m.incidents]) for m in sender.accepted]
        return statuses, sent

    statuses, sent = asyncio.run(work())
    assert statuses == ["stale", "stale", "sent", "sent"]
    assert [names for _, names in sent] == [["late"], ["early"]]


def test_messages_on_their_way_hold_back_the_watermark_and_the_end(tmp_path: Path) -> None:
    async def work() -> list[tuple[int, bool]]:
        gate = asyncio.Event()

        class Slow(ScriptedSender):
            async def send(self, message: Message) -> Receipt:
                await gate.wait()
                return await super().send(message)

        delivery = MessageDelivery(Slow(), FileReceipts(tmp_path / "receipts"), clock=FakeClock())
        people = FakeDirectory({"w": wholesaler(PHONE, BACKUP)})
        outbox = Outbox(Dispatcher(delivery, people, timezone=rules()._zone))
        stage = WholesalerStage(0, 1, rules(""))
        marks = []
        for data in (envelope(at(9), A), envelope(at(10), ended=True)):
            stage.process(*unpack(data))
            effects = deliver(stage, outbox, 0)
            marks += [(e.header.watermark, e.header.ended) for e in effects]
            await asyncio.sleep(0)
        assert stage.busy
        gate.set()
        await outbox.drain()
        effects = deliver(stage, outbox, 0)
        assert not stage.busy
        assert deliver(stage, outbox, 0) == []
        return marks + [(e.header.watermark, e.header.ended) for e in effects]

    marks = asyncio.run(work())
    assert [ended for _, ended in marks] == [False] * (len(marks) - 1) + [True]
    assert all(mark < at(10) for mark, _ in marks[:-1])
    assert marks[-1][0] == at(10)
