"""`zerostock batch`, as a person sees it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import start_http_server
from rich.console import Console
from rich.table import Table

from infra.batch_metrics import BatchMetrics
from infra.settings import Settings
from pipelines.batch import RunReport, run_job
from pipelines.batch.schedule import EVENING, load_schedule, serve
from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.loopback.server import serve_loopback
from schemas.errors import SendError, UsageError


def run_batch(
    job: str,
    settings: Settings,
    *,
    input: str,
    period: str | None,
    as_of: str | None,
    beam_args: list[str],
    dry_run: bool,
    mapping: Path | None = None,
) -> None:
    """Run a job, telling how far it is, and print what it wrote."""
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    exports = load_mapping(mapping) if mapping is not None else None
    with _opened(settings) as warehouse:
        report = run_job(
            job,
            period=period,
            as_of=_day(as_of),
            input=input,
            warehouse=warehouse,
            beam_args=[f"--time-zone={settings.time_zone}", *beam_args],
            dry_run=dry_run,
            progress=lambda line: errors.print(line, markup=False),
            mapping=exports,
        )
    _tell(console, report)


def run_schedule(plan: Path, settings: Settings) -> None:
    """Serve a schedule until SIGINT or SIGTERM; the job under way is finished first."""
    console = Console(highlight=False)
    schedule = load_schedule(plan, settings.time_zone)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    metrics = BatchMetrics()
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    with _opened(settings) as warehouse:
        serve(
            schedule,
            warehouse,
            stop=stop,
            progress=lambda line: console.print(line, markup=False),
            runs=metrics.watched(partial(_run_timed, settings)),
        )


def _run_timed(settings: Settings, job: str, **how: Any) -> RunReport:
    """A job, or the evening's lists. Raises `SendError` when the evening reached not everybody."""
    if job != EVENING:
        return run_job(job, **how)
    from infra.operations.soon_empty import tell_evening  # brings Faust along

    began = time.monotonic()
    evening = tell_evening(how["warehouse"], settings, how["as_of"], settings.worth)
    for line in evening.lines:
        how["progress"](line)
    if evening.unreached:
        raise SendError(f"not reached: {', '.join(evening.unreached)}")
    seconds = time.monotonic() - began
    return RunReport("", job, f"{how['as_of']}", "succeeded", 0, 0, {}, seconds)


@contextmanager
def _opened(settings: Settings) -> Iterator[Warehouse]:
    """The warehouse to write to, its tables up to date; others may ask it meanwhile."""
    with closing(open_warehouse(data=settings.data, url=settings.warehouse)) as warehouse:
        migrate(warehouse, zone=settings.time_zone)
        if settings.data is None or settings.warehouse is not None:
            yield warehouse
            return
        with serve_loopback(warehouse, settings.data):
            yield warehouse


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--as-of {text} is not a day; write it like 2026-03-31") from None


def _tell(console: Console, report: RunReport) -> None:
    console.print(
        f"{report.job} {report.period}: {report.status}, {report.rows_read:,} rows read,"
        f" {report.rows_rejected:,} rejected, {report.seconds:.1f} s"
    )
    table = Table(box=None)
    table.add_column("table")
    if report.changes:
        for name in ("added", "removed", "changed", "same"):
            table.add_column(name, justify="right")
        for name, c in report.changes.items():
            table.add_row(name, *(f"{n:,}" for n in (c.added, c.removed, c.changed, c.same)))
    else:
        table.add_column("rows", justify="right")
        for name, rows in report.rows_written.items():
            table.add_row(name, f"{rows:,}")
    console.print(table)
