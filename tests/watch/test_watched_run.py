"""A live run with its pages open: what they say adds up with what the tables say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from services.waiting import wait_until

from pipelines.simulate import CityPlan, read_truth, simulate

WORKERS = ("stock", "alerts", "warehouse")
Samples = dict[tuple[str, ...], float]


class Run:
    """`zerostock run --follow` on a small city."""

    def __init__(self, folder: Path) -> None:
        self.data, self.log = folder / "data", folder / "log"
        command = [sys.executable, "-m", "infra.cli", "run", "--input", folder / "city"]
        command += ["--data", self.data, "--sms", f"file:{folder}/sms", "--follow"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                env={**os.environ, "ZEROSTOCK_METRICS_PORT": "0"},
            )
        wait_until(lambda: all(map(self._url, WORKERS)), "the pages", detail=self.log.read_text)
        self.urls = {name: self._url(name) for name in WORKERS}

    def _url(self, worker: str) -> str:
        assert self.process.poll() is None, self.log.read_text()
        log = self.data / "logs" / f"{worker}.log"
        found = re.search(
            r"(http://127\.0\.0\.1:\d+)/metrics", log.read_text() if log.exists() else ""
        )
        return found[1] if found else ""

    def page(self, worker: str, name: str) -> tuple[int, str]:
        """Status and text of a page."""
        try:
            with urllib.request.urlopen(f"{self.urls[worker]}/{name}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def samples(self, worker: str) -> Samples:
        """All samples by name and label values."""
        _, text = self.page(worker, "metrics")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("watched")
    plan = CityPlan(seed=9, outlets=20, cdrs=2_000, territories=2, wholesalers=2, bad_lines=10)
    simulate(plan, folder / "city")
    started = Run(folder)
    yield started
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(60) == 0, started.log.read_text()


def told(alerts: Samples) -> float:
    """Messages that went out."""
    return alerts.get(("zerostock_sms_messages_total", "sent"), 0)


@pytest.mark.slow
def test_the_pages_add_up(run: Run) -> None:
    truth = read_truth(run.data.parent / "city")
    letters = len(truth.dead_letters)

    def refused() -> float:
        found = run.samples("warehouse")
        return sum(v for k, v in found.items() if k[0] == "zerostock_dead_letters_total")

    wait_until(lambda: refused() == letters, "all dead letters", detail=lambda: str(refused()))
    for worker in WORKERS:
        wait_until(lambda worker=worker: run.page(worker, "readyz")[0] == 200, f"{worker} ready")
        assert run.page(worker, "healthz") == (200, "ok\n")

    def at_rest() -> bool:
        lags = [run.samples(w) for w in WORKERS]
        return all(
            value == 0
            for samples in lags
            for key, value in samples.items()
            if key[0] == "zerostock_consumer_lag_messages"
        )

    wait_until(lambda: told(run.samples("alerts")) > 0, "an SMS")
    wait_until(at_rest, "no lag")
    stock, alerts, warehouse = map(run.samples, WORKERS)
    # A source may have been taken for silent while the machine was busy: its uses come late.
    uses = sum(stock.get(("zerostock_events_in_total", kind), 0) for kind in ("uses", "late_uses"))
    assert uses > 100
    assert 0 < stock["zerostock_candidates_total",] <= uses
    assert (
        stock["zerostock_movements_total",]
        >= warehouse["zerostock_rows_written_total", "movements"]
        > 0
    )
    assert stock["zerostock_incidents_total", "opened"] <= len(truth.incidents)
    assert told(alerts) > 0
    assert warehouse["zerostock_broker_to_written_seconds_count", "movements"] > 0
    assert warehouse["zerostock_event_to_written_seconds_count", "incidents"] > 0
    delays = {k[1]: v for k, v in stock.items() if k[0] == "zerostock_watermark_delay_seconds"}
    assert {name.split("/")[0] for name in delays} == {"cdr", "events"}
    assert all(delay > 0 for delay in delays.values())
    lags = {k[2] for k in stock if k[0] == "zerostock_consumer_lag_messages"}
    assert lags == {"sim-events", "stock-movements", "case-events", "cases"}
    assert stock["zerostock_worker_stalled",] == 0
    assert stock["process_resident_memory_bytes",] > 1e6
