"""Saved questions and descriptions of tables, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from infra.analysts.meanings import tables
from infra.analysts.pages import table_lines
from infra.analysts.questions import question, questions
from pipelines.warehouse import Warehouse
from schemas.errors import InputError, UsageError


def list_questions() -> str:
    """One line per question, and its parameters."""
    lines = []
    for saved in questions().values():
        lines.append(f"{saved.name:24} {saved.question}")
        lines += [f"{'':24}   --param {p.name}={p.default}  {p.meaning}" for p in saved.params]
    return "\n".join(lines)


def statement(name: str, given: Sequence[str]) -> str:
    """The SQL of a question with its parameters. Raises `UsageError` for a bad NAME=VALUE."""
    return question(name).statement(_values(given))


def _values(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if not all(equals for _, equals, _ in pairs):
        raise UsageError("parameters are given like --param top=10")
    return {key: value for key, _, value in pairs}


def answer(warehouse: Warehouse, name: str, given: Sequence[str], format: str) -> bytes:
    """The answer to a question, in one of ClickHouse's formats.

    Raises `InputError` where the job that works it out has not been run for what is asked for.
    """
    saved, values = question(name), _values(given)
    asked = {p.name: values.get(p.name, p.default) for p in saved.params}
    period = asked.get("period", asked.get("as_of"))
    if saved.job and period:
        ran = warehouse.query(
            "SELECT period FROM batch_current WHERE job = {job:String} ORDER BY period",
            {"job": saved.job},
        )["period"].to_pylist()
        if period not in ran:
            known = f"it has been for {', '.join(ran[-12:])}" if ran else "it has not been at all"
            raise InputError(f"{saved.job} has not been run for {period}: {known}")
    return warehouse.query_bytes(saved.statement(values), format)


def show_table(name: str | None) -> str:
    """Describes a table; without a name, all in one line each. Raises `UsageError` if unknown."""
    known = tables()
    if name is None:
        return "\n".join(f"{table:24} {what.grain}" for table, what in known.items())
    if name not in known:
        raise UsageError(f"there is no table {name!r}: `zerostock tables` lists them")
    return "\n".join(table_lines(known[name]))
