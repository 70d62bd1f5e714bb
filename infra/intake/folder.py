"""Where `zerostock run` puts what comes by HTTP: files of the exchange directory that it follows.

Its broker forgets when it ends; a file that is on disk does not, and is read again after a kill,
reconciled and read by batch jobs like all others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from pipelines.ingest.check import Format, check
from pipelines.ingest.feeds import HTTP
from pipelines.ingest.live_reference import LiveReference
from pipelines.ingest.pack import pack_chunk
from pipelines.ingest.reading.files import Chunk
from pipelines.ingest.source_clock import SourceClock
from schemas.errors import InputError
from schemas.fields import TIME_END

#: Below the exchange directory; each feeder has a folder there, which is a source.
FOLDER: Final = f"events/{HTTP}"


class IntakeFolder:
    """Appends to a file a feeder and hour, and says what of it will be refused.

    `before` says where times end by now, ms. Raises `InputError` if the folder cannot be written.
    """

    def __init__(self, directory: Path, before: Callable[[], int]) -> None:
        self._folder = directory / FOLDER
        self._reference = LiveReference(directory / "reference")
        self._before = before
        self._open: dict[str, tuple[str, BinaryIO]] = {}
        # One at a time: lines of two requests do not mix.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self._folder} cannot be made: {error.strerror}") from None
        if not os.access(self._folder, os.W_OK):
            raise InputError(f"{self._folder} cannot be written: events by HTTP are kept there")

    async def take(self, feeder: str, lines: bytes, count: int) -> list[tuple[int, str]]:
        """Write lines, each with its newline; which (from 1) are refused, and why.

        They are on disk when this returns. Raises `OSError` if the disk takes no more.
        """
        work = partial(self._take, feeder, lines, count)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Close the files."""
        self._thread.shutdown()
        for _, file in self._open.values():
            file.close()

    def _take(self, feeder: str, lines: bytes, count: int) -> list[tuple[int, str]]:
        self._reference.look()
        checked = check(Chunk(1, count, data=lines), Format("ndjson"), self._before())
        packed = pack_chunk(checked, "", SourceClock(TIME_END), self._reference.tables, 1)
        self._append(feeder, lines)
        return sorted((line, why) for line, why, _ in packed.refused)

    def _append(self, feeder: str, lines: bytes) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H}.ndjson"
        known, file = self._open.get(feeder, ("", None))
        if file is None or known != name:
            if file is not None:
                file.close()
            path = self._folder / feeder / name
            path.parent.mkdir(exist_ok=True)
            file = path.open("ab", buffering=0)
            for folder in (path.parent, self._folder):  # that they are there is on disk as well
                _sync(folder)
            self._open[feeder] = name, file
        start = _cut_off_half_line(file)
        try:
            view = memoryview(lines)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), start)  # nobody is told that it was taken
            raise


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _cut_off_half_line(file: BinaryIO) -> int:
    """Where a file ends, without a line that a kill cut off: nobody was told that it was taken."""
    end = os.fstat(file.fileno()).st_size
    with open(file.name, "rb") as reading:
        back = min(end, 1)
        reading.seek(end - back)
        if reading.read(back) in (b"\n", b""):
            return end
        reading.seek(0)
        end = reading.read().rfind(b"\n") + 1
    os.ftruncate(file.fileno(), end)
    return end
