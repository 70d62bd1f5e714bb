"""Reads an exchange directory, source beside source in event time, and posts what it finds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.ingest.check import Checked, check, header_names, missing_columns
from pipelines.ingest.files import Chunk, SourceFile, find_sources
from pipelines.ingest.mapping import Mapping as ExportMapping
from pipelines.ingest.pack import Clock, Packed, announcement, dead_letters, pack_chunk
from pipelines.ingest.positions import Position, has_more
from pipelines.ingest.post import KafkaPost, Post
from pipelines.ingest.reference import load_reference
from schemas.envelope import NO_WATERMARK
from schemas.errors import InputError
from schemas.reference import Reference

log = logging.getLogger(__name__)

#: Seconds between two notes of how far files were read, and between two looks for more.
KEEP_EVERY = 1.0
LOOK_EVERY = 0.5


@dataclass(frozen=True)
class IngestOptions:
    """How to read; `disorder_ms` is how late a source's events may come."""

    disorder_ms: int = 60_000
    mapping: ExportMapping | None = None
    follow: bool = False
    throttle_group: str | None = None
    security: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class IngestProgress:
    """How far a reading is."""

    rows: int = 0
    uses: int = 0
    placements: int = 0
    outsiders: int = 0
    files: int = 0
    bytes: int = 0
    bytes_total: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def dead_letters(self) -> int:
        """Lines refused, all reasons together."""
        return self.refused.total()


@dataclass
class IngestReport(IngestProgress):
    """What a reading came to."""

    seconds: float = 0.0


