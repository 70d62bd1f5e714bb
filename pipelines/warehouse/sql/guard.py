"""Which statements only read, and what a table's name looks like.

The engines enforce reading themselves (readonly connections); this check closes what they leave
open: the client-side INTO OUTFILE, several statements in one text, looking at files by DESCRIBE
or table functions, and statements that are neither reading nor writing (USE, KILL, BACKUP).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

from pipelines.warehouse.sql.lexer import Token, tokens
from schemas.errors import WarehouseError

_READING: Final = frozenset(
    ("SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN")
)

#: Functions that read files, call out or run programs; the engines refuse most of them as well.
_REACHING_OUT: Final = re.compile(
    r"""[`"]?(?:
    arrowflight | azureblobstorage\w* | bigquery | cluster\w* | cosn | deltalake\w* | executable |
    file\w* | gcs\w* | hdfs\w* | hive | hudi\w* | iceberg\w* | jdbc | mongodb | mysql | odbc | oss |
    paimon\w* | postgresql | python | redis | remote\w* | s3\w* | sqlite | url\w* | ytsaurus
    )[`"]?""",
    re.IGNORECASE | re.VERBOSE,
)

# In any disguise: an INTO OUTFILE hidden from a tokenizer would be written by the client.
_FILES: Final = re.compile(r"\b(?:outfile|infile)\b", re.IGNORECASE)

_TABLE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")


class ReadQuery(NamedTuple):
    """One statement that only reads, without its FORMAT clause; `format` is '' if it had none."""

    sql: str
    format: str


def reading(sql: str) -> ReadQuery:
    """Check that the text is one statement that only reads; raises `WarehouseError` if not."""
    if _FILES.search(sql):
        raise _refused("no statement may mention OUTFILE or INFILE (write your own file instead)")
    parts = [token for token in tokens(sql) if token.kind != "space"]
    while parts and parts[-1].kind == "end":
        parts.pop()
    if not parts:
        raise WarehouseError("the query is empty")
    if any(token.kind == "end" for token in parts):
        raise _refused("one statement at a time")
    first = next((token.text.upper() for token in parts if token.text != "("), "")
    if first not in _READING:
        raise _refused(f"{first} is not one of SELECT, WITH, SHOW, DESCRIBE, EXISTS, EXPLAIN")
    _check_sources(first, parts)
    return _split_format(sql)


def check_table_name(table: str) -> None:
    """Raise `WarehouseError` for what is not the plain name of a table."""
    if not _TABLE.fullmatch(table):
        raise WarehouseError(f"not the name of a table: {table!r}")


def _check_sources(first: str, parts: list[Token]) -> None:
    """Refuse what reaches outside of the database, wherever it stands."""
    for token, after in pairwise(parts):
        if after.text == "(" and _REACHING_OUT.fullmatch(token.text):
            raise _refused(f"{token.text}() reaches outside of the database")
    if first in ("DESCRIBE", "DESC", "EXISTS") and any(
        token.kind == "text" or (token.kind == "quoted" and "/" in token.text) for token in parts
    ):
        raise _refused(f"{first} is for tables, not for files")


def _split_format(sql: str) -> ReadQuery:
    """Take a trailing `FORMAT Name` off."""
    parts = list(tokens(sql))
    while parts and parts[-1].kind in ("space", "end"):
        parts.pop()
    words = [i for i, token in enumerate(parts) if token.kind != "space"]
    if len(words) > 2 and parts[words[-1]].kind == "word":
        before = parts[words[-2]]
        if before.kind == "word" and before.text.upper() == "FORMAT":
            rest = "".join(token.text for token in parts[: words[-2]]).rstrip()
            return ReadQuery(rest, parts[words[-1]].text)
    return ReadQuery("".join(token.text for token in parts), "")


def _refused(why: str) -> WarehouseError:
    return WarehouseError(f"queries are read-only: {why}")
