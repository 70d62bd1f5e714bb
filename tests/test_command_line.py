"""How the command ends: 0, 1 or 2, and one clear line on stderr."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from services.waiting import wait_until

COMMAND = [sys.executable, "-m", "infra.cli"]


def zerostock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("teleport", "No such command 'teleport': see zerostock --help"),
        ("run", "Missing option '--input': see zerostock run --help"),
        ("run --nope", "No such option: --nope"),
        ("serve --port x", "Invalid value for '--port'"),
        ("batch teleport --period 2026-03 --input . --data DATA", "no batch job 'teleport'"),
        ("worker teleport", "there is no worker 'teleport'"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments: str, said: str, tmp_path: Path) -> None:
    ended = zerostock(*arguments.replace("DATA", str(tmp_path)).split())
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"zerostock: {said}")
    assert ended.stdout == ""


def test_other_mistakes_are_one_line_and_1(tmp_path: Path) -> None:
    ended = zerostock("query", "--data", str(tmp_path / "none"), "SELECT 1")
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("zerostock: ")


@pytest.mark.parametrize("arguments", ["--help", "run --help", "users add --help", "--version"])
def test_help_and_version_are_0(arguments: str) -> None:
    ended = zerostock(*arguments.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "zerostock" in ended.stdout


def test_ctrl_c_is_one_line_and_1(tmp_path: Path) -> None:
    out = tmp_path / "city"
    making = subprocess.Popen(
        [*COMMAND, "simulate", "--out", str(out), "--cdrs", "50000000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: any(tmp_path.iterdir()), "the first files")
    making.send_signal(signal.SIGINT)
    _, said = making.communicate(timeout=120)
    assert (making.returncode, said) == (1, "zerostock: stopped\n")
    assert not out.exists()
