from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from ingest_rig import make_reference

# Machines that do other things meanwhile are slow now and then.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """An exchange directory with reference tables and nothing to read."""
    directory = tmp_path / "city"
    make_reference(directory)
    (directory / "events").mkdir()
    return directory
