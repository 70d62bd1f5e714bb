"""Watermarks: how far in event time the input is known, and who still holds it back.

A watermark W says that nothing with a time below W is still to come. What depends on several inputs
may rely only on the least of theirs. Two kinds of input exist: *sources* (folders and feeds, which
come, end, fall silent and go missing on their own) and *partitions* of the topic before (which all
exist from the start and end together). There is no clock here: that a source is silent, ended or
absent is what the reader put on record.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas.envelope import NO_WATERMARK, Header


class Watermarks(msgspec.Struct, array_like=True):
    """The watermarks of all inputs, and `reached`: what they come to. It never falls."""

    marks: dict[str, int] = {}
    ended: set[str] = set()
    reached: int = NO_WATERMARK
    absent: set[str] = set()

    def observe(self, header: Header, rule: WatermarkRule) -> None:
        """Take note of what an envelope says of its source.

        Inputs name each other before their first rows, so that none runs ahead of one not yet
        heard. One that ended, or was absent, and goes on keeps its old mark until it says more.
        """
        for peer in header.peers:
            self.marks.setdefault(peer, NO_WATERMARK)
        if not header.source:
            return
        mark = self.marks.get(header.source, NO_WATERMARK)
        self.marks[header.source] = max(header.watermark, mark)
        for said, sources in ((header.ended, self.ended), (header.absent, self.absent)):
            if said:
                sources.add(header.source)
            else:
                sources.discard(header.source)
        self.reached = max(self.reached, rule(self))

    @property
    def all_ended(self) -> bool:
        """Whether every input there is has said that it has no more for now."""
        return bool(self.marks) and self.ended.issuperset(self.marks)


#: The watermark that all inputs together come to, before it is kept from falling.
WatermarkRule = Callable[[Watermarks], int]


def source_watermark(watermarks: Watermarks) -> int:
    """The least of the sources that are neither ended nor absent; these hold nothing back.

    If there is none, the input is known as far as any source that ended went.
    """
    marks, ended = watermarks.marks, watermarks.ended
    heard = marks.keys() - ended - watermarks.absent
    if heard:
        return min(marks[source] for source in heard)
    return max((marks[source] for source in ended if source in marks), default=NO_WATERMARK)


def partition_watermark(watermarks: Watermarks) -> int:
    """The least of all partitions, ended or not.

    An ended partition still counts: when the input opens again its partitions do so one by one,
    and the first to wake must not run ahead of those that have not yet heard.
    """
    return min(watermarks.marks.values(), default=NO_WATERMARK)
