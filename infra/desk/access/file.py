"""The SQLite file of logins: made when first needed, brought up to date, whole transactions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from schemas.errors import InputError

#: Each brings a file from the version of its place to the next; they are only added to.
_MIGRATIONS: Final = (
    """
    CREATE TABLE users (
        name TEXT PRIMARY KEY COLLATE NOCASE, role TEXT NOT NULL, hash TEXT NOT NULL,
        created INTEGER NOT NULL, disabled INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE sessions (
        token BLOB PRIMARY KEY,
        name TEXT NOT NULL COLLATE NOCASE REFERENCES users ON DELETE CASCADE,
        csrf TEXT NOT NULL, created INTEGER NOT NULL, seen INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE trail (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
        action TEXT NOT NULL, about TEXT NOT NULL, why TEXT NOT NULL, address TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER trail_stays BEFORE DELETE ON trail
        BEGIN SELECT raise(ABORT, 'the trail is only added to'); END;
    CREATE TRIGGER trail_is_not_changed BEFORE UPDATE ON trail
        BEGIN SELECT raise(ABORT, 'the trail is only added to'); END;
    """,
)


class AccessFile:
    """The file at `path`; only its owner may read it.

    Every use is a connection of its own, so the command line and the server may work side by side.
    Raises `InputError` when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self._path.exists()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """To read, or to write a single statement."""
        try:
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as file:
                file.execute("PRAGMA foreign_keys = ON")
                file.execute("PRAGMA synchronous = FULL")
                self._migrate(file)
                yield file
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{self._path} cannot be used: {error}") from None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, and nobody else writes in between."""
        with self.opened() as file:
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
            except BaseException:
                file.execute("ROLLBACK")
                raise
            file.execute("COMMIT")

    def _migrate(self, file: sqlite3.Connection) -> None:
        if _version(file) == len(_MIGRATIONS):
            return
        if _version(file) > len(_MIGRATIONS):
            raise InputError(f"{self._path} was made by a newer zerostock")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("BEGIN IMMEDIATE")
        for number in range(
            _version(file), len(_MIGRATIONS)
        ):  # another process may have been first
            for statement in _statements(_MIGRATIONS[number]):
                file.execute(statement)
        file.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        file.execute("COMMIT")


def _version(file: sqlite3.Connection) -> int:
    return int(file.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: executescript would commit what it finds open."""
    whole = ""
    for line in script.splitlines():
        whole += line + "\n"
        if sqlite3.complete_statement(whole):
            yield whole
            whole = ""
