"""The parts of the stream: all of them on one machine, or each against a real Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import (
    Archive,
    Broker,
    Data,
    Disorder,
    GroupWait,
    Mapping,
    Partitions,
    Policy,
    Reference,
    RestateWithin,
    Routes,
    Sms,
    Url,
    ways,
)
from infra.settings import load_settings
from schemas.errors import UsageError, ZerostockError

app = typer.Typer()
sources = typer.Typer(help="Sources: how far each is, and how disordered.", no_args_is_help=True)
app.add_typer(sources, name="sources")
mappings = typer.Typer(help="How an operator's own exports are read.", no_args_is_help=True)
app.add_typer(mappings, name="mapping")

IdleAfter = Annotated[
    str | None, typer.Option(help="A live source moves on with the clock after (30s) of silence.")
]
Ahead = Annotated[
    str | None, typer.Option(help="How far ahead of the clock a live event may be (5m).")
]
Watchdog = Annotated[
    str | None,
    typer.Option(
        help="A made-up outlet of a live feed runs empty every (5m; off: 0) and must come through."
    ),
]


Tokens = Annotated[Path | None, typer.Option(help="Who may send: a line `FEEDER TOKEN` each.")]


@app.command()
def run(
    input: Annotated[
        list[str],
        typer.Option(help="Exchange directory; besides, topics as kafka://HOST:PORT/TOPIC."),
    ],
    data: Annotated[Path, typer.Option(help="Where state and warehouse are kept.")],
    sms: Sms = None,
    routes: Routes = None,
    policy: Policy = None,
    group_wait: GroupWait = None,
    disorder: Disorder = None,
    restate_within: RestateWithin = None,
    clock: Annotated[
        str | None,
        typer.Option(help="event: the files' own times (default); wall: a live feed."),
    ] = None,
    idle_after: IdleAfter = None,
    ahead: Ahead = None,
    watchdog: Watchdog = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch DIR for more until Ctrl-C.")
    ] = False,
    intake: Annotated[
        str | None, typer.Option(help="With --follow: take events by HTTP too, at HOST:PORT.")
    ] = None,
    tokens: Tokens = None,
    partitions: Partitions = None,
    mapping: Mapping = None,
    archive: Archive = None,
) -> None:
    """Run everything on one machine: broker, workers, warehouse.

    Ends when the input is exhausted and all of it is in the warehouse. Run again on the same
    --data it goes on where it was, and repeats nothing.

    Example: `zerostock run --input city --data state --sms file:sms.ndjson`
    """
    from infra.operations.ingest import split_inputs
    from infra.stack.run import RunPlan
    from infra.stack.run import run as run_stack
    from infra.stack.summary import Screen

    settings = load_settings(
        **ways(sms, routes),
        policy=policy,
        group_wait=group_wait,
        disorder=disorder,
        restate_within=restate_within,
        clock=clock,
        idle_after=idle_after,
        ahead=ahead,
        watchdog=watchdog,
        partitions=partitions,
        intake_tokens_file=tokens,
        archive=archive,
    )
    directories, topics = split_inputs(input)
    if len(directories) != 1:
        raise UsageError("give one exchange directory as --input DIR: it has the reference tables")
    if intake is not None and not follow:
        raise UsageError("--intake takes events while a run goes on: add --follow")
    plan = RunPlan(
        directories[0], data, settings, topics, follow=follow, mapping=mapping, intake=intake
    )
    outcome = asyncio.run(run_stack(plan, Screen()))
    if outcome.stopped and not follow:
        raise ZerostockError("stopped before the input was exhausted: run again to go on")


@app.command()
def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(help="Exchange directories, and topics as kafka://HOST:PORT/TOPIC."),
    ],
    broker: Broker = None,
    reference: Reference = None,
    partitions: Partitions = None,
    disorder: Disorder = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: a live feed (default); event: replayed files.")
    ] = None,
    idle_after: IdleAfter = None,
    absent_after: Annotated[
        str | None, typer.Option(help="Sources of a reader that is down are absent after (10m).")
    ] = None,
    ahead: Ahead = None,
    watchdog: Watchdog = None,
    follow: Annotated[bool, typer.Option("--follow", help="Watch for more until Ctrl-C.")] = False,
    mapping: Mapping = None,
    archive: Archive = None,
) -> None:
    """Read files, and topics of other clusters, into a real Kafka.

    What was read before is not read twice; a second run is safe.

    Example: `zerostock ingest city --broker kafka-1:9092`
    """
    from infra.operations.ingest import ingest_paths

    settings = load_settings(
        broker=broker,
        reference=reference,
        partitions=partitions,
        disorder=disorder,
        clock=clock,
        idle_after=idle_after,
        absent_after=absent_after,
        ahead=ahead,
        watchdog=watchdog,
        archive=archive,
    )
    asyncio.run(ingest_paths(paths, settings, follow=follow, mapping=mapping))


@app.command()
def look(
    file: Annotated[Path, typer.Argument(help="A file of an unknown export.")],
) -> None:
    """Say what a file is like: encoding, separator, columns, times, order; and print a mapping.

    Example: `zerostock look Master.csv`
    """
    from infra.operations.mapping import show_look

    show_look(file)


@mappings.command("check")
def check_mapping(
    file: Annotated[Path, typer.Argument(help="A mapping file.")],
    input: Annotated[Path, typer.Option(help="Exchange directory.")],
) -> None:
    """Show the first rows of each export as they would be read, and what would be refused.

    Example: `zerostock mapping check exports.toml --input city`
    """
    from infra.operations.mapping import check_mapping as check

    check(file, input)


@app.command()
def worker(
    name: Annotated[str, typer.Argument(help="stock, alerts or warehouse")],
    broker: Broker = None,
    reference: Reference = None,
    data: Data = None,
    warehouse: Url = None,
    partitions: Partitions = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: a live feed (default); event: replayed files.")
    ] = None,
    restate_within: RestateWithin = None,
    group_wait: GroupWait = None,
    sms: Sms = None,
    routes: Routes = None,
    policy: Policy = None,
    watchdog: Watchdog = None,
) -> None:
    """Run one worker against a real Kafka.

    Of stock and alerts there may be as many as there are partitions; alerts share one machine's
    --data. One that dies goes on from its last commit when it is started again.

    Example: `zerostock worker stock --broker kafka-1:9092 --reference city/reference`
    """
    if name not in ("stock", "alerts", "warehouse"):
        raise UsageError(f"there is no worker {name!r}: use stock, alerts or warehouse")
    from infra.logs import start_logging
    from infra.wiring import new_worker
    from pipelines.stream.faust_fixes.exit import EndingWorker

    settings = load_settings(
        broker=broker,
        reference=reference,
        data=data,
        warehouse=warehouse,
        partitions=partitions,
        **ways(sms, routes),
        policy=policy,
        clock=clock,
        restate_within=restate_within,
        group_wait=group_wait,
        watchdog=watchdog,
    )
    start_logging(settings.log_level)
    running = new_worker(name, settings)
    running.finalize()
    EndingWorker(running, loglevel="WARNING", override_logging=False).execute_from_commandline()


@app.command()
def rebuild(broker: Broker = None, partitions: Partitions = None) -> None:
    """Fold the whole log again, after a worker said that state was lost.

    Stop the stock and alerts workers first. No message is sent again.

    Example: `zerostock rebuild --broker kafka-1:9092`
    """
    from infra.operations.rebuild import rebuild as fold_again

    asyncio.run(fold_again(load_settings(broker=broker, partitions=partitions)))


@app.command()
def webhook(
    data: Data = None,
    broker: Broker = None,
    reference: Reference = None,
    partitions: Partitions = None,
    routes: Routes = None,
    url: Annotated[
        str | None, typer.Option(help="The public https://host under which this is reached.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on (8085; 0: any).")
    ] = None,
) -> None:
    """Take delivery statuses and replies from providers, and answers from the page on the phones.

    Runs beside the alerts worker, on the same --data. Put a proxy with TLS in front of it; nothing
    but what phones and providers call is served here. Secrets: ZEROSTOCK_TWILIO_AUTH_TOKEN for
    Twilio's signatures, ZEROSTOCK_LINK_KEY for the links of the page. With --routes gateways call
    POST /gateway/NAME, and SMSCs are asked for what they have.

    Example: `zerostock webhook --data state --broker kafka-1:9092 --url https://sms.example.com`
    """
    from infra.logs import start_logging
    from infra.webhook.serve import run_webhook

    settings = load_settings(
        data=data,
        broker=broker,
        reference=reference,
        partitions=partitions,
        routes=routes,
        webhook_url=url,
        webhook_host=host,
        webhook_port=port,
    )
    start_logging(settings.log_level)
    run_webhook(settings)


@app.command()
def intake(
    broker: Broker = None,
    reference: Reference = None,
    tokens: Tokens = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on (8086; 0: any).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM) for TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    partitions: Partitions = None,
    disorder: Disorder = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: a live feed (default); event: replayed events.")
    ] = None,
    idle_after: IdleAfter = None,
    ahead: Ahead = None,
) -> None:
    """Take events by HTTP: POST /v1/events, one JSON object a line or a list.

    Answers when Kafka has them, with each line that was refused and why. Each feeder has a token of
    its own and is a source of its own. Sending again is harmless.

    Example: `zerostock intake --broker kafka-1:9092 --reference city/reference --tokens tokens.txt`
    """
    from infra.intake.serve import run_intake
    from infra.logs import start_logging

    settings = load_settings(
        broker=broker,
        reference=reference,
        intake_tokens_file=tokens,
        intake_host=host,
        intake_port=port,
        intake_tls_cert=tls_cert,
        intake_tls_key=tls_key,
        partitions=partitions,
        disorder=disorder,
        clock=clock,
        idle_after=idle_after,
        ahead=ahead,
    )
    start_logging(settings.log_level)
    run_intake(settings)


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
