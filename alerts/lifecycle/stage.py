"""One partition of stock-incidents: what is to be said of its wholesalers' stock-outs, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import pyarrow as pa

from alerts.lifecycle.grouping import Change
from alerts.lifecycle.lifecycle import Steps, advance, note_id
from alerts.lifecycle.state import WholesalerState, decode, encode, hear, hold
from alerts.policy.rules import PHONE, AlertRules
from pipelines.core.effects import WatermarkUpdate
from pipelines.core.watermarks import Watermarks, partition_watermark
from schemas.answers import answers_of
from schemas.envelope import Header
from schemas.messages import MessageRecord


class WholesalerStage:
    """Takes openings, closings and answers, and hands out the messages that are due.

    It is a stage in the sense of `pipelines.stream.stateful`: state is written after what follows
    from it, and doing a step again gives the same messages with the same ids.
    """

    _WATERMARKS = b"watermarks"

    def __init__(self, partition: int, partitions: int, rules: AlertRules) -> None:
        self.name = f"wholesalers/{partition}"
        self.peers = tuple(f"wholesalers/{p}" for p in range(partitions))
        self.partition = partition
        self.rules = rules
        self.watermarks = Watermarks()
        self.wholesalers: dict[str, WholesalerState] = {}
        self._dirty: set[str] = set()
        self._last_emitted: tuple[int, bool] | None = None

    def process(self, header: Header, rows: pa.RecordBatch | None, now: int) -> None:
        """Hold the changes and answers of an envelope; `now` is wall time in ms."""
        if rows is not None and header.kind == "incidents":
            for row in rows.to_pylist():
                change = Change(**row)
                if hold(self._state(change.wholesaler_id), change):
                    self._dirty.add(change.wholesaler_id)
        elif rows is not None and header.kind == "answers":
            # They count at this place of the partition, whenever it is read.
            watermark, _ = partition_watermark(self.watermarks)
            for answer in answers_of(rows):
                if hear(self._state(answer.wholesaler_id), answer, watermark):
                    self._dirty.add(answer.wholesaler_id)
        self.watermarks.observe(header, now)

    def _state(self, wholesaler_id: str) -> WholesalerState:
        return self.wholesalers.setdefault(wholesaler_id, WholesalerState(wholesaler_id))

    def advance(self, now: int) -> tuple[Steps, WatermarkUpdate | None]:
        """What follows by now, and the update that holds once it is dealt with (None: nothing)."""
        watermark, ended = partition_watermark(self.watermarks)
        answered = any(state.answers for state in self.wholesalers.values())
        if not self.watermarks.marks or ((watermark, ended) == self._last_emitted and not answered):
            return Steps([], []), None
        steps = Steps([], [])
        for wholesaler_id, state in sorted(self.wholesalers.items()):
            if not state.idle(watermark, self.rules.fingerprint):
                groups, events = advance(state, watermark, self.rules, final=ended, now=now)
                steps.groups.extend(groups)
                steps.events.extend(events)
                self._dirty.add(wholesaler_id)
        self.watermarks.reached = watermark
        self._last_emitted = (watermark, ended)
        return steps, WatermarkUpdate(self.name, watermark, ended, self.peers)

    def note_sent(self, records: Iterable[MessageRecord]) -> None:
        """Note what went out: answers will name it."""
        for record in records:
            note_id(
                self._state(record.wholesaler_id), record.message_id, record.incident_ids, PHONE
            )

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        """Entries to write to the state table, in this order; none is handed out twice."""
        if not self._dirty and self._last_emitted is None:
            return
        for wholesaler_id in sorted(self._dirty):
            yield b"w/" + wholesaler_id.encode(), encode(self.wholesalers[wholesaler_id])
        self._dirty.clear()
        yield self._WATERMARKS, msgspec.msgpack.encode(self.watermarks)

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back one entry that `snapshot` handed out."""
        if key == self._WATERMARKS:
            self.watermarks = msgspec.msgpack.decode(value, type=Watermarks)
        else:
            self.wholesalers[key.removeprefix(b"w/").decode()] = decode(value)
