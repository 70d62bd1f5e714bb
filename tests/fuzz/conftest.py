"""Lets the tests of this folder import their own helpers, and those of ingest."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "ingest")]


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """An exchange directory with reference tables and nothing to read."""
    from ingest_harness import make_reference

    directory = tmp_path / "city"
    make_reference(directory)
    (directory / "events").mkdir()
    return directory
