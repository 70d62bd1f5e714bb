"""Takes up changed reference tables while a worker runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import faust

from pipelines.ingest.live_reference import LiveReference
from schemas.errors import ZerostockError
from schemas.reference import Reference

log = logging.getLogger(__name__)

#: Seconds between two looks; a change is taken up at the second look that finds it settled.
LOOK_EVERY: Final = 3.0


def watch_reference(
    app: faust.App, live: LiveReference, changed: Callable[[Reference], None]
) -> None:
    """Have a worker look at the files of `live`; `changed` is called, in a thread, with new tables.

    What `changed` raises as a `ZerostockError` is logged, and it is called again at the next look.
    """

    async def look() -> None:
        waiting = False
        while not app.should_stop:
            await asyncio.sleep(LOOK_EVERY)
            waiting |= await asyncio.to_thread(live.look)
            if not waiting:
                continue
            try:
                await asyncio.to_thread(changed, live.tables)
                waiting = False
            except ZerostockError as error:
                log.warning("the reference tables wait: %s", error)

    app.task(look)
