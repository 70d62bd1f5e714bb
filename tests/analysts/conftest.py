"""One made city through the stream and the batch jobs, for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.simulate import CityPlan, simulate


@dataclass(frozen=True)
class Ran:
    """A city's files, and the data directory that they went into."""

    city: Path
    data: Path

    def zerostock(self, *arguments: object) -> str:
        """What a command says; it has to succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A small city, run, with the month's jobs."""
    folder = tmp_path_factory.mktemp("analysts")
    ran = Ran(folder / "city", folder / "data")
    simulate(CityPlan(seed=7, outlets=40, cdrs=5_000, territories=3, wholesalers=4), ran.city)
    common = ("--input", ran.city, "--data", ran.data)
    ran.zerostock("run", *common, "--sms", f"file:{folder}/sms.ndjson")
    ran.zerostock("batch", "line-loss", "--period", "2026-03", *common)
    ran.zerostock("batch", "arrears", "--as-of", "2026-03-31", *common)
    return ran
