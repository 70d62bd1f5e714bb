"""Options that several commands take, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import UsageError

Data = Annotated[Path | None, typer.Option(help="Data directory of an embedded run.")]
Url = Annotated[
    str | None, typer.Option("--warehouse", help="clickhouse://user:password@host:9000/database")
]
Broker = Annotated[str | None, typer.Option(help="Kafka bootstrap servers, host:port.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Partitions of the topics (2).")]
Reference = Annotated[Path | None, typer.Option(help="Folder of reference tables.")]
Mapping = Annotated[
    Path | None, typer.Option(help="TOML file that describes an operator's own export.")
]
Disorder = Annotated[str | None, typer.Option(help="How late a source's events may come (60s).")]
GroupWait = Annotated[str | None, typer.Option(help="Gather stock-outs for (60s).")]
Sms = Annotated[str | None, typer.Option(help="console (default), file:PATH or twilio.")]
Policy = Annotated[
    Path | None, typer.Option(help="TOML file: whom to alert when; see docs/alerts.md.")
]
Reason = Annotated[str | None, typer.Option(help="Only reasons that begin like this.")]
Source = Annotated[str | None, typer.Option(help="Only sources that begin like this.")]
Since = Annotated[str | None, typer.Option(help="Received since: 2h (ago), or a time.")]
Until = Annotated[str | None, typer.Option(help="Received before: 2h (ago), or a time.")]
Format = Annotated[str, typer.Option("--format", help="Any of ClickHouse's output formats.")]


def absolute(sms: str | None) -> str | None:
    """`file:PATH` means the same file wherever the worker runs.

    Raises `UsageError` for a way to send that there is not.
    """
    if sms is None or not sms.startswith("file:"):
        if sms not in (None, "console", "twilio"):
            raise UsageError(f"--sms {sms} is unknown: use console, file:PATH or twilio")
        return sms
    if sms == "file:":
        raise UsageError("--sms file: names no file: give it like file:sms.ndjson")
    return f"file:{Path(sms.removeprefix('file:')).absolute()}"
