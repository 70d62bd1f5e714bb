"""Queries, saved questions, the schema."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import Data, Format, Url
from infra.settings import load_settings

if TYPE_CHECKING:
    from pipelines.warehouse import Warehouse

app = typer.Typer()


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT of ClickHouse SQL.")],
    data: Data = None,
    warehouse: Url = None,
    format: Format = "PrettyCompactMonoBlock",
) -> None:
    """Query the warehouse, also during a run. Read-only.

    Example: `zerostock query --data state "SELECT * FROM stock_on_hand WHERE on_hand = 0"`
    """
    _print(lambda opened: opened.query_bytes(sql, format), data, warehouse)


def _print(answer: Callable[[Warehouse], bytes], data: Path | None, warehouse: str | None) -> None:
    from pipelines.warehouse import open_for_reading

    settings = load_settings(data=data, warehouse=warehouse)
    opened = open_for_reading(data=settings.data, url=settings.warehouse)
    try:
        sys.stdout.buffer.write(answer(opened))
        sys.stdout.buffer.flush()
    finally:
        opened.close()


@app.command()
def ask(
    name: Annotated[str | None, typer.Argument(help="A question; none lists them.")] = None,
    data: Data = None,
    warehouse: Url = None,
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated.")] = None,
    format: Format = "PrettyCompactMonoBlock",
) -> None:
    """Answer one of the saved questions. Of a month that no job has worked out it says so.

    Example: `zerostock ask busiest-outlets --data state --param top=10`
    """
    from infra.operations.ask import answer, list_questions, statement

    if name is None:
        typer.echo(list_questions())
        return
    statement(name, param or [])  # a mistake is told before anything is opened
    _print(lambda opened: answer(opened, name, param or [], format), data, warehouse)


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="A table; none lists them.")] = None,
) -> None:
    """Describe the tables: columns, units, example queries.

    Example: `zerostock tables stock_incidents`
    """
    from infra.operations.ask import show_table

    typer.echo(show_table(name))


@app.command()
def migrate(data: Data = None, warehouse: Url = None) -> None:
    """Bring the warehouse's schema up to date. Running it again does nothing.

    Example: `zerostock migrate --warehouse clickhouse://default@localhost:9000/zerostock`
    """
    from pipelines.warehouse import migrate as apply
    from pipelines.warehouse import open_warehouse

    settings = load_settings(data=data, warehouse=warehouse)
    opened = open_warehouse(data=settings.data, url=settings.warehouse)
    try:
        applied = apply(opened, zone=settings.time_zone)
    finally:
        opened.close()
    typer.echo("\n".join(f"applied {name}" for name in applied) or "already up to date")
