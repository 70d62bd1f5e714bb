"""The memory of what was sent: before a message goes out and once it was accepted.

An attempt without a receipt means that nobody knows: the process may have died between the
request and its answer, so the provider must be asked before anything is sent again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import msgspec

from alerts.delivery.journal import Journal
from schemas.messages import Message, MessageRecord


class Attempt(msgspec.Struct, frozen=True, tag="attempt"):
    """A message as it was about to be sent, first at wall time `at` (ms)."""

    message: Message
    at: int


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """A message that the provider has taken."""

    record: MessageRecord


#: One line of the file; raises `msgspec.MsgspecError` for what is none.
decode = msgspec.json.Decoder(Attempt | Accepted).decode

#: To skip a line could mean to send a message again.
_RESTORE: Final = "restore the file, or remove the line and accept that its SMS may go out again"


class Receipts(Protocol):
    """What delivery needs to know about earlier runs."""

    def get(self, message_id: str) -> MessageRecord | None:
        """The record of success, if there is one."""

    def put(self, record: MessageRecord) -> None:
        """Record success; it is on the disk when this returns."""

    def attempts(self, message_id: str) -> list[Attempt]:
        """What was tried of a message, one entry for each number and text."""

    def attempt(self, message: Message, at: int) -> None:
        """Record that a message is about to be sent at wall time `at` (ms)."""

    def claimed(self, provider_id: str) -> bool:
        """Whether the provider's message of this name is the proof of a recorded success."""


class FileReceipts:
    """Receipts in one file under the data directory, loaded at start; look-ups are O(1).

    Raises `SettingsError` when the file cannot be opened, `InputError` when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        # Records stay on the disk: years of texts need not be in memory.
        self._places: dict[str, int] = {}
        self._attempts: dict[str, list[Attempt]] = {}
        self._provider_ids: set[str] = set()
        self._read()

    def get(self, message_id: str) -> MessageRecord | None:
        """See `Receipts`."""
        self._read()
        place = self._places.get(message_id)
        if place is None:
            return None
        entry = decode(self._journal.line(place))
        assert isinstance(entry, Accepted)
        return entry.record

    def put(self, record: MessageRecord) -> None:
        """See `Receipts`."""
        self._journal.append(msgspec.json.encode(Accepted(record)))

    def attempts(self, message_id: str) -> list[Attempt]:
        """See `Receipts`."""
        self._read()
        return list(self._attempts.get(message_id, ()))

    def attempt(self, message: Message, at: int) -> None:
        """See `Receipts`."""
        if all(message != known.message for known in self.attempts(message.message_id)):
            self._journal.append(msgspec.json.encode(Attempt(message, at)))

    def claimed(self, provider_id: str) -> bool:
        """See `Receipts`."""
        self._read()
        return provider_id in self._provider_ids

    def close(self) -> None:
        """Give the file back."""
        self._journal.close()

    def _read(self) -> None:
        for place, entry in self._journal.entries(decode, remedy=_RESTORE):
            if isinstance(entry, Attempt):
                if entry.message.message_id not in self._places:
                    self._attempts.setdefault(entry.message.message_id, []).append(entry)
            else:
                self._places[entry.record.message_id] = place
                self._attempts.pop(entry.record.message_id, None)
                if entry.record.provider_id:
                    self._provider_ids.add(entry.record.provider_id)
