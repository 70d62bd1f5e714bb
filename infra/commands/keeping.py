"""What is kept for years: backups, and what comes back of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def backup(
    data: Annotated[Path, typer.Option(help="The data directory.")],
    to: Annotated[Path, typer.Option(help="The file to write; it must not exist.")],
) -> None:
    """Write all that a data directory holds to one file, also while everything runs.

    State, warehouse, receipts, answers, refused numbers, logins: whoever has the file has all of
    that, so keep it safe. Input and archive are not in it. A ClickHouse server and Kafka have their
    own backups: take those first.

    Example: `zerostock backup --data state --to /backups/zerostock-2026-03-02.tar`
    """
    from infra.stack.backup import back_up

    size = back_up(data, to)
    typer.echo(f"{to}: {size / 1e6:,.1f} MB")


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="What `zerostock backup` wrote.")],
    data: Annotated[Path, typer.Option(help="A data directory that is empty or not there yet.")],
) -> None:
    """Lay out a backup in a new data directory, also on another machine.

    Start the same commands on it as before: they go on where the backup was taken, read once more
    what came since, and repeat no message that it has on record.

    Example: `zerostock restore /backups/zerostock-2026-03-02.tar --data state`
    """
    from infra.stack.backup import restore as lay_out
    from infra.stack.backup import taken

    typer.echo(f"{data} is as it was {taken(lay_out(backup, data))}")
