"""The repeat stage: of each opening of a case, which earlier one of the same matter it repeats.

Openings are partitioned by customer and matter, held until the watermark says that none known
earlier is missing, and go on to their cases' partitions with what they repeat. A late opening may
change what later ones repeat: those are said again. All other events pass through at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import heappush
from itertools import groupby

import msgspec
import pyarrow as pa

from pipelines.core.effects import Effect, RowBuilder, WatermarkUpdate, envelopes
from pipelines.core.service.case_rows import add_row, read_rows
from pipelines.core.service.cases import Deadlines, Happened
from pipelines.core.service.packed import PackedStage
from pipelines.core.stage import RESTATE_WITHIN
from pipelines.core.watermarks import source_watermark
from schemas import topics
from schemas.fields import TIME_END
from schemas.service.rules import ServiceRules
from schemas.topics import partition_of_key


def matter_key(event: Happened) -> str | None:
    """Whose matter an opening is about; None if nothing can be a repeat of it."""
    detail = event.detail
    if not detail.get("customer_id"):
        return None
    return "\0".join((detail["kind"], detail["customer_id"], detail.get("about") or ""))


def repeats(openings: list[tuple[str, Happened]], deadlines: Deadlines) -> list[str]:
    """What each opening of one matter repeats, given with their cases in order; '' for nothing.

    It is the newest earlier case, if the kind's time is not over. A case counts as it was opened
    first.
    """
    found: list[str] = []
    first: dict[str, Happened] = {}
    for case_id, event in openings:
        kind = deadlines.rules.kinds.get(event.detail["kind"])
        others = [name for name in first if name != case_id]
        repeat_of = ""
        if others and kind is not None and kind.repeat_within is not None:
            until = deadlines.due(kind, kind.repeat_within, first[others[-1]].at)
            repeat_of = others[-1] if until is None or until >= event.at else ""
        found.append(repeat_of)
        first.setdefault(case_id, event)
    return found


class _Opening(msgspec.Struct, array_like=True):
    """An opening, and what it was said to repeat (None: nothing was said yet)."""

    case_id: str
    event: Happened
    repeat_of: str | None = None

    @property
    def order(self) -> tuple[int, str]:
        return self.event.at, self.event.event_id


class _Matter(msgspec.Struct, array_like=True):
    """The openings about one matter, and the rules by which was said what they repeat."""

    rules: str = ""
    openings: list[_Opening] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Matter).decode


class RepeatStage(PackedStage):
    """One partition of case-events."""

    watermark_rule = staticmethod(source_watermark)
    prefix = b"m/"

    def __init__(
        self,
        partition: int,
        partitions: int,
        rules: Callable[[], ServiceRules],
        restate_within: int = RESTATE_WITHIN,
    ) -> None:
        super().__init__("repeats", partition, partitions, rules, restate_within)
        self._passing: list[tuple[str, Happened]] = []

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind != "case_events":
            return
        for case_id, event in read_rows(rows):
            key = matter_key(event) if event.type == "case_opened" else None
            if key is None:
                self._passing.append((case_id, event))
                continue
            if event.known_at < self._parts.done_until(key):
                continue
            packed = self._parts.get(key)
            matter = _decode(packed) if packed is not None else _Matter()
            if any(one.event.event_id == event.event_id for one in matter.openings):
                continue
            known_at = max(event.known_at, self.watermarks.reached)
            event = msgspec.structs.replace(event, known_at=known_at)  # noqa: PLW2901
            matter.openings.append(_Opening(case_id, event))
            self._parts.put(key, _encode(matter))
            self._dirty.add(key)
            heappush(self._due, (known_at, key))

    def advance(self) -> list[Effect]:
        """Say what the openings repeat that the watermark has passed, and pass on all else."""
        before = self.emitted
        self._begin()
        passing, self._passing = self._passing, []
        update = self._update(force=bool(passing or self._other_rules))
        if update is None and passing:  # before any source was heard of
            update = WatermarkUpdate(self.name, before, False, self.peers)
        if update is None:
            return []
        rows: dict[int, RowBuilder] = defaultdict(lambda: RowBuilder("case_events"))
        for case_id, event in passing:
            add_row(rows[partition_of_key(case_id, self.partitions)], case_id, event)
        for key, packed in self._due_before(update.watermark):
            for case_id, event in self._matter(key, _decode(packed), update.watermark):
                add_row(rows[partition_of_key(case_id, self.partitions)], case_id, event)
        effects: list[Effect] = []
        for target in range(self.partitions):
            effects += envelopes(topics.CASES, target, rows.get(target), update, before)
        return effects

    def _matter(self, key: str, matter: _Matter, watermark: int) -> Iterator[tuple[str, Happened]]:
        """The openings of a matter that are new, or repeat another than was said."""
        rules = self._deadlines.rules.fingerprint
        openings = sorted(matter.openings, key=lambda one: one.event.known_at)
        known = [one for one in openings if one.repeat_of is not None]
        due = [one for one in openings if one.repeat_of is None]
        due = [one for one in due if one.event.known_at < watermark]
        for known_at, some in groupby(due, key=lambda one: one.event.known_at):
            known = sorted([*known, *some], key=lambda one: one.order)
            yield from self._restated(known, known_at)
        if matter.rules != rules and not due:
            # What other rules say counts at once, as the last of what is known already.
            yield from self._restated(sorted(known, key=lambda one: one.order), watermark - 1)
        kept = [one for one in openings if self._matters_until(one.event) >= watermark]
        if kept:
            self._parts.put(key, _encode(_Matter(rules, kept)))
        else:
            self._parts.forget(key, watermark)
        self._dirty.add(key)

    def _restated(self, known: list[_Opening], known_at: int) -> Iterator[tuple[str, Happened]]:
        said = repeats([(one.case_id, one.event) for one in known], self._deadlines)
        for one, repeat_of in zip(known, said, strict=True):
            if repeat_of != one.repeat_of:
                one.repeat_of = repeat_of
                detail = {**one.event.detail, "repeat_of": repeat_of}
                event = msgspec.structs.replace(one.event, known_at=known_at, detail=detail)
                yield one.case_id, event

    def _matters_until(self, event: Happened) -> int:
        """Until when an opening may still matter to one that comes late."""
        kind = self._deadlines.rules.kinds.get(event.detail["kind"])
        ends = event.at
        if kind is not None and kind.repeat_within is not None:
            ends = self._deadlines.due(kind, kind.repeat_within, event.at) or TIME_END
        return max(ends, event.known_at) + self._restate_within

    def _waits(self, packed: bytes) -> tuple[str | None, list[int]]:
        matter = _decode(packed)
        times = [one.event.known_at for one in matter.openings if one.repeat_of is None]
        return (matter.rules if matter.openings else None), times
