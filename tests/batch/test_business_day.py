"""One business day: the zone that cuts days and months, said and warned of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.batch import run_job
from pipelines.warehouse.port import Warehouse

UNITS = "unit_id,level,parent_id\nT,feeder,\n"


def grid(root: Path, *spans: str) -> Path:
    """One unit whose readings cover the spans (start/end), each with its customer's meter."""
    (root / "grid_units.csv").write_text(UNITS)
    for name, who, head in (
        ("boundary_readings", "in", "direction"), ("customer_readings", "c", "customer_id"),
    ):  # fmt: skip
        rows = [f"m,{who},T,{span.replace('/', ',')},100,measured\n" for span in spans]
        (root / f"{name}.csv").write_text(
            f"meter_id,{head},unit_id,start,end,kwh,quality\n{''.join(rows)}"
        )
    return root


def line_loss(warehouse: Warehouse, root: Path, *args: str) -> list[str]:
    lines: list[str] = []
    run_job("line-loss", period="2026-03", input=root, warehouse=warehouse, beam_args=args,
            progress=lines.append)  # fmt: skip
    return lines


CHINA = "2026-03-01T00:00:00+08:00/2026-04-01T00:00:00+08:00"
GREENWICH = "2026-02-28T16:00:00Z/2026-03-31T16:00:00Z"


@pytest.mark.parametrize("span", [CHINA, GREENWICH])
def test_months_are_those_of_the_business_whatever_the_input_writes(
    span: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    lines = line_loss(warehouse, grid(tmp_path, span))
    assert lines[0].startswith("line-loss 2026-03 in Asia/Shanghai: ")
    (row,) = warehouse.query("SELECT * FROM line_loss").to_pylist()
    assert row["supplied_kwh"] == 100


@pytest.mark.parametrize(
    ("spans", "args", "offset"),
    [
        ([CHINA], [], None),
        ([CHINA, GREENWICH], [], None),
        ([GREENWICH], [], "Z"),
        ([CHINA], ["--time-zone=Europe/Berlin"], r"\+08:00"),
        (["2026-03-01T00:00:00+02:00/2026-04-01T00:00:00+02:00"],
         ["--time-zone=Europe/Berlin"], None),
        (["2026-03-01T00:00:00+00:00/2026-03-02T00:00:00+0000"], ["--time-zone=UTC"], None),
    ],
)  # fmt: skip
def test_a_run_warns_when_all_offsets_are_anothers(
    spans: list[str], args: list[str], offset: str | None, warehouse: Warehouse, tmp_path: Path
) -> None:
    lines = line_loss(warehouse, grid(tmp_path, *spans), "--most-refused=1", *args)
    warnings = [line for line in lines if line.startswith("warning: all times")]
    assert bool(warnings) == (offset is not None)
    if offset:
        assert offset.removeprefix("\\") in warnings[0]


def test_the_setting_is_the_zone_of_all_jobs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.cli", "batch", "line-loss", "--period", "2026-03"]
    command += ["--input", grid(tmp_path, CHINA), "--data", tmp_path / "data"]

    def run(zone: str) -> str:
        env = os.environ | {"ZEROSTOCK_TIME_ZONE": zone}
        done = subprocess.run(
            list(map(str, command)), env=env, capture_output=True, text=True, check=False
        )
        return done.stderr

    assert "line-loss 2026-03 in Europe/Berlin" in run("Europe/Berlin")
    assert "'Mars/Olympus' is not a time zone" in run("Mars/Olympus")


@pytest.mark.parametrize(
    ("until", "said"),
    [
        ("2026-04-01T00:00:00+08:00", "2026-03-01 00:00 until 2026-04-01 00:00: 31 of 31 days"),
        ("2026-03-10T12:00:00+08:00", "2026-03-01 00:00 until 2026-03-10 12:00: 10 of 31 days; "),
        ("2026-02-20T12:00:00+08:00", "warning: the input has nothing of 2026-03"),
    ],
)
def test_a_run_says_how_much_of_the_month_is_covered(
    until: str, said: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    lines = line_loss(warehouse, grid(tmp_path, f"2026-02-01T00:00:00+08:00/{until}"))
    assert any(said in line for line in lines), lines
