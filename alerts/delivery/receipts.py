"""The record of what was sent: each attempt before its message leaves, each success at once.

An attempt without a success is in doubt: the process may have died between the request and its
answer, so the provider is asked before anything is sent again.

The record is on this machine's disk (`FileReceipts`) and, for a worker, in the log (`LogReceipts`):
whichever worker is given a wholesaler's partition next, on whichever machine, knows it too.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from schemas.errors import EnvelopeError, InputError, SettingsError
from schemas.messages import Message, MessageRecord

#: How long the log keeps a success after its message went out, in ms, and how many of a wholesaler.
_KEPT: Final = 7 * 86_400_000
_MOST_KEPT: Final = 500


class Attempt(msgspec.Struct, frozen=True):
    """A message as it was about to be sent by a route, first at wall time `at` (ms)."""

    message: Message
    at: int
    route: str = ""

    def same(self, other: Attempt) -> bool:
        """Whether it is the same text to the same number by the same route."""
        return (self.message, self.route) == (other.message, other.route)


class Receipts(Protocol):
    """What delivery needs to know of earlier attempts, by whichever worker."""

    def load(self, wholesaler_id: str) -> None:
        """Have a wholesaler's receipts at hand: to be called before any of them is asked for."""

    def get(self, message_id: str) -> MessageRecord | None:
        """The record of success, if there is one."""

    def attempts(self, message_id: str) -> list[Attempt]:
        """What was tried of a message without success yet, one entry for each number and text."""

    def claimed(self, provider_id: str) -> bool:
        """Whether the provider's message of this id is the proof of a recorded success."""

    async def put(self, record: MessageRecord) -> None:
        """Record success; it is safe, for every worker that asks, when this returns.

        To be called again for a record that was found: it may be on one machine's disk only.
        """

    async def attempt(self, attempt: Attempt) -> None:
        """Record that a message is about to be sent."""

    async def failed(self, attempt: Attempt) -> None:
        """Record that an attempt surely was not accepted: it is in doubt no longer."""


