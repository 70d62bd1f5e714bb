"""One partition of stock-incidents: whom to notify of its wholesalers' stock-outs, and when.

`deliver` is one step of it: what was sent since the last one, what follows now, what to publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import pyarrow as pa

from alerts.delivery.log_receipts import LogReceipts
from alerts.delivery.outbox import Outbox
from alerts.lifecycle.grouping import AlertGroup, Change
from alerts.lifecycle.lifecycle import Steps, advance, defer, note_id
from alerts.lifecycle.state import WholesalerState, decode, encode, hear, hold
from alerts.policy.rules import PHONE, AlertRules
from alerts.policy.schedule import PolicySchedule
from pipelines.core.effects import Effect, RowBuilder, WatermarkUpdate, envelopes
from pipelines.core.stage import Stage
from pipelines.core.watchdog import WATCHDOG
from pipelines.core.watermarks import partition_watermark
from schemas import topics
from schemas.alert_events import AlertEvent
from schemas.answers import PolicyRecord, answers_of, policies_of
from schemas.envelope import NO_WATERMARK
from schemas.messages import MessageRecord

#: The key of the policies in the state table, and what the stage calls that part of its state.
_POLICIES: Final = b"policies"
_POLICIES_PART: Final = "\0policies"

#: Begins the key of a wholesaler's entry in the state table.
_WHOLESALER: Final = b"w/"

#: Begins the key of a wholesaler's receipts in the state table; they are written by themselves, as
#: each message is sent.
RECEIPTS: Final = b"receipts/"


class WholesalerStage(Stage[str]):
    """Takes openings, closings, answers and policies, and hands out the messages that are due.

    With `policy_awaited` the policy is the log's, whatever that of `rules` says.
    """

    watermark_rule = staticmethod(partition_watermark)

    def __init__(
        self,
        partition: int,
        partitions: int,
        rules: AlertRules,
        receipts: LogReceipts | None = None,
        *,
        policy_awaited: bool = False,
    ) -> None:
        super().__init__("wholesalers", partition, partitions)
        self._policies = PolicySchedule(rules, awaited=policy_awaited)
        self._plain = rules.by(None, group_wait=0)
        self._policy_events: list[AlertEvent] = []
        self._receipts = receipts
        self.wholesalers: dict[str, WholesalerState] = {}
        self._unsent: list[AlertGroup] | None = None
        self._changed: list[AlertGroup] = []
        self._published = NO_WATERMARK
        self._held_back: WatermarkUpdate | None = None

    def _hold(self, kind: str, rows: pa.RecordBatch) -> None:
        if kind == "incidents":
            for row in rows.to_pylist():
                change = Change(**row)
                if hold(self._state(change.wholesaler_id), change):
                    self._dirty.add(change.wholesaler_id)
        elif kind == "answers":
            # They count at this place of the partition, whenever it is read.
            place = max(self.watermarks.reached, self._policies.since)
            for answer in answers_of(rows):
                if hear(self._state(answer.wholesaler_id), answer, place):
                    self._dirty.add(answer.wholesaler_id)
        elif kind == "policies":
            for record in policies_of(rows):
                if self._policies.knows(record):
                    continue
                self._dirty.add(_POLICIES_PART)
                if self._policies.take(record, self.watermarks.reached):
                    self._policy_events.append(_policy_event(record))

    def _state(self, wholesaler_id: str) -> WholesalerState:
        return self.wholesalers.setdefault(wholesaler_id, WholesalerState(wholesaler_id))

    @property
    def rules(self) -> AlertRules:
        """What holds now."""
        return self._policies.rules

    def advance(self, now: int) -> tuple[Steps, WatermarkUpdate | None]:
        """What follows, and the update that holds once it is dealt with (None: nothing new).

        `now` is wall time in ms, see `lifecycle.advance`.
        """
        steps = Steps([], self._policy_events if self.partition == 0 else [])
        changed, self._policy_events = bool(self._policy_events), []
        answered = any(state.answers for state in self.wholesalers.values())
        if not self._policies.eras:
            return steps, None
        if (update := self._update(force=answered or changed)) is None:
            return steps, None
        for wholesaler_id, state in sorted(self.wholesalers.items()):
            for found in self._decide(state, update.watermark, update.ended, now):
                state.pending.update({group.message_id: group for group in found.groups})
                self._withdraw(state, found.events)
                steps.groups.extend(found.groups)
                if self._unsent is not None:
                    self._unsent.extend(found.groups)
                if wholesaler_id != WATCHDOG:  # It is nobody's, and on nobody's record.
                    steps.events.extend(found.events)
                self._dirty.add(wholesaler_id)
        return steps, update

    def _decide(
        self, state: WholesalerState, watermark: int, final: bool, now: int
    ) -> Iterator[Steps]:
        """Decide all that a watermark allows, each part by the policy that held."""
        if state.wholesaler_id == WATCHDOG:  # No policy holds up what must come through.
            if not state.idle(watermark, self._plain.fingerprint):
                yield advance(state, watermark, self._plain, final=final, now=now)
            return
        if state.policy_since < self._policies.since:
            rules = self._policies.of(state.policy_since)
            for era in self._policies.after(state.policy_since):
                ahead = era.since > watermark
                if ahead and not final:
                    break
                # What is answered after the policy came counts by it.
                later = [heard for heard in state.answers if heard.at >= era.since]
                state.answers = state.answers[: len(state.answers) - len(later)]
                until = min(era.since, watermark)
                if state.alerts or not state.idle(until, rules.fingerprint):
                    yield advance(state, until, rules, final=final and ahead, now=now)
                state.answers += later
                state.policy_since, rules = era.since, era.rules
        rules = self._policies.of(state.policy_since)
        if not state.idle(watermark, rules.fingerprint):
            yield advance(state, watermark, rules, final=final, now=now)

    @property
    def busy(self) -> bool:
        """Whether something waits for the policy, or was decided and is not yet sent or given up.

        What it processed last is not acknowledged meanwhile.
        """
        return not self._policies.eras or any(s.pending for s in self.wholesalers.values())

    def take_unsent(self) -> list[AlertGroup]:
        """The decided groups that were not handed out yet, each once in the life of a stage."""
        unsent, self._unsent = self._unsent, []
        if unsent is None:  # the first call since the state was restored
            pending = (g for s in self.wholesalers.values() for g in s.pending.values())
            unsent = sorted(pending, key=lambda group: group.due_at)
        return unsent

    def take_changed(self) -> list[AlertGroup]:
        """The groups that lost stock-outs since they were decided."""
        changed, self._changed = self._changed, []
        return changed

    def _withdraw(self, state: WholesalerState, events: Iterable[AlertEvent]) -> None:
        """Take stock-outs that never were out of messages that still wait to be sent.

        On a live feed only: what waits at a moment is a matter of wall time, and the messages of
        replayed files shall not be.
        """
        gone = {e.incident_id for e in events if e.kind == "withdrawn"}.difference(state.alerts)
        if not gone or not self.rules.wall:
            return
        for name, group in state.pending.items():
            hit = gone.intersection(i.incident_id for i in group.incidents)
            if hit and group.kind != "resolved":
                withdrawn = tuple(sorted(hit.union(group.withdrawn)))
                state.pending[name] = msgspec.structs.replace(group, withdrawn=withdrawn)
                self._changed.append(state.pending[name])

    def settle(self, group: AlertGroup, records: Iterable[MessageRecord], now: int) -> None:
        """A group was sent or given up (at `now`, wall ms): answers will name its records."""
        state = self._state(group.wholesaler_id)
        state.pending.pop(group.message_id, None)
        self._dirty.add(group.wholesaler_id)
        for record in records:
            if record.status == "stale":
                defer(state, record.incident_ids, self.rules, now)
            else:
                note_id(state, record.message_id, record.incident_ids, PHONE)

    def publish(self, update: WatermarkUpdate | None) -> tuple[int, WatermarkUpdate | None]:
        """The watermark published so far, and the update to publish now (None: none).

        An update says that the messages before it are all there: it waits for those on their way.
        """
        before, held = self._published, update or self._held_back
        if held is None or self.busy:
            self._held_back = held
            return before, None
        self._held_back, self._published = None, held.watermark
        return before, held

    def _entries(self, part: str) -> Iterator[tuple[bytes, bytes]]:
        if part == _POLICIES_PART:
            yield _POLICIES, self._policies.encode()
            return
        yield _WHOLESALER + part.encode(), encode(self.wholesalers[part])

    def _restore(self, key: bytes, value: bytes) -> None:
        if key.startswith(RECEIPTS):
            if self._receipts is not None:
                self._receipts.restore(key.removeprefix(RECEIPTS).decode(), value)
        elif key == _POLICIES:
            self._policies.restore(value)
        else:
            self.wholesalers[key.removeprefix(_WHOLESALER).decode()] = decode(value)


def _policy_event(record: PolicyRecord) -> AlertEvent:
    """A new policy, or one that cannot be used, as a row of alert_news."""
    detail = {"name": record.name} | ({"error": record.error} if record.error else {})
    return AlertEvent(
        incident_id="",
        wholesaler_id="",
        at=record.at,
        kind="policy_refused" if record.error else "policy_changed",
        message_id="",
        detail=msgspec.json.encode(detail).decode(),
        by="policy",
        slot=f"policy/{record.record_id}",
    )


def deliver(stage: WholesalerStage, outbox: Outbox, now: int) -> list[Effect]:
    """One step: take up what was sent since the last one, decide, begin to send, and publish.

    It waits for no message. What was decided is in the stage's state before its input is
    acknowledged, and is sent beside that: by this worker, or by whoever has the partition next.
    """
    messages, events = RowBuilder("messages"), RowBuilder("alert_events")
    found: list[AlertEvent] = []
    for outcome in outbox.outcomes(stage):
        if outcome.settled:
            stage.settle(outcome.group, outcome.sent.records, now)
        for record in outcome.sent.records:
            messages.add(**msgspec.structs.asdict(record))
        found += outcome.sent.events
    steps, update = stage.advance(now)
    outbox.start(stage, stage.take_unsent())
    outbox.restart(stage, stage.take_changed())
    for event in steps.events + found:
        events.add(**msgspec.structs.asdict(event))
    before, update = stage.publish(update)
    early = WatermarkUpdate(stage.name, before, False, stage.peers)
    effects: list[Effect] = []
    for rows in (events, messages):
        if len(rows):
            effects += envelopes(topics.SMS_MESSAGES, stage.partition, rows, early, before)
    if update is not None:
        effects += envelopes(topics.SMS_MESSAGES, stage.partition, None, update, before)
    return effects
