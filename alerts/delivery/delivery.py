"""One message on its way: never missing, and never again once its success was recorded.

In this order, so that a death between any two steps can be made good by the next run:

1. A record of success ends it; it is asked for right before each try.
2. An attempt without a record is in doubt: the provider is asked whether it took the message.
3. The attempt is recorded, then the message sent.
4. Success is recorded.

What can be tried again is, with growing pauses, for as long as the message is of use. What nobody
can know for sure is looked up until it is known. How many tries are under way at a time is
`alerts.delivery.routes`'; who gets which message is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_random_exponential,
)

from alerts.delivery.clock import Clock, WallClock
from alerts.delivery.receipts import Receipts
from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from alerts.delivery.routes import Route
from alerts.senders.port import NumberRefused, Sender, SendLater, SendThrottled
from schemas.errors import SendError, SendRefused, SendUncertain
from schemas.masking import masked
from schemas.messages import Message, MessageRecord, Receipt, Status

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Patience(msgspec.Struct, frozen=True):
    """How delivery waits, in seconds.

    Tries are `first` to `longest` apart, doubling, at random within that. A message in doubt is
    taken as not accepted when it cannot be found at any of the `look_ups` after it was sent: the
    provider may still be at work when our patience with its answer has ended, and lists lag. A
    phone out of reach is tried `calls` times.
    """

    first: float = 0.5
    longest: float = 60.0
    look_ups: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0)
    calls: int = 4
    between_calls: float = 300.0


class MessageDelivery:
    """Delivers messages by one sender.

    `stale_after` (ms; None: never) is how old the newest incident of a message may be when it goes
    out. Raises `SettingsError` when no message can ever pass; other errors become records.
    """

    def __init__(
        self,
        sender: Sender,
        receipts: Receipts,
        *,
        numbers: RefusedNumbers | None = None,
        clock: Clock | None = None,
        patience: Patience | None = None,
        stale_after: int | None = None,
    ) -> None:
        self.sender = sender
        self.receipts = receipts
        self.numbers = numbers or RefusedNumbers()
        self.clock = clock or WallClock()
        self.patience = patience or Patience()
        self.stale_after = stale_after
        self._route = Route(self.clock)
        self._version = 0

    def too_old(self, opened_at: int) -> bool:
        """Whether an incident that opened then (ms) is no longer worth a message."""
        return self.stale_after is not None and self.clock.now() - opened_at > self.stale_after

    async def settled(self, message_id: str) -> MessageRecord | None:
        """The record of success, found at the provider if the last run could not write it."""
        record = self.receipts.get(message_id)
        if record is not None:
            await self.receipts.put(record)
            return record
        for attempt in self.receipts.attempts(message_id):
            receipt = await self._look_up(attempt.message, attempt.at)
            if receipt is not None:
                return await self._accepted(attempt.message, receipt, 1, "")
        return None

    async def deliver(self, message: Message, contacts: Sequence[str]) -> MessageRecord:
        """Send a message that is not settled to the first of `contacts` that takes it.

        `contacts` are one or more usable numbers; `message.to` is replaced.
        """
        attempts = 0
        status: Status = "refused"
        notes: list[str] = []
        for to in contacts:
            known = self.numbers.get(to)
            if known is not None:
                notes.append(f"{masked(to)} takes no messages: {known.reason}")
                continue
            attempt = _Attempt(msgspec.structs.replace(message, to=to), self.clock.now())
            try:
                receipt = await self._persist(partial(self._try, attempt), attempt.message)
            except SendRefused as error:
                notes.append(f"{masked(to)} refused: {error}")
                if isinstance(error, NumberRefused):
                    now = self.clock.now()
                    self.numbers.remember(RefusedNumber(to, error.code, str(error), now))
            except _SentElsewhereError as sent:
                await self.receipts.put(sent.record)
                return sent.record
            except _TooOldError as error:
                return self.record(message, "stale", str(error), attempts + attempt.tries)
            except SendError as error:
                status = "failed"
                notes.append(f"{masked(to)}: gave up after {attempt.tries} tries: {error}")
            else:
                return await self._accepted(
                    attempt.message, receipt, attempts + attempt.tries, "; ".join(notes)
                )
            attempts += attempt.tries
        return self.record(message, status, "; ".join(notes), attempts)

    def record(
        self, message: Message, status: Status, error: str, attempts: int = 0
    ) -> MessageRecord:
        """The row for a message that was not sent; said aloud, because nobody else will notice."""
        level = logging.WARNING if status == "stale" else logging.ERROR
        log.log(
            level,
            "message %s for wholesaler %r about %s is %s: %s",
            message.message_id,
            message.wholesaler_id,
            ", ".join(sorted({i.outlet_id for i in message.incidents})),
            status,
            error,
        )
        return self._row(message, status, error, attempts, Receipt("", message.segments))

    async def _accepted(
        self, message: Message, receipt: Receipt, attempts: int, note: str
    ) -> MessageRecord:
        record = self._row(message, "sent", note, attempts, receipt)
        await self.receipts.put(record)
        return record

    def _row(
        self, message: Message, status: Status, error: str, attempts: int, receipt: Receipt
    ) -> MessageRecord:
        self._version = max(self._version + 1, self.clock.now())
        return MessageRecord(
            message.message_id,
            message.wholesaler_id,
            [incident.incident_id for incident in message.incidents],
            message.body,
            receipt.segments,
            message.at,
            status,
            attempts,
            receipt.provider_id,
            error,
            self._version,
        )

    async def _try(self, attempt: _Attempt) -> Receipt:
        message = attempt.message
        newest = max((incident.opened_at for incident in message.incidents), default=0)
        if self.too_old(max(newest, message.fresh_since)):
            raise _TooOldError("older than the time after which messages are of no use")
        try:
            async with self._route.turn(message.to):
                if (record := self.receipts.get(message.message_id)) is not None:
                    raise _SentElsewhereError(record)
                if self.sender.remote:
                    await self.receipts.attempt(message, self.clock.now())
                elif (receipt := await self.sender.find(message, attempt.since)) is not None:
                    return receipt
                attempt.tries += 1
                return await self.sender.send(message)
        except SendUncertain as error:
            receipt = await self._look_up(message, attempt.since)
            if receipt is not None:
                return receipt
            raise SendError(f"{error}; it was not accepted") from error

    async def _look_up(self, message: Message, since: int) -> Receipt | None:
        """Whether a message in doubt was accepted; None only when that is as good as certain."""
        for pause in self.patience.look_ups if self.sender.remote else (0.0,):
            await self.clock.sleep(pause)
            receipt = await self._persist(partial(self._find, message, since), message)
            if receipt is not None:
                log.info("message %s had been accepted after all", message.message_id)
                return receipt
        return None

    async def _find(self, message: Message, since: int) -> Receipt | None:
        async with self._route.place():
            return await self.sender.find(message, since)

    async def _persist(self, act: Callable[[], Awaitable[_T]], message: Message) -> _T:
        """Do something about a message until it works or fails for good."""

        def give_up(state: RetryCallState) -> bool:
            return isinstance(_error(state), SendLater) and (
                state.attempt_number >= self.patience.calls
            )

        exponential = wait_random_exponential(
            multiplier=self.patience.first, max=self.patience.longest
        )

        def pause(state: RetryCallState) -> float:
            error = _error(state)
            if isinstance(error, SendThrottled):
                # A crowd that was told the same second must not come back in the same second.
                return error.retry_after + min(1.0, exponential(state))
            if isinstance(error, SendLater):
                return self.patience.between_calls
            return exponential(state)

        def tell(state: RetryCallState) -> None:
            log.warning(
                "message %s to %s is not through after %d tries: %s; next try in %.1f s",
                message.message_id,
                masked(message.to),
                state.attempt_number,
                _error(state),
                state.next_action.sleep if state.next_action else 0.0,
            )

        retrying = AsyncRetrying(
            retry=retry_if_exception(_worth_another_try),
            stop=give_up,
            wait=pause,
            sleep=self.clock.sleep,
            before_sleep=tell,
            reraise=True,
        )
        return await retrying(act)


class _SentElsewhereError(Exception):
    """Another process has sent the message meanwhile."""

    def __init__(self, record: MessageRecord) -> None:
        super().__init__(record.message_id)
        self.record = record


class _TooOldError(Exception):
    """A message is not worth sending any more."""


@dataclass
class _Attempt:
    """One message to one number, since wall time `since` (ms), however many tries that takes."""

    message: Message
    since: int
    tries: int = 0


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, SendError) and not isinstance(error, SendRefused)
