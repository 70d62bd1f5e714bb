"""Parts of a stage's state as bytes, by name, and how they are forgotten without being missed.

A death between two writes of state leaves some parts new and the watermarks old, and the log is
read again from there. A part that was forgotten in that moment would come to life in pieces. So it
leaves a mark first, which says up to when everything about it is done; the mark goes once it was
written together with watermarks that have passed it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from heapq import heapify, heappop
from typing import ClassVar

from pipelines.core.service.cases import Deadlines
from pipelines.core.stage import Stage
from schemas.envelope import NO_WATERMARK
from schemas.service.rules import ServiceRules

_MARKED = b"\0"  # begins no msgpack array
_MARK = 9  # bytes of a mark


class PackedParts:
    """The parts, and the marks (ms) of those forgotten."""

    def __init__(self) -> None:
        self._parts: dict[str, bytes] = {}
        self._marks: dict[str, int] = {}
        self._written: set[str] = set()
        self._restored: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def get(self, name: str) -> bytes | None:
        """The part, if there is one."""
        return self._parts.get(name)

    def put(self, name: str, part: bytes) -> None:
        """Replace a part."""
        self._parts[name] = part

    def forget(self, name: str, at: int) -> None:
        """Drop a part about which everything known before `at` is done."""
        self._parts.pop(name, None)
        self._marks[name] = at

    def done_until(self, name: str) -> int:
        """What was known before this (ms) about a part that was forgotten is an echo."""
        return self._marks.get(name, NO_WATERMARK)

    def settle(self, reached: int) -> set[str]:
        """Drop the marks that are written for good; the parts to be written again.

        To be called once between two snapshots, with the watermark reached.
        """
        changed, self._written = self._written, set()
        for name in changed:
            self._marks.pop(name, None)
        passed = {name for name in self._restored if self._marks.get(name, reached) <= reached}
        self._restored -= passed
        return changed | passed

    def entry(self, name: str) -> bytes:
        """What to write of a part: its mark, if it has one, and itself; b'' for nothing."""
        part = self._parts.get(name, b"")
        if name in self._marks:
            self._written.add(name)
            return _MARKED + self._marks[name].to_bytes(_MARK - 1, signed=True) + part
        return part

    def restore(self, name: str, value: bytes) -> bytes | None:
        """Take back an entry; the part that it has."""
        self._parts.pop(name, None)
        self._marks.pop(name, None)
        if value[:1] == _MARKED:
            self._marks[name] = int.from_bytes(value[1:_MARK], signed=True)
            self._restored.add(name)
            value = value[_MARK:]
        if value:
            self._parts[name] = value
        return value or None


class PackedStage(Stage[str]):
    """A stage whose state is packed parts; `rules` gives the rules as they are now.

    What it says of a part is said by rules, and is looked at again when these become others.
    """

    #: Begins the keys of the state table.
    prefix: ClassVar[bytes]

    def __init__(
        self,
        kind: str,
        partition: int,
        partitions: int,
        rules: Callable[[], ServiceRules],
        restate_within: int,
    ) -> None:
        super().__init__(kind, partition, partitions)
        self._rules = rules
        self._deadlines = Deadlines(rules())
        self._restate_within = restate_within
        self._parts = PackedParts()
        #: When to look at a part again, and those to look at whatever the time.
        self._due: list[tuple[int, str]] = []
        self._other_rules: set[str] = set()

    @abstractmethod
    def _waits(self, packed: bytes) -> tuple[str | None, list[int]]:
        """By whose fingerprint of rules a part was said (None: not yet), and when it is due."""

    def _begin(self) -> None:
        """What an advance begins with: forget what is done, and take the rules as they are now."""
        self._dirty |= self._parts.settle(self.watermarks.reached)
        if (rules := self._rules()) is not self._deadlines.rules:
            self._deadlines = Deadlines(rules)
            self._other_rules = set(self._parts)

    def _due_before(self, watermark: int) -> Iterator[tuple[str, bytes]]:
        """The parts to look at now, in order."""
        due, self._other_rules = self._other_rules, set()
        while self._due and self._due[0][0] < watermark:
            due.add(heappop(self._due)[1])
        for name in sorted(due):
            if (packed := self._parts.get(name)) is not None:
                yield name, packed

    def _entries(self, part: str) -> Iterator[tuple[bytes, bytes]]:
        yield self.prefix + part.encode(), self._parts.entry(part)

    def _restore(self, key: bytes, value: bytes) -> None:
        name = key.removeprefix(self.prefix).decode()
        packed = self._parts.restore(name, value)
        rules, times = self._waits(packed) if packed is not None else (None, [])
        if rules not in (None, self._deadlines.rules.fingerprint):
            self._other_rules.add(name)
        else:
            self._other_rules.discard(name)
        self._due += [(at, name) for at in times]
        heapify(self._due)
