"""The managers' page, and who may log in to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import Broker, Data, Mapping, Partitions, Url
from infra.settings import load_settings

app = typer.Typer()
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
    mapping: Mapping = None,
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


@users.command("add")
def add_user(
    name: LoginName, data: LoginData, role: LoginRole = "viewer", password_file: PasswordFile = None
) -> None:
    """Make a login; the password is asked for, or read from a file.

    Example: `zerostock users add mei --role manager --data state`
    """
    from infra.desk.access.command import noted, password_of, store_of

    store = store_of(data)
    store.add(name, role, password_of(name, password_file))
    noted(store, "add", f"{name}: {role}")
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
    from infra.desk.access.command import noted, store_of

    store = store_of(data)
    store.set_role(name, role)
    noted(store, "role", f"{name}: {role}")


@users.command("password")
def set_password(name: LoginName, data: LoginData, password_file: PasswordFile = None) -> None:
    """Give a user another password; their sessions end.

    Example: `zerostock users password mei --data state`
    """
    from infra.desk.access.command import noted, password_of, store_of

    store = store_of(data)
    store.set_password(name, password_of(name, password_file))
    noted(store, "password", name)


@users.command("disable")
def disable_user(
    name: LoginName,
    data: LoginData,
    undo: Annotated[bool, typer.Option("--undo", help="They may log in again.")] = False,
) -> None:
    """Let a user log in no more; their sessions end.

    Example: `zerostock users disable mei --data state`
    """
    from infra.desk.access.command import noted, store_of

    store = store_of(data)
    store.set_disabled(name, not undo)
    noted(store, "enable" if undo else "disable", name)


@users.command("remove")
def remove_user(name: LoginName, data: LoginData) -> None:
    """Take a login away; what the user did stays in the trail.

    Example: `zerostock users remove mei --data state`
    """
    from infra.desk.access.command import noted, store_of

    store = store_of(data)
    store.remove(name)
    noted(store, "remove", name)
