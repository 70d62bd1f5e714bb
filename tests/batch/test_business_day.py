"""One business day: the zone that cuts days and months, said and warned of."""

from __future__ import annotations

import gzip
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


@pytest.mark.parametrize("kind", ["cdr.csv", "cdr.csv.gz", "events.ndjson"])
@pytest.mark.parametrize(("offset", "warns"), [("+08:00", False), ("Z", True), ("-05:00", True)])
def test_calls_and_events_are_warned_of_as_well(
    kind: str, offset: str, warns: bool, warehouse: Warehouse, tmp_path: Path
) -> None:
    write_reference(tmp_path)
    folder, _, ending = kind.partition(".")
    (tmp_path / folder).mkdir()
    at = f"2026-03-05T10:00:00{offset}"
    text = (
        f"call_id,start_time,imsi,msisdn,duration_s,cell_id,charge_fen\n"
        f"c,{at},460001000000000,,5,,1\n"
        if folder == "cdr"
        else f'{{"type":"activation","event_id":"e","at":"{at}","imsi":"460001000000000"}}\n'
    )
    data = gzip.compress(text.encode()) if ending.endswith("gz") else text.encode()
    (tmp_path / folder / f"a.{ending}").write_bytes(data)
    lines: list[str] = []
    run_job("subscriber-loss", period="2026-03", input=tmp_path, warehouse=warehouse,
            progress=lines.append)  # fmt: skip
    assert any(line.startswith("warning: all times") for line in lines) == warns, lines


def write_reference(root: Path) -> None:
    """A shop and a batch of cards."""
    (root / "reference").mkdir()
    for name, text in {
        "territories": "territory_id,name,parent_id\nt,t,\n",
        "cells": "cell_id,territory_id\n",
        "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nw,w,,,en\n",
        "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\no,o,kiosk,t,,\n",
        "assignments": "outlet_id,wholesaler_id,valid_from\no,w,2026-01-01T00:00:00Z\n",
        "sim_batches": "batch_id,sku,first_iccid,first_imsi,count\n"
        "b,X,8986000000000000000,460001000000000,10\n",
    }.items():
        (root / "reference" / f"{name}.csv").write_text(text)


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
