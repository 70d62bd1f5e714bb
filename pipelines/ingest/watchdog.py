"""The watchdog's beats, as a reader makes them: a card comes to its outlet and leaves it."""

from __future__ import annotations

from pipelines.core.effects import Effect, RowBuilder
from pipelines.core.stock.placement import PlacementType
from pipelines.core.watchdog import CARDS, FIRST_ICCID, FIRST_IMSI, WATCHDOG
from pipelines.ingest.source_clock import SourceClock
from schemas import topics
from schemas.envelope import Header
from schemas.topics import block_of, partition_of_block


class Watchdog:
    """Beats at each whole multiple of `every` (ms), the same in all readers; `now` is ms."""

    def __init__(self, every: int, now: int, partitions: int) -> None:
        self._every = every
        self._partitions = partitions
        self._last = now // every

    def beat(self, source: str, clock: SourceClock, now: int) -> list[Effect]:
        """The stock-out that is due, if one is; `clock` is that of the source it comes from.

        Those missed while no reader ran are left out: nothing of then can be said now.
        """
        number = (now - 1) // self._every
        at = number * self._every
        if number <= self._last or clock.watermark > at:
            return []
        self._last = number
        clock.newest = at + 1
        rows = RowBuilder("placements")
        for kind, when in ((PlacementType.DELIVERY, at), (PlacementType.RETURN, at + 1)):
            rows.add(
                event_id=f"{WATCHDOG}/{number}/{kind.name.lower()}",
                at=when,
                known_at=when,
                type=int(kind),
                outlet_id=WATCHDOG,
                to_outlet_id="",
                first_imsi=FIRST_IMSI + number % CARDS,
                count=1,
            )
        partition = partition_of_block(block_of(FIRST_IMSI), self._partitions)
        header = Header("placements", source, clock.watermark)
        return [Effect(topics.SIM_EVENTS, partition, header, rows.batch())]

    def cards(self) -> list[Effect]:
        """That the cards are ours, for all partitions: to be sent before the first beat."""
        rows = RowBuilder("sim_ranges")
        rows.add(
            range_start=FIRST_IMSI,
            sims=CARDS,
            sku=WATCHDOG,
            first_iccid=FIRST_ICCID,
            luhn=False,
        )
        return [
            Effect(topics.SIM_EVENTS, partition, Header("sim_ranges"), rows.batch())
            for partition in range(self._partitions)
        ]
