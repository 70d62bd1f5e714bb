"""Batch jobs, now or by the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import Data, Mapping, Url
from infra.settings import load_settings

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def batch(
    beam: typer.Context,
    job: Annotated[
        str,
        typer.Argument(
            help="line-loss, arrears, subscriber-loss, meter-suspects, channel or service"
        ),
    ],
    input: Annotated[str, typer.Option(help="Exchange directory, or any Beam file system.")],
    period: Annotated[str | None, typer.Option(help="The month, as YYYY-MM.")] = None,
    as_of: Annotated[str | None, typer.Option(help="The day, as YYYY-MM-DD.")] = None,
    data: Data = None,
    warehouse: Url = None,
    mapping: Mapping = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would change.")] = False,
) -> None:
    """Run a Beam job and replace what it wrote before for the same period.

    Options that are not listed here go to Beam.

    Example: `zerostock batch line-loss --period 2026-03 --input city --data state`
    """
    from infra.operations.batch import run_batch

    settings = load_settings(data=data, warehouse=warehouse)
    run_batch(
        job,
        settings,
        input=input,
        period=period,
        as_of=as_of,
        beam_args=beam.args,
        dry_run=dry_run,
        mapping=mapping,
    )


@app.command()
def schedule(
    plan: Annotated[Path, typer.Argument(help="TOML file with [[runs]]; see docs/batch.md.")],
    data: Data = None,
    warehouse: Url = None,
) -> None:
    """Run batch jobs by the clock until Ctrl-C, making up for what was missed.

    Example: `zerostock schedule nights.toml --warehouse clickhouse://default@localhost:9000/zs`
    """
    from infra.operations.batch import run_schedule

    run_schedule(plan, load_settings(data=data, warehouse=warehouse))
