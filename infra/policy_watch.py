"""The policy file of a running alerts worker: put on the log when it changes, for all to go by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

import faust

from pipelines.files import replace_file
from pipelines.stream import metrics
from schemas.answers import PolicyRecord
from schemas.errors import SettingsError

log = logging.getLogger(__name__)

#: Seconds between two looks; a change is taken up at the second look that finds it settled.
LOOK_EVERY: Final = 2.0


class LivePolicy:
    """The policy file at `path` (None: there is none), and the `record` of it for the log.

    `read` gives its text once it is checked, or raises `SettingsError`. A file that cannot be used
    is reported once; what was in force stays so, also over a restart: a copy is at `kept`. Without
    one this raises `SettingsError` when it is made.
    """

    def __init__(self, path: Path | None, read: Callable[[], str], kept: Path) -> None:
        self._path = path
        self._read = read
        self._kept = kept
        self._taken = self._seen = self._state()
        #: What is in force, as far as this worker knows.
        self.text = ""
        try:
            self.record = self._take_up()
        except SettingsError as error:
            if not kept.exists():
                raise
            self.text = kept.read_text(encoding="utf-8")
            self.record = self._refuse(error)

    def look(self) -> bool:
        """Take up the file if it changed; whether `record` is another. Costs a `stat`."""
        seen, self._seen = self._seen, self._state()
        if self._seen == self._taken or seen != self._seen:
            return False
        self._taken = self._seen
        try:
            self.record = self._take_up()
        except SettingsError as error:
            self.record = self._refuse(error)
            return True
        log.warning("the policy changed and is in use: %s", self._path)
        return True

    def _take_up(self) -> PolicyRecord:
        self.text = self._read()
        if self._path is not None:
            replace_file(self._kept, self.text.encode())
        metrics.POLICY_REFUSED.set(0)
        return self._record(self.text)

    def _refuse(self, error: SettingsError) -> PolicyRecord:
        log.error("the policy changed and cannot be used, the old one holds: %s", error)
        metrics.POLICY_REFUSED.set(1)
        return self._record(self.text, str(error))

    def _record(self, text: str, error: str = "") -> PolicyRecord:
        at = time.time_ns() // 1_000_000
        # Two workers may read one change in the same millisecond: then it is the same record.
        said = blake2b(f"{text}\0{error}".encode(), digest_size=6).hexdigest()
        return PolicyRecord(f"{at}-{said}", at, str(self._path or ""), text, error)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:  # gone, or replaced at this moment
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found is not None else None


def watch_policy(
    app: faust.App,
    live: LivePolicy,
    publish: Callable[[PolicyRecord], Awaitable[None]],
    changed: Callable[[], None],
) -> asyncio.Event:
    """Have a worker publish its policy at its start, and again whenever the file changes.

    `changed` is called when it did. What is returned is set once the log has the first: what is
    read before that would be decided by the policy of yesterday.
    """
    published = asyncio.Event()

    async def look() -> None:
        await publish(live.record)
        published.set()
        while not app.should_stop:
            await asyncio.sleep(LOOK_EVERY)
            if await asyncio.to_thread(live.look):
                await publish(live.record)
                changed()

    app.task(look)
    return published
