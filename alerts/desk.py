"""One partition of stock-incidents: what each wholesaler's next message will say, and when."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pyarrow as pa

from alerts.grouping import Change, Group, WholesalerState, advance, decode, encode, hold
from pipelines.core.effects import Promise
from pipelines.core.frontier import Frontier, partition_watermark
from schemas.envelope import Header


class DeskSide:
    """Takes openings and closings, and hands out the groups that are due.

    It is a side in the sense of `pipelines.stream.keeper`: state is written after what follows
    from it, and doing a step again gives the same groups with the same ids.
    """

    _FRONTIER = b"frontier"

    def __init__(self, partition: int, partitions: int, group_wait: int) -> None:
        self.name = f"desks/{partition}"
        self.peers = tuple(f"desks/{p}" for p in range(partitions))
        self.partition = partition
        self.group_wait = group_wait
        self.frontier = Frontier()
        self.wholesalers: dict[str, WholesalerState] = {}
        self._dirty: set[str] = set()
        self._told: tuple[int, bool] | None = None

    def take(self, header: Header, rows: pa.RecordBatch | None, now: int) -> None:
        """Hold the changes of an envelope; `now` is wall time in ms."""
        if rows is not None and header.kind == "incidents":
            for row in rows.to_pylist():
                change = Change(**row)
                if hold(self._state(change.wholesaler_id), change):
                    self._dirty.add(change.wholesaler_id)
        self.frontier.observe(header, now)

    def _state(self, wholesaler_id: str) -> WholesalerState:
        return self.wholesalers.setdefault(wholesaler_id, WholesalerState(wholesaler_id))

    def advance(self, now: int) -> tuple[list[Group], Promise | None]:
        """The groups that are due, and the promise that holds once they are dealt with."""
        del now
        watermark, ended = partition_watermark(self.frontier)
        if (watermark, ended) == self._told or not self.frontier.marks:
            return [], None
        groups: list[Group] = []
        for wholesaler_id, state in sorted(self.wholesalers.items()):
            if not state.idle:
                groups += advance(state, watermark, self.group_wait, final=ended)
                self._dirty.add(wholesaler_id)
        self.frontier.reached = watermark
        self._told = (watermark, ended)
        return groups, Promise(self.name, watermark, ended, self.peers)

    def changes(self) -> Iterator[tuple[bytes, bytes]]:
        """Entries to write to the state table, in this order; none is handed out twice."""
        if not self._dirty and self._told is None:
            return
        for wholesaler_id in sorted(self._dirty):
            yield b"w/" + wholesaler_id.encode(), encode(self.wholesalers[wholesaler_id])
        self._dirty.clear()
        yield self._FRONTIER, msgspec.msgpack.encode(self.frontier)

    def load(self, key: bytes, value: bytes) -> None:
        """Take back one entry that `changes` handed out."""
        if key == self._FRONTIER:
            self.frontier = msgspec.msgpack.decode(value, type=Frontier)
        else:
            self.wholesalers[key.removeprefix(b"w/").decode()] = decode(value)
