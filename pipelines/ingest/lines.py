"""The lines of a chunk, split only when one of them is asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np


class Lines:
    """`count` lines, each ended by a newline but perhaps the last; numbered from 0."""

    def __init__(self, data: bytes, count: int) -> None:
        self.data = data
        self.count = count

    @cached_property
    def all(self) -> list[bytes]:
        """Each line without its end."""
        lines = self.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if b"\r" not in self.data:
            return lines
        return [line.removesuffix(b"\r") for line in lines]

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest line, its end aside; in a short chunk no less than that."""
        if len(self.data) <= 4_096:
            return len(self.data)
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))
        edges = np.concatenate([[-1], ends, [len(self.data)]])
        return int(np.diff(edges).max()) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.all[index]
