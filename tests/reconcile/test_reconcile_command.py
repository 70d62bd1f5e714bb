"""`zerostock reconcile` after a run: equal as it came out, unequal once a row is tampered with."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.simulate import read_truth
from pipelines.warehouse import open_warehouse


@pytest.fixture
def data(ran: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(ran, tmp_path / "data", symlinks=True))


def rows(zerostock, data: Path, sql: str) -> list[dict]:
    done = zerostock("query", "--data", data, "--format", "JSONEachRow", sql)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_after_a_run_files_and_tables_are_equal(zerostock, city: Path, data: Path) -> None:
    truth = read_truth(city)
    done = zerostock("reconcile", "--input", city, "--data", data)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "0 differences" in done.stdout
    (run,) = rows(zerostock, data, "SELECT * FROM reconcile_runs")
    assert int(run["shelves"]) == len(truth.stock)
    assert int(run["incidents"]) == len(truth.incidents)
    assert int(run["differences"]) == 0
    assert rows(zerostock, data, "SELECT * FROM reconcile_differences") == []


def test_each_tampered_row_is_found(zerostock, city: Path, data: Path) -> None:
    (shelf, level), *_ = read_truth(city).stock.items()
    warehouse = open_warehouse(data=data)
    warehouse.insert(
        "stock_levels_rows",
        pa.table(
            {
                "outlet_id": [shelf[0]],
                "sku": [shelf[1]],
                "on_hand": pa.array([level + 7], pa.int32()),
                "wholesaler_id": ["w"],
                "as_of": pa.array([datetime(2030, 1, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC")),
            }
        ),
    )
    (incident,) = warehouse.query(
        "SELECT incident_id, outlet_id, sku FROM stock_incidents_rows ORDER BY 1 LIMIT 1"
    ).to_pylist()
    warehouse.execute(
        "DELETE FROM stock_incidents_rows WHERE incident_id = {id:String}",
        {"id": incident["incident_id"]},
    )
    (kind,) = warehouse.query("SELECT kind FROM anomalies LIMIT 1").to_pylist()
    warehouse.execute("DELETE FROM anomalies_rows WHERE kind = {kind:String}", kind)
    warehouse.close()
    done = zerostock("reconcile", "--input", city, "--data", data)
    assert done.returncode == 1
    assert "3 differences" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    found = rows(zerostock, data, "SELECT * FROM reconcile_differences ORDER BY kind DESC")
    stock, lost, gone = found
    assert (stock["kind"], stock["outlet_id"], stock["sku"]) == ("stock", *shelf)
    assert (stock["expected"], stock["found"]) == (str(level), str(level + 7))
    assert (lost["kind"], lost["item"]) == ("incident", incident["incident_id"])
    assert lost["expected"]
    assert lost["found"] == ""
    assert (gone["kind"], gone["item"], gone["found"]) == ("anomalies", kind["kind"], "0")
    assert shelf[0] in done.stdout
    assert incident["outlet_id"] in done.stdout


def test_a_mistake_gets_one_clear_line(zerostock, data: Path, tmp_path: Path) -> None:
    for where, says in ((tmp_path / "nowhere", "no warehouse"), (data, "reference/ folder")):
        done = zerostock("reconcile", "--input", tmp_path / "nowhere", "--data", where)
        assert done.returncode == 1
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
