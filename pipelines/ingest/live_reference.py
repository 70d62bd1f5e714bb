"""The reference tables of a running program: as their files say now, taken up when they change."""

from __future__ import annotations

import logging
from pathlib import Path

from pipelines.core.watchdog import WATCHDOG
from pipelines.ingest.reference import load_reference
from schemas.errors import InputError
from schemas.reference import Reference

log = logging.getLogger(__name__)

#: Name, size in bytes and time of the last change (ns) of each table's file.
State = tuple[tuple[str, int, int], ...]


class LiveReference:
    """The tables in `folder`; `look` takes up files that changed and have settled since.

    A set of tables that cannot be used as a whole is reported once and passed over: what was known
    before holds until it is mended. A SIM batch or a listed card whose row is gone stays
    registered: it is still on shelves. Raises what `load_reference` raises, when it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken = self._seen = self._state()
        self.loaded = load_reference(folder)

    @property
    def tables(self) -> Reference:
        """The tables as they are known now."""
        return self.loaded.reference

    def holder(self, outlet_id: str, at: int) -> str:
        """See `Reference.holder`; the watchdog's outlet is its own."""
        return WATCHDOG if outlet_id == WATCHDOG else self.tables.holder(outlet_id, at)

    def look(self) -> bool:
        """Take up what changed; whether anything did.

        It costs a `stat` of each file. What is still being written differs between two looks, and
        is taken up at the look at which it no longer does.
        """
        seen, self._seen = self._seen, self._state()
        if self._seen in (self._taken, ()) or seen != self._seen:
            return False
        self._taken = self._seen
        try:
            self.loaded = load_reference(self.folder, self.tables)
        except InputError as error:
            log.error(  # noqa: TRY400 - a user's mistake, not ours
                "the reference tables changed and cannot be used, the old ones hold: %s", error
            )
            return False
        log.warning("the reference tables changed and are in use")
        return True

    def _state(self) -> State:
        try:
            files = sorted([*self.folder.glob("*.csv"), *self.folder.glob("*.toml")])
            return tuple((f.name, (s := f.stat()).st_size, s.st_mtime_ns) for f in files)
        except OSError:  # a table that is replaced at this moment
            return ()
