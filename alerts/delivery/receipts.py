"""The record of what was sent: each attempt before its message leaves, each success at once.

An attempt without a success is in doubt: the process may have died between the request and its
answer, so the provider is asked before anything is sent again.

The record is on this machine's disk (`FileReceipts`) and, for a worker, in the log (`LogReceipts`):
whichever worker is given a wholesaler's partition next, on whichever machine, knows it too.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from schemas.errors import InputError, SettingsError
from schemas.messages import Message, MessageRecord


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
