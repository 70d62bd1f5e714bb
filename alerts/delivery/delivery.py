"""One message on its way: never missing, and never again once its success was recorded.

In this order, so that a death between any two steps can be made good by the next run:

1. A record of success ends it; it is asked for right before each try.
2. An attempt without a record is in doubt: the provider is asked whether it took the message.
3. The attempt is recorded, then the message sent.
4. Success is recorded.

What can be tried again is, with growing pauses, for as long as the message is of use. What nobody
can know for sure is looked up until it is known. Another route is tried only after those before it
surely did not take the message: one that cannot say so keeps it. Which routes there are is
`alerts.delivery.routes`', how many tries are under way at a time `alerts.delivery.turns`'; who gets
which message is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
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
from alerts.delivery.receipts import Attempt, Receipts
from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from alerts.delivery.routes import Route, Routes
from alerts.delivery.turns import Turns
from alerts.senders.port import NumberRefused, Sender, SendLater, SendThrottled
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError
from schemas.masking import masked
from schemas.messages import Message, MessageRecord, Receipt, Status

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Patience(msgspec.Struct, frozen=True):
    """How delivery waits, in seconds.

    Tries are `first` to `longest` apart, doubling, at random within that. A message in doubt is
    taken as not accepted when it cannot be found at any of the `look_ups` after it was sent: the
    provider may still be at work when our patience with its answer has ended, and lists lag. A
    phone out of reach is tried `calls` times, and so is a route that does not say whether it took a
    message.
    """

    first: float = 0.5
    longest: float = 60.0
    look_ups: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0)
    calls: int = 4
    between_calls: float = 300.0


class MessageDelivery:
    """Delivers messages by its routes; a sender alone is one route for everything.

    `stale_after` (ms; None: never) is how old the newest incident of a message may be when it goes
    out. Raises `SettingsError` when the only route can never pass a message; other errors become
    records.
    """

    def __init__(
        self,
        routes: Routes | Sender,
        receipts: Receipts,
        *,
        numbers: RefusedNumbers | None = None,
        clock: Clock | None = None,
        patience: Patience | None = None,
        stale_after: int | None = None,
    ) -> None:
        self.routes = routes if isinstance(routes, Routes) else Routes([Route(routes)])
        self.receipts = receipts
        self.numbers = numbers or RefusedNumbers()
        self.clock = clock or WallClock()
        self.patience = patience or Patience()
        self.stale_after = stale_after
        self.turns = {r.name: Turns(self.clock, rate=r.rate) for r in self.routes.all}
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
            route = self.routes.named(attempt.route)
            if route is None:
                log.error(
                    "message %s was tried by route %r, which there is no more: nobody can say "
                    "whether it was taken",
                    message_id,
                    attempt.route,
                )
                continue
            receipt = await self._look_up(route, attempt)
            if receipt is not None:
                return await self._accepted(attempt.message, route, receipt, 1, "")
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
            sending = _Sending(msgspec.structs.replace(message, to=to), self._holder(message, to))
            try:
                passed = await self._persist(partial(self._try, sending), sending.message)
            except SendRefused as error:
                notes.append(f"{masked(to)} refused: {error}")
                if isinstance(error, NumberRefused):
                    now = self.clock.now()
                    self.numbers.remember(RefusedNumber(to, error.code, str(error), now))
            except _SentElsewhereError as sent:
                await self.receipts.put(sent.record)
                return sent.record
            except _TooOldError as error:
                return self.record(message, "stale", str(error), attempts + sending.tries)
            except SendError as error:
                status = "failed"
                notes.append(f"{masked(to)}: gave up after {sending.tries} tries: {error}")
            else:
                notes += sending.refused.values()
                return await self._accepted(*passed, attempts + sending.tries, "; ".join(notes))
            attempts += sending.tries
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

    def _holder(self, message: Message, to: str) -> Route | None:
        """The route that may have taken a message in an earlier life, and cannot say so."""
        for attempt in self.receipts.attempts(message.message_id):
            route = self.routes.named(attempt.route)
            if attempt.message.to == to and route is not None and not route.sender.finds:
                return route
        return None

    async def _accepted(
        self, message: Message, route: Route, receipt: Receipt, attempts: int, note: str
    ) -> MessageRecord:
        name = route.qualified(receipt.provider_id)
        receipt = Receipt(name, receipt.segments)
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

    async def _try(self, sending: _Sending) -> tuple[Message, Route, Receipt]:
        """Try the routes that a message may take, one after the other, until one takes it."""
        message = sending.message
        newest = max((incident.opened_at for incident in message.incidents), default=0)
        if self.too_old(max(newest, message.fresh_since)):
            raise _TooOldError("older than the time after which messages are of no use")
        failure: SendError | None = None
        routes = self._choice(sending)
        for route in routes:
            try:
                return await self._try_route(sending, route, wait=route is routes[-1])
            except (NumberRefused, SendLater):
                raise
            except SendRefused as error:
                # This way it never will be accepted; by another it may.
                sending.refused[route.name] = _by(route, error)
            except SendError as error:
                failure = error
        if failure is not None:
            raise failure
        refused = "; ".join(sending.refused.values()) or "no route takes it"
        # Others may only have been waiting.
        raise SendError(refused) if self._choice(sending) else SendRefused(refused)

    def _choice(self, sending: _Sending) -> list[Route]:
        """Whom to try now: whoever fails at the moment only if all do."""
        if sending.holder is not None:
            return [sending.holder]
        message = sending.message
        routes = self.routes.of(message.to, message.language)
        routes = [route for route in routes if route.name not in sending.refused]
        return [r for r in routes if self.turns[r.name].ready(message.to)] or routes[:1]

    async def _try_route(
        self, sending: _Sending, route: Route, *, wait: bool
    ) -> tuple[Message, Route, Receipt]:
        message = route.signed(sending.message)
        attempt: Attempt | None = None
        try:
            async with self.turns[route.name].turn(message.to, wait=wait):
                if (record := self.receipts.get(message.message_id)) is not None:
                    raise _SentElsewhereError(record)
                if route.sender.remote:
                    attempt = Attempt(message, self.clock.now(), route.name)
                    await self.receipts.attempt(attempt)
                elif (receipt := await route.sender.find(message, 0)) is not None:
                    return message, route, receipt
                sending.tries += 1
                return message, route, await self._send(route, message)
        except SendUncertain as error:
            if attempt is None:
                raise
            receipt = await self._look_up(route, attempt)
            if receipt is not None:
                return message, route, receipt
            if not route.sender.finds:
                # It may be on the phone already: seldom again, and not for ever.
                sending.holder = route
                raise SendLater(f"{error}; whether it was taken cannot be found out") from error
            await self.receipts.failed(attempt)
            raise SendError(f"{error}; it was not accepted") from error
        except SendError:
            if attempt is not None:
                await self.receipts.failed(attempt)
            raise

    async def _send(self, route: Route, message: Message) -> Receipt:
        try:
            return await route.sender.send(message)
        except SettingsError as error:
            if len(self.routes.all) == 1:
                raise
            log.error("route %s: %s", route.name, error)  # noqa: TRY400  # one line says it all
            raise SendError(str(error)) from error

    async def _look_up(self, route: Route, attempt: Attempt) -> Receipt | None:
        """Whether a message in doubt was accepted; None only when that is as good as certain."""
        message = attempt.message
        for pause in self.patience.look_ups if route.sender.remote else (0.0,):
            await self.clock.sleep(pause)
            receipt = await self._persist(partial(self._find, route, attempt), message)
            if receipt is not None:
                log.info("message %s had been accepted after all", message.message_id)
                return receipt
        return None

    async def _find(self, route: Route, attempt: Attempt) -> Receipt | None:
        async with self.turns[route.name].place():
            return await route.sender.find(attempt.message, attempt.at)

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
class _Sending:
    """One message to one number, however many tries that takes.

    `holder` is the route that may have taken it and cannot say so; `refused` has what routes said
    that never will take it.
    """

    message: Message
    holder: Route | None = None
    refused: dict[str, str] = field(default_factory=dict)
    tries: int = 0


def _by(route: Route, error: SendError) -> str:
    return f"{route.name}: {error}" if route.name else str(error)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, SendError) and not isinstance(error, SendRefused)
