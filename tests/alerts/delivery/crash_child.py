"""Dispatches a few groups in processes that kill themselves at a chosen step.

Everything is imported once; each line on stdin asks for one forked run, and is answered by how it
ended and which steps it came by. Run as a program.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE), str(HERE.parents[1])]

from alert_harness import (  # noqa: E402
    BACKUP,
    NOW,
    FakeDirectory,
    dispatched,
    group,
    incident,
    wholesaler,
)
from services.twilio_server import ACCOUNT, FROM, TOKEN  # noqa: E402

from alerts.delivery import journal  # noqa: E402
from alerts.delivery.delivery import MessageDelivery, Patience  # noqa: E402
from alerts.delivery.dispatcher import Dispatcher  # noqa: E402
from alerts.delivery.receipts import FileReceipts  # noqa: E402
from alerts.senders.opening import open_sender  # noqa: E402
from alerts.senders.twilio import TwilioOptions  # noqa: E402

GROUPS = [
    group(incident("a"), incident("b", NOW + 1)),
    group(incident("c", NOW + 90_000)),
    group(incident("d"), wholesaler_id="v"),
]
PATIENCE = Patience(first=0.01, longest=0.01, look_ups=(0.0, 0.0))


class Steps:
    """Counts the steps of a run, and ends it at the one named."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self.passed = os.open(folder / "steps", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.count = 0
        self.last = last

    def step(self, name: str) -> None:
        os.write(self.passed, name.encode() + b"\n")
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def watch_writes(self) -> None:
        write, append = journal._write, journal.Journal.append
        record = FileReceipts._write

        def in_halves(file: int, data: bytes) -> None:
            name = Path(os.readlink(f"/proc/self/fd/{file}")).name
            self.step(f"{name}: nothing written")
            write(file, data[: len(data) // 2])
            self.step(f"{name}: half written")
            write(file, data[len(data) // 2 :])
            self.step(f"{name}: written, not synced")

        def and_then(*arguments: Any, **options: Any) -> bool:
            done = append(*arguments, **options)
            self.step("appended")
            return done

        def recorded(receipts: FileReceipts, sql: str, *values: object) -> None:
            self.step("before a receipt")
            record(receipts, sql, *values)
            self.step("after a receipt")

        FileReceipts._write = recorded  # type: ignore[method-assign]
        journal._write = in_halves
        journal.Journal.append = and_then  # type: ignore[method-assign]

    def watch(self, name: str, act: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*arguments: Any) -> Any:
            self.step(f"before {name}")
            answer = await act(*arguments)
            self.step(f"after {name}")
            return answer

        return watched


async def run(folder: Path, way: str, url: str, steps: Steps) -> None:
    """One life of a worker, from its start to the end of all messages."""
    receipts = FileReceipts(folder / "receipts")
    twilio = TwilioOptions(ACCOUNT, TOKEN, FROM, base_url=url, answer_timeout=30)
    sender = open_sender(way, twilio=twilio, claimed=receipts.claimed)
    steps.watch_writes()
    sender.send = steps.watch("send", sender.send)  # type: ignore[method-assign]
    delivery = MessageDelivery(sender, receipts, patience=PATIENCE)
    people = {"w": wholesaler(), "v": wholesaler(BACKUP)}
    dispatcher = Dispatcher(delivery, FakeDirectory(people), timezone=ZoneInfo("Asia/Shanghai"))
    records = (await dispatched(dispatcher, GROUPS)).records
    assert [r.status for r in records] == ["sent"] * len(GROUPS), records
    await sender.close()


def main() -> None:
    """Serve requests until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        child = os.fork()
        if child == 0:
            screen = os.open(folder / "screen", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(screen, 1)
            steps = Steps(folder, request["last"])
            asyncio.run(run(folder, request["way"], request["url"], steps))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        passed = (folder / "steps").read_text().splitlines()
        print(json.dumps([os.waitstatus_to_exitcode(status), passed]), flush=True)


if __name__ == "__main__":
    main()
