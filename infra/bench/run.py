"""A city through `zerostock run`, beside Polars reading and parsing the same files.

The peer reads every file of calls and events, one after the other, and parses each column of calls
to its type; it checks nothing, knows no SIM and keeps nothing. What comes of the run must be the
city's truth.
"""

from __future__ import annotations

import asyncio
import io
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from rich.console import Console

from infra.bench.common.report import Measurement, of_runs
from infra.settings import load_settings
from infra.stack.run import RunPlan
from infra.stack.run import run as run_stack
from infra.stack.summary import Screen
from pipelines.simulate import CityPlan, read_truth, simulate
from pipelines.warehouse import open_for_reading
from schemas.errors import ZerostockError

_TIME = "%Y-%m-%dT%H:%M:%S%.3f%#z"


def run(
    *, outlets: int = 13_500, days: int = 1, cdrs: int = 10_000_000, seed: int = 1, runs: int = 1
) -> Iterator[Measurement]:
    """The lines of the benchmark: rows a second, and the processor's time for a million rows."""
    with tempfile.TemporaryDirectory(prefix="zerostock-bench-") as folder:
        city = Path(folder) / "city"
        # Polars cannot pass over a line that is no JSON.
        plan = CityPlan(seed=seed, outlets=outlets, days=days, cdrs=cdrs, bad_lines=0)
        simulate(plan, city)
        ours, limits, work = [], [], []
        for number in range(runs):
            began = time.perf_counter()
            read = _parsed(city)
            limits.append(read / (time.perf_counter() - began))
            used = _processor_seconds()
            rows, seconds = _through(city, Path(folder) / f"data-{number}")
            ours.append(rows / seconds)
            work.append((_processor_seconds() - used) / rows * 1e6)
    what = f"{outlets:,} outlets, {days} days"
    yield Measurement("run", what, "rows/s", *of_runs(ours), of_runs(limits)[0])
    yield Measurement("run", f"{what}, CPU", "s/million rows", *of_runs(work))


def _through(city: Path, data: Path) -> tuple[int, float]:
    """(rows, seconds) of a run. Raises `ZerostockError` if the city does not come out as it is."""
    settings = load_settings(sms=f"file:{data}.sms")
    screen = Screen(Console(file=io.StringIO()))
    outcome = asyncio.run(run_stack(RunPlan(city, data, settings), screen))
    truth, warehouse = read_truth(city), open_for_reading(data=data)
    try:
        on_hand = warehouse.query("SELECT outlet_id, sku, on_hand FROM stock_on_hand").to_pylist()
        (count,) = warehouse.query("SELECT count() FROM stock_incidents").column(0).to_pylist()
    finally:
        warehouse.close()
    stock = {(row["outlet_id"], row["sku"]): row["on_hand"] for row in on_hand}
    if (stock, count) != (truth.stock, len(truth.incidents)):
        raise ZerostockError("the city did not come out as its truth says")
    return outcome.report.rows, outcome.seconds


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _parsed(city: Path) -> int:
    """How many rows Polars read."""
    rows = 0
    for path in sorted((city / "cdr").rglob("*.*")):
        if path.suffix == ".parquet":
            rows += pl.read_parquet(path).height
            continue
        texts = pl.read_csv(path, infer_schema=False)
        numbers = pl.col("imsi", "msisdn", "duration_s", "charge_fen").cast(pl.Int64, strict=False)
        at = pl.col("start_time").str.to_datetime(_TIME, time_unit="ms", strict=False)
        rows += texts.with_columns(numbers, at).height
    for path in sorted((city / "events").iterdir()):
        rows += pl.read_ndjson(path, infer_schema_length=None).height
    return rows
