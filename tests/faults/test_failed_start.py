"""How a worker ends: in time if its start fails, and with one line if a setting is wrong."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, logging
from mode import Service
from pipelines.stream.faust_fixes import exit as ending

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


SETTING = """
from pipelines.stream.faust_fixes.exit import die
from schemas.errors import SettingsError
try:
    raise SettingsError("Twilio: the credentials are wrong")
except SettingsError:
    die("an agent failed")
"""


def test_a_setting_that_is_wrong_is_the_last_word_without_a_trace() -> None:
    """`zerostock run` passes on what begins so, and does not start the worker ten times more."""
    ended = subprocess.run(
        [sys.executable, "-c", SETTING], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "zerostock: Twilio: the credentials are wrong"
    assert "Traceback" not in ended.stderr
