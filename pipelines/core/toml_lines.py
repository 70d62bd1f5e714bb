"""Where in a TOML text a key stands, for errors that point at it. What keys mean is elsewhere.

`tomllib` forgets the lines of what it reads. The text is known to be TOML: this looks for headers
and keys only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)(?P<name>[^\[\]]+)\]\]?\s*(#.*)?$")
_WORD = r"""(?:[\w\-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*(?P<name>{_WORD}(?:\s*\.\s*{_WORD})*)\s*=")
_PART = re.compile(_WORD)
_TEXT = re.compile(r"""\"(?:\\.|[^"\\])*\"|'[^']*'|\#.*""")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (the first is 1) of the key at `path`, or of the nearest thing around it.

    Numbers in the path count the entries of an array, from 0.
    """
    known: dict[Path, int] = {}
    for place, line in _places(text):
        known.setdefault(place, line)
    wanted = tuple(path)
    while wanted and wanted not in known:
        wanted = wanted[:-1]
    return known.get(wanted, 1)


def _places(text: str) -> Iterator[tuple[Path, int]]:
    """Headers and keys with their lines, those of inline tables among them."""
    table: Path = ()
    entries: Counter[Path] = Counter()
    depth = 0
    key: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if depth == 0 and (header := _HEADER.match(line)):
            table = _inside(_parts(header["name"]), entries)
            if header[1] == "[[":
                yield table, number
                table = (*table, entries[table])
                entries[table[:-1]] += 1
            yield table, number
            continue
        if depth == 0 and (found := _KEY.match(line)):
            key = table + _parts(found["name"])
            for end in range(len(table) + 1, len(key) + 1):
                yield key[:end], number
        bare = _TEXT.sub("", line)
        depth += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")


def _inside(table: Path, entries: Counter[Path]) -> Path:
    """The table with the number of the entry it is in, where it is in an array's last one."""
    for end in range(len(table) - 1, 0, -1):
        if (before := table[:end]) in entries:
            table = (*before, entries[before] - 1, *table[end:])
    return table


def _parts(name: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(name))
