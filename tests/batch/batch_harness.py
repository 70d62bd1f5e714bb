"""Input written and jobs run without a warehouse, for tests that look at results alone."""

from __future__ import annotations

import csv
import importlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.batch import JOBS
from pipelines.batch.engine.job import JobOptions, Plan
from pipelines.batch.engine.loading import frames, rows_of
from pipelines.batch.engine.runner import compute
from pipelines.batch.engine.sources import plan, require
from pipelines.batch.engine.tables import REJECTS_TABLE
from pipelines.batch.engine.transforms import Results

Rows = Sequence[Mapping[str, Any]]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as a CSV file; None is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def compute_tables(
    name: str,
    root: Path,
    when: str,
    *,
    until: date | None = None,
    args: Sequence[str] = (),
    chunk_rows: int = 1 << 20,
    parts: int = 1,
) -> dict[str, list[dict[str, Any]]]:
    """What a job's pipeline writes: table → rows in order of the table's key."""
    job = importlib.import_module(JOBS[name]).JOB
    options = PipelineOptions(["--time-zone=UTC", *args])
    with tempfile.TemporaryDirectory() as folder:
        made = Plan(
            when,
            {d.name: plan(require(str(root), d), d, chunk_rows) for d in job.datasets},
            Results(folder),
            parts,
            str(root),
            options.view_as(JobOptions),
            until=until,
        )
        compute(job, made, options, lambda line: None)
        return {
            table.name: pl.concat(found).sort(table.key).to_dicts()
            if (found := list(rows_of(folder, table, job.constants(made))))
            else []
            for table in (*job.tables, REJECTS_TABLE)
        } | {"_rows_read": [{"rows": sum(f["rows"].sum() for f in frames(folder, "_rows_read"))}]}


def reasons(tables: Mapping[str, Rows]) -> list[str]:
    """The kinds of rejects, one a row."""
    return sorted(row["reason"].split(":")[0] for row in tables["batch_rejects"])
