"""Watermarks: how far in event time the input is known, and who still holds it back.

A watermark W promises that nothing with a time below W is still to come. What depends on several
inputs may rely only on the least of their promises. Two kinds of input exist: *sources* (folders
and feeds, which come, end and fall silent on their own) and *partitions* of the topic before
(which all exist from the start and end together).
"""

from __future__ import annotations

import msgspec

from schemas.envelope import NO_WATERMARK, Header


class Watermarks(msgspec.Struct, array_like=True):
    """The promises of all inputs, and `reached`: the watermark acted on so far; it never falls.

    `heard` (wall ms of each input's last word) serves only to notice silence. It is not worth
    keeping across a restart, which starts everybody's silence afresh.
    """

    marks: dict[str, int] = {}
    ended: set[str] = set()
    reached: int = NO_WATERMARK
    heard: dict[str, int] = {}

    def observe(self, header: Header, now: int) -> None:
        """Take note of what an envelope promises; `now` is wall time in ms.

        Inputs name each other before their first rows, so that none runs ahead of one not yet
        heard. One that ended and goes on keeps its old mark until it promises more.
        """
        for peer in header.peers:
            self.marks.setdefault(peer, NO_WATERMARK)
            self.heard.setdefault(peer, now)
        if not header.source:
            return
        self.marks[header.source] = max(
            header.watermark, self.marks.get(header.source, NO_WATERMARK)
        )
        self.heard[header.source] = now
        if header.ended:
            self.ended.add(header.source)
        else:
            self.ended.discard(header.source)

    @property
    def all_ended(self) -> bool:
        """Whether every input there is has said that it has no more for now."""
        return bool(self.marks) and self.ended.issuperset(self.marks)


def source_watermark(
    watermarks: Watermarks, *, now: int | None = None, idle_after: int = 0, disorder: int = 0
) -> tuple[int, bool]:
    """The least promise of the sources that can still speak, and whether all have ended.

    A source that has ended holds nothing back. With `now` (the wall clock, ms) neither does one
    silent for `idle_after` ms; when all are silent, time itself is the promise: what is older than
    the longer of `idle_after` and `disorder` would have come.
    """
    if not watermarks.marks:
        return watermarks.reached, False
    open_sources = watermarks.marks.keys() - watermarks.ended
    if not open_sources:
        return max(watermarks.reached, *watermarks.marks.values()), True
    if now is not None:
        awake = {s for s in open_sources if now - watermarks.heard.get(s, now) < idle_after}
        if not awake:
            return max(watermarks.reached, now - max(idle_after, disorder)), False
        open_sources = awake
    return max(watermarks.reached, min(watermarks.marks[s] for s in open_sources)), False


def partition_watermark(watermarks: Watermarks) -> tuple[int, bool]:
    """The least promise of all partitions, ended or not, and whether all have ended.

    An ended partition still counts: when the input opens again its partitions do so one by one,
    and the first to wake must not run ahead of those that have not yet heard.
    """
    if not watermarks.marks:
        return watermarks.reached, False
    return max(watermarks.reached, min(watermarks.marks.values())), watermarks.all_ended
