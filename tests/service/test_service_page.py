"""The page of cases is typed: its files, its events, its commands, and what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs/service.md"
TABLES = {
    "territories": "territory_id,name,parent_id",
    "cells": "cell_id,territory_id",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on",
    "assignments": "outlet_id,wholesaler_id,valid_from",
    "sim_batches": "batch_id,sku,first_iccid,first_imsi,count",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_a_complaints_week_is_as_the_page_shows_it(tmp_path: Path) -> None:
    reference = tmp_path / "city/reference"
    reference.mkdir(parents=True)
    for name, header in TABLES.items():
        (reference / f"{name}.csv").write_text(f"{header}\n")
    (units,), (calendars, cases), (events,) = blocks("csv"), blocks("toml"), blocks("json")
    (reference / "units.csv").write_text(units)
    (reference / "calendars.toml").write_text(calendars)
    (reference / "cases.toml").write_text(cases)
    (tmp_path / "city/events").mkdir()
    (tmp_path / "city/events/week.ndjson").write_text(events)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shown = ""
    for code in blocks("sh")[:2]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        shown += done.stdout
    for text in blocks("text"):
        assert text in shown
