"""`zerostock users`: where logins are kept, and how a password is asked for."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

import typer

from infra.desk.access.passwords import check_password
from infra.desk.access.store import AccessStore
from infra.desk.visitor import Visitor
from schemas.errors import InputError, UsageError


def store_of(data: Path) -> AccessStore:
    """The logins of a data directory."""
    return AccessStore(data / "desk.sqlite")


def noted(store: AccessStore, action: str, about: str) -> None:
    """Keep in the trail what somebody at this machine changed."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = f"user {os.getuid()}"
    store.note(Visitor(name, ""), action, about, "", "zerostock users")


def password_of(name: str, file: str | None) -> str:
    """The password, from a terminal (twice), a file's first line, or stdin where `file` is "-".

    Never from an option: others could read it. Raises `UsageError` for one that will not do.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError("give --password-file FILE (- is stdin), or run it on a terminal")
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    elif file == "-":
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        try:
            password = Path(file).read_text().partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}") from None
    check_password(name, password)
    return password
