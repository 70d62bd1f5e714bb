"""What was sent and tried, in the log: receipts that follow a partition to whichever worker has it.

A wholesaler's receipts are a few entries of the agent's changelog, each written by itself while
messages go out. They stand over those of the worker's own disk.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from alerts.delivery.receipts import Attempt, FileReceipts
from schemas.errors import EnvelopeError
from schemas.messages import MessageRecord

#: The log keeps a wholesaler's newest successes in so many entries of so many each, so that writing
#: one costs the same however many there are; when all are full the oldest is overwritten.
_PAGES: Final = 16
_A_PAGE: Final = 32

#: The entry that has what is in doubt; versions without pages had everything there.
_HEAD: Final = -1

#: How long successes of such a version are kept after their messages went out, ms.
_KEPT: Final = 7 * 86_400_000


class _LoggedDoubt(msgspec.Struct, array_like=True):
    """The first entry of a wholesaler: attempts, and what was a success before there were pages."""

    version: int
    attempts: dict[str, list[Attempt]]
    successes: dict[str, MessageRecord]


class _LoggedSuccesses(msgspec.Struct, array_like=True):
    """A page; `begun` counts the pages that were begun before it."""

    version: int
    begun: int
    successes: dict[str, MessageRecord]


class _Page:
    """An entry, and how many changes of it there were and are on the log."""

    def __init__(self, entry: _LoggedDoubt | _LoggedSuccesses) -> None:
        self.entry = entry
        self.changes = self.written = 0
        self.turn = asyncio.Lock()

    @property
    def safe(self) -> bool:
        """Whether the log has it as it is."""
        return self.written == self.changes


#: Entries of one wholesaler by number.
_Entries = dict[int, _LoggedDoubt | _LoggedSuccesses]


class _WholesalerReceipts:
    """One wholesaler's entries by number, and which one successes go to now."""

    def __init__(self, entries: _Entries) -> None:
        self.head, self._filling = _LoggedDoubt(1, {}, {}), _LoggedSuccesses(1, 0, {})
        for entry in entries.values():
            if isinstance(entry, _LoggedDoubt):
                self.head = entry
            elif entry.begun >= self._filling.begun:
                self._filling = entry
        every: _Entries = {_HEAD: self.head, self._filling.begun % _PAGES: self._filling}
        self.pages = {number: _Page(entry) for number, entry in (every | entries).items()}
        for message_id in [name for name in self.head.attempts if self.success(name) is not None]:
            del self.head.attempts[message_id]

    def place(self, message_id: str) -> int | None:
        """The number of the entry that has the record of success, if it is kept."""
        places = (n for n, page in self.pages.items() if message_id in page.entry.successes)
        return next(places, None)

    def success(self, message_id: str) -> MessageRecord | None:
        """The record of success, if it is kept."""
        place = self.place(message_id)
        return None if place is None else self.pages[place].entry.successes[message_id]

    def keep(self, record: MessageRecord) -> tuple[int, list[MessageRecord]]:
        """Keep a success: (the number of the entry that is another now, what had to go)."""
        gone: list[MessageRecord] = []
        if len(self._filling.successes) >= _A_PAGE:
            begun = self._filling.begun + 1
            number = begun % _PAGES
            self._filling = _LoggedSuccesses(1, begun, {})
            page = self.pages.setdefault(number, _Page(self._filling))
            gone = list(page.entry.successes.values())
            page.entry = self._filling
        self._filling.successes[record.message_id] = record
        return self._filling.begun % _PAGES, gone

    def encoded(self, number: int, now: int) -> bytes:
        """An entry as it is written."""
        old = [r for r in self.head.successes.values() if r.version <= now - _KEPT]
        for record in old:
            del self.head.successes[record.message_id]
        return zlib.compress(msgspec.msgpack.encode(self.pages[number].entry), 1)


#: Begins the names of entries other than the first; ids do not begin with it.
_MARK: Final = "\0"


def _name(wholesaler_id: str, number: int) -> str:
    return wholesaler_id if number == _HEAD else f"{_MARK}{number}{_MARK}{wholesaler_id}"


def _named(name: str) -> tuple[str, int]:
    if not name.startswith(_MARK):
        return name, _HEAD
    number, _, wholesaler_id = name[1:].partition(_MARK)
    return wholesaler_id, int(number)


def wholesaler_of(name: str) -> str:
    """Whose receipts an entry of the log has."""
    return _named(name)[0]


#: Writes an entry to the log, by its name; returns when it is safe there.
WriteLog = Callable[[str, bytes], Awaitable[None]]