async def ingest(
    directory: Path,
    broker: str,
    *,
    options: IngestOptions,
    progress: Callable[[IngestProgress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> IngestReport:
    """Read all that was not read before, and with `follow` what comes, until `stop` is set.

    Raises `InputError` for a directory that is none, `BrokerError` when Kafka cannot be reached.
    """
    async with KafkaPost(broker, options.security, options.throttle_group) as post:
        return await read_directory(directory, post, options=options, progress=progress, stop=stop)


async def read_directory(
    directory: Path,
    post: Post,
    *,
    options: IngestOptions,
    progress: Callable[[IngestProgress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> IngestReport:
    """As `ingest`, to any post."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    reading = _Reading(directory, post, options, progress or (lambda _: None))
    started = time.monotonic()
    try:
        await reading.run(stop or asyncio.Event())
    finally:
        reading.threads.shutdown(wait=False, cancel_futures=True)
    reading.report.seconds = time.monotonic() - started
    return reading.report


class _Source:
    """One folder, file after file; knows what was read and reads on from there."""

    def __init__(self, name: str, disorder: int) -> None:
        self.name = name
        self.clock = Clock(disorder)
        self.files: list[SourceFile] = []


@dataclass(frozen=True)
class _Item:
    """A checked chunk on its way; `last` if it is the file's."""

    file: SourceFile
    chunk: Chunk
    checked: Checked
    last: bool


@dataclass(frozen=True)
class _Opened:
    """A file being read from a line (1-based) and byte on; `names` are a CSV file's columns."""

    file: SourceFile
    chunks: Iterator[Chunk]
    names: list[str] | None
    line: int
    byte: int

    def next(self) -> _Item | None:
        """The next chunk, checked; None after the last."""
        chunk = next(self.chunks, None)
        if chunk is None:
            return None
        if chunk.damage is not None:
            return _Item(self.file, chunk, _nothing(), False)
        try:
            checked = check(chunk, self.file.kind, self.names)
        except (pa.ArrowException, KeyError) as error:
            damage = f"column {error}" if isinstance(error, KeyError) else str(error)
            return _Item(self.file, Chunk(0, 0, damage=damage), _nothing(), False)
        return _Item(self.file, chunk, checked, False)


def _nothing() -> Checked:
    none = np.empty(0, np.int64)
    return Checked(none, none, none, pa.array([], pa.string()))


class _Reading:
    def __init__(
        self,
        directory: Path,
        post: Post,
        options: IngestOptions,
        progress: Callable[[IngestProgress], None],
    ) -> None:
        self.directory = directory
        self.post = post
        self.options = options
        self.progress = progress
        self.report = IngestReport()
        self.threads = ThreadPoolExecutor(2, thread_name_prefix="ingest")
        self.sources: dict[str, _Source] = {}
        self.positions: dict[str, Position] = {}
        self._unkept: dict[str, Position] = {}
        self._kept = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        loaded = load_reference(self.directory / "reference")
        self.positions = await self.post.positions()
        for line in loaded.refused:
            self.report.refused[line.reason.split(":")[0]] += 1
            await self.post.send(
                dead_letters(
                    line.source, [(line.line, line.reason, line.payload)], self.post.partitions
                )
            )
        await self._look()
        while True:
            await self._read(loaded.reference, stop)
            if not self.options.follow or stop.is_set():
                break
            try:
                await asyncio.wait_for(stop.wait(), LOOK_EVERY)
            except TimeoutError:
                await self._look()
        if not stop.is_set():
            for source in self.sources.values():
                newest = source.clock.newest
                mark = newest if newest == NO_WATERMARK else newest + 1
                await self.post.send(
                    announcement(source.name, (), mark, True, self.post.partitions)
                )
        await self._keep(0)

    async def _look(self) -> None:
        """Find the files that were not read to their end, and announce new sources together."""
        found = await asyncio.get_running_loop().run_in_executor(
            self.threads, find_sources, self.directory
        )
        new = [name for name in found if name not in self.sources]
        for name, files in found.items():
            source = self.sources.setdefault(name, _Source(name, self.options.disorder_ms))
            source.files = [file for file in files if has_more(file, self.positions.get(file.name))]
            for file in files:
                position = self.positions.get(file.name)
                if position is not None:
                    source.clock.newest = max(source.clock.newest, position.newest)
        self.report.bytes_total = self.report.bytes + sum(
            file.size() for source in self.sources.values() for file in source.files
        )
        for name in new:
            await self.post.send(
                announcement(
                    name,
                    tuple(self.sources),
                    self.sources[name].clock.watermark,
                    False,
                    self.post.partitions,
                )
            )

    async def _read(self, reference: Reference, stop: asyncio.Event) -> None:
        """Read all files there are, always from the source whose events are oldest."""
        streams = {name: self._items(source) for name, source in self.sources.items()}
        ready: dict[str, asyncio.Task[Any]] = {
            name: asyncio.ensure_future(anext(stream, None)) for name, stream in streams.items()
        }
        try:
            while ready and not stop.is_set():
                name = min(ready, key=lambda n: self.sources[n].clock.newest)
                item = await ready.pop(name)
                if item is None:
                    continue
                ready[name] = asyncio.ensure_future(anext(streams[name], None))
                await self._post(self.sources[name], reference, item)
        finally:
            for task in ready.values():
                task.cancel()
            await asyncio.gather(*ready.values(), return_exceptions=True)

    async def _items(self, source: _Source) -> AsyncIterator[_Item]:
        """The checked chunks of a source; reading and checking happen in threads."""
        loop = asyncio.get_running_loop()
        for file in source.files:
            opened = await loop.run_in_executor(self.threads, self._open, source, file)
            if isinstance(opened, str):
                yield _Item(file, Chunk(0, 0, damage=opened), _nothing(), True)
                continue
            item = _Item(file, Chunk(opened.line, 0, opened.byte), _nothing(), True)
            while True:
                # One is read ahead, so that the last is known to be the last.
                following = await loop.run_in_executor(self.threads, opened.next)
                yield replace(item, last=following is None)
                if following is None:
                    break
                item = following

    def _open(self, source: _Source, file: SourceFile) -> _Opened | str:
        """A file opened where reading goes on; or why it cannot be read at all."""
        try:
            position = self._resume(source, file)
        except OSError as error:
            return str(error.strerror)
        line, byte, names = position.lines + 1, position.end, None
        if file.kind == "csv" and file.size():
            header = file.header()
            names = header_names(header)
            if missing := missing_columns(names):
                return f"the header has no column {', '.join(missing)}"
            if line == 1:
                line, byte = 2, len(header) if file.plain else 0
        return _Opened(
            file, file.chunks(line, byte, growing=self.options.follow), names, line, byte
        )

    def _resume(self, source: _Source, file: SourceFile) -> Position:
        """Where to read on in a file: its end so far, or its beginning if it was replaced."""
        fresh = Position(source.name, file.size(), file.fingerprint())
        known = self.positions.get(file.name)
        if known is None:
            return fresh
        grew = fresh.size >= known.end and known.fingerprint == fresh.fingerprint
        small = known.size < 4_096  # The fingerprint of a small file changes as it grows.
        if not known.done or (file.plain and fresh.size > known.size and (grew or small)):
            return known
        log.warning("%s was replaced and is read again", file.name)
        return fresh

    async def _post(self, source: _Source, reference: Reference, item: _Item) -> None:
        file, chunk = item.file, item.chunk
        if chunk.damage is not None:
            log.error("%s cannot be read: %s", file.name, chunk.damage)
            packed = Packed([], [(0, f"malformed: {chunk.damage}", b"")])
        else:
            packed = pack_chunk(
                item.checked, source.name, source.clock, reference, self.post.partitions
            )
        await self.post.send(packed.effects)
        await self.post.send(dead_letters(file.name, packed.refused, self.post.partitions))
        self._count(packed, item)
        self.progress(self.report)
        self._note(source, item)
        await self._keep(KEEP_EVERY)

    def _note(self, source: _Source, item: _Item) -> None:
        """Remember that everything up to the end of this chunk was sent."""
        file, chunk = item.file, item.chunk
        known = self.positions.get(file.name)
        lines = chunk.first_line + chunk.lines - 1
        if chunk.damage is not None:
            lines = known.lines if known is not None else 0
        position = Position(
            source.name,
            file.size(),
            file.fingerprint(),
            lines,
            chunk.end,
            source.clock.newest,
            item.last,
        )
        self.positions[file.name] = self._unkept[file.name] = position

    def _count(self, packed: Packed, item: _Item) -> None:
        report, file = self.report, item.file
        report.rows += item.chunk.lines
        report.uses += packed.uses
        report.placements += packed.placements
        report.outsiders += packed.outsiders
        if file.plain:
            report.bytes += len(item.chunk.data or b"")
        elif item.last:
            report.bytes += file.size()
        report.files += item.last
        for _, reason, _ in packed.refused:
            report.refused[reason.split(":")[0]] += 1

    async def _keep(self, every: float) -> None:
        if self._unkept and time.monotonic() - self._kept >= every:
            unkept, self._unkept = self._unkept, {}
            await self.post.keep(unkept)
            self._kept = time.monotonic()
