"""Small cities on disk, and exchange directories written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from simulate_harness import PLANS, REFERENCE, Made, Town

from pipelines.simulate import simulate


@pytest.fixture(scope="session", params=PLANS, ids=lambda plan: f"seed{plan.seed}")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("city")
    return Made(request.param, path, simulate(request.param, path))


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """town(event, …, cdr="rows") writes the events, dicts or raw bytes, and CSV rows."""

    def write(*events: dict[str, Any] | bytes, cdr: str = "") -> Path:
        for folder in ("reference", "events", "cdr/s"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in REFERENCE.items():
            (tmp_path / "reference" / f"{name}.csv").write_text(text, encoding="utf-8")
        lines = [e if isinstance(e, bytes) else json.dumps(e).encode() for e in events]
        (tmp_path / "events" / "all.ndjson").write_bytes(b"\n".join(lines) + b"\n" * bool(lines))
        header = "call_id,start_time,imsi,msisdn,duration_s,cell_id,charge_fen\n"
        (tmp_path / "cdr" / "s" / "1.csv").write_text(header + cdr, encoding="utf-8")
        return tmp_path

    return write