_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS attempts (
    message_id TEXT NOT NULL, sent_to TEXT NOT NULL, asks INTEGER NOT NULL, entry BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS attempts_by_message ON attempts (message_id);
CREATE INDEX IF NOT EXISTS attempts_by_number ON attempts (sent_to, asks);
CREATE TABLE IF NOT EXISTS successes (
    message_id TEXT PRIMARY KEY, provider_id TEXT NOT NULL, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS successes_by_provider ON successes (provider_id);
"""


class FileReceipts:
    """Receipts in one SQLite file, shared by the processes of a machine; opening it reads nothing.

    Raises `SettingsError` when the file cannot be opened, `InputError` when it is damaged, OSError
    when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # By its owner only, as it has numbers; SQLite gives its other files the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._base = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(f"cannot write to {path}: {error}") from None
        with self._errors():
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            self._base.executescript(_SCHEMA)

    def load(self, wholesaler_id: str) -> None:
        """See `Receipts`; they always are."""

    def get(self, message_id: str) -> MessageRecord | None:
        """See `Receipts`."""
        found = self._one("SELECT record FROM successes WHERE message_id = ?", message_id)
        return None if found is None else msgspec.json.decode(found, type=MessageRecord)

    def attempts(self, message_id: str) -> list[Attempt]:
        """See `Receipts`."""
        if self.get(message_id) is not None:
            return []
        with self._errors():
            rows = self._base.execute(
                "SELECT entry FROM attempts WHERE message_id = ? ORDER BY rowid",
                (message_id,),
            ).fetchall()
        return [msgspec.json.decode(entry, type=Attempt) for (entry,) in rows]

    def claimed(self, provider_id: str) -> bool:
        """See `Receipts`."""
        found = "SELECT 1 FROM successes WHERE provider_id = ?"
        return bool(provider_id) and self._one(found, provider_id) is not None

    async def put(self, record: MessageRecord) -> None:
        """See `Receipts`."""
        if self.get(record.message_id) is None:
            self.keep(record)

    async def attempt(self, attempt: Attempt) -> None:
        """See `Receipts`."""
        self.keep_attempt(attempt)

    async def failed(self, attempt: Attempt) -> None:
        """See `Receipts`."""
        self.drop_attempt(attempt)

    def keep(self, record: MessageRecord) -> None:
        """Record success; it is on the disk when this returns."""
        self._write(
            "INSERT OR REPLACE INTO successes VALUES (?, ?, ?)",
            record.message_id,
            record.provider_id,
            msgspec.json.encode(record),
        )

    def keep_attempt(self, attempt: Attempt) -> None:
        """Record an attempt, unless one with the same number and text is there."""
        message = attempt.message
        if not any(attempt.same(known) for known in self.attempts(message.message_id)):
            self._write(
                "INSERT INTO attempts VALUES (?, ?, ?, ?)",
                message.message_id,
                message.to,
                message.asks,
                msgspec.json.encode(attempt),
            )

    def drop_attempt(self, attempt: Attempt) -> None:
        """Take an attempt back, if it is there."""
        for known in self.attempts(attempt.message.message_id):
            if attempt.same(known):
                self._write(
                    "DELETE FROM attempts WHERE message_id = ? AND entry = ?",
                    attempt.message.message_id,
                    msgspec.json.encode(known),
                )

    def latest_to(self, number: str) -> Message | None:
        """The last message to a number (E.164) that asked for something; if none did, the last."""
        latest = (
            "SELECT entry FROM attempts WHERE sent_to = ? ORDER BY asks DESC, rowid DESC LIMIT 1"
        )
        return _message(self._one(latest, number))

    def message(self, message_id: str) -> Message | None:
        """The message of this id as it was last tried, or None."""
        last = "SELECT entry FROM attempts WHERE message_id = ? ORDER BY rowid DESC LIMIT 1"
        return _message(self._one(last, message_id))

    def of_provider(self, provider_id: str) -> MessageRecord | None:
        """The success that the provider knows by this id, or None."""
        found = self._one("SELECT record FROM successes WHERE provider_id = ?", provider_id)
        return None if found is None else msgspec.json.decode(found, type=MessageRecord)

    def close(self) -> None:
        """Give the file back."""
        self._base.close()

    def _one(self, sql: str, *values: object) -> bytes | None:
        with self._errors():
            row = self._base.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def _write(self, sql: str, *values: object) -> None:
        with self._errors():
            self._base.execute(sql, values)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._path}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._path} is damaged ({error}); restore it") from None


def _message(entry: bytes | None) -> Message | None:
    return None if entry is None else msgspec.json.decode(entry, type=Attempt).message


class _Logged(msgspec.Struct, array_like=True):
    """One wholesaler's entry in the log: the newest receipts by message id."""

    version: int
    attempts: dict[str, list[Attempt]]
    successes: dict[str, MessageRecord]


#: Writes a wholesaler's entry to the log; returns when it is safe there.
WriteLog = Callable[[str, bytes], Awaitable[None]]


