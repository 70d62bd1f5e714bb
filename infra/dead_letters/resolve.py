"""Dead letters that only wanted a row of a reference table: sent on once it is there.

Whoever has the warehouse looks: a run, or the warehouse worker of a real Kafka. Letters are listed
a moment after they were written, so a change of the tables is followed by some more looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from infra.dead_letters.listing import (
    DeadLetterFilter,
    mark_replayed,
    new_name,
    open_dead_letters,
)
from infra.dead_letters.replay import DeadLetter, Recheck, fix_of, place_order, recheck, send
from infra.text import counted
from pipelines.ingest.live_reference import LiveReference
from pipelines.ingest.post import KafkaSink
from pipelines.ingest.reference import LoadedReference, reference_fingerprint
from pipelines.warehouse import Warehouse, migrate, open_warehouse

#: How the reasons begin that a new row of a reference table settles.
_WANTING: Final = ("unknown_outlet", "unknown_wholesaler", "unknown_sim")

#: Looks after a change, and seconds between two: what was refused just before is listed by then.
_LOOKS: Final = 20
LOOK_EVERY: Final = 3.0


def wanting(warehouse: Warehouse) -> list[DeadLetter]:
    """The open dead letters that want a row of a reference table."""
    return [
        dead
        for reason in _WANTING
        for dead in open_dead_letters(warehouse, DeadLetterFilter(reason=reason))
    ]


class Resolver:
    """Resolves what waits for rows that are there, after `changed`; a start is a change too.

    `tables` says what there is now; `live` as in `IngestOptions`. It may be killed anywhere: a
    letter is marked after it was sent, and one that is sent twice changes nothing.
    """

    def __init__(self, tables: LiveReference, partitions: int, *, live: bool) -> None:
        self._tables = tables
        self._partitions = partitions
        self._live = live
        self._tried: set[tuple[str, int, int]] = set()
        self._looks = _LOOKS

    def changed(self) -> None:
        """The tables changed: look at all letters once more."""
        self._tried.clear()
        self._looks = _LOOKS

    async def look(self, warehouse: Warehouse, broker: str, security: Mapping[str, Any]) -> int:
        """Look once, if there is a reason to; how many letters were sent on."""
        if not self._looks:
            return 0
        loaded = self._tables.loaded
        found = await asyncio.to_thread(self._find, warehouse, loaded)
        if found.accepted:
            name = new_name()
            async with KafkaSink(broker, security, None) as post:
                await send(name, found.effects, post)
            fix = reference_fingerprint(self._tables.folder)
            await asyncio.to_thread(mark_replayed, warehouse, found.accepted, name, fix)
        self._looks -= 1
        return len(found.accepted)

    def _find(self, warehouse: Warehouse, loaded: LoadedReference) -> Recheck:
        letters = [d for d in wanting(warehouse) if _key(d) not in self._tried]
        # All of them speak of events, whose lines say by themselves what they are.
        folder = self._tables.folder.parent
        found = recheck(letters, folder, None, self._partitions, self._live, tables=loaded)
        self._tried |= {_key(dead) for dead, _ in found.refused}
        return found


def order_resolved(data: Path, input: Path, *, partitions: int, live: bool) -> int:
    """Leave for the next run of a data directory what its tables settle now; how many letters.

    Nobody may have the warehouse open.
    """
    warehouse = open_warehouse(data=data)
    try:
        migrate(warehouse)
        found = recheck(wanting(warehouse), input, None, partitions, live)
        if found.accepted:
            name = new_name()
            place_order(data, name, found.accepted)
            mark_replayed(warehouse, found.accepted, name, fix_of(input, None))
    finally:
        warehouse.close()
    return len(found.accepted)


def resolved_note(count: int) -> str:
    """What a person is told of letters that were sent on."""
    return f"{counted(count, 'dead letter')} wanted rows of reference tables that are there now"


def _key(dead: DeadLetter) -> tuple[str, int, int]:
    return dead.source, dead.position, dead.received_at
