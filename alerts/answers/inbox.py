"""Everything that phones and providers said, on disk before anybody acts on it.

What a reply is about is decided once, when it first comes: by the time the provider repeats it, the
latest message may be another one. An entry is *pending*, across crashes, until Kafka has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from alerts.answers.reading import Reply
from alerts.delivery.journal import REMOVE_LINE, Journal
from schemas.answers import Answer


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """One reply or status: `key` is its id for ever; `at` (wall ms) is when it came.

    `number` is '' for answers on the page, `message_id` when no message was sent to the number.
    `answer` is None for statuses. `reply` is the text sent back, `rows` what is to be forwarded.
    """

    key: str
    at: int
    number: str
    message_id: str
    answer: Reply | None
    reply: str
    rows: tuple[Answer, ...]


#: Answers about a message; stop and start are about the number.
_ABOUT_MESSAGES: Final = ("acknowledged", "delivering", "cannot")


class _Forwarded(msgspec.Struct, frozen=True, tag="forwarded"):
    key: str


class Inbox:
    """The entries of one data directory, in one file that only its owner can read.

    Raises `SettingsError` when the file cannot be opened, `InputError` when it is damaged, OSError
    when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._places: dict[str, int] = {}
        self._pending: dict[str, int] = {}
        self._answers: dict[str, tuple[int, Reply]] = {}
        self._helped: dict[str, str] = {}
        self._read()

    def get(self, key: str) -> Heard | None:
        """The entry of this key, or None."""
        self._read()
        place = self._places.get(key)
        return self._at(place) if place is not None else None

    def put(self, heard: Heard) -> Heard:
        """Keep an entry and return it; of two with one key the first is kept and returned."""
        self._journal.append(
            msgspec.json.encode(heard), unless=lambda: self.get(heard.key) is not None
        )
        return self.get(heard.key) or heard

    def forwarded(self, key: str) -> None:
        """Record that Kafka has an entry."""
        self._journal.append(
            msgspec.json.encode(_Forwarded(key)), unless=lambda: not self._is_pending(key)
        )

    def pending(self) -> list[Heard]:
        """Entries that Kafka does not have yet, in the order they came."""
        self._read()
        return [self._at(place) for place in sorted(self._pending.values())]

    def answers_to(self, message_id: str) -> tuple[int, Reply | None]:
        """How many answers there were to a message, and the last one."""
        self._read()
        return self._answers.get(message_id, (0, None))

    def helped(self, number: str, message_id: str) -> bool:
        """Whether this number was given help since that message went to it."""
        self._read()
        return self._helped.get(number) == message_id

    def close(self) -> None:
        """Give the file back."""
        self._journal.close()

    def _is_pending(self, key: str) -> bool:
        self._read()
        return key in self._pending

    def _at(self, place: int) -> Heard:
        entry = _decode(self._journal.line(place))
        assert isinstance(entry, Heard)
        return entry

    def _read(self) -> None:
        for place, entry in self._journal.entries(_decode, remedy=REMOVE_LINE):
            if isinstance(entry, _Forwarded):
                self._pending.pop(entry.key, None)
                continue
            self._places[entry.key] = place
            if entry.rows:
                self._pending[entry.key] = place
            if entry.answer is not None and entry.answer.kind in _ABOUT_MESSAGES and entry.rows:
                count, _ = self._answers.get(entry.message_id, (0, None))
                self._answers[entry.message_id] = (count + 1, entry.answer)
            if entry.reply:
                self._helped[entry.number] = entry.message_id


_decode = msgspec.json.Decoder(Heard | _Forwarded).decode
