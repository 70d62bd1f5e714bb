"""Links to the answer page: signed, for one message of one wholesaler, and for some time only.

A link is as long as it must be and no longer, as it travels in an SMS:
`https://host/a/<message>.<end, minutes, base 36>.<signature>`. Nothing in it is secret, nobody can
make one without the key, and making it again gives the same.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Final
from urllib.parse import quote, unquote

from itsdangerous import Signer

from schemas.errors import SettingsError, ZerostockError

#: Where the page lives under the public address.
PATH: Final = "/a/"

_MINUTE: Final = 60_000
_SHORTEST_KEY: Final = 16
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class LinkRefused(ZerostockError):
    """A link that nobody here has made; `expired` says that it was good once."""

    def __init__(self, text: str, *, expired: bool = False) -> None:
        super().__init__(text)
        self.expired = expired


class Links:
    """Makes and opens links with one key; `address` is public, `lifetime` in ms.

    Raises `SettingsError` when the key is too short to be one.
    """

    def __init__(self, key: str, address: str, lifetime: int) -> None:
        if len(key) < _SHORTEST_KEY:
            raise SettingsError(
                f"ZEROSTOCK_LINK_KEY has fewer than {_SHORTEST_KEY} characters: make one with "
                "`openssl rand -hex 16`"
            )
        self._key = key
        self._address = address.rstrip("/")
        self._lifetime = lifetime

    def link(self, message_id: str, wholesaler_id: str, at: int) -> str:
        """The link for a message that fell due at `at` (ms)."""
        return self._address + PATH + self.token(message_id, wholesaler_id, at)

    def token(self, message_id: str, wholesaler_id: str, at: int) -> str:
        """The last part of a link."""
        end = (at + self._lifetime) // _MINUTE
        name = f"{quote(message_id, safe='')}.{_base36(end)}"
        return self._signer(wholesaler_id).sign(name).decode()

    def open(self, token: str, now: int, holder: Callable[[str], str | None]) -> str:
        """The message that a link is for; `holder` tells the wholesaler of a message, if any.

        Raises `LinkRefused`.
        """
        name, _, _ = token.rpartition(".")
        quoted, _, written = name.rpartition(".")
        message_id = _unquoted(quoted)
        wholesaler_id = holder(message_id) if message_id else None
        if wholesaler_id is None:
            raise LinkRefused("a link for no message")
        # Not `unsign`, to which a signature with odd characters strewn in is as good as without.
        signed = self._signer(wholesaler_id).sign(name.encode(errors="replace"))
        if not compare_digest(signed, token.encode(errors="replace")):
            raise LinkRefused("a link with a wrong signature")
        if int(written, 36) * _MINUTE < now:
            raise LinkRefused("a link that has expired", expired=True)
        return message_id

    def _signer(self, wholesaler_id: str) -> Signer:
        return Signer(self._key, salt=f"zerostock/answer/{wholesaler_id}")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def _unquoted(quoted: str) -> str:
    """The id, or '' when `quote` has not written it: one message has one name in a link."""
    try:
        plain = unquote(quoted, errors="strict")
    except UnicodeDecodeError:
        return ""
    return plain if plain.isprintable() and quote(plain, safe="") == quoted else ""
