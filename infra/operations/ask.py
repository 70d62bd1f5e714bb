"""Saved questions and descriptions of tables, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from infra.analysts.meanings import tables
from infra.analysts.pages import table_lines
from infra.analysts.questions import question, questions
from schemas.errors import UsageError


def list_questions() -> str:
    """One line per question, and its parameters."""
    lines = []
    for saved in questions().values():
        lines.append(f"{saved.name:24} {saved.question}")
        lines += [f"{'':24}   --param {p.name}={p.default}  {p.meaning}" for p in saved.params]
    return "\n".join(lines)


def statement(name: str, given: Sequence[str]) -> str:
    """The SQL of a question with its parameters. Raises `UsageError` for a bad NAME=VALUE."""
    pairs = [text.partition("=") for text in given]
    if not all(equals for _, equals, _ in pairs):
        raise UsageError("parameters are given like --param top=10")
    return question(name).statement({key: value for key, _, value in pairs})


def show_table(name: str | None) -> str:
    """Describes a table; without a name, all in one line each. Raises `UsageError` if unknown."""
    known = tables()
    if name is None:
        return "\n".join(f"{table:24} {what.grain}" for table, what in known.items())
    if name not in known:
        raise UsageError(f"there is no table {name!r}: `zerostock tables` lists them")
    return "\n".join(table_lines(known[name]))
