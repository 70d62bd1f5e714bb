"""What timed batch runs tell those who watch: how each job ended, when, and what it took."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from pipelines.batch import RunReport
from schemas.errors import ZerostockError


class BatchMetrics:
    """Figures by job, in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        job = ("job",)
        self._runs = Counter(
            "zerostock_batch_runs", "Timed runs that ended, by job and how.", ("job", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._succeeded_at = Gauge(
            "zerostock_batch_last_success_timestamp_seconds", "When a job last succeeded.", job,
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Gauge(
            "zerostock_batch_last_run_seconds", "How long a job's last good run took.", job,
            registry=self.registry,
        )  # fmt: skip
        self._rejected = Gauge(
            "zerostock_batch_last_run_rejected_rows", "Rows a job's last good run refused.", job,
            registry=self.registry,
        )  # fmt: skip

    def watched(self, runs: Callable[..., RunReport]) -> Callable[..., RunReport]:
        """The same, counting how it ends."""

        def run(job: str, **how: object) -> RunReport:
            try:
                report = runs(job, **how)
            except ZerostockError:
                self._runs.labels(job, "failed").inc()
                raise
            self._runs.labels(job, report.status).inc()
            self._succeeded_at.labels(job).set(self._clock())
            self._seconds.labels(job).set(report.seconds)
            self._rejected.labels(job).set(report.rows_rejected)
            return report

        return run
