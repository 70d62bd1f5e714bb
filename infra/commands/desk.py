"""The managers' page, and its logins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import Broker, Data, Mapping, Partitions, Url
from infra.settings import load_settings

app = typer.Typer()
users = typer.Typer(help="Manage the logins of `zerostock serve`.", no_args_is_help=True)
app.add_typer(users, name="users")

LoginName = Annotated[str, typer.Argument(metavar="NAME", help="User name.")]
LoginData = Annotated[Path, typer.Option("--data", help="Data directory of the page.")]
LoginRole = Annotated[
    str, typer.Option("--role", help="viewer: read; manager: decide; admin: manage logins.")
]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", help="File whose first line is the password; - is stdin."),
]


@app.command()
def serve(
    data: Data = None,
    warehouse: Url = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8080,
    url: Annotated[
        str | None, typer.Option(help="Public address, if a server with TLS stands in front.")
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(help="Exchange directory, to replay dead letters."),
    ] = None,
    mapping: Mapping = None,
    broker: Broker = None,
    partitions: Partitions = None,
) -> None:
    """Serve the managers' page: every shop, live while a run is on.

    Read-only and on this machine only until `zerostock users add` creates a login. See
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
    """Create a login; prompts for the password, or reads it from a file.

    Example: `zerostock users add mei --role manager --data state`
    """
    from infra.desk.access.command import noted, password_of, store_of

    store = store_of(data)
    store.add(name, role, password_of(name, password_file))
    noted(store, "add", f"{name}: {role}")
    typer.echo(f"{name} may log in as {role}")


@users.command("list")
def list_users(data: LoginData) -> None:
    """List logins and their roles.

    Example: `zerostock users list --data state`
    """
    from infra.desk.access.command import store_of

    for user in store_of(data).users():
        typer.echo(f"{user.name}\t{user.role}\t{'disabled' if user.disabled else 'enabled'}")


@users.command("role")
def set_role(
    name: LoginName, role: Annotated[str, typer.Argument(help="The new role.")], data: LoginData
) -> None:
    """Change a user's role; ends their sessions.

    Example: `zerostock users role mei admin --data state`
    """
    from infra.desk.access.command import noted, store_of

    store = store_of(data)
    store.set_role(name, role)
    noted(store, "role", f"{name}: {role}")


@users.command("password")
def set_password(name: LoginName, data: LoginData, password_file: PasswordFile = None) -> None:
    """Change a user's password; ends their sessions.

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
    undo: Annotated[bool, typer.Option("--undo", help="Enable the login again.")] = False,
) -> None:
    """Disable a login; ends its sessions.

    Example: `zerostock users disable mei --data state`
    """
    from infra.desk.access.command import noted, store_of

    store = store_of(data)
    store.set_disabled(name, not undo)
    noted(store, "enable" if undo else "disable", name)


@users.command("remove")
def remove_user(name: LoginName, data: LoginData) -> None:
    """Remove a login; what the user did stays in the audit trail.

    Example: `zerostock users remove mei --data state`
    """
    from infra.desk.access.command import noted, store_of

    store = store_of(data)
    store.remove(name)
    noted(store, "remove", name)
