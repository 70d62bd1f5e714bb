"""What providers and phones say, turned into news: each thing once, and nothing lost.

A reply is written down first, then told on (`post`), then marked as told. Whoever sent it hears
"done" only after that, and repeats it otherwise; what is repeated finds its entry and is told on
as it was understood the first time. How requests travel, and who may make them, is elsewhere.
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
from alerts.message.phones import masked, usable
from alerts.senders.port import NumberRefused, SendLater
from alerts.senders.twilio_errors import failed
from schemas.answers import Answer
from schemas.errors import BrokerError

log = logging.getLogger(__name__)

#: Tells news on; returns when they are safe. Raises `BrokerError`.
Post = Callable[[Sequence[Answer]], Awaitable[None]]

#: More answers than this to one message are somebody's game.
MOST_ANSWERS: Final = 50

HELP: Final = {
    "en": "Reply 1: got it. 15:00: on the way by 15:00. 2: cannot deliver. STOP: no messages.",
    "zh": "回复1表示收到，15:00表示15点前送到，2表示送不了，退订则不再接收。",
}

#: What a provider calls a reply that it has dealt with, and answered, itself.
_DEALT_WITH: Final = {"STOP": Reply("stop"), "START": Reply("start"), "HELP": UNCLEAR}

_OPTED_OUT: Final = {STOPPED, "21610"}


class TooManyAnswers(Exception):
    """A message was answered more often than anybody has reason to."""


class Intake:
    """Takes statuses, replies and answers of one data directory.

    `owners` tells the wholesaler of numbers (E.164) to which nothing was sent yet. Raises
    `BrokerError` when news could not be told on (they are kept, and the caller should ask for a
    repetition), OSError and `InputError` when the disk fails.
    """

    def __init__(
        self,
        sent: Sent,
        inbox: Inbox,
        numbers: RefusedNumbers,
        post: Post,
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
        self._post = post
        self._owners = owners or {}

    async def status(
        self, provider_id: str, status: str, code: int | None, to: str, message_id: str = ""
    ) -> None:
        """The provider tells what became of a message; `message_id` is ours, where it knows it."""
        message = self.sent.message(message_id) or self.sent.of_provider(provider_id)
        if status not in STATUSES or message is None:
            log.info("a status %s of a message that is not ours: %s", status, provider_id)
            return
        key, now = f"{provider_id}/{status}", self.clock.now()
        reason = self._learn(key, status, code, usable(to) or message.to, now)
        detail = {"status": status, "provider_id": provider_id}
        if code is not None:
            detail |= {"code": str(code), "reason": reason}
        news = _news(key, now, message, "status", detail, "provider")
        known = self.inbox.get(key)
        try:
            await self._post([news] if known is None else known.news)
        except BrokerError:
            # The provider repeats itself a few times only.
            self.inbox.put(Heard(key, now, "", message.message_id, None, "", (news,)))
            raise
        if known is not None:
            self.inbox.told(key)

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

    async def reply(self, key: str, sender: str, text: str, dealt_with: str = "") -> str:
        """A text from a phone; what to say back, '' for nothing.

        `key` is the provider's name for it; `dealt_with` is STOP, START or HELP if the provider
        understood it so.
        """
        heard = self.inbox.get(key) or self.inbox.put(self._heard(key, sender, text, dealt_with))
        if heard.answer is not None and heard.answer.kind == "stop":
            reason = "its owner asked for no more messages"
            self.numbers.remember(RefusedNumber(heard.number, STOPPED, reason, heard.at, key))
        elif heard.answer is not None and heard.answer.kind == "start":
            self.numbers.forget(heard.number, heard.at, key)
        await self._tell(heard)
        return heard.reply

    def _heard(self, key: str, sender: str, text: str, dealt_with: str) -> Heard:
        number, now = usable(sender) or sender, self.clock.now()
        message = self.sent.latest_to(number)
        refused = self.numbers.get(number)
        stopped = refused is not None and refused.code in _OPTED_OUT
        answer = _DEALT_WITH.get(dealt_with) or read(text, now=now, zone=self.zone, stopped=stopped)
        news: tuple[Answer, ...] = ()
        reply = ""
        if answer.kind in ("stop", "start"):
            owner = message.wholesaler_id if message else self._owners.get(number, "")
            if owner:
                about = message or SentMessage("", owner, number, "", "", now, ())
                news = (_news(key, now, about, answer.kind, {"to": masked(number)}, "sms"),)
        elif message is None:
            log.info("a reply from %s, to whom nothing was sent", masked(number))
        elif answer.kind == "unclear":
            if not dealt_with and not stopped and not self.inbox.helped(number, message.message_id):
                reply = HELP.get(message.language, HELP["en"])
        else:
            news = (_news(key, now, message, answer.kind, self._detail(answer, text), "sms"),)
        name = message.message_id if message is not None else ""
        return Heard(key, now, number, name, answer, reply, news)

    async def answer(self, message: SentMessage, answer: Reply) -> None:
        """An answer given on the page; the same one given again is one answer.

        Raises `TooManyAnswers`.
        """
        count, last = self.inbox.answers_to(message.message_id)
        if answer == last:
            await self.tell_untold()
            return
        if count >= MOST_ANSWERS:
            raise TooManyAnswers
        key, now = f"page/{message.message_id}/{count + 1}", self.clock.now()
        news = _news(key, now, message, answer.kind, self._detail(answer, ""), "page")
        await self._tell(
            self.inbox.put(Heard(key, now, "", message.message_id, answer, "", (news,)))
        )

    async def tell_untold(self) -> int:
        """Tell on what could not be told before, in its order; how many entries that were."""
        waiting = self.inbox.untold()
        for heard in waiting:
            await self._tell(heard)
        return len(waiting)

    async def _tell(self, heard: Heard) -> None:
        if heard.news:
            await self._post(heard.news)
            self.inbox.told(heard.key)

    def _detail(self, answer: Reply, text: str) -> dict[str, object]:
        detail: dict[str, object] = {}
        if answer.by is not None:
            by = datetime.fromtimestamp(answer.by / 1_000, self.zone)
            detail["by"] = answer.by
            detail["by_local"] = by.isoformat(timespec="minutes")
        if text:
            detail["text"] = " ".join(text.split())[:160]
        return detail


def _news(
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
