"""A run from its options to its report: look, lock, compute, load, check, show.

1. find the input and plan its chunks; a missing file or column ends the run here;
2. take the lock of the job and period, and record the run;
3. run the pipeline, which leaves its results in a folder;
4. stop here if too much of any input was refused;
5. load them under the run's id, and compare totals with what was sent;
6. show them (one insert), and drop what is no longer shown.

A failure before 6 leaves what was shown before; the next run drops what this one left.
"""

from __future__ import annotations

import importlib.metadata
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import apache_beam as beam
import polars as pl
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.worker.statesampler import StateSampler

from pipelines.batch.engine.job import Job, JobOptions, Plan, month_span
from pipelines.batch.engine.loading import compare, frames, load, rows_read
from pipelines.batch.engine.refusals import Refusals, refusals
from pipelines.batch.engine.report import Progress, RunReport
from pipelines.batch.engine.retention import drop_old, drop_run
from pipelines.batch.engine.run_ledger import Run
from pipelines.batch.engine.run_states import RunState
from pipelines.batch.engine.sources import CHUNK_ROWS, File, checksum, is_local, plan, require
from pipelines.batch.engine.tables import REJECTS_TABLE, ResultTable
from pipelines.batch.engine.transforms import NOTE, OFFSETS, REACH, REJECTED, Results
from schemas.errors import BatchError, UsageError, ZerostockError

if TYPE_CHECKING:
    from pipelines.ingest.mapping.mapping import Mapping
    from pipelines.warehouse.port import Warehouse

_PROFILER_SLEEP_MS = 5


def run(
    job: Job,
    *,
    period: str | None,
    as_of: date | None,
    input: Path | str,
    warehouse: Warehouse,
    beam_args: Sequence[str],
    dry_run: bool,
    progress: Progress,
    chunk_rows: int = CHUNK_ROWS,
    parts: int | None = None,
    mapping: Mapping | None = None,
) -> RunReport:
    """Run a job; see `pipelines.batch.run_job`."""
    began = time.monotonic()
    options = PipelineOptions(list(beam_args))
    _refuse_unknown(options)
    when = _when(job, period, as_of, options.view_as(JobOptions).zone)
    files = {dataset.name: require(str(input), dataset, mapping) for dataset in job.datasets}
    size = sum(file.size for some in files.values() for file in some)
    made = Plan(
        when,
        {d.name: plan(files[d.name], d, chunk_rows) for d in job.datasets},
        Results(""),
        parts or job.parts(size),
        str(input),
        options.view_as(JobOptions),
        until=as_of if job.when == "either" else None,
        spread=_runner_named(options),
        warehouse=warehouse,
    )
    count = sum(len(some) for some in files.values())
    zone = made.options.time_zone
    when = made.label
    progress(f"{job.name} {when} in {zone}: {count} files, {size / 1e6:.1f} MB")
    state = RunState(
        _run_id(job, when),
        job.name,
        when,
        datetime.now(UTC),
        _version(),
        zone=zone,
        as_of=made.last_day,
    )
    with _work_folder(options, state.run_id) as folder:
        made = replace(made, results=Results(folder))
        most_refused = made.options.most_refused
        if dry_run:
            compute(job, made, options, progress)
            _refusals(job, made, progress).check(most_refused)
            return _dry_report(job, made, warehouse, state, began)
        with Run(warehouse, state) as entry, ThreadPoolExecutor(1) as background:
            sums = background.submit(_checksums, files, f"{input}".rstrip("/"), job.also)
            compute(job, made, options, progress)
            refused = _refusals(job, made, progress)
            entry.note(
                rows_read=rows_read(folder),
                rows_rejected=_rows_rejected(folder),
                inputs=sums.result(),
                **(_reach(made) if job.when != "as_of" else {}),
            )
            refused.check(most_refused)
            written = _load(job, made, warehouse, state, progress)
            entry.note(rows_written=sum(written.values()) - written[REJECTED])
            entry.publish()
            state = entry.state
            drop_old(warehouse, (*job.tables, REJECTS_TABLE), job.name, when)
    progress(f"{job.name} {when}: {state.rows_read} rows read, {state.rows_rejected} rejected")
    return RunReport(
        run_id=state.run_id,
        job=job.name,
        period=when,
        status=state.status,
        rows_read=state.rows_read,
        rows_rejected=state.rows_rejected,
        rows_written={table.name: written[table.name] for table in job.tables},
        seconds=time.monotonic() - began,
    )


