"""Which message an answer is about, from the record of what was sent.

An attempt is on the disk before its message leaves, so it is known here before any phone can
answer it. Reading that record for sending is `alerts.delivery.receipts`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from alerts.delivery.journal import Journal
from alerts.delivery.receipts import Attempt, decode
from schemas.messages import ListedIncident


class SentMessage(NamedTuple):
    """A message as somebody has it on a phone; `incidents` may be () when only the text is known.

    `language` is the template's and '' when it is not known.
    """

    message_id: str
    wholesaler_id: str
    to: str
    body: str
    language: str
    at: int
    incidents: tuple[ListedIncident, ...]


class Sent:
    """The record of one data directory; look-ups are O(1) and see what was just written.

    Raises `SettingsError` when the file cannot be opened, `InputError` when it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._by_message: dict[str, int] = {}
        self._by_number: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._by_provider: dict[str, str] = {}
        self._read()

    def latest_to(self, number: str) -> SentMessage | None:
        """What an answer from a number (E.164) is about, or None.

        The last message there that asked for something: a note in between does not. If none did,
        the last of all.
        """
        self._read()
        return self._at(self._asked.get(number, self._by_number.get(number)))

    def message(self, message_id: str) -> SentMessage | None:
        """The message of this name, or None."""
        self._read()
        return self._at(self._by_message.get(message_id))

    def of_provider(self, provider_id: str) -> SentMessage | None:
        """The message that the provider knows by this name, or None."""
        self._read()
        return self.message(self._by_provider.get(provider_id, ""))

    def close(self) -> None:
        """Give the file back."""
        self._journal.close()

    def _at(self, place: int | None) -> SentMessage | None:
        if place is None:
            return None
        entry = decode(self._journal.line(place))
        if isinstance(entry, Attempt):
            message = entry.message
            return SentMessage(
                message.message_id,
                message.wholesaler_id,
                message.to,
                message.body,
                message.language,
                message.at,
                message.incidents,
            )
        record = entry.record
        return SentMessage(
            record.message_id, record.wholesaler_id, "", record.body, "", record.created_at, ()
        )

    def _read(self) -> None:
        for place, entry in self._journal.entries(decode):
            if isinstance(entry, Attempt):
                self._by_message[entry.message.message_id] = place
                self._by_number[entry.message.to] = place
                if entry.message.asks:
                    self._asked[entry.message.to] = place
            else:
                # An attempt says more; senders on this machine record none.
                self._by_message.setdefault(entry.record.message_id, place)
                if entry.record.provider_id:
                    self._by_provider[entry.record.provider_id] = entry.record.message_id
