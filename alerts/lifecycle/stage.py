"""One partition of stock-incidents: what is to be said of its wholesalers' stock-outs, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from alerts.lifecycle.grouping import Change
from alerts.lifecycle.lifecycle import Steps, advance, note_id
from alerts.lifecycle.state import WholesalerState, decode, encode, hear, hold
from alerts.policy.rules import PHONE, AlertRules
from pipelines.core.effects import WatermarkUpdate
from pipelines.core.stage import Stage
from pipelines.core.watermarks import partition_watermark
from schemas.answers import answers_of
from schemas.messages import MessageRecord

#: Begins the key of a wholesaler's entry in the state table.
_WHOLESALER = b"w/"


class WholesalerStage(Stage[str]):
    """Takes openings, closings and answers, and hands out the messages that are due."""

    watermark_rule = staticmethod(partition_watermark)

    def __init__(self, partition: int, partitions: int, rules: AlertRules) -> None:
        super().__init__("wholesalers", partition, partitions)
        self.rules = rules
        self.wholesalers: dict[str, WholesalerState] = {}

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind == "incidents":
            for row in rows.to_pylist():
                change = Change(**row)
                if hold(self._state(change.wholesaler_id), change):
                    self._dirty.add(change.wholesaler_id)
        elif kind == "answers":
            # They count at this place of the partition, whenever it is read.
            for answer in answers_of(rows):
                if hear(self._state(answer.wholesaler_id), answer, self.watermarks.reached):
                    self._dirty.add(answer.wholesaler_id)

    def _state(self, wholesaler_id: str) -> WholesalerState:
        return self.wholesalers.setdefault(wholesaler_id, WholesalerState(wholesaler_id))

    def advance(self, now: int) -> tuple[Steps, WatermarkUpdate | None]:
        """What follows, and the update that holds once it is dealt with (None: nothing new).

        `now` is wall time in ms, see `lifecycle.advance`.
        """
        steps = Steps([], [])
        answered = any(state.answers for state in self.wholesalers.values())
        if (update := self._update(force=answered)) is None:
            return steps, None
        for wholesaler_id, state in sorted(self.wholesalers.items()):
            if not state.idle(update.watermark, self.rules.fingerprint):
                found = advance(state, update.watermark, self.rules, final=update.ended, now=now)
                steps.groups.extend(found.groups)
                steps.events.extend(found.events)
                self._dirty.add(wholesaler_id)
        return steps, update

    def note_sent(self, records: Iterable[MessageRecord]) -> None:
        """Note what went out: answers will name it."""
        for record in records:
            note_id(
                self._state(record.wholesaler_id), record.message_id, record.incident_ids, PHONE
            )

    def _entries(self, part: str) -> Iterator[tuple[bytes, bytes]]:
        yield _WHOLESALER + part.encode(), encode(self.wholesalers[part])

    def _restore(self, key: bytes, value: bytes) -> None:
        self.wholesalers[key.removeprefix(_WHOLESALER).decode()] = decode(value)
