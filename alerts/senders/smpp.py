"""SMS by SMPP 3.4: submit_sm for each part of a text, query_sm for what is uncertain.

An SMSC cannot be asked for a message without the id that it gave, so an answer that was lost with
its connection leaves the message in doubt, and on this route. An answer that only came late is
found; of a text in several parts only those are sent again that were not accepted.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from smpplib import consts

from alerts.message.segments import is_gsm7, split, to_gsm7
from alerts.senders.port import NumberRefused, SendThrottled
from alerts.senders.smpp_session import SmppSession, status_text
from alerts.senders.table import SmppEntry
from schemas.errors import SendError, SendRefused, SettingsError
from schemas.messages import Message, Receipt

_INTERNATIONAL: Final = 1
_ALPHANUMERIC: Final = 5
_ISDN: Final = 1
_UCS2: Final = 8
_HAS_HEADER: Final = 0x40
_WANT_RECEIPT: Final = 1

#: Seconds to wait when told to wait.
_PAUSE: Final = 5.0

_BUSY: Final = {consts.SMPP_ESME_RTHROTTLED, consts.SMPP_ESME_RMSGQFUL}
_BAD_NUMBER: Final = {
    consts.SMPP_ESME_RINVDSTADR,
    consts.SMPP_ESME_RINVDSTTON,
    consts.SMPP_ESME_RINVDSTNPI,
}
_LATER: Final = {
    consts.SMPP_ESME_RSYSERR,
    consts.SMPP_ESME_RSUBMITFAIL,
    consts.SMPP_ESME_RX_T_APPN,
    consts.SMPP_ESME_RINVBNDSTS,
}
_SETTINGS: Final = {
    consts.SMPP_ESME_RINVSRCADR,
    consts.SMPP_ESME_RINVSRCTON,
    consts.SMPP_ESME_RINVSRCNPI,
    consts.SMPP_ESME_RINVSERTYP,
}

#: States of query_sm in which a message was not accepted after all.
_NOT_TAKEN: Final = {consts.SMPP_MESSAGE_STATE_DELETED, consts.SMPP_MESSAGE_STATE_REJECTED}

#: Messages of which the parts that were accepted are remembered.
_MOST_BEGUN: Final = 1_000


@dataclass
class _Begun:
    """How far a message is: ids of accepted parts, and the answer that did not come in time."""

    accepted: dict[int, str] = field(default_factory=dict)
    late: tuple[int, asyncio.Future[Any]] | None = None


class SmppSender:
    """Sends by one account; connects when there is something to send."""

    remote = True
    finds = False

    def __init__(self, entry: SmppEntry) -> None:
        self._entry = entry
        self._session: SmppSession | None = None
        self._connecting = asyncio.Lock()
        self._begun: dict[tuple[str, str], _Begun] = {}
        plus = entry.source.startswith("+") or entry.source.isdigit()
        kind = _ALPHANUMERIC if not plus else _INTERNATIONAL if entry.source[0] == "+" else 0
        self._source = {
            "source_addr": entry.source.lstrip("+"),
            "source_addr_ton": kind,
            "source_addr_npi": _ISDN if plus else 0,
        }

    async def send(self, message: Message) -> Receipt:
        """See `Sender`."""
        session = await self._connected()
        key = message.message_id, message.to
        begun = self._begun.setdefault(key, _Begun())
        while len(self._begun) > _MOST_BEGUN:
            del self._begun[next(iter(self._begun))]
        _take_late(begun)
        gsm7 = self._entry.gsm7 and is_gsm7(message.body)
        parts = split(message.body, gsm7=gsm7)
        for index, part in enumerate(parts):
            if index not in begun.accepted:
                fields = self._fields(message, part, index, len(parts), gsm7=gsm7)
                coming = await session.start("submit_sm", **fields)
                begun.late = index, coming
                answer = await session.answer(coming)
                begun.late = None
                if answer.status != consts.SMPP_ESME_ROK:
                    raise _failure(answer.status)
                begun.accepted[index] = _text(answer.message_id)
        self._begun.pop(key, None)
        return Receipt(begun.accepted[len(parts) - 1], len(parts))

    async def find(self, message: Message, since: int) -> Receipt | None:
        """See `Sender`: only what was answered late can be found."""
        begun = self._begun.get((message.message_id, message.to))
        if begun is None:
            return None
        _take_late(begun)
        parts = split(message.body, gsm7=self._entry.gsm7 and is_gsm7(message.body))
        if len(begun.accepted) < len(parts):
            return None
        session = await self._connected()
        for index, name in list(begun.accepted.items()):
            answer = await session.request("query_sm", message_id=name, **self._source)
            known = answer.status == consts.SMPP_ESME_ROK
            if known and answer.message_state in _NOT_TAKEN:
                del begun.accepted[index]
        if len(begun.accepted) < len(parts):
            return None
        return Receipt(begun.accepted[len(parts) - 1], len(parts))

    async def close(self) -> None:
        """Unbind."""
        if self._session is not None:
            await self._session.close()

    async def _connected(self) -> SmppSession:
        async with self._connecting:
            if self._session is None or self._session.ended.is_set():
                self._session = await SmppSession.open(self._entry)
            return self._session

    def _fields(
        self, message: Message, part: str, index: int, parts: int, *, gsm7: bool
    ) -> dict[str, Any]:
        data = to_gsm7(part) if gsm7 else part.encode("utf-16-be")
        if parts > 1:
            # The same reference each time: a part sent again completes the others.
            reference = zlib.crc32(message.message_id.encode()) & 0xFF
            data = bytes((5, 0, 3, reference, parts, index + 1)) + data
        minutes = self._entry.validity // 60_000
        return {
            **self._source,
            "destination_addr": message.to.lstrip("+"),
            "dest_addr_ton": _INTERNATIONAL,
            "dest_addr_npi": _ISDN,
            "esm_class": _HAS_HEADER if parts > 1 else 0,
            "registered_delivery": _WANT_RECEIPT if index == parts - 1 else 0,
            "validity_period": f"0000{minutes // 1440:02}{minutes // 60 % 24:02}{minutes % 60:02}"
            "00000R",
            "data_coding": 0 if gsm7 else _UCS2,
            "short_message": data,
        }


def _take_late(begun: _Begun) -> None:
    """Take up an answer that came after all."""
    if begun.late is None:
        return
    index, coming = begun.late
    if coming.done():
        begun.late = None
        if coming.exception() is None and coming.result().status == consts.SMPP_ESME_ROK:
            begun.accepted[index] = _text(coming.result().message_id)


def _failure(status: int) -> Exception:
    said = f"the SMSC says: {status_text(status)}"
    if status in _BUSY:
        return SendThrottled(said, _PAUSE)
    if status in _BAD_NUMBER:
        return NumberRefused(said, f"smpp-{status:x}")
    if status in _LATER:
        return SendError(said)
    if status in _SETTINGS:
        return SettingsError(f"{said}: check source")
    return SendRefused(said)


def _text(value: bytes | str | None) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""
