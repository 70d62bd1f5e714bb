"""SMS through any gateway that takes one HTTP request a message, as a table of routes describes it.

An answer that no rule names is in doubt: the gateway may have taken the message before it went
wrong. With a `lookup` it is asked; without, the message stays on this route.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp

from alerts.senders.port import NumberRefused, SendLater, SendThrottled
from alerts.senders.table import AnswerRule, HttpEntry, IdPlace, Request
from alerts.senders.templates import fill_in
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError
from schemas.masking import mask_text
from schemas.messages import Message, Receipt

#: Seconds to wait for a connection.
_CONNECT: Final = 5.0

#: Bytes of an answer that are read, and characters of it that an error quotes.
_MOST_READ: Final = 65_536
_QUOTED: Final = 80

_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


class HttpAnswer:
    """What a gateway said: a status, a text, and the JSON in it, if it is some."""

    def __init__(self, status: int, text: str, retry_after: str = "") -> None:
        self.status = status
        self.text = text
        self.retry_after = retry_after
        self._json: Any = None
        with suppress(ValueError, RecursionError):
            self._json = json.loads(text)

    def at(self, place: str) -> str | None:
        """What stands at a place such as "data.0.id", as a text; None if nothing does."""
        return value_at(self._json, place)

    def fits(self, rule: AnswerRule) -> bool:
        """Whether all that a rule names applies."""
        status = str(self.status)
        return (
            (not rule.status or status in rule.status or f"{status[0]}xx" in rule.status)
            and all(self.at(place) in values for place, values in rule.values.items())
            and (not rule.matches or re.search(rule.matches, self.text) is not None)
        )

    def id_of(self, where: IdPlace) -> str:
        """The gateway's id of a message, '' if it is not where it should be."""
        if where.place:
            return self.at(where.place) or ""
        found = re.search(where.matches, self.text) if where.matches else None
        return (found[1] if found.re.groups else found[0]) if found is not None else ""


def value_at(value: Any, place: str) -> str | None:
    """What stands at a place of parsed JSON, see `HttpAnswer.at`."""
    for part in place.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or isinstance(value, dict | list) else str(value)


class HttpSender:
    """Sends by one gateway. Raises `SettingsError` if a template cannot be filled in."""

    remote = True

    def __init__(self, entry: HttpEntry) -> None:
        self._entry = entry
        self.finds = entry.lookup is not None
        self._secrets = {name: s.get_secret_value() for name, s in entry.secrets.items()}
        self._session: aiohttp.ClientSession | None = None
        sample = Message("m", "w", "+8613800138000", "text", "en", 0, (), 1)
        for what, request in (("request", entry.request), ("lookup", entry.lookup)):
            if request is not None:
                self._filled(what, request, sample)

    async def send(self, message: Message) -> Receipt:
        """See `Sender`."""
        answer = await self._ask("request", self._entry.request, message)
        rule = _first(answer, self._entry.answers)
        if rule is None:
            raise SendUncertain(f"an answer that no rule names: {_quoted(answer)}")
        if rule.means == "accepted":
            return Receipt(answer.id_of(self._entry.id), message.segments)
        raise _failure(rule, answer)

    async def find(self, message: Message, since: int) -> Receipt | None:
        """See `Sender`."""
        lookup = self._entry.lookup
        if lookup is None:
            return None
        answer = await self._ask("lookup", lookup, message)
        rule = _first(answer, lookup.answers)
        if rule is not None and rule.means == "accepted":
            return Receipt(answer.id_of(lookup.id), message.segments)
        if rule is not None and rule.means in ("absent", "refused"):
            return None
        raise SendError(f"the look-up cannot say: {_quoted(answer)}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, what: str, request: Request, message: Message) -> HttpAnswer:
        url, headers, body = self._filled(what, request, message)
        if self._session is None:
            # Not earlier: a session belongs to the event loop it was made in.
            patience = self._entry.timeout / 1_000
            timeout = aiohttp.ClientTimeout(
                total=_CONNECT + patience, sock_connect=_CONNECT, sock_read=patience
            )
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=body.encode() if body else None,
                allow_redirects=False,
            ) as answer:
                text = (await answer.content.read(_MOST_READ)).decode(errors="replace")
                return HttpAnswer(answer.status, text, answer.headers.get("Retry-After", ""))
        except _NOT_SENT as error:
            raise SendError(f"the gateway cannot be reached: {type(error).__name__}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SendUncertain(f"the gateway did not answer: {type(error).__name__}") from None

    def _filled(
        self, what: str, request: Request, message: Message
    ) -> tuple[str, dict[str, str], str]:
        values = {
            "to": message.to,
            "text": message.body,
            "message_id": message.message_id,
            "wholesaler_id": message.wholesaler_id,
            "language": message.language,
            "segments": message.segments,
            "sender": self._entry.sender,
            "secrets": self._secrets,
            "now": int(time.time()),
            "nonce": secrets.token_hex(8),
        }
        filled = {}
        for key, text in {"url": request.url, "body": request.body, **request.headers}.items():
            try:
                filled[key] = fill_in(text, values)
            except ValueError as error:
                raise SettingsError(f"{what}.{key}: {error}") from None
        return filled.pop("url"), {name: filled[name] for name in request.headers}, filled["body"]


def _first(answer: HttpAnswer, rules: Sequence[AnswerRule]) -> AnswerRule | None:
    return next((rule for rule in rules if answer.fits(rule)), None)


def _failure(rule: AnswerRule, answer: HttpAnswer) -> Exception:
    said = _quoted(answer)
    match rule.means:
        case "bad_number":
            return NumberRefused(f"the gateway says of the number: {said}", str(answer.status))
        case "refused":
            return SendRefused(f"the gateway refuses the message: {said}")
        case "unreachable":
            return SendLater(f"the phone is out of reach: {said}")
        case "settings":
            return SettingsError(f"the gateway does not let us in: {said}")
        case _:
            if answer.retry_after.isdigit():
                return SendThrottled(f"the gateway says later: {said}", float(answer.retry_after))
            return SendError(f"the gateway says later: {said}")


def _quoted(answer: HttpAnswer) -> str:
    """An answer for a log, without the numbers in it."""
    text = mask_text(" ".join(answer.text.split()))
    text = re.sub(r"\d{7,}", "…", text)
    return f"HTTP {answer.status} {text[:_QUOTED]}".rstrip()
