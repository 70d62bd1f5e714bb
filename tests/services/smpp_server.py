"""An SMSC for tests: SMPP 3.4 as the specification says, with a script of mishaps.

PDUs are read and written by hand, so that it does not share the mistakes of the client's library.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

SYSTEM_ID, PASSWORD = "zs", "secret"

BIND_RECEIVER, BIND_TRANSMITTER, QUERY, SUBMIT, DELIVER = 0x1, 0x2, 0x3, 0x4, 0x5
UNBIND, ENQUIRE, RESPONSE = 0x6, 0x15, 0x80000000


@dataclass
class Submitted:
    """A submit_sm that was accepted: `data` is its short message, as it came."""

    provider_id: str
    source: str
    to: str
    esm_class: int
    coding: int
    receipt: int
    validity: str
    data: bytes

    @property
    def text(self) -> str:
        data = self.data[self.data[0] + 1 :] if self.esm_class & 0x40 else self.data
        return data.decode("utf-16-be" if self.coding == 8 else "ascii")


@dataclass
class Smsc:
    """The server's memory.

    Each submit_sm does what the `script` says next: a status to answer (0 accepts), "silent"
    (accepts, never answers), "late" (accepts, answers when told to), "cut" or "cut before"
    (the connection ends, after accepting or without), "garbage". Afterwards all are accepted.
    """

    script: list[Any] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    messages: list[Submitted] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    binds: list[int] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    enquiries: int = 0
    deaf: bool = False
    port: int = 0
    most_open: int = 0

    async def __aenter__(self) -> Self:
        self._open = 0
        self._writers: dict[asyncio.StreamWriter, int] = {}
        self._later: list[Any] = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections, as a restart does."""
        for writer in list(self._writers):
            writer.transport.abort()

    def release(self) -> None:
        """Send the answers that are late."""
        for writer, pdu in self._later:
            writer.write(pdu)
        self._later.clear()

    def deliver(
        self,
        source: str,
        data: bytes,
        esm_class: int = 0,
        coding: int = 0,
        extra: bytes = b"",
        sequence: int = 7,
    ) -> None:
        """Hand a reply or a receipt to whoever is bound as a receiver."""
        body = (
            b"\0\1\1"
            + source.encode()
            + b"\0\1\1"
            + b"10690000\0"
            + bytes((esm_class, 0, 0))
            + b"\0\0"
            + bytes((0, 0, coding, 0, len(data)))
            + data
            + extra
        )
        for writer, how in self._writers.items():
            if how == BIND_RECEIVER:
                writer.write(_pdu(DELIVER, 0, sequence, body))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = 0
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(16)
                length, command, status, sequence = struct.unpack(">LLLL", head)
                body = await reader.readexactly(length - 16)
                if not self.deaf:
                    self._handle(writer, command, status, sequence, body)
        self._writers.pop(writer, None)
        writer.close()

    def _handle(
        self, writer: asyncio.StreamWriter, command: int, status: int, sequence: int, body: bytes
    ) -> None:
        if command in (BIND_RECEIVER, BIND_TRANSMITTER):
            system_id, password = body.split(b"\0")[:2]
            right = (system_id, password) == (SYSTEM_ID.encode(), PASSWORD.encode())
            self.binds.append(command)
            self._writers[writer] = command
            writer.write(_pdu(command | RESPONSE, 0 if right else 0xE, sequence, b"smsc\0"))
        elif command == SUBMIT:
            self._submitted(writer, sequence, body)
        elif command == QUERY:
            name = body.split(b"\0")[0].decode()
            self.queries.append(name)
            known = self.states.get(name)
            answer = name.encode() + b"\0\0" + bytes((known or 0, 0))
            status = 0 if known is not None else 0x67
            writer.write(_pdu(QUERY | RESPONSE, status, sequence, answer))
        elif command in (ENQUIRE, UNBIND):
            self.enquiries += command == ENQUIRE
            writer.write(_pdu(command | RESPONSE, 0, sequence))
        elif command == DELIVER | RESPONSE:
            self.answered[sequence] = status

    def _submitted(self, writer: asyncio.StreamWriter, sequence: int, body: bytes) -> None:
        step = self.script.pop(0) if self.script else 0
        name = ""
        if step in (0, "silent", "late", "cut", "garbage"):
            name = f"M{len(self.messages)}"
            self.messages.append(_read(name, body))
            self.states[name] = 1
        answer = _pdu(
            SUBMIT | RESPONSE, step if isinstance(step, int) else 0, sequence, name.encode() + b"\0"
        )
        if isinstance(step, int):
            writer.write(answer)
        elif step == "late":
            self._later.append((writer, answer))
        elif step == "garbage":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif step.startswith("cut"):
            writer.transport.abort()


def _pdu(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    return struct.pack(">LLLL", 16 + len(body), command, status, sequence) + body


def _read(name: str, body: bytes) -> Submitted:
    place = 0

    def text() -> str:
        nonlocal place
        end = body.index(b"\0", place)
        found, place = body[place:end].decode(), end + 1
        return found

    def byte() -> int:
        nonlocal place
        place += 1
        return body[place - 1]

    text()
    byte(), byte()
    source = text()
    byte(), byte()
    to = text()
    esm_class, _, _ = byte(), byte(), byte()
    text()
    validity = text()
    receipt, _, coding, _, length = byte(), byte(), byte(), byte(), byte()
    return Submitted(
        name, source, to, esm_class, coding, receipt, validity, body[place : place + length]
    )
