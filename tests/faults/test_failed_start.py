"""A worker whose start fails is gone in time, also if something in it does not stop."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, logging
from mode import Service
from pipelines.stream import ending

class Unready(Service):
    async def on_start(self):
        raise ConnectionError("no broker")

class Stuck(ending.EndingWorker):
    async def stop(self):
        await asyncio.sleep(600)

logging.basicConfig()
ending.STOP_WITHIN = 0.5
Stuck(Unready(), override_logging=False).execute_from_commandline()
"""


def test_a_worker_whose_start_fails_is_gone_in_time() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "about to end, and still here" in ended.stderr
