"""Passwords: which will do, and how they are kept (Argon2id)."""

from __future__ import annotations

import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from zxcvbn import zxcvbn

from infra.desk.translation import N_
from schemas.errors import InputError, UsageError

SHORTEST: Final = 12
_LONGEST: Final = 1_000
#: zxcvbn's estimate from 0 to 4 (3: more than 10⁸ guesses), and how much of a password it takes.
_STRONG: Final = 3
_JUDGED: Final = 72


def check_password(name: str, password: str) -> None:
    """Raises `UsageError` for a password that is too easily guessed."""
    if len(password) < SHORTEST:
        raise UsageError(N_("a password has 12 characters or more"))
    if len(password) > _LONGEST:
        raise UsageError(N_("this password is too long"))
    if name.lower() in password.lower():
        raise UsageError(N_("a password does not contain the user's name"))
    if zxcvbn(password[:_JUDGED], user_inputs=[name, "zerostock"])["score"] < _STRONG:
        raise UsageError(N_("this password is easily guessed: use several unrelated words"))


class Passwords:
    """Makes and checks hashes; a wrong name takes as long as a wrong password."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        """What is kept of a password."""
        return self._hasher.hash(password)

    def fits(self, kept: str | None, password: str) -> bool:
        """Whether it is the password; None is nobody's.

        Raises `InputError` for what is no hash.
        """
        if len(password) > _LONGEST:
            return False
        try:
            return self._hasher.verify(kept or self._nobody, password) and kept is not None
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError):
            raise InputError("the file of logins is damaged: a password's hash is none") from None

    def outdated(self, kept: str) -> bool:
        """Whether it was made with older parameters than today's."""
        return self._hasher.check_needs_rehash(kept)
