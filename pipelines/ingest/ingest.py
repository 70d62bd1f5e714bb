"""Reads an exchange directory, source beside source in event time, and posts what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipelines.core.watchdog import WATCHDOG
from pipelines.ingest.check import AHEAD, Checked, RefusedLine, believable
from pipelines.ingest.feeds.feed import Checking, Feed, Item
from pipelines.ingest.live_reference import LiveReference
from pipelines.ingest.mapping.mapping import Mapping as ExportMapping
from pipelines.ingest.pack import (
    Packed,
    announcement,
    dead_letters,
    pack_chunk,
    sim_cards_of,
    sim_ranges_of,
    unread_inputs,
)
from pipelines.ingest.positions import (
    Position,
    fingerprint,
    has_more,
    position_of_all,
    was_useless,
)
from pipelines.ingest.post import EnvelopeSink, KafkaSink
from pipelines.ingest.reading.archive import name_in, put_away, use_archive
from pipelines.ingest.reading.files import Chunk, DirectoryWatch, SourceFile, why
from pipelines.ingest.reading.opening import NotYet, Opened, Unreadable, Vanished, open_file
from pipelines.ingest.reference import LoadedReference
from pipelines.ingest.sent_uses import SentUses
from pipelines.ingest.source_clock import Disorder
from pipelines.ingest.sources import Source, SourceRecords, SourceState, Status
from pipelines.ingest.watchdog import Watchdog
from schemas.cards import CardList
from schemas.envelope import NO_WATERMARK, Header
from schemas.errors import InputError
from schemas.reference import Reference

log = logging.getLogger(__name__)

#: Threads that read and check, and chunks of a file that are checked at a time.
READERS = 2

#: Seconds between two notes of how far files were read, and between two looks for more.
KEEP_EVERY = 1.0
LOOK_EVERY = 0.5

#: The least time (ms) between two lists of what is not read.
LIST_EVERY = 10_000

#: The least time (ms) between two rounds of heartbeats, and how many signs of life a reader gives
#: in the time after which it counts as absent.
HEARTBEAT_EVERY = 1_000
ALIVE_SHARE = 8

#: The list of cards, as positions name it.
CARDS = "reference/sims.csv"
CARDS_AT_ONCE = 100_000

#: Seconds that the chunk under way is given when reading is to stop.
STOP_WITHIN = 2.0


def wall_clock() -> int:
    """The time, ms."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class IngestOptions:
    """How to read; `disorder_ms` is how late a source's events may come.

    Of a `live` feed no event is believed that is `ahead_ms` ahead of the clock, `now` (ms). While
    it is followed, a source in which nothing new was found for `idle_after_ms` moves on with the
    clock, and sources of another reader of which nothing was heard for `absent_after_ms` are put on
    record as absent. Every `watchdog_ms` (0: never) the watchdog's outlet runs empty.
    """

    disorder_ms: int = 60_000
    idle_after_ms: int = 30_000
    absent_after_ms: int = 600_000
    ahead_ms: int = AHEAD
    now: Callable[[], int] = wall_clock
    mapping: ExportMapping | None = None
    archive: Path | None = None
    follow: bool = False
    live: bool = False
    watchdog_ms: int = 0
    throttle_group: str | None = None
    security: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class IngestProgress:
    """How far a reading is; `rows` are all that there were, those a mapping skips among them."""

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
    """What a reading came to; `disorder` has each source's measured disorder and bound (ms)."""

    seconds: float = 0.0
    disorder: dict[str, tuple[Disorder, int]] = field(default_factory=dict)
    #: Files that were not read, and why.
    unread: list[tuple[str, str]] = field(default_factory=list)


