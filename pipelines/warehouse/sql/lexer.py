"""SQL cut into tokens the way ClickHouse cuts it; nothing here knows what a statement means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?\*/)
    | (?P<text>'(?:[^'\\]|\\.|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`)
    | (?P<parameter>\{\s*(?P<name>[A-Za-z_]\w*)\s*:\s*(?P<type>[^{}]+?)\s*\})
    | (?P<word>[A-Za-z_]\w*)
    | (?P<number>\d[\w.]*)
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of SQL; `kind` is space, text, quoted, parameter, word, number, end or other.

    `name` and `type` are those of a `{name:Type}` parameter, and empty for all other kinds.
    """

    kind: str
    text: str
    name: str = ""
    type: str = ""


def tokens(sql: str) -> Iterator[Token]:
    """All tokens of the text, comments included: joined, they are the text again."""
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "other"
        if match["parameter"]:
            yield Token("parameter", match[0], match["name"], match["type"])
        else:
            yield Token("text" if kind == "tag" else kind, match[0])


def statements(sql: str) -> list[str]:
    """The statements of a script, without the `;` between them; mere comments are none."""
    found: list[str] = []
    piece: list[str] = []
    says_something = False
    for token in [*tokens(sql), Token("end", ";")]:
        if token.kind != "end":
            piece.append(token.text)
            says_something |= token.kind != "space"
            continue
        if says_something:
            found.append("".join(piece).strip())
        piece, says_something = [], False
    return found
