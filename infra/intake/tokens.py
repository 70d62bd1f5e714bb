"""Who may send events: a token a feeder, from the environment or a file that may change."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import Final

from infra.settings import Settings
from schemas.errors import SettingsError

log = logging.getLogger(__name__)

#: A feeder's name is part of its source's, and of a folder's.
_ENTRY: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})\s*[\s=:]\s*(\S{16,})")


class FeederTokens:
    """The tokens of all feeders; a file is read again when it changed.

    Each line (in the environment also with commas between) is `FEEDER TOKEN`; a feeder may have
    several, so that they can be changed one after the other. Raises `SettingsError`.
    """

    def __init__(self, settings: Settings) -> None:
        self._fixed: dict[bytes, str] = {}
        if settings.intake_tokens is not None:
            text = settings.intake_tokens.get_secret_value().replace(",", "\n")
            self._fixed = _parse(text, "ZEROSTOCK_INTAKE_TOKENS")
        self._path = settings.intake_tokens_file
        self._state: tuple[int, int] | None = None
        self._read: dict[bytes, str] = {}
        if self._path is not None:
            self._state = _state(self._path)
            self._read = _parse(_text(self._path), str(self._path))
        if not self._fixed and not self._read:
            raise SettingsError(
                "nobody may send: give each feeder a token of 16 characters or more as a line"
                " `FEEDER TOKEN` of ZEROSTOCK_INTAKE_TOKENS or of a file, --tokens FILE"
            )

    def feeder_of(self, authorization: str) -> str | None:
        """Whose token an `Authorization` header bears."""
        self._look()
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            return None
        key = _key(token.strip())
        return self._fixed.get(key) or self._read.get(key)

    @property
    def feeders(self) -> frozenset[str]:
        """All who may send."""
        return frozenset([*self._fixed.values(), *self._read.values()])

    def _look(self) -> None:
        if self._path is None:
            return
        try:
            if (state := _state(self._path)) == self._state:
                return
            self._state = state
            self._read = _parse(_text(self._path), str(self._path))
        except SettingsError as error:
            log.error("the tokens as they were hold: %s", error)  # noqa: TRY400 - a user's mistake


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    return found.st_size, found.st_mtime_ns


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{path} cannot be read: {why}") from None


def _parse(text: str, where: str) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _ENTRY.fullmatch(line.strip())
        if entry is None:
            raise SettingsError(
                f"{where}, line {number}: give `FEEDER TOKEN`: a name of letters, digits, - and _,"
                " and 16 characters or more"
            )
        if found.setdefault(_key(entry[2]), entry[1]) != entry[1]:
            raise SettingsError(f"{where}, line {number}: two feeders have the same token")
    return found


def _key(token: str) -> bytes:
    """A hash, so that looking one up takes the same time whatever it is."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
