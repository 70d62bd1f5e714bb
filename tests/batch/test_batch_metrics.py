"""Timed runs in the metrics: how they ended, and what the last good one was like."""

from __future__ import annotations

from datetime import UTC, datetime

from test_schedule import DAILY, MONTHLY, Runs

from infra.batch_metrics import BatchMetrics
from pipelines.batch.schedule import Schedule, catch_up
from pipelines.warehouse.port import Warehouse

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


def test_each_run_is_counted_by_how_it_ended(warehouse: Warehouse) -> None:
    metrics = BatchMetrics(clock=NOW.timestamp)
    runs = metrics.watched(Runs(warehouse, failing="line-loss"))
    schedule = Schedule(runs=(MONTHLY, DAILY), catch_up_days=4)
    reports, failed = catch_up(schedule, warehouse, now=NOW, progress=lambda line: None, runs=runs)
    assert (len(reports), len(failed)) == (4, 1)

    def told(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"zerostock_batch_{name}", labels)

    assert told("runs_total", job="arrears", status="succeeded") == 4
    assert told("runs_total", job="line-loss", status="failed") == 1
    assert told("last_success_timestamp_seconds", job="arrears") == NOW.timestamp()
    assert told("last_success_timestamp_seconds", job="line-loss") is None
