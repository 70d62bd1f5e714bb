"""Options that several commands share."""

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
Archive = Annotated[Path | None, typer.Option(help="Where files go that were read to their end.")]
Mapping = Annotated[
    Path | None, typer.Option(help="TOML file that describes an operator's own export.")
]
RestateWithin = Annotated[
    str | None, typer.Option(help="How late an event may come and still change history (35d).")
]
Disorder = Annotated[str | None, typer.Option(help="How late events of a source may arrive (60s).")]
GroupWait = Annotated[
    str | None, typer.Option(help="Gather stock-outs into one message for (60s).")
]
Sms = Annotated[str | None, typer.Option(help="console (default), file:PATH or twilio.")]
Routes = Annotated[
    Path | None, typer.Option(help="TOML file: by which ways messages go; see docs/routes.md.")
]
Policy = Annotated[
    Path | None, typer.Option(help="TOML file: whom to notify when; see docs/alerts.md.")
]
Reason = Annotated[str | None, typer.Option(help="Only reasons with this prefix.")]
Source = Annotated[str | None, typer.Option(help="Only sources with this prefix.")]
Since = Annotated[str | None, typer.Option(help="Received since: 2h (ago), or a time.")]
Until = Annotated[str | None, typer.Option(help="Received before: 2h (ago), or a time.")]
Format = Annotated[str, typer.Option("--format", help="A ClickHouse output format.")]


def ways(sms: str | None, routes: Path | None) -> dict[str, object]:
    """The settings that --sms and --routes are, of which a command takes one.

    Raises `UsageError`.
    """
    if sms is not None and routes is not None:
        raise UsageError("give --sms or --routes, not both: --sms is a table of one route")
    # An option beats the setting of the other.
    return {"sms": absolute(sms), "routes": "" if sms is not None else routes}


def absolute(sms: str | None) -> str | None:
    """Makes the path of `file:PATH` absolute, so that it is the same wherever the worker runs.

    Raises `UsageError` for an unknown way to send.
    """
    if sms is None or not sms.startswith("file:"):
        if sms not in (None, "console", "twilio"):
            raise UsageError(f"--sms {sms} is unknown: use console, file:PATH or twilio")
        return sms
    if sms == "file:":
        raise UsageError("--sms file: lacks a path: use file:sms.ndjson")
    return f"file:{Path(sms.removeprefix('file:')).absolute()}"