async def ingest(
    directory: Path | None,
    broker: str,
    *,
    options: IngestOptions,
    feeds: Sequence[Feed] = (),
    reference: Path | None = None,
    progress: Callable[[IngestProgress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> IngestReport:
    """Read all that was not read before, and with `follow` what comes, until `stop` is set.

    From the files of an exchange directory, if there is one, and from `feeds` beside them; the
    `reference` tables are by default the directory's. Raises `InputError` if the directory does not
    exist, `BrokerError` when Kafka cannot be reached, and whatever `progress` raises, which ends
    the reading.
    """
    async with KafkaSink(broker, options.security, options.throttle_group) as post:
        return await read_directory(
            directory,
            post,
            options=options,
            feeds=feeds,
            reference=reference,
            progress=progress,
            stop=stop,
        )


async def read_directory(
    directory: Path | None,
    post: EnvelopeSink,
    *,
    options: IngestOptions,
    feeds: Sequence[Feed] = (),
    reference: Path | None = None,
    progress: Callable[[IngestProgress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> IngestReport:
    """As `ingest`, into any sink."""
    if directory is not None:
        _check_directory(directory, must_hold=not options.follow and not feeds)
        reference = reference or directory / "reference"
    if reference is None:
        raise InputError("no reference tables: name an exchange directory, or --reference DIR")
    reading = _Reading(directory, reference, feeds, post, options, progress or (lambda _: None))
    started = time.monotonic()
    try:
        await reading.run(stop or asyncio.Event())
    finally:
        for feed in feeds:
            await feed.close()
        reading.threads.shutdown(wait=False, cancel_futures=True)
    reading.report.seconds = time.monotonic() - started
    reading.report.disorder = {
        name: (source.clock.measured, source.clock.disorder)
        for name, source in reading.sources.items()
    }
    return reading.report


def reader_name(directory: Path | None, feeds: Sequence[Feed] = ()) -> str:
    """Who reads this here; the same after a restart."""
    what = directory.resolve() if directory else ",".join(sorted(feed.name for feed in feeds))
    return f"{socket.gethostname()}:{what}"


def _check_directory(directory: Path, *, must_hold: bool) -> None:
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    if must_hold and not any((directory / top).is_dir() for top in ("events", "cdr")):
        raise InputError(f"{directory} has nothing to read: it needs a folder events/ or cdr/")


class _Reading:
    def __init__(
        self,
        directory: Path | None,
        reference: Path,
        feeds: Sequence[Feed],
        post: EnvelopeSink,
        options: IngestOptions,
        progress: Callable[[IngestProgress], None],
    ) -> None:
        self.directory = directory
        self.reference = reference
        self.feeds = feeds
        self.post = post
        self.options = options
        self.progress = progress
        self.report = IngestReport()
        self.threads = ThreadPoolExecutor(READERS, thread_name_prefix="ingest")
        self.sources: dict[str, Source] = {}
        self.records = SourceRecords(reader_name(directory, feeds), options.absent_after_ms)
        self.positions: dict[str, Position] = {}
        self._unkept: dict[str, Position] = {}
        self.sent_uses = SentUses()
        self._said_cards = CardList()
        self._complained: set[str] = set()
        self._tried: set[str] = set()
        self._states: dict[str, tuple[int, int]] = {}
        self._kept = time.monotonic()
        self._recorded = self._said_alive = 0
        self._listed: tuple[int, list[tuple[str, str]]] | None = None
        self._watchdog: Watchdog | None = None
        named = options.mapping.names if options.mapping is not None else None
        self._archive = (
            use_archive(directory, options.archive)
            if directory is not None and options.archive is not None
            else None
        )
        self._own: dict[str, list[SourceFile]] = {}
        self._watch = DirectoryWatch(directory, named) if directory is not None else None
        self._arrived = asyncio.Event()
        #: What is to hear that all it gave is safe, and the lines that were refused of it.
        self._unsafe: list[tuple[Callable[[list[RefusedLine]], None], list[RefusedLine]]] = []

    async def run(self, stop: asyncio.Event) -> None:
        reference = LiveReference(self.reference)
        self.positions = await self.post.positions()
        self.records.update(await self.post.sources(), self.options.now())
        await self._take_up(reference.loaded)
        if self.options.watchdog_ms and self.options.follow and self.options.live:
            await self._begin_watchdog()
        ended_at = max((p.newest for p in self.positions.values()), default=NO_WATERMARK)
        for feed in self.feeds:
            await feed.open(self.positions, self._arrived)
        await self._look()
        while True:
            await self._read_until(stop, reference.tables)
            await self._put_away()
            if not self.options.follow or stop.is_set():
                break
            if self.feeds:
                await self._keep(0)
            await self._wait(stop)
            if stop.is_set():
                break
            if reference.look():
                await self._take_up(reference.loaded)
            await self._look()
        if not stop.is_set():
            # Also without rows: a batch that came counts from here on, and what waits for it.
            self._move_on(ended_at)
            for source in self.sources.values():
                newest = source.clock.newest
                mark = newest if newest == NO_WATERMARK else newest + 1
                await self._announce(Header("none", source.name, mark, True))
        await self._keep(0)
        await self._record("open" if stop.is_set() else "ended")

    async def _wait(self, stop: asyncio.Event) -> None:
        """Wait for the time to look again, for a feed that has something, or for the end."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (stop, self._arrived)]
        try:
            await asyncio.wait(waiting, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._arrived.clear()

    async def _take_up(self, loaded: LoadedReference) -> None:
        """Say which SIMs are ours before any row about them, and what of the tables is refused."""
        await self.post.send(sim_ranges_of(loaded.reference, self.post.partitions))
        await self._say_cards(loaded.reference.cards)
        for line in loaded.refused:
            self.report.refused[line.reason.split(":")[0]] += 1
            refused = [(line.line, line.reason, line.payload)]
            await self.post.send(dead_letters(line.source, refused, self.post.partitions))

    async def _say_cards(self, cards: CardList) -> None:
        """The same of cards of a list, which may be long: what is on record is not said again."""
        known = self.positions.get(CARDS)
        print_ = cards.fingerprint()
        if known is not None and known.fingerprint == print_:
            self._said_cards = cards
        new = cards.filter(~self._said_cards.listed(cards.imsis))
        if not len(new):
            return
        part = np.arange(len(new)) // CARDS_AT_ONCE
        for number in range(int(part[-1]) + 1):
            some = new.filter(part == number)
            await self.post.send(sim_cards_of(some, self.post.partitions))
        self.positions[CARDS] = Position(CARDS, len(cards), print_, done=True)
        await self.post.keep({CARDS: self.positions[CARDS]})
        self._said_cards = cards

    def _move_on(self, ended_at: int) -> None:
        """See that the end of this reading is later than the end of the one before.

        What came too late for a finished reading is folded at the watermark it met, which is the
        end of that reading: it takes a later one to pass it. One ms does, and it is kept.
        """
        newest = max(self.sources.values(), key=lambda source: source.clock.newest, default=None)
        if newest is None or newest.clock.newest > ended_at or ended_at == NO_WATERMARK:
            return
        newest.clock.newest = ended_at + 1
        for name, position in self.positions.items():
            if position.source == newest.name:
                moved = msgspec.structs.replace(position, newest=ended_at + 1)
                self.positions[name] = self._unkept[name] = moved
                return

    async def _read_until(self, stop: asyncio.Event, reference: Reference) -> None:
        """Read to the end or to `stop`, even while the post waits for readers who are behind.

        What was posted of a chunk that was cut off is posted again next time; that is harmless.
        """
        reading = asyncio.ensure_future(self._read(reference, stop))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({reading}, timeout=STOP_WITHIN)
        finally:
            stopped.cancel()
            reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading

    async def _look(self) -> None:
        """Find what was not read to its end, and announce new sources together."""
        now = self.options.now()
        found = await asyncio.get_running_loop().run_in_executor(self.threads, self._find)
        fed = {name: new for feed in self.feeds for name, new in (await feed.look()).items()}
        new = [name for name in (*found, *fed) if name not in self.sources]
        for source in self.sources.values():
            source.files = []
        for name, (files, more, changed) in found.items():
            source = self.sources.get(name) or self._open(name, now)
            source.files = more
            if changed:
                source.found_at = now
            for file in files:
                position = self.positions.get(file.name)
                if position is not None:
                    source.clock.newest = max(source.clock.newest, position.newest)
        for name, changed in fed.items():
            source = self.sources.get(name) or self._open(name, now)
            if name in new and (position := self.positions.get(name)) is not None:
                source.clock.newest = max(source.clock.newest, position.newest)
            if changed:
                source.found_at = now
        self.report.bytes_total = self.report.bytes + sum(
            file.size() for source in self.sources.values() for file in source.files
        )
        for name in new:
            source = self.sources[name]
            peers = tuple(self.sources)
            mark, absent = source.clock.watermark, source.absent
            await self._announce(Header("none", name, mark, peers=peers, absent=absent))
        if self.options.follow and self.options.live:
            await self._pulse(now)
        await self._list_unread(now)

    async def _list_unread(self, now: int) -> None:
        """Say what is there and is not read, where that is not as it was said before."""
        unread = [*self.report.unread, *self._troubles.items(), *self.records.left(self.sources)]
        at, before = self._listed or (0, None)
        if unread != before and now - at >= LIST_EVERY:
            self._listed = now, unread
            reader, partitions = self.records.reader, self.post.partitions
            await self.post.send(unread_inputs(reader, now, unread, partitions))

    def _open(self, name: str, now: int) -> Source:
        options = self.options
        disorder, idle_after, by_end = options.disorder_ms, options.idle_after_ms, False
        if options.mapping is not None:
            bounds = options.mapping.bounds_of(name)
            disorder = disorder if bounds.disorder is None else bounds.disorder
            idle_after = idle_after if bounds.idle_after is None else bounds.idle_after
            by_end = bounds.ordered_by == "end"
        source = self.sources[name] = Source(name, disorder, idle_after, now, by_end)
        self.records.resume(source)
        if name in self._troubles and self.records.is_absent(name):
            source.down_since, source.absent = now, True
        return source

    @property
    def _troubles(self) -> dict[str, str]:
        """The sources of feeds that cannot be read at present, and why."""
        return {name: why for feed in self.feeds for name, why in feed.troubles().items()}

    async def _begin_watchdog(self) -> None:
        options, now = self.options, self.options.now()
        self._watchdog = Watchdog(options.watchdog_ms, now, self.post.partitions)
        await self.post.send(self._watchdog.cards())
        mine = f"{WATCHDOG}/{fingerprint(self.records.reader.encode())}"
        # It is heard of at each look, so it is never silent for longer than the bound.
        source = self.sources[mine] = Source(mine, options.disorder_ms, 0, now)
        self.records.resume(source)
        await self._announce(Header("none", mine, source.clock.watermark, peers=(mine,)))

    async def _announce(self, header: Header) -> None:
        await self.post.send(announcement(header, self.post.partitions))

    # Live feeds

    async def _pulse(self, now: int) -> None:
        """Conclude from the clock what a look at `now` allows, and put it on record.

        On record first and on the topic second: what the stream was told never falls.
        """
        if now - self._recorded < HEARTBEAT_EVERY:
            return
        self.records.update(await self.post.sources(), now)
        for name in self.records.left_behind(self.sources):
            self._open(name, now)
        gone = [name for name in self.sources if self._is_gone(name)]
        states: dict[str, SourceState] = {}
        headers: list[Header] = []
        for name in gone:
            log.warning("%s: the folder is gone; the source is retired", name)
            source = self.sources.pop(name)
            states[name] = self.records.record(source, "retired", now)
            headers.append(Header("none", name, source.clock.watermark, ended=True))
        for name, state in self.records.absentees(self.sources, now):
            log.error(
                "%s: nothing was heard of its reader %s for %d s; the source is absent and"
                " holds nobody back until it returns",
                *(name, state.reader, self.options.absent_after_ms // 1_000),
            )
            states[name] = self.records.states[name] = state
            headers.append(Header("none", name, absent=True))
        for source in self._changed_absence(now):
            states[source.name] = self.records.record(source, "open", now)
            back = source.clock.watermark
            headers.append(Header("none", source.name, back, absent=source.absent))
        for source in self.sources.values():
            if self._watchdog is not None and source.name.startswith(WATCHDOG):
                await self.post.send(self._watchdog.beat(source.name, source.clock, now))
            mark = source.silent_mark(now)
            if mark is not None:
                source.clock.floor = mark
                states[source.name] = self.records.record(source, "open", now)
                headers.append(Header("none", source.name, mark))
        self._recorded = now
        if now - self._said_alive >= self.options.absent_after_ms // ALIVE_SHARE:
            await self._record("open")
        if states:
            await self.post.keep({}, states)
        for header in headers:
            await self._announce(header)

    def _changed_absence(self, now: int) -> Iterator[Source]:
        """The sources of feeds that could not be read for too long, or can be read again."""
        troubles = self._troubles
        for source in self.sources.values():
            was = source.absent
            if source.name not in troubles:
                source.down_since, source.absent = None, False
            elif source.down_since is None:
                source.down_since = now
            elif now - source.down_since >= self.options.absent_after_ms:
                source.absent = True
            if source.absent and not was:
                log.error(
                    "%s: could not be read for %d s (%s); the source is absent and holds nobody"
                    " back until it can be read again",
                    *(source.name, self.options.absent_after_ms // 1_000, troubles[source.name]),
                )
            elif was and not source.absent:
                log.warning("%s: is back, and is waited for as before", source.name)
            if source.absent != was:
                yield source

    def _is_gone(self, name: str) -> bool:
        """Whether a source's folder is no more; not so where all are gone, as of a lost mount."""
        if any(feed.is_gone(name) for feed in self.feeds):
            return True
        if self.directory is None:
            return False
        top = self.directory / name.split("/", maxsplit=1)[0]
        return top.is_dir() and not (self.directory / name).is_dir()

    async def _record(self, status: Status) -> None:
        """Put all sources of this reader on record, so that others see that it is alive."""
        self._said_alive = now = self.options.now()
        states = {s.name: self.records.record(s, status, now) for s in self.sources.values()}
        if states:
            await self.post.keep({}, states)

    def _find(self) -> dict[str, tuple[list[SourceFile], list[SourceFile], bool]]:
        """The files of each source, those that can be read on, and whether any unread one is new.

        One that has not settled yet holds back those behind it: read before it, they would carry
        the source's watermark past what is in it. What was unread at the look before and is as it
        was then cannot be read, and nothing is waited for.
        """
        found: dict[str, tuple[list[SourceFile], list[SourceFile], bool]] = {}
        if self._watch is None:
            return found
        listing = self._watch.look()
        self.report.unread = listing.unread
        self._own = listing.own
        for name, files in listing.sources.items():
            due = self._watch.due(files, self._is_done)
            unread = [f for f in due if self._is_unread(f)]
            states = {f.name: f.state() for f in unread}
            same = {n for n, state in states.items() if self._states.get(n) == state}
            self._states |= states
            settled = {f.name for f in unread if f.plain or not self.options.follow} | same
            more = list(takewhile(lambda f: f.name in settled, unread))  # noqa: B023
            found[name] = files, more, len(same) < len(unread)
        return found

    def _is_unread(self, file: SourceFile) -> bool:
        """What could not be read at all is tried again once by each reader: it may know how."""
        position = self.positions.get(file.name)
        if has_more(file, position):
            return True
        again = was_useless(position) and file.name not in self._tried
        self._tried.add(file.name)
        return again

    async def _put_away(self) -> None:
        """Move the files that were read to their end into the archive, once that is on record."""
        if self._archive is None:
            return
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self.threads, self._finished)
        if done:
            await self._keep(0)
        for file in done:
            try:
                name = name_in(self._archive, file.path, file.name)
                if name != file.name:  # another has that already, and is what it stands for again
                    read = self.positions[file.name]
                    first = SourceFile(file.name, self._archive / file.name)
                    moved = {name: read, file.name: position_of_all(first, read)}
                    await self.post.keep(moved)
                    self.positions |= moved
                await loop.run_in_executor(self.threads, put_away, file.path, self._archive / name)
            except OSError as error:
                if file.name not in self._complained:
                    log.warning("%s cannot be archived: %s", file.name, why(error))
                self._complained.add(file.name)

    def _finished(self) -> list[SourceFile]:
        """The files that nothing more is expected of; one that is written on has a newer behind it
        where we follow."""
        found = []
        for files in self._own.values():
            for file in files:
                last = self.options.follow and file.plain and file is files[-1]
                done = not last and self._is_done(file) and file.path.exists()
                if done and not has_more(file, self.positions[file.name]):
                    found.append(file)
        return found

    def _is_done(self, file: SourceFile) -> bool:
        position = self.positions.get(file.name)
        return position is not None and position.done

    async def _read(self, reference: Reference, stop: asyncio.Event) -> None:
        """Read all there is, always from the source whose events are oldest.

        A feed comes in its own order, and stands where the last of its sources was.
        """
        checking = Checking(self.threads, self._before, self._is_by_end)
        streams = {name: self._items(source) for name, source in self.sources.items()}
        streams |= {feed.name: feed.items(checking) for feed in self.feeds}
        stands = {feed.name: NO_WATERMARK for feed in self.feeds}
        ready: dict[str, asyncio.Task[Any]] = {
            name: asyncio.ensure_future(anext(stream, None)) for name, stream in streams.items()
        }
        try:
            while ready and not stop.is_set():
                name = min(
                    ready,
                    key=lambda n: stands[n] if n in stands else self.sources[n].clock.newest,
                )
                item = await ready.pop(name)
                if item is None:
                    continue
                ready[name] = asyncio.ensure_future(anext(streams[name], None))
                source = self.sources[item.source]
                await self._post(source, reference, item)
                if name in stands:
                    stands[name] = source.clock.newest
        finally:
            for task in ready.values():
                task.cancel()
            await asyncio.gather(*ready.values(), return_exceptions=True)

    def _is_by_end(self, name: str) -> bool:
        """Whether a source's rows come in the order in which calls end."""
        return self.sources[name].clock.by_end

    def _before(self) -> int:
        """Where times end that a row may have by now, ms."""
        return believable(self.options.live, self.options.ahead_ms, self.options.now())

    async def _items(self, source: Source) -> AsyncIterator[Item]:
        """The checked chunks of a source; reading and checking happen in threads."""
        loop = asyncio.get_running_loop()
        for file in source.files:
            growing = self.options.follow and file is source.files[-1]
            known = self.positions.get(file.name)
            try:
                opened = await loop.run_in_executor(
                    self.threads, open_file, source.name, file, known, self.options.mapping, growing
                )
            except Vanished:
                log.warning("%s vanished before it could be read", file.name)
                continue
            except NotYet:
                continue
            except Unreadable as error:
                await self._complain(file, str(error))
                continue
            read = 0
            chunk, checked = Chunk(opened.line, 0, opened.byte, opened.byte), opened.begun
            # A chunk waits for the next, so that the last is known to be the last.
            async for following, found in self._checked(opened):
                yield _item(opened, chunk, checked, max(0, chunk.read - read))
                read = max(read, chunk.read)
                chunk, checked = following, found
            yield _item(opened, chunk, checked, max(0, file.size() - read), last=True)

    async def _checked(self, opened: Opened) -> AsyncIterator[tuple[Chunk, Checked]]:
        """The chunks of a file in their order, read one by one, checked beside each other."""
        loop = asyncio.get_running_loop()
        checking: deque[asyncio.Future[tuple[Chunk, Checked]]] = deque()
        detail = self._is_by_end(opened.source)
        while chunk := await loop.run_in_executor(self.threads, opened.read):
            check = partial(opened.check, chunk, self._before(), detail=detail)
            checking.append(loop.run_in_executor(self.threads, check))
            if len(checking) == READERS:
                yield await checking.popleft()
        while checking:
            yield await checking.popleft()

    async def _complain(self, file: SourceFile, why: str) -> None:
        """Report a file that cannot be opened, once; it is tried again at the next look."""
        if file.name in self._complained:
            return
        self._complained.add(file.name)
        log.error("%s cannot be read: %s", file.name, why)
        self.report.refused["malformed"] += 1
        refused = [(0, f"malformed: the file cannot be read: {why}", b"")]
        await self.post.send(dead_letters(file.name, refused, self.post.partitions))

    async def _post(self, source: Source, reference: Reference, item: Item) -> None:
        chunk, clock = item.chunk, source.clock
        before = clock.newest, clock.floor, clock.longest
        if chunk.damage is not None:
            log.error("%s cannot be read: %s", item.name, chunk.damage)
            packed = Packed([], [(chunk.first_line, f"malformed: {chunk.damage}", b"")])
        else:
            packed = pack_chunk(
                item.checked,
                source.name,
                clock,
                reference,
                self.post.partitions,
                item.name,
                self.sent_uses,
            )
        if chunk.lines:
            source.found_at = self.options.now()
        try:
            await self.post.send(packed.effects)
            await self.post.send(dead_letters(item.name, packed.refused, self.post.partitions))
        except BaseException:  # cut off by a stop, it is read again, and not late then
            clock.newest, clock.floor, clock.longest = before
            raise
        self._count(packed, item)
        self.progress(self.report)
        position = item.position(source.clock.newest)
        self.positions[item.name] = self._unkept[item.name] = position
        if item.safe is not None:
            self._unsafe.append((item.safe, packed.refused))
        await self._keep(KEEP_EVERY)

    def _count(self, packed: Packed, item: Item) -> None:
        report = self.report
        # What was lost, and a file that is damaged, is refused without being a row.
        report.rows += item.checked.count if item.chunk.lines else 0
        report.uses += packed.uses
        report.placements += packed.placements
        report.outsiders += packed.outsiders
        report.bytes += item.read
        report.bytes_total = max(report.bytes_total, report.bytes)
        report.files += item.last
        # One without a reason takes back what was refused half written.
        report.refused.update(reason.split(":")[0] for _, reason, _ in packed.refused if reason)

    async def _keep(self, every: float) -> None:
        if self._unkept and time.monotonic() - self._kept >= every:
            unkept, self._unkept = self._unkept, {}
            unsafe, self._unsafe = self._unsafe, []
            now = self.options.now()
            longer = [s for s in self.sources.values() if self.records.lacks(s)]
            states = {s.name: self.records.record(s, "open", now) for s in longer}
            await self.post.keep(unkept, states)
            for safe, refused in unsafe:
                safe(refused)
            self._kept = time.monotonic()
            if self.options.now() - self._said_alive >= self.options.absent_after_ms // ALIVE_SHARE:
                await self._record("open")


def _item(opened: Opened, chunk: Chunk, checked: Checked, read: int, *, last: bool = False) -> Item:
    """A chunk of a file; `last` if it is the file's, `read` the bytes on disk it took."""
    after = partial(opened.position_after, chunk, last=last)
    return Item(opened.source, opened.file.name, chunk, checked, after, read, last)
