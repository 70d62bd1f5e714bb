"""Each benchmark runs at a tiny size and prints lines of the promised form; no times are judged."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from infra import bench
from schemas.errors import UsageError

FIELDS = ["bench", "metric", "unit", "ours", "spread", "limit", "peer", "peer_name"]
TINY = {"sims": 20_000, "shelved": 2_000, "outlets": 30, "runs": 1}


def lines_of(name: str, **options: object) -> list[dict]:
    """What the command prints; in a process of its own, as people call it."""
    given = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", "bench", name, "--json", *given],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    *lines, about = (json.loads(line) for line in done.stdout.splitlines())
    assert {"machine", "versions"} <= about.keys()
    for line in lines:
        assert list(line) == FIELDS
        assert line["bench"] == name
        assert line["ours"] > 0
    return lines


@pytest.mark.slow
def test_stream() -> None:
    found = lines_of("stream", cdrs=300_000, peer_events=0, **TINY)
    assert [line["metric"] for line in found] == ["throughput", "CPU", "worker memory"]
    assert found[0]["limit"] > 0
    assert found[0]["peer"] > 0


def test_a_benchmark_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="stream"):
        bench.main("steam", True)


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="cdr"):
        bench.main("stream", True, cdr=1)


@pytest.mark.slow
def test_recovery() -> None:
    found = lines_of("recovery", cdrs=300_000, **TINY)
    assert [line["metric"] for line in found] == [
        "start at rest",
        "start after SIGKILL",
        "state on the broker",
    ]


@pytest.mark.slow
def test_run() -> None:
    rate, work = lines_of("run", outlets=20, cdrs=3_000)
    assert rate["limit"] > 0
    assert work["unit"] == "s/million rows"


@pytest.mark.slow
def test_latency() -> None:
    sizes = {name: value for name, value in TINY.items() if name != "runs"} | {"sims": 60_000}
    found = lines_of(
        "latency", cdrs_per_second=5_000, stock_outs=5, seconds=1, burst_seconds=1, **sizes
    )
    for some, when in ((found[:5], ""), (found[5:], " in a burst")):
        assert [line["metric"] for line in some] == [
            f"CDR to SMS{when}, p50",
            f"CDR to SMS{when}, p99",
            f"CDR to movements{when}, p50",
            f"movements to incidents{when}, p50",
            f"incidents to SMS{when}, p50",
        ]
        assert all(line["limit"] > 0 for line in some[:2])
        assert all(0 < line["ours"] < some[1]["ours"] for line in some[2:])


def test_warehouse() -> None:
    found = lines_of("warehouse", rows=20_000, runs=1)
    assert found[0]["metric"] == "embedded, movements"


def test_ingest() -> None:
    found = lines_of("ingest", cdrs=20_000, sims=20_000, posted=3_000, runs=1)
    assert [line["metric"] for line in found] == [
        "JSON CDRs",
        "CSV CDRs",
        "Parquet CDRs",
        "JSON CDRs of a topic",
        "JSON CDRs by HTTP",
    ]


@pytest.mark.slow
def test_scale() -> None:
    found = lines_of("scale", cdrs=300_000, sims="20000,40000", outlets="30,60", workers="", runs=1)
    assert {line["unit"] for line in found} >= {"CDR/s", "B/SIM", "s", "MB/day"}


def test_batch() -> None:
    found = lines_of("batch", rows="20000", runs=1)
    jobs = ("line-loss", "arrears", "subscriber-loss", "channel")
    assert {line["metric"] for line in found} == {
        metric
        for job in jobs
        for metric in (f"{job}, 20,000 rows", f"{job}, 20,000 rows, peak memory so far")
    }


@pytest.mark.slow
def test_forecast() -> None:
    found = lines_of("forecast", outlets=40, days=18, runs=1, worth="0.1,0.25")
    assert [line["metric"] for line in found] == [
        f"{what}, worth {least}"
        for least in ("0.1", "0.25")
        for what in ("recall", "precision", "named of stocked shelves")
    ]


@pytest.mark.slow
def test_diversion() -> None:
    found = lines_of("diversion", outlets=300, days=4, cdrs=40_000, seed=5, runs=1)
    assert [(line["metric"], line["ours"]) for line in found] == [
        ("planted", 2),
        ("alarms", 2),
        ("alarms, precision", 100),
        ("alarms, recall", 100),
        ("alarms and watched", 2),
        ("alarms and watched, precision", 100),
        ("alarms and watched, recall", 100),
    ]


@pytest.mark.slow
def test_page() -> None:
    found = lines_of("page", outlets=800, runs=1, watchers=3, cdrs=3_000)
    seconds = {line["metric"]: line for line in found}
    assert {"/", "/outlets/O000777", "/sims/8986000000000777777"} <= seconds.keys()
    assert seconds["run with 3 watchers"]["limit"] > 0
