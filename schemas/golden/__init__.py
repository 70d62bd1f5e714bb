"""Lines that must be accepted and lines that must be refused, for tests and benchmarks."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import msgspec


class RefusedExample(NamedTuple):
    """A line of JSON and the reason for which it is refused."""

    reason: str
    line: bytes


def accepted() -> list[bytes]:
    """One line of each type of event, all of them good."""
    return files(__name__).joinpath("accepted.ndjson").read_bytes().splitlines()


def refused() -> list[RefusedExample]:
    """Lines with one thing wrong."""
    rows = msgspec.json.Decoder(dict[str, str]).decode_lines(
        files(__name__).joinpath("refused.ndjson").read_bytes()
    )
    return [RefusedExample(row["reason"], row["line"].encode()) for row in rows]
