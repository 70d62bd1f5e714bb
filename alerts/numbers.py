"""Numbers that do not take messages, and why, remembered across restarts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from alerts.journal import Journal
from schemas.errors import InputError


class RefusedNumber(msgspec.Struct, frozen=True):
    """A number and the provider's code for why it was refused ('' once it takes messages again)."""

    number: str
    code: str
    reason: str
    at: int


class RefusedNumbers:
    """The list, in one file that only its owner can read; `path` None keeps it in memory only.

    Raises `SettingsError` when the file cannot be opened, `InputError` when it is damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._journal = Journal(path) if path is not None else None
        self._numbers: dict[str, RefusedNumber] = {}
        self._read()

    def get(self, number: str) -> RefusedNumber | None:
        """Why a number is not written to, or None."""
        self._read()
        return self._numbers.get(number)

    def all(self) -> list[RefusedNumber]:
        """Everything on the list, by number."""
        self._read()
        return [self._numbers[number] for number in sorted(self._numbers)]

    def remember(self, refused: RefusedNumber) -> None:
        """Put a number on the list."""
        if self._journal is None:
            self._take(refused)
        else:
            self._journal.append(msgspec.json.encode(refused))

    def forget(self, number: str, at: int) -> None:
        """Take a number off the list: it was corrected, or its owner wants messages again."""
        self.remember(RefusedNumber(number, "", "", at))

    def close(self) -> None:
        """Give the file back."""
        if self._journal is not None:
            self._journal.close()

    def _take(self, refused: RefusedNumber) -> None:
        if refused.code:
            self._numbers[refused.number] = refused
        else:
            self._numbers.pop(refused.number, None)

    def _read(self) -> None:
        if self._journal is None:
            return
        for _, line in self._journal.unread():
            try:
                self._take(_decode(line))
            except msgspec.MsgspecError as error:
                raise InputError(
                    f"{self._journal.path}, line {self._journal.lines_read} is damaged ({error}); "
                    "remove the line"
                ) from None


_decode = msgspec.json.Decoder(RefusedNumber).decode
