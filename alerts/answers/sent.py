"""Which message an answer is about, from the record of what was sent.

An attempt is on the disk before its message leaves, so it is known here before any phone can
answer it.
"""

from __future__ import annotations

from typing import NamedTuple

from alerts.delivery.receipts import FileReceipts
from schemas.messages import ListedIncident, Message, MessageRecord


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
    """The messages of one data directory, as its receipts have them, also the newest."""

    def __init__(self, receipts: FileReceipts) -> None:
        self._receipts = receipts

    def latest_to(self, number: str) -> SentMessage | None:
        """What an answer from a number (E.164) is about, or None.

        The last message there that asked for something: a note in between does not. If none did,
        the last of all.
        """
        return _tried(self._receipts.latest_to(number))

    def message(self, message_id: str) -> SentMessage | None:
        """The message of this id, or None."""
        # An attempt says more; senders on this machine record none.
        tried = _tried(self._receipts.message(message_id))
        return tried or _accepted(self._receipts.get(message_id))

    def of_provider(self, provider_id: str) -> SentMessage | None:
        """The message that the provider knows by this id, or None."""
        record = self._receipts.of_provider(provider_id) if provider_id else None
        return self.message(record.message_id) if record is not None else None

    def close(self) -> None:
        """Give the file back."""
        self._receipts.close()


def _tried(message: Message | None) -> SentMessage | None:
    if message is None:
        return None
    return SentMessage(
        message.message_id,
        message.wholesaler_id,
        message.to,
        message.body,
        message.language,
        message.at,
        message.incidents,
    )


def _accepted(record: MessageRecord | None) -> SentMessage | None:
    if record is None:
        return None
    return SentMessage(
        record.message_id, record.wholesaler_id, "", record.body, "", record.created_at, ()
    )
