"""Made cities that ran through the product, for figures whose truth is known."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.simulate import CityPlan, simulate
from schemas.errors import ZerostockError


@contextmanager
def lived(plan: CityPlan, *jobs: tuple[str, ...]) -> Iterator[tuple[Path, Path]]:
    """The exchange directory of a city, and the data directory after its run and its batch jobs.

    Raises `ZerostockError` with what a command said that failed.
    """
    with tempfile.TemporaryDirectory(prefix="zerostock-bench-") as folder:
        city, data = Path(folder) / "city", Path(folder) / "data"
        simulate(plan, city)
        _zerostock("run", "--input", str(city), "--data", str(data), "--sms", f"file:{folder}/sms")
        for job in jobs:
            _zerostock("batch", *job, "--input", str(city), "--data", str(data))
        yield city, data


def _zerostock(*arguments: str) -> None:
    command = [sys.executable, "-m", "infra.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ZerostockError(f"the city did not {arguments[0]}: {done.stderr.strip()}")
