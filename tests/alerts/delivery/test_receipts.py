"""The memory of what was sent."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from random import Random

import msgspec
import pytest
from alert_harness import BACKUP, NOW, PHONE, message

from alerts.delivery.log_receipts import LogReceipts, wholesaler_of
from alerts.delivery.receipts import Attempt, FileReceipts
from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from schemas.errors import InputError
from schemas.messages import MessageRecord


def record(name: str = "m1", provider_id: str = "P1") -> MessageRecord:
    return MessageRecord(name, "w", ["i"], "body 店", 1, NOW, "sent", 1, provider_id, "", NOW)


def test_success_outlives_the_process(tmp_path: Path) -> None:
    receipts = FileReceipts(tmp_path / "r")
    assert receipts.get("m1") is None
    receipts.keep(record())
    assert receipts.get("m1") == record()
    receipts.close()
    again = FileReceipts(tmp_path / "r")
    assert again.get("m1") == record()
    assert again.claimed("P1")
    assert not again.claimed("P2")
    assert not again.claimed("")


def test_attempts_are_kept_once_each_until_success(tmp_path: Path) -> None:
    receipts = FileReceipts(tmp_path / "r")
    one, other = message(), message(to=BACKUP)
    for at, tried in [(1, one), (2, one), (3, other)]:
        receipts.keep_attempt(Attempt(tried, at))
    expected = [Attempt(one, 1), Attempt(other, 3)]
    assert receipts.attempts("m1") == expected
    again = FileReceipts(tmp_path / "r")
    assert again.attempts("m1") == expected
    again.keep(record())
    assert again.attempts("m1") == receipts.attempts("m1") == []


def test_a_damaged_file_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="is damaged"):
        FileReceipts(tmp_path / "r")


def test_only_its_owner_reads_the_numbers(tmp_path: Path) -> None:
    FileReceipts(tmp_path / "r").keep(record())
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())


def test_two_processes_on_one_file_see_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = FileReceipts(tmp_path / "r"), FileReceipts(tmp_path / "r")
    one.keep(record())
    assert other.get("m1") == record()
    other.keep(record("m2"))
    assert one.get("m2") == record("m2")


def test_the_log_knows_on_another_machine_what_this_one_sent(tmp_path: Path) -> None:
    log: dict[str, bytes] = {}

    async def write(name: str, entry: bytes) -> None:
        log[name] = entry

    async def life(machine: str, *acts: str) -> LogReceipts:
        receipts = LogReceipts(FileReceipts(tmp_path / machine))
        receipts.write = write
        for name, entry in log.items():
            receipts.restore(name, entry)
        receipts.load("w")
        for act in acts:
            await (
                receipts.attempt(Attempt(message(), NOW))
                if act == "try"
                else receipts.put(record())
            )
        return receipts

    asyncio.run(life("a", "try"))
    there = asyncio.run(life("b"))
    assert there.attempts("m1") == [Attempt(message(), NOW)]
    assert there.get("m1") is None
    asyncio.run(life("a", "put"))
    there = asyncio.run(life("b"))
    assert (there.get("m1"), there.attempts("m1")) == (record(), [])
    assert there.claimed("P1")
    unread = LogReceipts(FileReceipts(tmp_path / "c"))
    for name, entry in log.items():
        unread.restore(name, entry)
    assert [unread.claimed(name) for name in ("P1", "P2", "")] == [True, False, False]
    there.reset()
    assert there.get("m1") is None


def test_what_only_a_disk_knew_is_logged_when_it_is_found(tmp_path: Path) -> None:
    """The worker died between the two."""
    log: list[bytes] = []

    async def write(name: str, entry: bytes) -> None:
        log.append(entry)

    receipts = LogReceipts(FileReceipts(tmp_path / "r"))
    receipts.local.keep(record())
    receipts.write = write
    found = receipts.get("m1")
    assert found is not None
    asyncio.run(receipts.put(found))
    asyncio.run(receipts.put(found))
    assert len(log) == 1


class Machine:
    """A worker on a machine that has no disk of its own worth the name."""

    def __init__(self, folder: Path, log: dict[str, bytes]) -> None:
        self.receipts = LogReceipts(FileReceipts(folder / f"disk-{Machine.count}"))
        Machine.count += 1
        self.receipts.write = self.write
        self.log, self.writes, self.longest = log, 0, 0
        for name, entry in log.items():
            self.receipts.restore(name, entry)
        self.receipts.load("w")

    count = 0

    async def write(self, name: str, entry: bytes) -> None:
        assert wholesaler_of(name) == "w"
        await asyncio.sleep(0)
        self.log[name] = entry
        self.writes += 1
        self.longest = max(self.longest, len(entry))


@pytest.mark.parametrize("seed", range(3))
def test_the_newest_receipts_follow_the_partition_at_a_cost_that_does_not_grow(
    tmp_path: Path, seed: int
) -> None:
    dice, log, sent, doubt = Random(seed), dict[str, bytes](), list[str](), set[str]()
    longest = []

    async def live(acts: int) -> None:
        machine = Machine(tmp_path, log)
        for _ in range(acts):
            name = f"m{len(sent) + len(doubt)}"
            if dice.random() < 0.9:
                await machine.receipts.put(record(name, f"P{name}"))
                sent.append(name)
            else:
                tried = msgspec.structs.replace(message(), message_id=name)
                await machine.receipts.attempt(Attempt(tried, NOW))
                doubt.add(name)
            if doubt and dice.random() < 0.1:
                name = sorted(doubt)[0]
                doubt.discard(name)
                await machine.receipts.put(record(name, f"P{name}"))
                sent.append(name)
        longest.append(machine.longest)

    for _ in range(12):
        asyncio.run(live(dice.randint(1, 160)))
        there = Machine(tmp_path, log).receipts
        assert all(there.get(name) for name in sent[-480:])
        assert all(there.claimed(f"P{name}") for name in sent[-480:])
        assert not any(there.attempts(name) for name in sent[-480:])
        assert all(there.attempts(name) for name in doubt)
    assert len(sent) > 600
    assert max(longest[-3:]) < 3 * max(longest[:3])


def test_receipts_that_wait_for_one_write_share_the_next(tmp_path: Path) -> None:
    log: dict[str, bytes] = {}
    machine = Machine(tmp_path, log)

    async def work() -> None:
        await asyncio.gather(*(machine.receipts.put(record(f"m{n}")) for n in range(30)))

    asyncio.run(work())
    assert machine.writes <= 3
    there = Machine(tmp_path, log).receipts
    assert all(there.get(f"m{n}") for n in range(30))


def test_a_receipt_whose_write_was_cut_short_is_written_when_it_is_put_again(
    tmp_path: Path,
) -> None:
    log: dict[str, bytes] = {}
    machine = Machine(tmp_path, log)

    async def work() -> None:
        putting = asyncio.create_task(machine.receipts.put(record()))
        await asyncio.sleep(0)
        putting.cancel()
        await asyncio.wait([putting])
        assert not log
        await machine.receipts.put(record())

    asyncio.run(work())
    assert Machine(tmp_path, log).receipts.get("m1") == record()


def test_an_entry_of_a_version_that_had_one_for_all_is_taken_over(tmp_path: Path) -> None:
    old = {f"m{n}": record(f"m{n}") for n in range(400)}
    tried = Attempt(msgspec.structs.replace(message(), message_id="doubt"), NOW)
    entry = (1, {"doubt": [tried]}, old)
    log = {"w": zlib.compress(msgspec.msgpack.encode(entry), 1)}

    async def work() -> None:
        machine = Machine(tmp_path, log)
        assert machine.receipts.attempts("doubt") == [tried]
        await machine.receipts.put(record("new"))
        more = Attempt(msgspec.structs.replace(message(), message_id="more"), NOW)
        await machine.receipts.attempt(more)

    asyncio.run(work())
    there = Machine(tmp_path, log).receipts
    assert all(there.get(name) for name in [*old, "new"])
    assert all(map(there.attempts, ["doubt", "more"]))


@pytest.mark.parametrize("on_disk", [True, False])
def test_refused_numbers(tmp_path: Path, on_disk: bool) -> None:
    path = tmp_path / "n" if on_disk else None
    numbers = RefusedNumbers(path)
    refused = RefusedNumber(PHONE, "21610", "opted out", NOW)
    other = RefusedNumber(BACKUP, "21614", "not a mobile", NOW)
    numbers.remember(other)
    numbers.remember(refused)
    assert numbers.get(PHONE) == refused
    assert numbers.all() == [refused, other]
    numbers.remember(RefusedNumber("+8613700137000", "30003", "away", NOW, blocked=False))
    assert (numbers.count(blocked=True), numbers.count(blocked=False)) == (2, 1)
    numbers.reached("+8613700137000", NOW)
    numbers.forget(PHONE, NOW)
    assert numbers.get(PHONE) is None
    assert (numbers.count(blocked=True), numbers.count(blocked=False)) == (1, 0)
    if path is not None:
        assert RefusedNumbers(path).all() == [other]
