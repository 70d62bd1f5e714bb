"""What the readers have on record of their sources."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from infra.commands.options import Broker, Data
from infra.settings import load_settings

app = typer.Typer()
sources = typer.Typer(help="Sources: how far each is, and how disordered.", no_args_is_help=True)
app.add_typer(sources, name="sources")


@sources.command("list")
def list_all(broker: Broker = None, data: Data = None) -> None:
    """Show each source's status, watermark and disorder, and the --disorder that would fit.

    Example: `zerostock sources list --broker kafka-1:9092`
    """
    from rich.console import Console

    from infra.operations.sources import list_sources

    settings = load_settings(broker=broker, data=data)
    asyncio.run(list_sources(settings, Console(highlight=False)))


@sources.command()
def retire(
    name: Annotated[str, typer.Argument(help="The source, as `sources list` names it.")],
    broker: Broker = None,
) -> None:
    """Stop waiting for a source that will not come back.

    One whose folder is gone is retired by its reader. A reader that finds new files in a retired
    source opens it again.

    Example: `zerostock sources retire cdr/switch-a --broker kafka-1:9092`
    """
    from infra.operations.sources import retire_source
    from infra.wiring import kafka_security

    settings = load_settings(broker=broker)
    asyncio.run(retire_source(name, settings, kafka_security(settings)))
    typer.echo(f"{name} is retired")
