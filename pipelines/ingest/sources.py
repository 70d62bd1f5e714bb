"""What is on record of all sources, this reader's and others', and what follows from it.

The reader alone looks at a clock. What it concludes from it is a watermark, an absence or a
retirement, each of which goes onto the topic as a record, so that everything behind is a function
of the log. Nothing here sends anything.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping
from typing import Literal

import msgspec

from pipelines.ingest.reading.files import SourceFile
from pipelines.ingest.source_clock import Disorder, SourceClock
from schemas.envelope import NO_WATERMARK

Status = Literal["open", "ended", "absent", "retired"]


class SourceState(msgspec.Struct, frozen=True):
    """A source as its reader recorded it.

    `watermark` never falls. `reader` is who reads it, `seen` its clock (ms) at that time. Of an
    ended source there is no more for now; an absent one has a reader that is down; a retired one
    is gone. None of these holds anything back. `longest` is the longest call (ms) of a source whose
    rows come in the order of their ends, 0 of others.
    """

    watermark: int = NO_WATERMARK
    status: Status = "open"
    reader: str = ""
    seen: int = 0
    disorder: int = 0
    measured: Disorder = msgspec.field(default_factory=Disorder)
    longest: int = 0


class Source:
    """One folder, file after file; knows what was read and reads on from there.

    `found_at` is when (reader's clock, ms) anything new was found in it last, `idle_after` how long
    (ms) it must be looked at in vain to be silent. `down_since` is when (ms) it was found that it
    cannot be read, None while it can; `absent` says that it was put on record so.
    """

    def __init__(
        self, name: str, disorder: int, idle_after: int, found_at: int, by_end: bool = False
    ) -> None:
        self.name = name
        self.clock = SourceClock(disorder, by_end=by_end)
        self.idle_after = idle_after
        self.files: list[SourceFile] = []
        self.found_at = found_at
        self.down_since: int | None = None
        self.absent = False

    def silent_mark(self, now: int) -> int | None:
        """The watermark that follows from looking in vain for long enough, if it is a new one."""
        if now - self.found_at < self.idle_after:
            return None
        mark = now - max(self.idle_after, self.clock.disorder) - self.clock.longest
        return mark if mark > self.clock.watermark else None


class SourceRecords:
    """The states of all sources; durations in ms, `now` is the reader's clock, ms.

    `reader` names this reader, the same after a restart.
    """

    def __init__(self, reader: str, absent_after: int) -> None:
        self.reader = reader
        self._absent_after = absent_after
        self.states: dict[str, SourceState] = {}
        self._heard: dict[str, int] = {}

    def update(self, states: Mapping[str, SourceState], now: int) -> None:
        """Take note of what is on record by now; a record that changed has a live reader.

        What this reader wrote itself it knows better than the log, which answers with a delay.
        """
        for name, state in states.items():
            known = self.states.get(name)
            if known is None or (known != state and state.reader != self.reader):
                self.states[name] = state
                self._heard[name] = now

    def resume(self, source: Source) -> None:
        """Go on from a source's watermark on record, and from what was measured of it."""
        state = self.states.get(source.name)
        if state is not None:
            source.clock.floor = max(source.clock.floor, state.watermark)
            source.clock.measured = copy.deepcopy(state.measured)
            source.clock.longest = state.longest if source.clock.by_end else 0

    def record(self, source: Source, status: Status, now: int) -> SourceState:
        """The state to put on record for a source of this reader; no absent one is open."""
        clock = source.clock
        if source.absent and status == "open":
            status = "absent"
        state = SourceState(
            *(clock.watermark, status, self.reader, now),
            *(clock.disorder, clock.measured, clock.longest),
        )
        self.states[source.name] = state
        return state

    def lacks(self, source: Source) -> bool:
        """Whether a longer call was seen than is on record."""
        state = self.states.get(source.name)
        return source.clock.longest > (0 if state is None else state.longest)

    def is_absent(self, name: str) -> bool:
        """Whether a source is on record as absent."""
        state = self.states.get(name)
        return state is not None and state.status == "absent"

    def left_behind(self, own: Container[str]) -> list[str]:
        """Open sources that an earlier run of this reader had and this one has not."""
        return [
            name
            for name, state in self.states.items()
            if name not in own and state.status == "open" and state.reader == self.reader
        ]

    def left(self, own: Container[str]) -> list[tuple[str, str]]:
        """The sources of others that are on record as absent, and why."""
        return [
            (name, f"its reader {state.reader} is down")
            for name, state in sorted(self.states.items())
            if state.status == "absent" and name not in own and state.reader != self.reader
        ]

    def absentees(self, own: Container[str], now: int) -> Iterable[tuple[str, SourceState]]:
        """Open sources of others of which nothing was heard for too long, as absent ones."""
        for name, state in self.states.items():
            if name in own or state.status != "open" or state.reader == self.reader:
                continue
            if now - self._heard[name] >= self._absent_after:
                yield name, msgspec.structs.replace(state, status="absent")
