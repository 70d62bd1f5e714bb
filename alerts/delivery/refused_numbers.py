"""Numbers that do not take messages, and why, remembered across restarts.

Opted out and invalid numbers are *blocked*: nothing is written to them until somebody takes them
off the list. A phone that was out of reach is only noted, because it may come back.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from alerts.delivery.journal import REMOVE_LINE, Journal

#: The code of a number whose owner asked for no more messages by a reply.
STOPPED = "STOP"


class RefusedNumber(msgspec.Struct, frozen=True):
    """A number and the provider's code for why it was refused ('' once it takes messages again).

    `cause` names what told so, such as a reply: of the same cause only the first telling counts.
    """

    number: str
    code: str
    reason: str
    at: int
    cause: str = ""
    blocked: bool = True


class RefusedNumbers:
    """The list, in one file that only its owner can read; `path` None keeps it in memory only.

    Raises `SettingsError` when the file cannot be opened, `InputError` when it is damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._journal = Journal(path) if path is not None else None
        self._numbers: dict[str, RefusedNumber] = {}
        self._causes: set[str] = set()
        self._read()

    def get(self, number: str) -> RefusedNumber | None:
        """Why a number is not written to, or None."""
        self._read()
        known = self._numbers.get(number)
        return known if known is not None and known.blocked else None

    def all(self) -> list[RefusedNumber]:
        """Everything on the list, by number; those that are not `blocked` were out of reach."""
        self._read()
        return [self._numbers[number] for number in sorted(self._numbers)]

    def count(self, *, blocked: bool) -> int:
        """How many are blocked, or else only out of reach."""
        return sum(refused.blocked == blocked for refused in self.all())

    def remember(self, refused: RefusedNumber) -> None:
        """Put a number on the list; one that is blocked stays so whatever else befalls it."""
        if self._journal is None:
            if not self._known(refused.cause):
                self._take(refused)
        else:
            line = msgspec.json.encode(refused)
            self._journal.append(line, unless=lambda: self._known(refused.cause))

    def forget(self, number: str, at: int, cause: str = "") -> None:
        """Take a number off the list: it was corrected, or its owner wants messages again."""
        self.remember(RefusedNumber(number, "", "", at, cause))

    def reached(self, number: str, at: int, cause: str = "") -> None:
        """A message arrived: a phone that was out of reach no longer is."""
        self._read()
        known = self._numbers.get(number)
        if known is not None and not known.blocked:
            self.forget(number, at, cause)

    def close(self) -> None:
        """Give the file back."""
        if self._journal is not None:
            self._journal.close()

    def _known(self, cause: str) -> bool:
        self._read()
        return cause in self._causes

    def _take(self, refused: RefusedNumber) -> None:
        if refused.cause:
            self._causes.add(refused.cause)
        if not refused.code:
            self._numbers.pop(refused.number, None)
        elif refused.blocked or refused.number not in self._numbers:
            self._numbers[refused.number] = refused

    def _read(self) -> None:
        if self._journal is None:
            return
        for _, refused in self._journal.entries(_decode, remedy=REMOVE_LINE):
            self._take(refused)


_decode = msgspec.json.Decoder(RefusedNumber).decode
