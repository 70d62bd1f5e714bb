"""Which message of a partition comes next, whatever Faust delivers.

Around a rebalance Faust delivers messages out of turn: those already fetched, or already in an
agent's hand, from before it sought back to the committed offset; and those it sought back to a
second time. Counting from the committed offset sorts them out: nothing is skipped, and what was
done is acknowledged again but not done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum

import faust
from aiokafka import TopicPartition
from faust.types import TP, Message

from pipelines.stream.metrics import LOST
from schemas.errors import BrokerError, LostState

log = logging.getLogger(__name__)

#: How long (s) what came out of turn may take to come again.
PATIENCE = 15.0


class Turn(Enum):
    """What to do with a message."""

    NEXT = "do it"
    SEEN = "acknowledge it again"
    OUT_OF_ORDER = "forget it: it will be delivered again when its turn comes"


class Offsets:
    """The next offset of each partition since it was assigned.

    `reached` says up to which offset the state of a partition is true (-1 if there is none), and
    in which topic it is kept.
    """

    def __init__(
        self, app: faust.App, reached: Callable[[int], tuple[int, str]] | None = None
    ) -> None:
        self._app = app
        self._reached = reached
        self._next: dict[TP, int] = {}
        self._generation: int | None = None
        self._astray: dict[TP, float] = {}

    @property
    def overdue(self) -> bool:
        """Whether a message that came out of turn was not delivered again within a few seconds."""
        now = time.monotonic()
        return any(now - since > PATIENCE for since in self._astray.values())

    async def turn(self, message: Message) -> Turn:
        """Whether it is a message's turn.

        Raises `BrokerError` if messages between it and the one before were never delivered, or the
        topic is another than it was; `LostState` if the state does not cover what was committed, or
        covers more than there is.
        """
        generation = self._app.consumer_generation_id
        if generation != self._generation:
            self._next.clear()
            self._astray.clear()
            self._generation = generation
        if message.generation_id != generation:
            return Turn.OUT_OF_ORDER
        expected = self._next.get(message.tp)
        if expected is None:
            expected = await self._beginning(message.tp)
            if message.offset > expected or generation != self._app.consumer_generation_id:
                self._astray.setdefault(message.tp, time.monotonic())
                return Turn.OUT_OF_ORDER
            self._astray.pop(message.tp, None)
        if message.offset < expected:
            await self._refuse_if_made_anew(message.tp, expected)
        if message.offset > expected:
            raise BrokerError(
                f"{message.topic}/{message.partition}: offsets {expected} to {message.offset - 1}"
                " were not delivered"
            )
        self._next[message.tp] = max(expected, message.offset + 1)
        return Turn.NEXT if message.offset == expected else Turn.SEEN

    async def _beginning(self, tp: TP) -> int:
        """Where the group's work on a partition goes on: the committed offset, if it still is.

        What Kafka has deleted meanwhile is lost. To stop would lose more, so the work goes on
        behind the gap, and says so.
        """
        thread = self._app.consumer._thread
        part = TopicPartition(tp.topic, tp.partition)
        committed = await thread.call_thread(thread._ensure_consumer().committed, part)
        earliest = (await self._app.consumer.earliest_offsets(tp))[tp]
        expected, earliest = max(committed or 0, 0), earliest or 0
        if self._reached is not None:
            reached, kept = self._reached(tp.partition)
            if expected > reached + 1:
                raise LostState(
                    f"{tp.topic}/{tp.partition} is committed up to offset {expected - 1:,}, but the"
                    f" state in {kept} reaches only {reached:,}: entries of it were lost; stop the"
                    " workers, run `zerostock rebuild`, then start them again"
                )
            await self._refuse_if_made_anew(tp, reached + 1)
        await self._refuse_if_made_anew(tp, expected)
        if earliest > expected:
            log.critical(
                "%s/%d: Kafka has deleted offsets %d to %d, which were never read;"
                " going on behind them: reconcile, and keep topics for longer",
                *(tp.topic, tp.partition, expected, earliest - 1),
            )
            LOST.labels(tp.topic).inc(earliest - expected)
        return max(expected, earliest)

    async def _refuse_if_made_anew(self, tp: TP, expected: int) -> None:
        """Stop if a log ends before what was read of it: it was deleted and begun anew.

        Its first messages would else be taken for some that were seen. What the warehouse has is
        right all the same, so without state the work begins anew, at the next start.
        """
        consumer = self._app.consumer
        # The end as the last fetch had it; asked for, the embedded broker reports it too low.
        if (consumer.highwater(tp) or 0) >= expected:
            return
        end = (await consumer.highwaters(tp))[tp] or 0
        if end >= expected:
            return
        what = (
            f"{tp.topic}/{tp.partition} was read up to offset {expected - 1:,} and ends at"
            f" {end - 1:,}: the topic was deleted and made anew"
        )
        if self._reached is not None:
            raise LostState(
                f"{what}; stop the workers, run `zerostock rebuild`, then start them again"
            )
        thread = consumer._thread
        beginning = {TopicPartition(tp.topic, tp.partition): 0}
        await thread.call_thread(thread._ensure_consumer().commit, beginning)
        raise BrokerError(f"{what}; the next start reads it from its beginning")
