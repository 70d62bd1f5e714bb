"""Users, sessions and the trail: one SQLite file beside the data.

Not in the warehouse, which analysts read and another process may own.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.desk.access.file import AccessFile
from infra.desk.access.passwords import Passwords, check_password
from infra.desk.translation import N_
from infra.desk.visitor import ROLES, Visitor
from schemas.errors import UsageError

#: Seconds: a session ends so long after it began, and after it was last used.
SESSION_LASTS: Final = 12 * 3_600
SESSION_IDLE: Final = 3_600
_SEEN_EVERY: Final = 60


@dataclass(frozen=True)
class User:
    """A login; `created` in ms."""

    name: str
    role: str
    created: int
    disabled: bool


@dataclass(frozen=True)
class Note:
    """What somebody did; `at` in ms."""

    at: int
    who: str
    role: str
    action: str
    about: str
    why: str
    address: str


class AccessStore:
    """The file at `path`, made when it is first written to.

    `clock` gives ms. Raises `InputError` when the file cannot be used, `UsageError` for names,
    roles and passwords that will not do.
    """

    def __init__(self, path: Path, clock: Callable[[], int] | None = None) -> None:
        self._file = AccessFile(path)
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._passwords = Passwords()

    # users

    def add(self, name: str, role: str, password: str) -> None:
        """A new user."""
        _check_name(name)
        _check_role(role)
        check_password(name, password)
        row = (name, role, self._passwords.hash(password), self._clock())
        with self._file.writing() as file:
            if file.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone():
                raise UsageError(N_("there is a user of this name already"))
            file.execute("INSERT INTO users (name, role, hash, created) VALUES (?, ?, ?, ?)", row)

    def set_role(self, name: str, role: str) -> None:
        """Another role; the user has to log in again."""
        _check_role(role)
        self._change(name, "UPDATE users SET role = ? WHERE name = ?", role)

    def set_password(self, name: str, password: str) -> None:
        """Another password; sessions end."""
        check_password(name, password)
        hashed = self._passwords.hash(password)
        self._change(name, "UPDATE users SET hash = ? WHERE name = ?", hashed)

    def set_disabled(self, name: str, disabled: bool) -> None:
        """A user who may not log in, or may again."""
        self._change(name, "UPDATE users SET disabled = ? WHERE name = ?", int(disabled))

    def remove(self, name: str) -> None:
        """No such user any more; what they did stays in the trail."""
        with self._file.writing() as file:
            if not file.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount:
                raise UsageError(N_("there is no user of this name"))

    def users(self) -> list[User]:
        """All users by name."""
        if not self._file.exists():
            return []
        with self._file.opened() as file:
            rows = file.execute("SELECT name, role, created, disabled FROM users ORDER BY name")
            return [User(name, role, at, bool(off)) for name, role, at, off in rows]

    def any_user(self) -> bool:
        """Whether a login is set up."""
        if not self._file.exists():
            return False
        with self._file.opened() as file:
            return file.execute("SELECT 1 FROM users LIMIT 1").fetchone() is not None

    def _change(self, name: str, sql: str, value: object) -> None:
        with self._file.writing() as file:
            if not file.execute(sql, (value, name)).rowcount:
                raise UsageError(N_("there is no user of this name"))
            file.execute("DELETE FROM sessions WHERE name = ?", (name,))

    # sessions

    def log_in(self, name: str, password: str) -> str | None:
        """A new session's token; None if there is no such user with this password.

        Takes as long either way. A hash made with older parameters is made anew.
        """
        with self._file.opened() as file:
            row = file.execute(
                "SELECT name, hash FROM users WHERE name = ? AND disabled = 0", (name,)
            ).fetchone()
        known, kept = row or ("", None)
        if not self._passwords.fits(kept, password) or kept is None:
            return None
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._file.writing() as file:
            # Meanwhile the user may have been removed, or the password changed.
            if not file.execute(
                "SELECT 1 FROM users WHERE name = ? AND hash = ? AND disabled = 0", row
            ).fetchone():
                return None
            if self._passwords.outdated(kept):
                renewed = (self._passwords.hash(password), known)
                file.execute("UPDATE users SET hash = ? WHERE name = ?", renewed)
            file.execute(
                "DELETE FROM sessions WHERE created < ? OR seen < ?",
                (now - SESSION_LASTS * 1_000, now - SESSION_IDLE * 1_000),
            )
            session = (_digest(token), known, secrets.token_urlsafe(32), now, now)
            file.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", session)
        return token

    def visitor(self, token: str) -> Visitor | None:
        """Who has this session; None if there is none, or it has ended."""
        if not self._file.exists():
            return None
        now, digest = self._clock(), _digest(token)
        with self._file.opened() as file:
            row = file.execute(
                "SELECT users.name, role, csrf, seen FROM sessions JOIN users USING (name)"
                " WHERE token = ? AND disabled = 0 AND sessions.created > ? AND seen > ?",
                (digest, now - SESSION_LASTS * 1_000, now - SESSION_IDLE * 1_000),
            ).fetchone()
        if row is None:
            return None
        name, role, csrf, seen = row
        if now - seen > _SEEN_EVERY * 1_000:
            with self._file.writing() as file:
                file.execute("UPDATE sessions SET seen = ? WHERE token = ?", (now, digest))
        return Visitor(name, role, csrf)

    def log_out(self, token: str) -> None:
        """Ends a session."""
        with self._file.writing() as file:
            file.execute("DELETE FROM sessions WHERE token = ?", (_digest(token),))

    def knows(self, name: str, password: str) -> bool:
        """Whether this is the user's password."""
        with self._file.opened() as file:
            row = file.execute("SELECT hash FROM users WHERE name = ?", (name,)).fetchone()
        return self._passwords.fits(row[0] if row else None, password)

    # trail

    def note(
        self, visitor: Visitor, action: str, about: str, why: str = "", address: str = ""
    ) -> None:
        """Keep what somebody did; nothing takes it away again."""
        row = (self._clock(), visitor.name, visitor.role, action, about, why, address)
        with self._file.writing() as file:
            file.execute(
                "INSERT INTO trail (at, who, role, action, about, why, address)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def note_failed_login(self, name: str, address: str) -> None:
        """Keep that it failed; a name that nobody has may be a password in the wrong field."""
        with self._file.opened() as file:
            known = file.execute("SELECT name FROM users WHERE name = ?", (name,)).fetchone()
        self.note(Visitor(known[0] if known else "(unknown)", ""), "log in failed", "", "", address)

    def trail(self, most: int, before: int | None = None) -> list[tuple[int, Note]]:
        """The newest notes by number, from before a number on."""
        with self._file.opened() as file:
            rows = file.execute(
                "SELECT id, at, who, role, action, about, why, address FROM trail"
                " WHERE id < ? ORDER BY id DESC LIMIT ?",
                (before if before is not None else 1 << 62, most),
            ).fetchall()
        return [(row[0], Note(*row[1:])) for row in rows]


def _check_name(name: str) -> None:
    if not (1 <= len(name) <= 64 and name.isprintable() and name == name.strip()):
        raise UsageError(N_("a user's name has 1 to 64 characters, without spaces around it"))


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise UsageError(N_("the roles are viewer, manager and admin"))


def _digest(token: str) -> bytes:
    """What is kept of a token: a stolen file opens no session."""
    return hashlib.sha256(token.encode()).digest()
