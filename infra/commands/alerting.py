"""Who was notified of what, and why; who takes over; which numbers refuse messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import (
    Data,
    GroupWait,
    Policy,
    Reference,
    Routes,
    Sms,
    Url,
    ways,
)
from infra.settings import load_settings
from schemas.errors import SendError, SettingsError, UsageError

app = typer.Typer()
alerts = typer.Typer(help="Who was notified of a stock-out, and why.", no_args_is_help=True)
app.add_typer(alerts, name="alerts")
routes = typer.Typer(help="By which ways messages go.", no_args_is_help=True)
app.add_typer(routes, name="routes")
hand_overs = typer.Typer(
    help="A wholesaler leaves: outlets, open alerts and unsent messages go to another.",
    no_args_is_help=True,
)
app.add_typer(hand_overs, name="hand-over")

At = Annotated[str | None, typer.Option(help="ISO 8601 time with offset (now).")]


@alerts.command("explain")
def explain_alerts(
    incident: Annotated[
        str, typer.Argument(help="A stock-out; or an outlet, to see which it had.")
    ],
    data: Data = None,
    warehouse: Url = None,
) -> None:
    """Show why somebody was or was not notified of a stock-out, with times.

    Example: `zerostock alerts explain O00017/4G-50/c123 --data state`
    """
    from infra.operations.explain_alert import explain

    explain(load_settings(data=data, warehouse=warehouse), incident)


@alerts.command("check")
def check_policy(
    policy: Annotated[Path, typer.Argument(help="The TOML file; see docs/alerts.md.")],
    reference: Reference = None,
) -> None:
    """Check a policy as the alerts worker does at its start; errors name line and key.

    With --reference also that the outlets, territories and wholesalers it speaks of are there.

    Example: `zerostock alerts check policy.toml --reference city/reference`
    """
    from alerts.policy.policy import load_policy
    from alerts.policy.unknown_ids import unknown_ids
    from pipelines.ingest.reference import load_reference

    found = load_policy(policy)
    unknown = unknown_ids(found, load_reference(reference).reference) if reference else ""
    if unknown:
        raise SettingsError(unknown)
    typer.echo(f"{policy} is a policy")


@routes.command("check")
def check_routes(
    table: Annotated[Path, typer.Argument(help="The TOML file; see docs/alerts.md.")],
    to: Annotated[
        str | None, typer.Option(help="Also say which routes a message to this number may take.")
    ] = None,
    language: Annotated[str, typer.Option(help="… in this language.")] = "zh",
) -> None:
    """Check a table of routes as the alerts worker does at its start; errors name line and key.

    Secrets are looked for where the table says that they are; nothing is sent, nobody is called.

    Example: `zerostock routes check routes.toml --to +8613800138000 --language zh`
    """
    from infra.operations.check_routes import check_routes as check

    for line in check(load_settings(routes=table), to, language):
        typer.echo(line)


@app.command("texts")
def show_texts(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of texts (ZEROSTOCK_TEXTS, or our own).")
    ] = None,
    signature: Annotated[str | None, typer.Option(help="Registered name that goes first.")] = None,
) -> None:
    """Check the texts of messages and show what they say, with the segments that each takes.

    Example: `zerostock texts texts --signature ACME`
    """
    from alerts.message.segments import segments
    from alerts.message.texts import KINDS, SAMPLES, Texts

    settings = load_settings(texts=folder, sms_signature=signature)
    name = settings.sms_signature
    texts = Texts(settings.texts, signature=name)
    for language in texts.languages:
        for kind in KINDS:
            for sample in SAMPLES:
                body = f"【{name}】" * bool(name) + texts.render(kind, language, sample)
                typer.echo(f"{kind}.{language} [{segments(body)}]: {body}")


@app.command("what-if")
def what_if(
    policy: Policy = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="First day, YYYY-MM-DD, or a time (the first).")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Last day, or a time before which all is (the last).")
    ] = None,
    data: Data = None,
    warehouse: Url = None,
    group_wait: GroupWait = None,
    clock: Annotated[
        str | None, typer.Option(help="What the record was made by: event (--data) or wall.")
    ] = None,
    night: Annotated[
        str, typer.Option(help="Who is notified then, local time, is woken.")
    ] = "22:00-07:00",
    format: Annotated[
        str | None, typer.Option(help="A ClickHouse output format; none is for people.")
    ] = None,
) -> None:
    """Show what another policy would have made of the stock-outs on record.

    Messages, people woken, and hours until wholesalers knew, beside what happened. People's
    reactions are not replayed: shelves are refilled when they were, answers come when they came.

    Example: `zerostock what-if --policy new.toml --from 2026-03-01 --to 2026-03-31 --data state`

    For a spreadsheet: `zerostock what-if --policy new.toml --data state --format CSVWithNames`
    """
    from infra.operations.what_if import run_what_if

    settings = load_settings(
        policy=policy,
        data=data,
        warehouse=warehouse,
        group_wait=group_wait,
        clock=clock,
    )
    run_what_if(settings, from_, to, night, format)


@app.command("soon-empty")
def soon_empty(
    data: Data = None,
    warehouse: Url = None,
    as_of: Annotated[
        str | None, typer.Option(help="Day whose evening it is, YYYY-MM-DD (the last known).")
    ] = None,
    worth: Annotated[
        float | None,
        typer.Option(min=0.0, help="Announce shelves that will lose so many sales or more (1)."),
    ] = None,
    policy: Policy = None,
    cover: Annotated[
        str | None, typer.Option(help="How long what is brought shall last (14d).")
    ] = None,
    sms: Sms = None,
    routes: Routes = None,
    clock: Annotated[
        str | None, typer.Option(help="wall: what is old is not sent (default); event: it is.")
    ] = None,
    wholesaler: Annotated[
        list[str] | None, typer.Option(help="Tell only this one, as often as need be (all).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be notified.")
    ] = False,
) -> None:
    """Tell wholesalers, once a day, which shelves will probably be empty before they come.

    Shelves whose stock is doubted go to the managers' `fallback` channel. A second run for the same
    day replaces its lists and tells nobody twice. With --warehouse, --data keeps what was sent.
    Exit code 1 if somebody was not reached.

    Example: `zerostock soon-empty --data state --clock event --sms file:soon.ndjson`
    """
    from datetime import date

    from infra.operations.soon_empty import run_soon_empty

    try:
        day = date.fromisoformat(as_of) if as_of is not None else None
    except ValueError:
        raise UsageError(f"--as-of {as_of} is no day like 2026-03-31") from None
    settings = load_settings(
        data=data,
        warehouse=warehouse,
        clock=clock,
        cover_target=cover,
        worth=worth,
        policy=policy,
        **ways(sms, routes),
    )
    evening = run_soon_empty(settings, day, settings.worth, only=wholesaler or (), dry_run=dry_run)
    typer.echo("\n".join(evening.lines))
    if evening.unreached:
        raise SendError(f"not reached: {', '.join(evening.unreached)}")


@hand_overs.command("add")
def add_hand_over(
    wholesaler: Annotated[str, typer.Argument(help="Who leaves.")],
    to: Annotated[str, typer.Option(help="Who takes over.")],
    reference: Reference = None,
    territory: Annotated[
        str | None, typer.Option(help="Only outlets there, or in a part of it.")
    ] = None,
    at: At = None,
) -> None:
    """Hand one wholesaler's outlets to another from a time on.

    Example: `zerostock hand-over add W007 --to W012 --reference city/reference`
    """
    from infra.operations.hand_over import add_hand_over as add

    typer.echo(add(load_settings(reference=reference), wholesaler, to, territory, at))


@hand_overs.command("list")
def list_hand_overs(reference: Reference = None) -> None:
    """Show who left, who took over, and how many outlets that moved.

    Example: `zerostock hand-over list --reference city/reference`
    """
    from infra.operations.hand_over import list_hand_overs as show

    typer.echo(show(load_settings(reference=reference)))


@hand_overs.command("undo")
def undo_hand_over(
    name: Annotated[str, typer.Argument(help="Which, as `list` names it.")],
    reference: Reference = None,
    at: At = None,
) -> None:
    """Give outlets back from a time on; what happened until then stays.

    Example: `zerostock hand-over undo s-1f2e3d4c --reference city/reference`
    """
    from infra.operations.hand_over import undo_hand_over as undo

    typer.echo(undo(load_settings(reference=reference), name, at))


@hand_overs.command("notify")
def notify_successors(
    reference: Reference = None,
    data: Data = None,
    warehouse: Url = None,
    sms: Sms = None,
    routes: Routes = None,
    at: At = None,
) -> None:
    """Send each successor one message: how many shops, and which of them are empty.

    Run it as often as you like: nobody gets it twice. Exit code 1 if somebody was not reached.

    Example: `zerostock hand-over notify --reference city/reference --data state --sms twilio`
    """
    from infra.operations.hand_over import notify_successors as notify

    settings = load_settings(
        reference=reference, data=data, warehouse=warehouse, clock="event", **ways(sms, routes)
    )
    for line in notify(settings, at):
        typer.echo(line)


@app.command("refused-numbers")
def refused_numbers(
    data: Annotated[Path, typer.Option(help="Data directory of the alerts worker.")],
    forget: Annotated[
        str | None, typer.Option(help="Take a corrected number off the list.")
    ] = None,
) -> None:
    """Show the phone numbers that refuse messages, and why.

    Example: `zerostock refused-numbers --data state --forget +8613800138000`
    """
    from infra.operations.refused_numbers import forget_number, show_numbers

    if forget is None:
        show_numbers(data)
    else:
        forget_number(data, forget)
