"""Query parameters: `{name:Type}` in SQL becomes a literal of that type.

Bound here rather than by the engines, so that both bind alike and a parameter may stand wherever
ClickHouse wants a literal (LIMIT, PARTITION). Values are escaped, never pasted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

from pipelines.warehouse.sql.lexer import Token, tokens
from schemas.errors import WarehouseError


def bind(sql: str, parameters: Mapping[str, object] | None) -> str:
    """The statement with every `{name:Type}` outside of quotes and comments replaced.

    Values: None (for Nullable types), bool, int, float, str, date, datetime with an offset (meant
    for types that say 'UTC') and lists of these. Raises `WarehouseError` for a parameter that is
    not given or does not fit; `sql` is returned as it is when `parameters` is None.
    """
    if parameters is None:
        return sql
    return "".join(
        _literal(token, parameters) if token.kind == "parameter" else token.text
        for token in tokens(sql)
    )


def quoted(text: str) -> str:
    """Text as a string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """A name of a table or column, quoted."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _literal(token: Token, parameters: Mapping[str, object]) -> str:
    if token.name not in parameters:
        raise WarehouseError(f"no value was given for the parameter {token.text}")
    value = parameters[token.name]
    if value is None:
        return f"CAST(NULL AS {token.type})"
    if token.type == "Identifier" and isinstance(value, str):
        return identifier(value)
    if token.type == "String" and isinstance(value, str):
        return quoted(value)
    if token.type.startswith(("Int", "UInt")):
        if isinstance(value, int):
            return str(int(value))
        raise WarehouseError(f"the parameter {token.text} must be a whole number")
    return f"CAST({quoted(_text(value))} AS {token.type})"


def _text(value: object) -> str:
    """The value as ClickHouse reads it from text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    if isinstance(value, str | int | float | date):
        return str(value)
    if isinstance(value, Sequence):
        return "[" + ",".join(_element(item) for item in value) + "]"
    raise WarehouseError(f"a {type(value).__name__} cannot be a query parameter")


def _element(value: object) -> str:
    text = _text(value)
    return quoted(text) if isinstance(value, str | date) else text
