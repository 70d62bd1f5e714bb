"""The `zerostock` command: all commands together, and how they end."""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import Annotated, Final

import typer
from setproctitle import setproctitle

from infra.commands import (
    alerting,
    dead_letters,
    desk,
    jobs,
    keeping,
    simulate_bench,
    stream,
    warehouse,
)
from schemas.errors import UsageError, ZerostockError

app = typer.Typer(
    name="zerostock",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
#: `zerostock --help`, by task.
_TASKS: Final = {
    "Run the stream": stream,
    "Notify wholesalers": alerting,
    "Look at the figures": warehouse,
    "Show them in a browser": desk,
    "Compute monthly figures": jobs,
    "Find out what is wrong": dead_letters,
    "Keep it for years": keeping,
    "Try it out, measure it": simulate_bench,
}
for task, part in _TASKS.items():
    for command in (*part.app.registered_commands, *part.app.registered_groups):
        command.rich_help_panel = task
    app.add_typer(part.app)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"zerostock {version('zerostock')}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Say which version this is."
        ),
    ] = False,
) -> None:
    """Tells a wholesaler to refill a shop the moment its last SIM card is sold."""


#: A disk that is full or broken, a place that may not be written: no fault of the program.
_OF_THE_MACHINE: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EFBIG,
        errno.ENOTDIR,
    }
)

#: What Typer makes of Ctrl-C.
_INTERRUPTED: Final = 130


#: A password within a URL among the arguments, which the list of processes would show.
_PASSWORD: Final = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*(?=@)")


def _private() -> None:
    """What we write is for its owner only, and no password stands in the list of processes."""
    os.umask(os.umask(0o077) | 0o077)
    if any(map(_PASSWORD.search, sys.argv)):
        setproctitle(_PASSWORD.sub(r"\1:***", " ".join(sys.argv)))


def main() -> None:
    """The entry point: 0 on success, 2 on bad usage, 1 otherwise, one clear line on stderr."""
    _private()
    try:
        # Not standalone: Typer would draw a box of five lines around each mistake.
        ended = app(prog_name="zerostock", standalone_mode=False)
        sys.exit(_complain("stopped", 1) if ended == _INTERRUPTED else ended)
    except typer.TyperException as error:
        sys.exit(_complain(_and_where_help_is(error), error.exit_code))
    except UsageError as error:
        sys.exit(_complain(error, 2))
    except ZerostockError as error:
        sys.exit(_complain(error, 1))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_complain("stopped", 1))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{where}{os.strerror(error.errno)}", 1))


def _and_where_help_is(error: typer.TyperException) -> str:
    """What is wrong, and where help is; "" where help was shown already, for want of a command."""
    command = getattr(getattr(error, "ctx", None), "command_path", "zerostock")
    text = error.format_message().rstrip(".\n ")
    return f"{text}: see {command} --help" if text else ""


def _complain(error: object, code: int) -> int:
    from infra.text import printable

    if str(error):
        print(f"zerostock: {printable(str(error))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