def _refuse_unknown(options: PipelineOptions) -> None:
    """Raise `UsageError` for an unknown option; a cluster's runner may have its own."""
    if _runner_named(options):
        return
    given = options.get_all_options(drop_default=True, retain_unknown_options=True)
    for name in given.keys() - PipelineOptions([]).get_all_options().keys():
        shown = name.replace("_", "-")
        raise UsageError(f"no option --{shown}, neither of the batch jobs nor of Beam")


def _when(job: Job, period: str | None, as_of: date | None, zone: ZoneInfo) -> str:
    if (period is None) == (as_of is None):
        raise UsageError(f"{job.name} takes either --period or --as-of")
    if job.when == "as_of":
        if as_of is None:
            raise UsageError(f"{job.name} takes --as-of DATE")
        return as_of.isoformat()
    if period is None:
        if as_of is None or job.when == "period":
            raise UsageError(f"{job.name} takes --period YYYY-MM")
        return f"{as_of:%Y-%m}"
    month_span(period, zone)
    return period


def _run_id(job: Job, when: str) -> str:
    return f"{job.name}.{when}.{datetime.now(UTC):%Y%m%dT%H%M%S}.{secrets.token_hex(3)}"


def _version() -> str:
    return importlib.metadata.version("zerostock")


def _checksums(files: dict[str, list[File]], root: str, also: Sequence[str]) -> dict[str, str]:
    """The checksum of every file that is read, by its path below the input folder."""
    further = [
        File(entry.path, entry.path.removeprefix(root).lstrip("/"), entry.size_in_bytes)
        for result in FileSystems.match([f"{root}/{pattern}" for pattern in also])
        for entry in result.metadata_list
    ]
    every = [*(file for some in files.values() for file in some), *further]
    return {file.source: checksum(file) for file in every}


@contextmanager
def _work_folder(options: PipelineOptions, run_id: str) -> Iterator[str]:
    """Where the pipeline leaves its results: below --temp_location, which workers must reach."""
    shared = options.view_as(GoogleCloudOptions).temp_location
    folder = f"{shared.rstrip('/')}/{run_id}" if shared else tempfile.mkdtemp(prefix="zerostock-")
    try:
        yield folder
    finally:
        if is_local(folder):
            shutil.rmtree(folder, ignore_errors=True)
        elif FileSystems.exists(folder):
            FileSystems.delete([folder])


def compute(job: Job, plan: Plan, options: PipelineOptions, progress: Progress) -> None:
    """Run a job's pipeline, which leaves its results in the plan's folder.

    Raises `BatchError` where it fails, `InputError` where a file turns out to be unreadable.
    """
    options.view_as(TypeOptions).pipeline_type_check = False  # mypy has; this takes half a second
    # In process unless a runner is named: Beam's own default downloads a program first.
    runner = None if _runner_named(options) else FnApiRunner()
    pipeline = beam.Pipeline(runner=runner, options=options)
    job.build(pipeline, plan)
    progress(f"{job.name} {plan.label}: computing")
    try:
        with _errors_logged_once(), _bundles_end_at_once():
            pipeline.run().wait_until_finish()
    except ZerostockError as error:
        raise type(error)(_without_step(str(error))) from error
    except Exception as error:
        if _interrupted(error):
            raise KeyboardInterrupt from error
        raise BatchError(f"the pipeline failed: {_last_line(error)}") from error


def _runner_named(options: PipelineOptions) -> bool:
    named = options.view_as(StandardOptions).runner
    return named not in (None, "FnApiRunner")


@contextmanager
def _errors_logged_once() -> Iterator[None]:
    """Beam logs every error with its whole trace before it raises it."""
    beam_log = logging.getLogger("apache_beam.runners.common")
    level = beam_log.level
    beam_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        beam_log.setLevel(level)


@contextmanager
def _bundles_end_at_once() -> Iterator[None]:
    """Beam waits after every bundle until its profiler wakes up, which takes up to 0.2 s."""
    begin = StateSampler.__init__
    default = begin.__defaults__
    begin.__defaults__ = (_PROFILER_SLEEP_MS,)
    try:
        yield
    finally:
        begin.__defaults__ = default


