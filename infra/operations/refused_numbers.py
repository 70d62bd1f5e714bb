"""`zerostock refused-numbers`: which numbers refuse messages, and why."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from alerts.delivery.clock import WallClock
from alerts.delivery.refused_numbers import RefusedNumbers
from alerts.message.phones import usable
from schemas.errors import UsageError


def show_numbers(data: Path) -> None:
    """Print the list; numbers in full, because somebody has to call or correct them."""
    console = Console(highlight=False)
    with closing(_list(data)) as numbers:
        known = numbers.all()
    if not known:
        console.print("no number refuses messages")
        return
    table = Table(box=None)
    for name in ("number", "messages", "code", "why", "since"):
        table.add_column(name)
    for number in known:
        since = datetime.fromtimestamp(number.at / 1_000, UTC)
        table.add_row(
            number.number,
            "none" if number.blocked else "tried",
            number.code,
            number.reason,
            f"{since:%Y-%m-%d %H:%M}Z",
        )
    console.print(table)


def forget_number(data: Path, written: str) -> None:
    """Take a number off the list. Raises `UsageError` if it is not on it."""
    number = usable(written)
    with closing(_list(data)) as numbers:
        if number not in {known.number for known in numbers.all()}:
            raise UsageError(
                f"{written} is not on the list; numbers are written like +8613800138000"
            )
        numbers.forget(number, WallClock().now())


def _list(data: Path) -> RefusedNumbers:
    path = data / "sms" / "refused-numbers.log"
    if not path.exists():
        raise UsageError(f"{data} is not the data directory of an alerts worker: no {path}")
    return RefusedNumbers(path)
