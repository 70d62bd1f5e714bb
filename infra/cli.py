"""The `zerostock` command: thin functions that read options and call the parts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import load_settings
from schemas.errors import UsageError, ZerostockError

app = typer.Typer(
    name="zerostock",
    help="Tells a wholesaler to refill a shop the moment its last SIM card is sold.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
dead_letters = typer.Typer(help="What was refused, and why.", no_args_is_help=True)
app.add_typer(dead_letters, name="dead-letters")
succession = typer.Typer(
    help="A wholesaler leaves: outlets, what is open and unsent messages go to another.",
    no_args_is_help=True,
)
app.add_typer(succession, name="succession")
alerts = typer.Typer(help="Who was told of a stock-out, and why.", no_args_is_help=True)
app.add_typer(alerts, name="alerts")

Data = Annotated[Path | None, typer.Option(help="Data directory of an embedded run.")]
Url = Annotated[
    str | None, typer.Option("--warehouse", help="clickhouse://user:password@host:9000/database")
]
Broker = Annotated[str | None, typer.Option(help="Kafka bootstrap servers, host:port.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Partitions of the topics (2).")]
Since = Annotated[str | None, typer.Option(help="Received since: 2h (ago), or a time.")]
Until = Annotated[str | None, typer.Option(help="Received before: 2h (ago), or a time.")]
Policy = Annotated[
    Path | None, typer.Option(help="TOML file: whom to alert when; see docs/alerts.md.")
]
Reference = Annotated[Path | None, typer.Option(help="Folder of reference tables.")]
At = Annotated[str | None, typer.Option(help="ISO 8601 time with offset (now).")]
Disorder = Annotated[str | None, typer.Option(help="How late a source's events may come (60s).")]


@app.command()
def run(
    input: Annotated[Path, typer.Option(help="Exchange directory with the city's files.")],
    data: Annotated[Path, typer.Option(help="Where state and warehouse are kept.")],
    sms: Annotated[str | None, typer.Option(help="console (default), file:PATH or twilio.")] = None,
    policy: Policy = None,
    group_wait: Annotated[str | None, typer.Option(help="Gather stock-outs for (60s).")] = None,
    disorder: Disorder = None,
    clock: Annotated[
        str | None,
        typer.Option(help="event: the files' own times (default); wall: a live feed."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch DIR for more until Ctrl-C.")
    ] = False,
    partitions: Partitions = None,
    mapping: Annotated[
        Path | None, typer.Option(help="TOML file that describes an operator's own CDR export.")
    ] = None,
) -> None:
    """Run everything on one machine: broker, workers, warehouse.

    Ends when the input is exhausted and all of it is in the warehouse. Run again on the same
    --data it goes on where it was, and repeats nothing.

    Example: `zerostock run --input city --data state --sms file:sms.ndjson`
    """
    from infra.stack.run import RunPlan
    from infra.stack.run import run as run_stack
    from infra.stack.summary import Screen

    settings = load_settings(
        sms=_absolute(sms),
        policy=policy,
        group_wait=group_wait,
        disorder=disorder,
        clock=clock,
        partitions=partitions,
    )
    plan = RunPlan(input, data, settings, follow=follow, mapping=mapping)
    outcome = asyncio.run(run_stack(plan, Screen()))
    if outcome.stopped and not follow:
        raise ZerostockError("stopped before the input was exhausted: run again to go on")


def _absolute(sms: str | None) -> str | None:
    """`file:PATH` means the same file wherever the worker runs."""
    if sms is None or not sms.startswith("file:"):
        if sms not in (None, "console", "twilio"):
            raise UsageError(f"--sms {sms} is unknown: use console, file:PATH or twilio")
        return sms
    return f"file:{Path(sms.removeprefix('file:')).absolute()}"


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Exchange directories.")],
    broker: Broker = None,
    partitions: Partitions = None,
    disorder: Disorder = None,
    follow: Annotated[bool, typer.Option("--follow", help="Watch for more until Ctrl-C.")] = False,
    mapping: Annotated[Path | None, typer.Option(help="TOML file describing the export.")] = None,
) -> None:
    """Read files into a real Kafka.

    Files that were read before are not read twice; a second run is safe.

    Example: `zerostock ingest city --broker kafka-1:9092`
    """
    from infra.ingesting import ingest_paths

    settings = load_settings(broker=broker, partitions=partitions, disorder=disorder)
    asyncio.run(ingest_paths(paths, settings, follow=follow, mapping=mapping))


@app.command()
def worker(
    name: Annotated[str, typer.Argument(help="stock, alerts or warehouse")],
    broker: Broker = None,
    reference: Annotated[Path | None, typer.Option(help="Folder of reference tables.")] = None,
    data: Data = None,
    warehouse: Url = None,
    partitions: Partitions = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: a live feed (default); event: replayed files.")
    ] = None,
    disorder: Disorder = None,
    group_wait: Annotated[str | None, typer.Option(help="Gather stock-outs for (60s).")] = None,
    sms: Annotated[str | None, typer.Option(help="console (default), file:PATH or twilio.")] = None,
    policy: Policy = None,
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
    from pipelines.stream.ending import EndingWorker

    settings = load_settings(
        broker=broker,
        reference=reference,
        data=data,
        warehouse=warehouse,
        partitions=partitions,
        sms=_absolute(sms),
        policy=policy,
        clock=clock,
        disorder=disorder,
        group_wait=group_wait,
    )
    start_logging(settings.log_level)
    running = new_worker(name, settings)
    running.finalize()
    EndingWorker(running, loglevel="WARNING", override_logging=False).execute_from_commandline()


@app.command()
def webhook(
    data: Data = None,
    broker: Broker = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder of reference tables, for the shops' names.")
    ] = None,
    partitions: Partitions = None,
    url: Annotated[
        str | None, typer.Option(help="The public https://host under which this is reached.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on (8085; 0: any).")
    ] = None,
) -> None:
    """Take delivery statuses and replies from Twilio, and answers from the page on the phones.

    Runs beside the alerts worker, on the same --data. Put a proxy with TLS in front of it; nothing
    but what phones and Twilio call is served here. Secrets: ZEROSTOCK_TWILIO_AUTH_TOKEN for
    Twilio's signatures, ZEROSTOCK_LINK_KEY for the links of the page.

    Example: `zerostock webhook --data state --broker kafka-1:9092 --url https://sms.example.com`
    """
    from infra.logs import start_logging
    from infra.webhook import run_webhook

    settings = load_settings(
        data=data,
        broker=broker,
        reference=reference,
        partitions=partitions,
        webhook_url=url,
        webhook_host=host,
        webhook_port=port,
    )
    start_logging(settings.log_level)
    run_webhook(settings)


@app.command()
def serve(
    data: Data = None,
    warehouse: Url = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8080,
    url: Annotated[
        str | None, typer.Option(help="Where people reach it, if by a server with TLS before it.")
    ] = None,
    input: Annotated[
        Path | None, typer.Option(help="Exchange directory, to replay dead letters from the page.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="TOML file describing the export.")] = None,
    broker: Broker = None,
    partitions: Partitions = None,
) -> None:
    """Show managers every shop, in a browser; live while a run is on.

    On this machine only and read-only until `zerostock users add` has set up a login. See
    docs/desk.md.

    Example: `zerostock serve --data state`
    """
    from infra.desk.serve import serve_desk
    from infra.logs import start_logging

    settings = load_settings(data=data, warehouse=warehouse, broker=broker, partitions=partitions)
    start_logging(settings.log_level)
    serve_desk(settings, host, port, url=url, input=input, mapping=mapping)


users = typer.Typer(help="Who may log in to the page of `zerostock serve`.", no_args_is_help=True)
app.add_typer(users, name="users")

LoginName = Annotated[str, typer.Argument(metavar="NAME", help="Whose login.")]
LoginData = Annotated[Path, typer.Option("--data", help="Data directory of the page.")]
LoginRole = Annotated[
    str, typer.Option("--role", help="viewer: looks; manager: decides; admin: makes logins.")
]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", help="File with the password in its first line; - is stdin."),
]


@users.command("add")
def add_user(
    name: LoginName, data: LoginData, role: LoginRole = "viewer", password_file: PasswordFile = None
) -> None:
    """Make a login; the password is asked for, or read from a file.

    Example: `zerostock users add mei --role manager --data state`
    """
    from infra.desk.access.command import password_of, store_of

    store = store_of(data)
    store.add(name, role, password_of(name, password_file))
    typer.echo(f"{name} may log in as {role}")


@users.command("list")
def list_users(data: LoginData) -> None:
    """Show who may log in, and as what.

    Example: `zerostock users list --data state`
    """
    from infra.desk.access.command import store_of

    for user in store_of(data).users():
        typer.echo(f"{user.name}\t{user.role}\t{'disabled' if user.disabled else 'may log in'}")


@users.command("role")
def set_role(
    name: LoginName, role: Annotated[str, typer.Argument(help="The new role.")], data: LoginData
) -> None:
    """Give a user another role; they have to log in again.

    Example: `zerostock users role mei admin --data state`
    """
    from infra.desk.access.command import store_of

    store_of(data).set_role(name, role)


@users.command("password")
def set_password(name: LoginName, data: LoginData, password_file: PasswordFile = None) -> None:
    """Give a user another password; their sessions end.

    Example: `zerostock users password mei --data state`
    """
    from infra.desk.access.command import password_of, store_of

    store_of(data).set_password(name, password_of(name, password_file))


@users.command("disable")
def disable_user(
    name: LoginName,
    data: LoginData,
    undo: Annotated[bool, typer.Option("--undo", help="They may log in again.")] = False,
) -> None:
    """Let a user log in no more; their sessions end.

    Example: `zerostock users disable mei --data state`
    """
    from infra.desk.access.command import store_of

    store_of(data).set_disabled(name, not undo)


@users.command("remove")
def remove_user(name: LoginName, data: LoginData) -> None:
    """Take a login away; what the user did stays in the trail.

    Example: `zerostock users remove mei --data state`
    """
    from infra.desk.access.command import store_of

    store_of(data).remove(name)


@app.command()
def numbers(
    data: Annotated[Path, typer.Option(help="Data directory of the alerts worker.")],
    forget: Annotated[
        str | None, typer.Option(help="Take a number off the list: it was put right.")
    ] = None,
) -> None:
    """Show the phone numbers that take no messages, and why.

    Example: `zerostock numbers --data state --forget +8613800138000`
    """
    from infra.refused import forget_number, show_numbers

    if forget is None:
        show_numbers(data)
    else:
        forget_number(data, forget)


@alerts.command("explain")
def explain_alerts(
    incident: Annotated[
        str, typer.Argument(help="A stock-out; or an outlet, to see which it had.")
    ],
    data: Data = None,
    warehouse: Url = None,
) -> None:
    """Show why somebody was or was not told of a stock-out, with times.

    Example: `zerostock alerts explain O00017/4G-50/c123 --data state`
    """
    from infra.explaining import explain

    explain(load_settings(data=data, warehouse=warehouse), incident)


@alerts.command("check")
def check_policy(
    policy: Annotated[Path, typer.Argument(help="The TOML file; see docs/alerts.md.")],
) -> None:
    """Check a policy as the alerts worker does at its start; errors name line and key.

    Example: `zerostock alerts check policy.toml`
    """
    from alerts.policy import load_policy

    load_policy(policy)
    typer.echo(f"{policy} is a policy")


@app.command("soon-empty")
def soon_empty(
    data: Data = None,
    warehouse: Url = None,
    as_of: Annotated[
        str | None, typer.Option(help="Day whose evening it is, YYYY-MM-DD (the last known).")
    ] = None,
    target: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Announce shelves whose risk is above it.")
    ] = 0.3,
    sms: Annotated[str | None, typer.Option(help="console (default), file:PATH or twilio.")] = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: what is old is not sent (default); event: it is.")
    ] = None,
    wholesaler: Annotated[
        list[str] | None, typer.Option(help="Tell only this one, as often as need be (all).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be told.")
    ] = False,
) -> None:
    """Tell wholesalers, once a day, which shelves will probably be empty before they come.

    Shelves whose stock is doubted go to the managers' `fallback` channel. A second run for the same
    day replaces its lists and tells nobody twice. With --warehouse, --data keeps what was sent.

    Example: `zerostock soon-empty --data state --clock event --sms file:soon.ndjson`
    """
    from datetime import date

    from infra.foresight import run_soon_empty

    try:
        day = date.fromisoformat(as_of) if as_of is not None else None
    except ValueError:
        raise UsageError(f"--as-of {as_of} is no day like 2026-03-31") from None
    settings = load_settings(data=data, warehouse=warehouse, sms=_absolute(sms), clock=clock)
    typer.echo(
        "\n".join(run_soon_empty(settings, day, target, only=wholesaler or (), dry_run=dry_run))
    )


@succession.command("add")
def add_succession(
    wholesaler: Annotated[str, typer.Argument(help="Who leaves.")],
    to: Annotated[str, typer.Option(help="Who takes over.")],
    reference: Reference = None,
    territory: Annotated[
        str | None, typer.Option(help="Only outlets there, or in a part of it.")
    ] = None,
    at: At = None,
) -> None:
    """Let one wholesaler succeed another from a time on.

    Example: `zerostock succession add W007 --to W012 --reference city/reference`
    """
    from infra.succession import add_succession as add

    typer.echo(add(load_settings(reference=reference), wholesaler, to, territory, at))


@succession.command("list")
def list_successions(reference: Reference = None) -> None:
    """Show who left, who took over, and how many outlets that moved.

    Example: `zerostock succession list --reference city/reference`
    """
    from infra.succession import list_successions as show

    typer.echo(show(load_settings(reference=reference)))


@succession.command("undo")
def undo_succession(
    name: Annotated[str, typer.Argument(help="Which, as `list` names it.")],
    reference: Reference = None,
    at: At = None,
) -> None:
    """Give outlets back from a time on; what happened until then stays as it was.

    Example: `zerostock succession undo s-1f2e3d4c --reference city/reference`
    """
    from infra.succession import undo_succession as undo

    typer.echo(undo(load_settings(reference=reference), name, at))


@succession.command("hand-over")
def hand_over(
    reference: Reference = None,
    data: Data = None,
    warehouse: Url = None,
    sms: Annotated[str | None, typer.Option(help="console (default), file:PATH or twilio.")] = None,
    at: At = None,
) -> None:
    """Send each successor one message: how many shops, and which of them are empty.

    Run it again, also on a schedule: nobody is told twice.

    Example: `zerostock succession hand-over --reference city/reference --data state --sms twilio`
    """
    from infra.succession import hand_over as tell

    settings = load_settings(
        reference=reference, data=data, warehouse=warehouse, sms=_absolute(sms), clock="event"
    )
    typer.echo("\n".join(tell(settings, at)))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One reading statement of ClickHouse SQL.")],
    data: Data = None,
    warehouse: Url = None,
    format: Annotated[
        str, typer.Option("--format", help="Any of ClickHouse's output formats.")
    ] = "PrettyCompactMonoBlock",
) -> None:
    """Ask the warehouse, also while a run is live. Read-only.

    Example: `zerostock query --data state "SELECT * FROM stock_on_hand WHERE on_hand = 0"`
    """
    from pipelines.warehouse import open_for_reading

    settings = load_settings(data=data, warehouse=warehouse)
    opened = open_for_reading(data=settings.data, url=settings.warehouse)
    try:
        sys.stdout.buffer.write(opened.query_bytes(sql, format))
        sys.stdout.buffer.flush()
    finally:
        opened.close()


@app.command()
def ask(
    name: Annotated[str | None, typer.Argument(help="Which question; none lists them.")] = None,
    data: Data = None,
    warehouse: Url = None,
    param: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as often as need be.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="Any of ClickHouse's output formats.")
    ] = "PrettyCompactMonoBlock",
) -> None:
    """Ask the warehouse one of the saved questions.

    Example: `zerostock ask busiest-outlets --data state --param top=10`
    """
    from infra.asking import list_questions, statement

    if name is None:
        typer.echo(list_questions())
    else:
        query(statement(name, param or []), data, warehouse, format)


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="Which table; none lists them.")] = None,
) -> None:
    """Say what the tables hold: columns, units and worked queries.

    Example: `zerostock tables stock_incidents`
    """
    from infra.asking import show_table

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
        applied = apply(opened)
    finally:
        opened.close()
    typer.echo("\n".join(f"applied {name}" for name in applied) or "already up to date")


@dead_letters.command("list")
def list_dead_letters(
    data: Data = None,
    warehouse: Url = None,
    reason: Annotated[str | None, typer.Option(help="Only reasons that begin like this.")] = None,
    source: Annotated[str | None, typer.Option(help="Only sources that begin like this.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines to show.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
) -> None:
    """Count refused lines by reason, and show them with file, line and reason.

    Example: `zerostock dead-letters list --data state --reason unknown_outlet --since 2h`
    """
    from infra.letters import Wanted, show_dead_letters

    settings = load_settings(data=data, warehouse=warehouse)
    wanted = Wanted.of(reason, source, since, until)
    show_dead_letters(settings, wanted, limit=limit, every=every)


@dead_letters.command("replay")
def replay(
    input: Annotated[Path, typer.Option(help="Exchange directory, with its tables put right.")],
    data: Data = None,
    warehouse: Url = None,
    broker: Broker = None,
    partitions: Partitions = None,
    mapping: Annotated[Path | None, typer.Option(help="TOML file describing the export.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only reasons that begin like this.")] = None,
    source: Annotated[str | None, typer.Option(help="Only sources that begin like this.")] = None,
    since: Since = None,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False,
) -> None:
    """Check refused lines again after reference tables or the mapping were put right.

    What is accepted now goes into the stream, once, and off the list: to --broker at once, or
    with --data at its next run.

    Example: `zerostock dead-letters replay --input city --data state --dry-run`
    """
    from infra.letters import Wanted, replay_dead_letters

    settings = load_settings(data=data, warehouse=warehouse, broker=broker, partitions=partitions)
    wanted = Wanted.of(reason, source, since, until)
    replay_dead_letters(settings, wanted, input=input, mapping=mapping, dry_run=dry_run)


@app.command()
def reconcile(
    input: Annotated[Path, typer.Option(help="Exchange directory that the stream was fed from.")],
    data: Data = None,
    warehouse: Url = None,
    disorder: Disorder = None,
    mapping: Annotated[Path | None, typer.Option(help="TOML file describing the export.")] = None,
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
    from infra.reconciling import reconcile as compare

    settings = load_settings(data=data, warehouse=warehouse, disorder=disorder, broker=broker)
    compare(input, settings, mapping=mapping, log=log)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="New directory for the city.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same city.")] = 1,
    outlets: Annotated[int, typer.Option(help="How many shops.")] = 3_500,
    days: Annotated[int, typer.Option(help="How many days.")] = 1,
    cdrs: Annotated[int, typer.Option(help="How many call records, at least.")] = 2_000_000,
    switches: Annotated[int, typer.Option(help="How many exchanges write call records.")] = 2,
    cdr_format: Annotated[str, typer.Option(help="mixed, csv, csv.gz or parquet.")] = "mixed",
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing if the city is there already.")
    ] = False,
) -> None:
    """Make a city: an exchange directory, and in truth/ what must come out of it.

    Example: `zerostock simulate --out city --outlets 300 --cdrs 100000`
    """
    from infra.simulating import make_city

    make_city(
        out,
        if_missing=if_missing,
        seed=seed,
        outlets=outlets,
        days=days,
        cdrs=cdrs,
        switches=switches,
        cdr_format=cdr_format,
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def batch(
    beam: typer.Context,
    job: Annotated[
        str, typer.Argument(help="line-loss, arrears, subscriber-loss, meter-suspects or channel")
    ],
    input: Annotated[str, typer.Option(help="Exchange directory, or any Beam file system.")],
    period: Annotated[str | None, typer.Option(help="The month, as YYYY-MM.")] = None,
    as_of: Annotated[str | None, typer.Option(help="The day, as YYYY-MM-DD.")] = None,
    data: Data = None,
    warehouse: Url = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would change.")] = False,
) -> None:
    """Run a Beam job and replace what it wrote before for the same period.

    Options that are not listed here go to Beam.

    Example: `zerostock batch line-loss --period 2026-03 --input city --data state`
    """
    from infra.batching import run_batch

    settings = load_settings(data=data, warehouse=warehouse)
    run_batch(
        job,
        settings,
        input=input,
        period=period,
        as_of=as_of,
        beam_args=beam.args,
        dry_run=dry_run,
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
    from infra.batching import run_schedule

    run_schedule(plan, load_settings(data=data, warehouse=warehouse))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    sizes: typer.Context,
    name: Annotated[str, typer.Argument(help="Which benchmark; see docs/performance.md.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measure this machine, beside the limit and beside peers.

    Each benchmark takes sizes as further options, like `--cdrs 1000000`.

    Example: `zerostock bench stream --json`
    """
    from infra.bench import main as measure

    measure(name, json, **_sizes(sizes.args))


def _sizes(arguments: list[str]) -> dict[str, int | str]:
    """`--cdrs 1000 --sims 20000,40000` as names and numbers, or lists of them as text."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=False))
    if len(arguments) % 2 or not all(name.startswith("--") for name, _ in pairs):
        raise UsageError("sizes are given like --cdrs 1000000")
    return {
        name.removeprefix("--").replace("-", "_"): int(value) if value.isdigit() else value
        for name, value in pairs
    }


def main() -> None:
    """The entry point: 0 on success, 2 on bad usage, 1 otherwise, one clear line on stderr."""
    try:
        app()
    except UsageError as error:
        sys.exit(_complain(error, 2))
    except ZerostockError as error:
        sys.exit(_complain(error, 1))
    except KeyboardInterrupt:
        sys.exit(_complain("stopped", 1))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _complain(error: object, code: int) -> int:
    from infra.wording import printable

    print(f"zerostock: {printable(str(error))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
