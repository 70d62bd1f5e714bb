"""Messages as JSON lines in a file, for tests and for systems that send by other ways.

A line is `message_id, wholesaler_id, to, body, at, incidents: [{incident_id, outlet_id, sku,
opened_at}]`; times are ISO 8601 with offset. One message is one line, for ever: the file itself is
the record of what was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from alerts.delivery.journal import Journal
from schemas.errors import InputError
from schemas.messages import Message, Receipt


class _SentLine(msgspec.Struct):
    message_id: str


class FileSender:
    """Appends to a file. Raises `SettingsError` or `InputError` when it is not fit for that."""

    remote = False
    finds = True

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path, mode=0o666)
        self._ids: set[str] = set()
        self._read()

    async def send(self, message: Message) -> Receipt:
        """See `Sender`; a message that is there already is not written again."""
        self._journal.append(_line(message), unless=lambda: self._has(message.message_id))
        return Receipt("", message.segments)

    async def find(self, message: Message, since: int) -> Receipt | None:
        """See `Sender`."""
        return Receipt("", message.segments) if self._has(message.message_id) else None

    async def close(self) -> None:
        """Give the file back."""
        self._journal.close()

    def _has(self, message_id: str) -> bool:
        self._read()
        return message_id in self._ids

    def _read(self) -> None:
        for _, line in self._journal.unread():
            try:
                self._ids.add(_decode(line).message_id)
            except msgspec.MsgspecError:
                raise InputError(
                    f"{self._journal.path}, line {self._journal.lines_read} is not an SMS as this "
                    "program writes it; name another file"
                ) from None


_decode = msgspec.json.Decoder(_SentLine).decode


def _line(message: Message) -> bytes:
    return msgspec.json.encode(
        {
            "message_id": message.message_id,
            "wholesaler_id": message.wholesaler_id,
            "to": message.to,
            "body": message.body,
            "at": _iso(message.at),
            "incidents": [
                {
                    "incident_id": incident.incident_id,
                    "outlet_id": incident.outlet_id,
                    "sku": incident.sku,
                    "opened_at": _iso(incident.opened_at),
                }
                for incident in message.incidents
            ],
        }
    )


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds")
