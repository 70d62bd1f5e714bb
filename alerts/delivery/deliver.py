"""The alerts worker's step: what is due goes out, and rows say what became of it."""

from __future__ import annotations

import msgspec

from alerts.delivery.dispatcher import Dispatcher
from alerts.lifecycle.stage import WholesalerStage
from pipelines.core.effects import Effect, RowBuilder, WatermarkUpdate, envelopes
from pipelines.stream import metrics, trace
from schemas import topics


async def deliver(dispatcher: Dispatcher, stage: WholesalerStage, now: int) -> list[Effect]:
    """Advance a partition's alerts to the wall time `now` (ms) and send what is due.

    The envelopes are for sms-messages; the last of them bears the new watermark.
    """
    before = stage.emitted
    steps, update = stage.advance(now)
    if update is None:
        return []
    outcome = await dispatcher.dispatch(steps.groups)
    stage.note_sent(outcome.records)
    messages, events = RowBuilder("messages"), RowBuilder("alert_events")
    for record in outcome.records:
        messages.add(**msgspec.structs.asdict(record))
    for event in steps.events + outcome.events:
        events.add(**msgspec.structs.asdict(event))
    effects = []
    if len(events):
        early = WatermarkUpdate(update.source, before, False, update.peers)
        effects = envelopes(topics.SMS_MESSAGES, stage.partition, events, early, before)
    effects += envelopes(topics.SMS_MESSAGES, stage.partition, messages, update, before)
    return trace.traced(metrics.count_effects(effects))
