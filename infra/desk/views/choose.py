"""Choosing what a page is about: a period, a territory, a wholesaler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infra.desk.parts import CustomSection, Row


@dataclass(frozen=True)
class Choice:
    """A field of the address, and what it can be: value and text."""

    name: str
    label: str
    options: list[tuple[str, str]]
    chosen: str


def choose(*choices: Choice, live: bool = False) -> CustomSection:
    """The form that asks for them; on a live page with a button to hold it still."""
    return CustomSection("choose.html.j2", {"choices": choices, "live": live})


def of_values(name: str, label: str, values: Iterable[object], chosen: object) -> Choice:
    """One of some values, each its own text."""
    return Choice(name, label, [(str(one), str(one)) for one in values], str(chosen))


def of_named(name: str, label: str, rows: Iterable[Row], chosen: str, everything: str) -> Choice:
    """One of some rows with `value` and `name`, or all of them."""
    named = [(str(row["value"]), str(row["name"] or row["value"])) for row in rows]
    return Choice(name, label, [("", everything), *named], chosen)
