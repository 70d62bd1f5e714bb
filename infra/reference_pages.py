"""docs/settings.md and docs/commands.md, made of the settings and the command line themselves.

`python -m infra.reference_pages` writes them anew; a test fails while they are not what it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from typer.main import get_command

from infra.cli import app
from infra.settings import Duration, Settings

#: The first setting of each section, its title, and who reads what is in it.
SECTIONS: Final = {
    "broker": ("Where things are", "all commands and workers"),
    "clock": ("Time", "the reader (`run`, `ingest`, `intake`), alerts and stock workers"),
    "group_wait": ("Messages", "the alerts worker, `soon-empty`, `hand-over`, `webhook`"),
    "commit_interval": ("Workers", "all workers"),
    "sms": ("Ways and words", "the alerts worker, `soon-empty`, `hand-over`"),
    "time_zone": ("Everywhere", "all commands and workers"),
    "dead_letter_limit": ("Reading", "`run`, `ingest`"),
    "metrics_port": ("Watching", "workers, `ingest`, `intake`, `webhook`"),
    "kafka_security": ("Login to Kafka", "all that talks to Kafka"),
    "feed_kafka_security": ("Login to another Kafka", "`run`, `ingest`"),
    "twilio_account_sid": ("Twilio", "the alerts worker, `webhook`"),
    "channels": ("Managers' channels", "the alerts worker, `soon-empty`"),
    "webhook_url": ("Webhook and links", "`webhook`, the alerts worker (links), `serve` (proxies)"),
    "intake_host": ("Intake", "`intake`, `run --intake`"),
}

_SETTINGS: Final = """\
# Settings

Every setting may be an option of the commands that read it (`--group-wait`), a variable of the
environment (`ZEROSTOCK_GROUP_WAIT`), or a line of the TOML file that `ZEROSTOCK_CONFIG` names
(`group_wait = "5m"`); the first of these that is there holds. Durations are written `500ms`, `30s`,
`5m`, `6h`, `2d`. Secrets are never options: they come from the environment, or from files in the
folder that `ZEROSTOCK_SECRETS_DIR` names, each called like its variable in small letters."""

_COMMANDS: Final = """\
# Commands

What `zerostock COMMAND --help` says, on one page. A command ends with 0 when all went well, 2 when
it was called wrongly, 1 otherwise, with one line on stderr that says why."""

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"))


def settings_page() -> str:
    """docs/settings.md."""
    lines = [_SETTINGS]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            title, readers = SECTIONS[name]
            lines += ["", f"## {title}", "", f"Read by {readers}.", ""]
            lines += ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
        about = " ".join((field.description or "").split())
        default = _default(field)
        lines.append(f"| `ZEROSTOCK_{name.upper()}` | {_kind(field)} | {default} | {about} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """docs/commands.md."""
    root: Any = get_command(app)
    lines = [_COMMANDS]
    tasks: dict[str, list[tuple[str, Any]]] = {}
    for path, command in _commands(root, ()):
        panel = getattr(root.commands[path[0]], "rich_help_panel", None) or "Other"
        tasks.setdefault(str(panel), []).append((" ".join(path), command))
    for task, commands in tasks.items():
        lines += ["", f"## {task}"]
        for words, command in commands:
            lines += ["", f"### zerostock {words}", "", *_command(command)]
    return "\n".join(lines) + "\n"


def _commands(group: Any, before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        elif not command.hidden:
            yield (*before, name), command


def _command(command: Any) -> Iterator[str]:
    yield from (line.strip() for line in (command.help or "").strip().splitlines())
    shown = [p for p in command.params if p.name != "help"]
    if not shown:
        return
    yield from ("", "| option | default | meaning |", "| --- | --- | --- |")
    for param in shown:
        names = " ".join(f"`{name}`" for name in param.opts)
        if param.param_type_name == "argument":
            names = f"`{(param.name or '').upper()}`"
        given = param.default if param.default not in (None, False, ()) else ""
        default = "required" if param.required else f"`{given}`" if given != "" else ""
        about = " ".join((getattr(param, "help", None) or "").split()).replace("|", "\\|")
        yield f"| {names} | {default} | {about} |"


def _kind(field: FieldInfo) -> str:
    if field.annotation is int and any(m in field.metadata for m in get_args(Duration)[1:]):
        return "duration"
    return _name(field.annotation)


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is Annotated:
        return _name(get_args(kind)[0])
    arms = [arm for arm in get_args(kind) if arm is not type(None)]
    if get_origin(kind) is Union or arms:
        return " or ".join(map(_name, arms))
    names = {SecretStr: "secret", str: "text", int: "number", float: "number", Path: "path"}
    return names[kind]


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == "":
        return "–"
    if _kind(field) != "duration":
        return f"`{value}`"
    if value == 0:
        return "`0`"
    each, unit = next(pair for pair in _UNITS if value % pair[0] == 0)
    return f"`{value // each}{unit}`"


PAGES: Final = {"settings.md": settings_page, "commands.md": commands_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (Path(__file__).parent.parent / "docs" / name).write_text(page())


if __name__ == "__main__":
    main()
