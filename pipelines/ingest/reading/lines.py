"""The lines of a chunk, split only when one of them is asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def count_lines(data: bytes) -> int:
    """How many lines end in the data; a third of the time that `bytes.count` takes."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))


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
    def lengths(self) -> Int64s:
        """Bytes of each line with its end."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n")) + 1
        if not self.data.endswith(b"\n"):
            ends = np.append(ends, len(self.data))
        return np.diff(ends, prepend=0)

    def __getitem__(self, index: int) -> bytes:
        return self.all[index]
