"""What ClickHouse says when it refuses, in one line a person can read."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"(?:Code: \d+\.\s*)?(?:DB::(?:Net)?Exception: )")
_TAIL = re.compile(r"\s*(?:\. Expected one of: .*|Stack trace:.*)$")


def one_line(error: object) -> str:
    """The first line of ClickHouse's own message, without codes, stack and lists of keywords."""
    text = str(error).strip() or type(error).__name__
    line = _PREFIX.split(text)[-1].split("\n", 1)[0]
    return _TAIL.sub("", re.sub(r"^Code: \d+\.\s*", "", line)).strip()
