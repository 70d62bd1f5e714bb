"""The skeleton of the three stages of the stream: what they all do with envelopes and state.

A stage is one partition's share of the arithmetic. It has four verbs (`StatefulAgent` adds a fifth,
`reset`: it drops all stages, and the log and the state are read again):

- `process` holds what an envelope says and emits nothing;
- `advance` decides all that the watermark allows, and says what follows;
- `snapshot` hands out the state that changed, and `restore` takes it back.

Everything a stage holds and decides is a function of the part of its log that it has processed,
never of a clock or of when `advance` was called. So a stage that goes on from an older state, in
other steps, says again what was said, and then what would have been.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import msgspec
import pyarrow as pa

from pipelines.core.effects import WatermarkUpdate
from pipelines.core.watermarks import WatermarkRule, Watermarks
from schemas.envelope import NO_WATERMARK, Header

#: How late an event may come and still change history in its place, ms: a setting's default.
RESTATE_WITHIN = 35 * 86_400_000

#: The key under which a stage keeps its watermarks.
WATERMARKS_KEY = b"watermarks"


#: What a stage calls the parts of its state that it writes one by one.
Part = TypeVar("Part", int, str)


class Stage(ABC, Generic[Part]):
    """One partition of a stage; `name` is the source of the envelopes that it emits."""

    #: The watermark that all inputs together come to.
    watermark_rule: WatermarkRule

    def __init__(self, kind: str, partition: int, partitions: int) -> None:
        self.name = f"{kind}/{partition}"
        self.peers = tuple(f"{kind}/{p}" for p in range(partitions))
        self.partition = partition
        self.partitions = partitions
        self.watermarks = Watermarks()
        self._dirty: set[Part] = set()
        self._last_emitted: tuple[int, bool] | None = None

    def process(self, header: Header, rows: pa.RecordBatch | None) -> None:
        """Hold the rows of an envelope, at the watermark of all before it, then move that on.

        Emits nothing. Rows of a kind that the stage does not know are passed over.
        """
        if rows is not None:
            self._hold(header.kind, rows)
        self.watermarks.observe(header, self.watermark_rule)

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        """Entries to write to the state table, in this order; none is handed out twice.

        The watermarks come last: a torn write never has them ahead of the facts.
        """
        if not self._dirty and self._last_emitted is None:
            return
        for part in sorted(self._dirty):
            yield from self._entries(part)
        self._dirty.clear()
        yield WATERMARKS_KEY, msgspec.msgpack.encode(self.watermarks)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one entry that `snapshot` handed out; the newest of each key must come last."""
        if key == WATERMARKS_KEY:
            self.watermarks = msgspec.msgpack.decode(value, type=Watermarks)
        else:
            self._restore(key, value)

    @property
    def emitted(self) -> int:
        """The watermark emitted last, `NO_WATERMARK` before any."""
        return NO_WATERMARK if self._last_emitted is None else self._last_emitted[0]

    def _update(self, force: bool = False) -> WatermarkUpdate | None:
        """What to emit with this step; None if that was emitted, unless `force`d."""
        latest = self.watermarks.reached, self.watermarks.all_ended
        if not self.watermarks.marks or (latest == self._last_emitted and not force):
            return None
        self._last_emitted = latest
        return WatermarkUpdate(self.name, *latest, self.peers)

    @abstractmethod
    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        """Keep rows until their time; `watermarks.reached` is that of all envelopes before."""

    @abstractmethod
    def _entries(self, part: Part) -> Iterable[tuple[bytes, bytes]]:
        """The state of a part that is `_dirty`, in the order in which to write it."""

    @abstractmethod
    def _restore(self, key: bytes, value: bytes) -> None:
        """Take back an entry of `_entries`."""
