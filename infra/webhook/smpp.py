"""What comes from an SMSC: receipts and replies, by a connection that is bound to receive.

A delivery is answered once what it says is safe; until then the SMSC repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

from smpplib import consts

from alerts.answers.intake import Intake
from alerts.message.segments import from_gsm7
from alerts.senders.smpp_session import SmppSession
from alerts.senders.table import SmppEntry
from schemas.errors import BrokerError, SendError, SettingsError

log = logging.getLogger(__name__)

#: Seconds between two tries to connect.
AGAIN: Final = 5.0

#: The same reply is the SMSC's repetition within so many ms, and somebody's second word after.
_REPEATS: Final = 600_000

#: Texts in parts of which a part is missing.
_MOST_OPEN: Final = 1_000

_RECEIPT: Final = 0x04
_HAS_HEADER: Final = 0x40
_FIELD: Final = re.compile(r"(id|stat|err):(\S+)", re.IGNORECASE)
_STATES: Final = {
    "ENROUTE": "sent",
    "ACCEPTD": "sent",
    "DELIVRD": "delivered",
    "EXPIRED": "undelivered",
    "UNDELIV": "undelivered",
    "REJECTD": "undelivered",
    "DELETED": "canceled",
}


class SmppReceiver:
    """Takes what one account's SMSC delivers."""

    def __init__(self, intake: Intake, entry: SmppEntry) -> None:
        self._intake = intake
        self._entry = entry
        self._open: dict[tuple[str, int, int], dict[int, str]] = {}

    async def run(self) -> None:
        """Be bound for ever; a connection that ends is made anew."""
        while True:
            try:
                session = await SmppSession.open(self._entry, self._take)
            except (SendError, SettingsError) as error:
                log.warning("route %s takes no answers now: %s", self._entry.name, error)
            else:
                try:
                    await session.ended.wait()
                finally:
                    await session.close()
                log.warning("route %s: the connection for answers has ended", self._entry.name)
            await asyncio.sleep(AGAIN)

    async def _take(self, pdu: Any) -> int:
        try:
            if (pdu.esm_class or 0) & 0x3C == _RECEIPT:
                await self._receipt(pdu)
            else:
                await self._reply(pdu)
        except (BrokerError, OSError) as error:
            log.warning("route %s: an answer waits: %s", self._entry.name, error)
            return int(consts.SMPP_ESME_RX_T_APPN)
        except (ValueError, IndexError, TypeError, AttributeError):
            log.warning("route %s: a delivery that cannot be read", self._entry.name)
        return int(consts.SMPP_ESME_ROK)

    async def _receipt(self, pdu: Any) -> None:
        said = {k.lower(): v for k, v in _FIELD.findall(_raw(pdu).decode("latin-1"))}
        name = _latin(getattr(pdu, "receipted_message_id", None)) or said.get("id", "")
        state = _STATES.get(said.get("stat", "").upper()[:7], "")
        if not name or not state:
            log.info("route %s: a receipt without id or state", self._entry.name)
            return
        known = [f"{self._entry.name}/{one}" for one in _spellings(name)]
        found = next((k for k in known if self._intake.sent.of_provider(k) is not None), known[0])
        await self._intake.status(found, state, None, "")

    async def _reply(self, pdu: Any) -> None:
        data, part = _raw(pdu), None
        if pdu.esm_class & _HAS_HEADER:
            header, data = data[1 : data[0] + 1], data[data[0] + 1 :]
            if header[:2] == b"\x00\x03":
                part = header[2], header[3], header[4]
            elif header[:2] == b"\x08\x04":
                part = header[2] << 8 | header[3], header[4], header[5]
        text = _decoded(data, pdu.data_coding or 0)
        source = _latin(pdu.source_addr)
        if part is not None:
            whole = self._joined(source, part, text)
            if whole is None:
                return
            text = whole
        number = source if source.startswith("+") else f"+{source}"
        turn = self._intake.clock.now() // _REPEATS
        seen = blake2b(f"{source}\0{text}\0{turn}".encode(), digest_size=12).hexdigest()
        await self._intake.reply(f"{self._entry.name}/{seen}", number, text)

    def _joined(self, source: str, part: tuple[int, int, int], text: str) -> str | None:
        """The whole text once its last part is there."""
        reference, total, number = part
        key = source, reference, total
        parts = self._open.setdefault(key, {})
        parts[number] = text
        if len(parts) == total:
            del self._open[key]
            return "".join(parts[n] for n in sorted(parts))
        while len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return None


def _raw(pdu: Any) -> bytes:
    payload = getattr(pdu, "message_payload", None)
    return bytes(pdu.short_message or payload or b"")


def _latin(value: bytes | str | None) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""


def _decoded(data: bytes, coding: int) -> str:
    """A text by its data coding: GSM 7 bit, Latin-1 or UCS-2."""
    if coding & 0xC == 8:
        return data.decode("utf-16-be", errors="replace")
    return data.decode("latin-1") if coding == 3 else from_gsm7(data)


def _spellings(name: str) -> Iterator[str]:
    """An id as it was given, and as SMSCs write it otherwise: hexadecimal here, decimal there."""
    yield name
    if name.lstrip("0") != name:
        yield name.lstrip("0")
    if re.fullmatch(r"\d{1,20}", name):
        yield f"{int(name):x}"
        yield f"{int(name):X}"
    if re.fullmatch(r"[0-9A-Fa-f]{1,16}", name):
        yield str(int(name, 16))
