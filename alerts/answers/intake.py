"""What providers and phones say, turned into answers: each once, and nothing lost.

A reply is written to disk, then published, then marked as forwarded. Its sender is told "done" only
after that, and repeats it otherwise; a repeated one finds its entry and is published with the
meaning it had the first time. How requests travel, and who may make them, is elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Final

import msgspec

from alerts.answers.inbox import Heard, Inbox
from alerts.answers.reading import UNCLEAR, Reply, read
from alerts.answers.sent import Sent, SentMessage
from alerts.answers.statuses import LOST, STATUSES
from alerts.delivery.clock import Clock, WallClock
from alerts.delivery.refused_numbers import STOPPED, RefusedNumber, RefusedNumbers
from alerts.message.phones import usable
from alerts.senders.port import NumberRefused, SendLater
from alerts.senders.twilio_errors import failed
from schemas.answers import Answer
from schemas.errors import BrokerError
from schemas.masking import masked

log = logging.getLogger(__name__)

#: Publishes answers; returns when they are safe. Raises `BrokerError`.
Publish = Callable[[Sequence[Answer]], Awaitable[None]]

#: More answers than this to one message are somebody's game.
MOST_ANSWERS: Final = 50

HELP: Final = {
    "en": "Reply 1: got it. 15:00: on the way by 15:00. 2: cannot deliver. STOP: no messages.",
    "zh": "回复1表示收到，15:00表示15点前送到，2表示送不了，退订则不再接收。",
}

#: What a provider calls a reply that it has handled, and answered, itself.
_HANDLED: Final = {"STOP": Reply("stop"), "START": Reply("start"), "HELP": UNCLEAR}

_OPTED_OUT: Final = {STOPPED, "21610"}


class TooManyAnswers(Exception):
    """A message was answered more often than anybody has reason to."""


class Intake:
    """Takes statuses, replies and answers of one data directory.

    `owners` has the wholesaler of numbers (E.164) to which nothing was sent yet. Raises
    `BrokerError` when an answer could not be published (it is kept, and the caller should ask for a
    repetition), OSError and `InputError` when the disk fails.
    """

    def __init__(
        self,
        sent: Sent,
        inbox: Inbox,
        numbers: RefusedNumbers,
        publish: Publish,
        *,
        zone: tzinfo,
        owners: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.sent = sent
        self.inbox = inbox
        self.numbers = numbers
        self.zone = zone
        self.clock = clock or WallClock()
        self._publish = publish
        self._owners = owners or {}

    async def status(
        self, provider_id: str, status: str, code: int | None, to: str, message_id: str = ""
    ) -> None:
        """The provider reports the status of a message; `message_id` is ours, where it knows it."""
        message = self.sent.message(message_id) or self.sent.of_provider(provider_id)
        if status not in STATUSES or message is None:
            log.info("a status %s of a message that is not ours: %s", status, provider_id)
            return
        key, now = f"{provider_id}/{status}", self.clock.now()
        reason = self._learn(key, status, code, usable(to) or message.to, now)
        detail = {"status": status, "provider_id": provider_id}
        if code is not None:
            detail |= {"code": str(code), "reason": reason}
        row = _answer(key, now, message, "status", detail, "provider")
        known = self.inbox.get(key)
        try:
            await self._publish([row] if known is None else known.rows)
        except BrokerError:
            # The provider repeats itself a few times only.
            self.inbox.put(Heard(key, now, "", message.message_id, None, "", (row,)))
            raise
        if known is not None:
            self.inbox.forwarded(key)

    def _learn(self, cause: str, status: str, code: int | None, to: str, now: int) -> str:
        """Remember what a status says about a number; why the message was lost, in words."""
        if status in ("delivered", "read"):
            self.numbers.reached(to, now, cause)
        error = failed(code) if status in LOST else None
        if isinstance(error, NumberRefused | SendLater):
            blocked = isinstance(error, NumberRefused)
            if self.numbers.get(to) is None:
                refused = RefusedNumber(to, str(code), str(error), now, cause, blocked)
                self.numbers.remember(refused)
        return str(error) if error is not None else ""

    async def reply(self, key: str, sender: str, text: str, handled_as: str = "") -> str:
        """A text from a phone; what to say back, '' for nothing.

        `key` is the provider's id of it; `handled_as` is STOP, START or HELP if the provider
        understood it so.
        """
        heard = self.inbox.get(key) or self.inbox.put(self._heard(key, sender, text, handled_as))
        if heard.answer is not None and heard.answer.kind == "stop":
            reason = "its owner asked for no more messages"
            self.numbers.remember(RefusedNumber(heard.number, STOPPED, reason, heard.at, key))
        elif heard.answer is not None and heard.answer.kind == "start":
            self.numbers.forget(heard.number, heard.at, key)
        await self._forward(heard)
        return heard.reply

    def _heard(self, key: str, sender: str, text: str, handled_as: str) -> Heard:
        number, now = usable(sender) or sender, self.clock.now()
        message = self.sent.latest_to(number)
        refused = self.numbers.get(number)
        stopped = refused is not None and refused.code in _OPTED_OUT
        answer = _HANDLED.get(handled_as) or read(text, now=now, zone=self.zone, stopped=stopped)
        rows: tuple[Answer, ...] = ()
        reply = ""
        if answer.kind in ("stop", "start"):
            owner = message.wholesaler_id if message else self._owners.get(number, "")
            if owner:
                about = message or SentMessage("", owner, number, "", "", now, ())
                rows = (_answer(key, now, about, answer.kind, {"to": masked(number)}, "sms"),)
        elif message is None:
            log.info("a reply from %s, to whom nothing was sent", masked(number))
        elif answer.kind == "unclear":
            if not handled_as and not stopped and not self.inbox.helped(number, message.message_id):
                reply = HELP.get(message.language, HELP["en"])
        else:
            rows = (_answer(key, now, message, answer.kind, self._detail(answer, text), "sms"),)
        name = message.message_id if message is not None else ""
        return Heard(key, now, number, name, answer, reply, rows)

    async def answer(self, message: SentMessage, answer: Reply) -> None:
        """An answer given on the page; the same one given again is one answer.

        Raises `TooManyAnswers`.
        """
        count, last = self.inbox.answers_to(message.message_id)
        if answer == last:
            await self.forward_pending()
            return
        if count >= MOST_ANSWERS:
            raise TooManyAnswers
        key, now = f"page/{message.message_id}/{count + 1}", self.clock.now()
        row = _answer(key, now, message, answer.kind, self._detail(answer, ""), "page")
        await self._forward(
            self.inbox.put(Heard(key, now, "", message.message_id, answer, "", (row,)))
        )

    async def forward_pending(self) -> int:
        """Publish what could not be published before, in order; returns how many entries."""
        waiting = self.inbox.pending()
        for heard in waiting:
            await self._forward(heard)
        return len(waiting)

    async def _forward(self, heard: Heard) -> None:
        if heard.rows:
            await self._publish(heard.rows)
            self.inbox.forwarded(heard.key)

    def _detail(self, answer: Reply, text: str) -> dict[str, object]:
        detail: dict[str, object] = {}
        if answer.by is not None:
            by = datetime.fromtimestamp(answer.by / 1_000, self.zone)
            detail["by"] = answer.by
            detail["by_local"] = by.isoformat(timespec="minutes")
        if text:
            detail["text"] = " ".join(text.split())[:160]
        return detail


def _answer(
    answer_id: str,
    at: int,
    message: SentMessage,
    kind: str,
    detail: Mapping[str, object],
    by: str,
) -> Answer:
    return Answer(
        answer_id=answer_id,
        at=at,
        wholesaler_id=message.wholesaler_id,
        kind=kind,
        message_id=message.message_id,
        incident_id="",
        detail=msgspec.json.encode(detail).decode(),
        by=by,
    )
