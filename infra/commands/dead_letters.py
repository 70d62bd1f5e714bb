"""What was refused, and whether tables and events agree."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.commands.options import (
    Broker,
    Data,
    Disorder,
    Mapping,
    Partitions,
    Reason,
    RestateWithin,
    Since,
    Source,
    Until,
    Url,
)
from infra.settings import load_settings

app = typer.Typer()
dead_letters = typer.Typer(help="What was refused, and why.", no_args_is_help=True)
app.add_typer(dead_letters, name="dead-letters")


@app.command()
def status(
    data: Data = None,
    warehouse: Url = None,
    broker: Broker = None,
    partitions: Partitions = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: a live feed, whose watermark may grow old; or event.")
    ] = None,
) -> None:
    """Show on one screen what runs, how far it is, and what is wrong; exit 1 if anything is.

    Example: `zerostock status --data state`
    """
    import asyncio

    from infra.operations.status import show_status

    settings = load_settings(
        data=data, warehouse=warehouse, broker=broker, partitions=partitions, clock=clock
    )
    now = time.time_ns() // 1_000_000
    if not asyncio.run(show_status(settings, Console(highlight=False), now)):
        raise typer.Exit(1)


@dead_letters.command("list")
def list_dead_letters(
    data: Data = None,
    warehouse: Url = None,
    reason: Reason = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines to show.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
) -> None:
    """Count refused lines by reason, and show them with file, line and reason.

    Example: `zerostock dead-letters list --data state --reason unknown_outlet --since 2h`
    """
    from infra.dead_letters.listing import DeadLetterFilter, show_dead_letters

    settings = load_settings(data=data, warehouse=warehouse)
    wanted = DeadLetterFilter.of(reason, source, since, until)
    show_dead_letters(settings, wanted, limit=limit, every=every)


@dead_letters.command("replay")
def replay(
    input: Annotated[Path, typer.Option(help="Exchange directory, with its tables put right.")],
    data: Data = None,
    warehouse: Url = None,
    broker: Broker = None,
    partitions: Partitions = None,
    mapping: Mapping = None,
    reason: Reason = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False,
) -> None:
    """Check refused lines again after reference tables or the mapping were put right.

    What is accepted now goes into the stream, once, and off the list: to --broker at once, or
    with --data at its next run.

    Example: `zerostock dead-letters replay --input city --data state --dry-run`
    """
    from infra.dead_letters.listing import DeadLetterFilter, replay_dead_letters

    settings = load_settings(data=data, warehouse=warehouse, broker=broker, partitions=partitions)
    wanted = DeadLetterFilter.of(reason, source, since, until)
    replay_dead_letters(settings, wanted, input=input, mapping=mapping, dry_run=dry_run)


@app.command()
def reconcile(
    input: Annotated[Path, typer.Option(help="Exchange directory that the stream was fed from.")],
    data: Data = None,
    warehouse: Url = None,
    disorder: Disorder = None,
    restate_within: RestateWithin = None,
    mapping: Mapping = None,
    log: Annotated[
        bool, typer.Option("--log", help="Read the events from --broker, not from files.")
    ] = False,
    broker: Broker = None,
) -> None:
    """Fold all events once more without the stream, and compare stock, stock-outs and anomalies.

    Differences are printed and kept in `reconcile_differences`; exit code 1 when there are any.
    Meant for the night, when the stream has read all there is.

    Example: `zerostock reconcile --input city --data state`
    """
    from infra.operations.reconcile import reconcile as compare

    settings = load_settings(
        data=data,
        warehouse=warehouse,
        disorder=disorder,
        restate_within=restate_within,
        broker=broker,
    )
    compare(input, settings, mapping=mapping, log=log)
