"""Batch jobs over files: line loss, arrears, subscriber loss. `run_job` runs one.

One file a job (`line_loss`, `meter_suspects`, `arrears`, `subscriber_loss`), which names its own
parts, over shared steps: `sources` and `columns` read and check, `transforms` are the Beam steps,
`runner` is a run from options to report, `loading` and `ledger` bring results into the warehouse.
Arithmetic is in `pipelines.core`. Beam is imported by `run_job` only, as that takes seconds.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.batch.engine.report import Changes, Progress, RunReport
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pipelines.ingest.mapping.mapping import Mapping
    from pipelines.warehouse.port import Warehouse

__all__ = ["JOBS", "Changes", "Progress", "RunReport", "run_job"]

#: Job → the module whose JOB it is.
JOBS = {
    "line-loss": "pipelines.batch.line_loss.job",
    "meter-suspects": "pipelines.batch.line_loss.meter_suspects",
    "arrears": "pipelines.batch.arrears.job",
    "subscriber-loss": "pipelines.batch.subscriber_loss.job",
    "channel": "pipelines.batch.channel.job",
    "service": "pipelines.batch.service.job",
}


def run_job(
    name: str,
    *,
    period: str | None = None,
    as_of: date | None = None,
    input: Path | str,
    warehouse: Warehouse,
    beam_args: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = lambda line: None,
    mapping: Mapping | None = None,
) -> RunReport:
    """Run batch job `name` over the folder `input`, replacing what it wrote for that period.

    `period` (YYYY-MM) or `as_of`, whichever the job takes. Without --runner among `beam_args` it
    runs in this process. A dry run writes nothing and reports what would change. Calls and events
    are read by the `mapping`, as the stream reads them.

    Raises `UsageError` (unknown job, wrong kind of period), `InputError` (a file or column is
    missing or unreadable), `BusyError` (the same job and period is being run), `BatchError` (the
    run failed), `WarehouseError`. Whatever is raised, what was shown before still is.
    """
    if name not in JOBS:
        raise UsageError(f"no batch job {name!r}; there are {', '.join(JOBS)}")
    with _without_google():
        from pipelines.batch.engine.runner import run

        job = importlib.import_module(JOBS[name]).JOB
    return run(
        job,
        period=period,
        as_of=as_of,
        input=input,
        warehouse=warehouse,
        beam_args=beam_args,
        dry_run=dry_run,
        progress=progress,
        mapping=mapping,
    )


@contextmanager
def _without_google() -> Iterator[None]:
    """Beam warns, when it is imported, that BigQuery cannot be used, which no job needs."""

    def of_use(record: logging.LogRecord) -> bool:
        return "apitools not found" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(of_use)
    try:
        yield
    finally:
        root.removeFilter(of_use)
