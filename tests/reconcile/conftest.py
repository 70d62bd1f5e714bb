"""Lets the tests of this folder import their own helpers, and runs one small city for all."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.simulate import CityPlan, simulate

Zerostock = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def zerostock() -> Zerostock:
    """Runs a command to its end, output captured."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infra.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return call


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small city."""
    folder = tmp_path_factory.mktemp("city") / "city"
    simulate(CityPlan(seed=5, outlets=25, cdrs=3_000, territories=2, wholesalers=3), folder)
    return folder


@pytest.fixture(scope="session")
def ran(city: Path, zerostock: Zerostock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory after the city ran through the stream."""
    data = tmp_path_factory.mktemp("ran") / "data"
    done = zerostock("run", "--input", city, "--data", data, "--sms", f"file:{data}.sms")
    assert done.returncode == 0, done.stderr
    return data
