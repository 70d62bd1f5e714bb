"""How the command ends if nothing is wrong, or somebody ends it. Mistakes: test_main_job."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from services.waiting import wait_until

COMMAND = [sys.executable, "-m", "infra.cli"]


def zerostock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("arguments", ["--help", "run --help", "users add --help", "--version"])
def test_help_and_version_are_0(arguments: str) -> None:
    ended = zerostock(*arguments.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "zerostock" in ended.stdout


def test_ctrl_c_is_one_line_and_1(tmp_path: Path) -> None:
    out = tmp_path / "city"
    making = subprocess.Popen(
        [*COMMAND, "simulate", "--out", str(out), "--cdrs", "500000000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: any(tmp_path.iterdir()), "the first files")
    said = ""
    while not said and making.poll() is None:
        # A library's C code may swallow a KeyboardInterrupt (seen once); people press again.
        making.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            _, said = making.communicate(timeout=20)
    assert (making.returncode, said) == (1, "zerostock: stopped\n")
    assert not out.exists()
