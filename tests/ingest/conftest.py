from __future__ import annotations

from pathlib import Path

import pytest
from ingest_harness import make_reference


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """An exchange directory with reference tables and nothing to read."""
    directory = tmp_path / "city"
    make_reference(directory)
    (directory / "events").mkdir()
    return directory
