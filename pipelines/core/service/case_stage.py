"""The case stage: what becomes of each case, in event time.

Events are held until the watermark says that none known earlier is missing, then the case is
folded anew from all of them. What is said of a case is a function of the events known before the
watermark, of the rules, and of which due times the watermark has passed; the newest of these is the
version of its rows. Cases are kept packed, as bytes: there may be millions.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from itertools import groupby

import msgspec
import pyarrow as pa

from pipelines.core.effects import Effect, RowBuilder, WatermarkUpdate, envelopes
from pipelines.core.service.case_rows import as_line, read_rows
from pipelines.core.service.cases import Folded, Happened, fold
from pipelines.core.service.packed import PackedStage
from pipelines.core.stage import RESTATE_WITHIN
from pipelines.core.watermarks import partition_watermark
from schemas import topics
from schemas.envelope import Header
from schemas.service.rules import ServiceRules

#: Dead letters in an envelope.
_LETTERS = 256


class _Case(msgspec.Struct, array_like=True):
    """A case between two steps of the stage.

    `events` are folded, `held` are not; `said` are the steps that have rows, `refused` the events
    that have dead letters. `wake` is when a step is late, or (`over`) the case can be forgotten.
    """

    events: list[Happened] = []
    held: list[Happened] = []
    said: list[tuple[str, int]] = []
    refused: list[str] = []
    version: int = 0
    wake: int | None = None
    over: bool = False
    rules: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Case).decode


class CaseStage(PackedStage):
    """One partition of cases."""

    watermark_rule = staticmethod(partition_watermark)
    prefix = b"c/"

    def __init__(
        self,
        partition: int,
        partitions: int,
        rules: Callable[[], ServiceRules],
        restate_within: int = RESTATE_WITHIN,
    ) -> None:
        super().__init__("cases", partition, partitions, rules, restate_within)

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind != "case_events":
            return
        for case_id, event in read_rows(rows):
            if event.known_at < self._parts.done_until(case_id):
                continue
            packed = self._parts.get(case_id)
            case = _decode(packed) if packed is not None else _Case()
            known = _newest(case, event.event_id)
            if known is None:
                known_at = max(event.known_at, self.watermarks.reached)
                event = msgspec.structs.replace(event, known_at=known_at)  # noqa: PLW2901
            elif (
                known.detail.get("repeat_of") == event.detail.get("repeat_of")
                or event.known_at < known.known_at
            ):
                continue  # given twice, or the echo of a crash
            case.held.append(event)
            self._parts.put(case_id, _encode(case))
            self._dirty.add(case_id)
            heappush(self._due, (event.known_at, case_id))

    def advance(self) -> list[Effect]:
        """Fold all that the watermark has passed; the envelopes that say so, in order."""
        before = self.emitted
        self._begin()
        waiting = bool(self._due) and self._due[0][0] < self.watermarks.reached
        if (update := self._update(force=waiting or bool(self._other_rules))) is None:
            return []
        cases, steps = RowBuilder("cases"), RowBuilder("case_steps")
        letters = RowBuilder("dead_letters")
        for case_id, packed in self._due_before(update.watermark):
            self._fold(case_id, _decode(packed), update.watermark, cases, steps, letters)
        effects: list[Effect] = []
        for start in range(0, len(letters), _LETTERS):
            some = letters.batch().slice(start, _LETTERS)
            header = Header("dead_letters")
            effects.append(Effect(topics.DEAD_LETTERS, self.partition, header, some))
        early = WatermarkUpdate(self.name, before, False, self.peers)
        if len(steps):
            effects += envelopes(topics.CASE_STATES, self.partition, steps, early, before)
        return effects + envelopes(topics.CASE_STATES, self.partition, cases, update, before)

    def _fold(
        self,
        case_id: str,
        case: _Case,
        watermark: int,
        cases: RowBuilder,
        steps: RowBuilder,
        letters: RowBuilder,
    ) -> None:
        due = sorted((e for e in case.held if e.known_at < watermark), key=lambda e: e.known_at)
        wakes = case.wake is not None and case.wake < watermark
        changed = bool(case.events) and case.rules != self._deadlines.rules.fingerprint
        if not (due or wakes or changed):
            return  # It was due before something happened.
        if any(
            event.type == "case_opened" and event.detail["kind"] not in self._deadlines.rules.kinds
            for event in (*case.events, *due)
        ):
            return  # Its kind is not known yet, or no longer: it stays as it is.
        if case.over and wakes and not due:
            self._parts.forget(case_id, watermark)
            self._dirty.add(case_id)
            return
        case.held = [event for event in case.held if event.known_at >= watermark]
        events = {event.event_id: event for event in case.events}
        # What late events change is refused or taken back at the time they became known.
        late = any(event.at < event.known_at for event in due)
        result: Folded | None = None
        for _, some in groupby(due, key=lambda event: event.known_at if late else 0):
            events.update((event.event_id, event) for event in some)
            result = fold(case_id, events.values(), self._deadlines, watermark)
            self._refuse(case_id, case, events, result.refused, letters)
        if result is None:
            result = fold(case_id, events.values(), self._deadlines, watermark)
            self._refuse(case_id, case, events, result.refused, letters)
        case.events = sorted(events.values(), key=lambda event: event.order)
        case.rules = self._deadlines.rules.fingerprint
        self._say(case, result, watermark, cases, steps)
        self._parts.put(case_id, _encode(case))
        self._dirty.add(case_id)
        times = [event.known_at for event in case.held]
        times += [case.wake] if case.wake is not None else []
        if times:
            heappush(self._due, (min(times), case_id))

    def _refuse(
        self,
        case_id: str,
        case: _Case,
        events: dict[str, Happened],
        refused: dict[str, str],
        letters: RowBuilder,
    ) -> None:
        """Dead letters for what is refused now, and back with those that no longer are."""
        for name in [*sorted(refused.keys() - set(case.refused)), *case.refused]:
            if name in case.refused and name in refused:
                continue
            letters.add(
                source=events[name].source,
                position=events[name].position,
                received_at=events[name].known_at,
                reason=refused.get(name, ""),
                payload=as_line(case_id, events[name]),
            )
        case.refused = sorted(refused)

    def _say(
        self,
        case: _Case,
        result: Folded,
        watermark: int,
        cases: RowBuilder,
        steps: RowBuilder,
    ) -> None:
        """Rows of the case and its steps, and when to look at it again."""
        dues = [step.due_at for step in result.steps if step.finished_at is None]
        (next_due,) = dues or [None]
        passed = next_due if next_due is not None and next_due < watermark else 0
        newest = max(event.known_at for event in case.events)
        case.version = max(case.version, newest, passed)
        state = result.case
        if state is None:
            case.wake, case.over = newest + self._restate_within, True
            return
        case.over = state.closed_at is not None
        if state.closed_at is not None:
            kind = self._deadlines.rules.kinds[state.kind]
            repeats = kind.repeat_within.length if kind.repeat_within is not None else 0
            case.wake = max(newest, state.closed_at) + max(self._restate_within, repeats)
        else:
            case.wake = None if passed else next_due
        cases.add(**state._asdict(), version=case.version)
        for step in result.steps:
            steps.add(**step._asdict(), withdrawn=False, version=case.version)
        said = [(step.step, step.n) for step in result.steps]
        for name, n in case.said:
            if (name, n) not in said:
                steps.add(**_never(state.case_id, name, n), withdrawn=True, version=case.version)
        case.said = said

    def _waits(self, packed: bytes) -> tuple[str | None, list[int]]:
        case = _decode(packed)
        times = [event.known_at for event in case.held]
        return case.rules, times + ([case.wake] if case.wake is not None else [])


def _newest(case: _Case, event_id: str) -> Happened | None:
    """The event as it is known last."""
    found = [event for event in (*case.events, *case.held) if event.event_id == event_id]
    return max(reversed(found), key=lambda event: event.known_at, default=None)


def _never(case_id: str, step: str, n: int) -> dict[str, object]:
    """A step that never was begun, as late events show."""
    return {
        "case_id": case_id,
        "step": step,
        "n": n,
        "unit_id": "",
        "started_at": 0,
        "due_at": None,
        "warn_at": None,
        "finished_at": None,
        "paused_s": 0.0,
        "late_s": None,
    }