class LogReceipts:
    """Receipts of the wholesalers whose partitions a worker has, over those of its own disk.

    `write` puts an entry on the log; it raises, or ends the process, if the worker may have been
    replaced. What was restored is read when its wholesaler is first asked for: a worker may start
    with a million.
    """

    def __init__(self, local: FileReceipts) -> None:
        self.local = local
        self.write: WriteLog | None = None
        self._ledgers: dict[str, _WholesalerReceipts] = {}
        self._packed: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
        self._wholesalers: dict[str, str] = {}
        self._provider_ids: set[str] = set()

    def load(self, wholesaler_id: str) -> None:
        """See `Receipts`. Raises `EnvelopeError` for an entry that cannot be read."""
        packed = self._packed.pop(wholesaler_id, None)
        if packed is None:
            return
        known = self._ledgers.get(wholesaler_id)
        entries = {n: page.entry for n, page in known.pages.items()} if known is not None else {}
        for number, value in packed.items():
            kind: type[_LoggedDoubt | _LoggedSuccesses]
            kind = _LoggedDoubt if number == _HEAD else _LoggedSuccesses
            try:
                entries[number] = msgspec.msgpack.decode(zlib.decompress(value), type=kind)
            except (msgspec.MsgspecError, zlib.error) as error:
                raise EnvelopeError(f"not an entry of receipts: {error}") from None
        ledger = self._ledgers[wholesaler_id] = _WholesalerReceipts(entries)
        for entry in entries.values():
            self._wholesalers.update(dict.fromkeys(entry.successes, wholesaler_id))
            self._provider_ids.update(r.provider_id for r in entry.successes.values())
        self._wholesalers.update(dict.fromkeys(ledger.head.attempts, wholesaler_id))

    def get(self, message_id: str) -> MessageRecord | None:
        """See `Receipts`."""
        ledger = self._ledgers.get(self._wholesalers.get(message_id, ""))
        logged = ledger.success(message_id) if ledger is not None else None
        return logged or self.local.get(message_id)

    def attempts(self, message_id: str) -> list[Attempt]:
        """See `Receipts`."""
        if self.get(message_id) is not None:
            return []
        ledger = self._ledgers.get(self._wholesalers.get(message_id, ""))
        logged = ledger.head.attempts.get(message_id, []) if ledger is not None else []
        local = self.local.attempts(message_id)
        return [*logged, *(a for a in local if not any(map(a.same, logged)))]

    def claimed(self, provider_id: str) -> bool:
        """See `Receipts`."""
        if provider_id and provider_id not in self._provider_ids:
            # Rarely asked, and seldom about a wholesaler whose receipts are at hand.
            name = provider_id.encode()
            for wholesaler_id, packed in list(self._packed.items()):
                if any(name in zlib.decompress(value) for value in packed.values()):
                    self.load(wholesaler_id)
        found = bool(provider_id) and provider_id in self._provider_ids
        return found or self.local.claimed(provider_id)

    async def put(self, record: MessageRecord) -> None:
        """See `Receipts`."""
        await self.local.put(record)  # first, as nothing can come between the answer and this
        ledger = self._ledger(record.wholesaler_id)
        number = ledger.place(record.message_id)
        if number is None:
            number, gone = ledger.keep(record)
            for old in gone:
                self._wholesalers.pop(old.message_id, None)
                self._provider_ids.discard(old.provider_id)
            self._wholesalers[record.message_id] = record.wholesaler_id
            self._provider_ids.add(record.provider_id)
            await self._log(record.wholesaler_id, number, record.version)
        elif not ledger.pages[number].safe:
            await self._log(record.wholesaler_id, number, record.version)
        # Only now: the entry of what is in doubt may be written at any time.
        ledger.head.attempts.pop(record.message_id, None)

    async def attempt(self, attempt: Attempt) -> None:
        """See `Receipts`."""
        message = attempt.message
        known = self._ledger(message.wholesaler_id).head.attempts.setdefault(message.message_id, [])
        if not any(map(attempt.same, known)):
            known.append(attempt)
            self._wholesalers[message.message_id] = message.wholesaler_id
            self.local.keep_attempt(attempt)
            await self._log(message.wholesaler_id, _HEAD, attempt.at)

    async def failed(self, attempt: Attempt) -> None:
        """See `Receipts`."""
        message = attempt.message
        doubt = self._ledger(message.wholesaler_id).head.attempts
        known = doubt.get(message.message_id, [])
        left = [earlier for earlier in known if not attempt.same(earlier)]
        self.local.drop_attempt(attempt)
        if len(left) < len(known):
            doubt[message.message_id] = left
            if not left:
                del doubt[message.message_id]
            await self._log(message.wholesaler_id, _HEAD, attempt.at)

    def restore(self, name: str, value: bytes) -> None:
        """Take back an entry of the log. Raises `EnvelopeError` for what is none."""
        try:
            beginning = zlib.decompressobj().decompress(value, 2)
        except zlib.error as error:
            raise EnvelopeError(f"not an entry of receipts: {error}") from None
        # A list of three, of which the first is a small number.
        if beginning[:1] != b"\x93":
            raise EnvelopeError("not an entry of receipts")
        if beginning[1:] != b"\x01":
            raise EnvelopeError(f"receipts of version {beginning[1:].hex()}, expected 1")
        wholesaler_id, number = _named(name)
        self._packed[wholesaler_id][number] = value

    def reset(self) -> None:
        """Drop what was read from the log: partitions have changed hands."""
        self._ledgers.clear()
        self._packed.clear()
        self._wholesalers.clear()
        self._provider_ids.clear()

    def _ledger(self, wholesaler_id: str) -> _WholesalerReceipts:
        self.load(wholesaler_id)
        ledger = self._ledgers.get(wholesaler_id)
        if ledger is None:
            ledger = self._ledgers[wholesaler_id] = _WholesalerReceipts({})
        return ledger

    async def _log(self, wholesaler_id: str, number: int, now: int) -> None:
        """Write an entry; changes that came while another was being written go out together."""
        if self.write is None:
            return
        ledger = self._ledger(wholesaler_id)
        page = ledger.pages[number]
        page.changes += 1
        mine = page.changes
        async with page.turn:
            if page.written < mine:
                written = page.changes
                await self.write(_name(wholesaler_id, number), ledger.encoded(number, now))
                page.written = written