class LogReceipts:
    """Receipts of the wholesalers whose partitions a worker has, over those of its own disk.

    `write` puts a wholesaler's entry on the log; it raises, or ends the process, if the worker may
    have been replaced. An entry keeps a success for a week after its message went out. What was
    restored is read when its wholesaler is first asked for: a worker may start with a million.
    """

    def __init__(self, local: FileReceipts) -> None:
        self.local = local
        self.write: WriteLog | None = None
        self._entries: dict[str, _Logged] = {}
        self._packed: dict[str, bytes] = {}
        self._wholesalers: dict[str, str] = {}
        self._provider_ids: set[str] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def load(self, wholesaler_id: str) -> None:
        """See `Receipts`. Raises `EnvelopeError` for an entry that cannot be read."""
        value = self._packed.pop(wholesaler_id, None)
        if value is not None:
            try:
                entry = msgspec.msgpack.decode(zlib.decompress(value), type=_Logged)
            except (msgspec.MsgspecError, zlib.error) as error:
                raise EnvelopeError(f"not an entry of receipts: {error}") from None
            self._entries[wholesaler_id] = entry
            self._index(wholesaler_id, entry)

    def get(self, message_id: str) -> MessageRecord | None:
        """See `Receipts`."""
        entry = self._entries.get(self._wholesalers.get(message_id, ""))
        logged = entry.successes.get(message_id) if entry is not None else None
        return logged or self.local.get(message_id)

    def attempts(self, message_id: str) -> list[Attempt]:
        """See `Receipts`."""
        if self.get(message_id) is not None:
            return []
        entry = self._entries.get(self._wholesalers.get(message_id, ""))
        logged = entry.attempts.get(message_id, []) if entry is not None else []
        local = self.local.attempts(message_id)
        return [*logged, *(a for a in local if not any(map(a.same, logged)))]

    def claimed(self, provider_id: str) -> bool:
        """See `Receipts`."""
        if provider_id and provider_id not in self._provider_ids:
            # Rarely asked, and seldom about a wholesaler whose receipts are at hand.
            name = provider_id.encode()
            for wholesaler_id, value in list(self._packed.items()):
                if name in zlib.decompress(value):
                    self.load(wholesaler_id)
        return provider_id in self._provider_ids or self.local.claimed(provider_id)

    async def put(self, record: MessageRecord) -> None:
        """See `Receipts`."""
        await self.local.put(record)  # first, as nothing can come between the answer and this
        entry = self._entry(record.wholesaler_id)
        if record.message_id in entry.successes:
            return
        entry.attempts.pop(record.message_id, None)
        entry.successes[record.message_id] = record
        self._index(record.wholesaler_id, entry)
        await self._log(record.wholesaler_id, record.version)

    async def attempt(self, attempt: Attempt) -> None:
        """See `Receipts`."""
        message = attempt.message
        entry = self._entry(message.wholesaler_id)
        known = entry.attempts.setdefault(message.message_id, [])
        if not any(map(attempt.same, known)):
            known.append(attempt)
            self._index(message.wholesaler_id, entry)
            self.local.keep_attempt(attempt)
            await self._log(message.wholesaler_id, attempt.at)

    async def failed(self, attempt: Attempt) -> None:
        """See `Receipts`."""
        message = attempt.message
        entry = self._entry(message.wholesaler_id)
        known = entry.attempts.get(message.message_id, [])
        left = [earlier for earlier in known if not attempt.same(earlier)]
        self.local.drop_attempt(attempt)
        if len(left) < len(known):
            entry.attempts[message.message_id] = left
            if not left:
                del entry.attempts[message.message_id]
            await self._log(message.wholesaler_id, attempt.at)

    def restore(self, wholesaler_id: str, value: bytes) -> None:
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
        self._packed[wholesaler_id] = value
        self._entries.pop(wholesaler_id, None)

    def reset(self) -> None:
        """Drop what was read from the log: partitions have changed hands."""
        self._entries.clear()
        self._packed.clear()
        self._wholesalers.clear()
        self._provider_ids.clear()

    def _entry(self, wholesaler_id: str) -> _Logged:
        self.load(wholesaler_id)
        return self._entries.setdefault(wholesaler_id, _Logged(1, {}, {}))

    def _index(self, wholesaler_id: str, entry: _Logged) -> None:
        for message_id in (*entry.attempts, *entry.successes):
            self._wholesalers[message_id] = wholesaler_id
        self._provider_ids.update(r.provider_id for r in entry.successes.values() if r.provider_id)

    async def _log(self, wholesaler_id: str, now: int) -> None:
        if self.write is None:
            return
        async with self._turns[wholesaler_id]:
            entry = self._entry(wholesaler_id)
            newest = sorted(entry.successes.values(), key=lambda r: r.version)[-_MOST_KEPT:]
            entry.successes = {r.message_id: r for r in newest if r.version > now - _KEPT}
            await self.write(wholesaler_id, zlib.compress(msgspec.msgpack.encode(entry), 1))
