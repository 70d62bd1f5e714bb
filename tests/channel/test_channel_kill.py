"""A channel run that is killed outright: the old figures stay, and the next run goes through."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_channel_job import FIGURES, PLAN, city, stocked

from pipelines.warehouse import open_for_reading, open_warehouse

#: The command, killed by the kernel as soon as a table has its rows.
_KILLED = """
import os, signal, sys
from pipelines.warehouse.engines.embedded import Embedded

def insert(self, table, rows, real=Embedded.insert):
    real(self, table, rows)
    if table == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

Embedded.insert = insert
from infra.cli import app
app(sys.argv[2:])
"""


def run(root: Path, killed_at: str = "") -> int:
    batch = ["batch", "channel", "--period", "2026-03", "--input", str(root / "in"),
             "--time-zone=UTC"]  # fmt: skip
    command = [sys.executable, "-c", _KILLED, killed_at, *batch, "--data", str(root / "data")]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


def shown(root: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(open_for_reading(data=root / "data")) as warehouse:
        return {
            name: warehouse.query(f"SELECT * FROM {name} ORDER BY ALL").to_pylist()
            for name in FIGURES
        }


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_figures_and_the_next_run_replaces_them(
    tmp_path: Path,
) -> None:
    with closing(open_warehouse(data=tmp_path / "data")) as warehouse:
        stocked(warehouse)
    city(tmp_path / "in", "csv")
    assert run(tmp_path) == 0
    before = shown(tmp_path)
    assert all(before.values())
    (tmp_path / "in" / "channel" / "channel.toml").write_text(PLAN.replace("pays = 5", "pays = 7"))
    for table in ("outlet_ranking_rows", "commission_lines_rows", "hall_assessment_rows"):
        assert run(tmp_path, killed_at=table) == -signal.SIGKILL
        assert shown(tmp_path) == before
    assert run(tmp_path) == 0
    assert sum(line["amount_fen"] for line in shown(tmp_path)["commission_lines"]) == 700 * (
        40 - 10
    )