def _without_step(message: str) -> str:
    return message.split(" [while running", 1)[0]


def _interrupted(error: BaseException | None) -> bool:
    """Whether somebody pressed Ctrl-C: Beam makes an error of its own of what ended a step."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _warn_of_zone(plan: Plan, progress: Progress) -> None:
    """Report when all times of the input are written in the offset of another zone."""
    seen = sorted({o for frame in frames(plan.results.folder, OFFSETS) for o in frame["offset"]})
    year = plan.period[:4]
    zone = plan.options.zone
    own = {f"{datetime(int(year), month, 15, tzinfo=zone):%z}" for month in range(1, 13)}
    if seen and not own & {"+0000" if o == "Z" else o.replace(":", "") for o in seen}:
        progress(
            f"warning: all times of the input are written with {', '.join(seen)}; days and months"
            f" are those of {plan.options.time_zone} (--time-zone, ZEROSTOCK_TIME_ZONE)"
        )


def _reach(plan: Plan) -> dict[str, datetime]:
    """From when until when the input of the period reaches, as batch_runs has it; {}: nowhere.

    All kinds of rows that have times must be there, so it is the shortest reach that counts.
    """
    found = list(frames(plan.results.folder, REACH))
    if not found:
        return {}
    kinds = pl.concat(found).group_by("what").agg(pl.col("first").min(), pl.col("last").max())
    start, end = plan.span
    first, last = max(start, *kinds["first"].to_list()), min(end, *kinds["last"].to_list())
    if last < first or last <= start:
        return {}
    begins, ends = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (first, last))
    return {"data_from": begins, "data_until": ends}


def _report_reach(plan: Plan, progress: Progress) -> None:
    """Report in one line how much of the period the input covers."""
    reach = _reach(plan)
    if not reach:
        progress(f"warning: the input has nothing of {plan.label}")
        return
    begins, ends = (time.astimezone(plan.options.zone) for time in reach.values())
    start, end = plan.span
    days = -((begins - ends) // timedelta(days=1))
    whole = round((end - start) / 86_400_000)
    short = "" if days >= whole else "; what needs the rest waits for it"
    progress(
        f"the input reaches from {begins:%Y-%m-%d %H:%M} until {ends:%Y-%m-%d %H:%M}:"
        f" {days} of {whole} days{short}"
    )


def _refusals(job: Job, plan: Plan, progress: Progress) -> Refusals:
    """What was refused, reported, after what the input says of its times."""
    _warn_of_zone(plan, progress)
    if job.when != "as_of":
        _report_reach(plan, progress)
    folder = plan.results.folder
    found = refusals(folder, job.datasets)
    for line in found.lines():
        progress(line)
    return found


def _rows_rejected(folder: str) -> int:
    reasons = (frame["reason"] for frame in frames(folder, REJECTED))
    return sum(int((~some.str.starts_with(NOTE)).sum()) for some in reasons)


def _load(
    job: Job, plan: Plan, warehouse: Warehouse, state: RunState, progress: Progress
) -> dict[str, int]:
    tables: tuple[ResultTable, ...] = (*job.tables, REJECTS_TABLE)
    written = {}
    try:
        for table in tables:
            written[table.name] = load(
                warehouse, plan.results.folder, table, state.run_id, job.constants(plan)
            )
            progress(f"{job.name} {state.period}: {written[table.name]} rows of {table.name}")
    except BaseException:
        with suppress(ZerostockError):  # else the next run drops them
            drop_run(warehouse, tables, state.run_id)
        raise
    return written


def _dry_report(
    job: Job, plan: Plan, warehouse: Warehouse, state: RunState, began: float
) -> RunReport:
    folder, constants = plan.results.folder, job.constants(plan)
    changes = {
        table.name: compare(warehouse, folder, table, job.name, state.period, constants)
        for table in (*job.tables, REJECTS_TABLE)
    }
    return RunReport(
        run_id=state.run_id,
        job=job.name,
        period=state.period,
        status="dry_run",
        rows_read=rows_read(folder),
        rows_rejected=_rows_rejected(folder),
        rows_written={},
        seconds=time.monotonic() - began,
        changes=changes,
    )
