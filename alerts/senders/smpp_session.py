"""One bound connection to an SMSC by SMPP 3.4: requests with a window, keep-alives, deliveries.

PDUs are smpplib's; its client blocks, loses the answer of a request that took too long, and says
"delivered" before anybody has looked. What is sent, and what answers mean, is
`alerts.senders.smpp`'s; what comes in is `infra.webhook.smpp`'s.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from smpplib import consts, exceptions, smpp

from alerts.senders.table import SmppEntry
from schemas.errors import SendError, SendUncertain, SettingsError

log = logging.getLogger(__name__)

#: No PDU is longer, by far: a message has 64 KiB at most.
_LONGEST: Final = 1 << 17
_HEADER: Final = 16

#: A bind that is answered so will never be answered otherwise.
_WRONG_LOGIN: Final = {
    consts.SMPP_ESME_RINVPASWD,
    consts.SMPP_ESME_RINVSYSID,
    consts.SMPP_ESME_RINVSYSTYP,
}

#: Takes a delivery; returns the status to answer with once it is safe.
Take = Callable[[Any], Awaitable[int]]


class SmppSession:
    """A connection that is bound; see `SmppSession.open`. A session that ended stays ended."""

    def __init__(
        self, entry: SmppEntry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._entry = entry
        self._reader = reader
        self._writer = writer
        self._take: Take | None = None
        self._window = asyncio.Semaphore(entry.window)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._sequence = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()

    @classmethod
    async def open(cls, entry: SmppEntry, take: Take | None = None) -> SmppSession:
        """Connect and bind: as a receiver if there is somebody to `take` deliveries.

        Raises `SendError` if that fails now, `SettingsError` if it always will.
        """
        try:
            async with asyncio.timeout(entry.timeout / 1_000):
                reader, writer = await asyncio.open_connection(
                    entry.host, entry.port, ssl=entry.tls or None
                )
        except (OSError, TimeoutError) as error:
            raise SendError(f"the SMSC cannot be reached: {type(error).__name__}") from None
        session = cls(entry, reader, writer)
        session._take = take
        session._tasks.append(asyncio.create_task(session._read()))
        bind = "bind_transmitter" if take is None else "bind_receiver"
        try:
            answer = await session.request(
                bind,
                system_id=entry.system_id,
                password=entry.password.get_secret_value(),
                system_type=entry.system_type,
            )
        except SendUncertain as error:
            await session.close()
            raise SendError(f"the SMSC does not answer the bind: {error}") from None
        if answer.status in _WRONG_LOGIN:
            await session.close()
            raise SettingsError("the SMSC refuses the login: check system_id and password")
        if answer.status != consts.SMPP_ESME_ROK:
            await session.close()
            raise SendError(f"the SMSC refuses the bind: {status_text(answer.status)}")
        session._tasks.append(asyncio.create_task(session._keep_alive()))
        return session

    def next_sequence(self) -> int:
        """The next request's number; smpplib asks for it."""
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        return self._sequence

    @property
    def sequence(self) -> int:
        """The last request's number; smpplib asks for it."""
        return self._sequence

    async def start(self, command: str, **fields: Any) -> asyncio.Future[Any]:
        """Send a request, when the window has room; the answer to come.

        It fails with `SendUncertain` if the connection ends before. Raises `SendError` if the
        request surely did not leave.
        """
        await self._window.acquire()
        if self.ended.is_set():
            self._window.release()
            raise SendError("the connection to the SMSC has ended")
        pdu = smpp.make_pdu(command, client=self, **fields)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._window.release())
        self._waiting[pdu.sequence] = answer
        self._writer.write(pdu.generate())
        with suppress(OSError):  # Whether it left the reader finds out.
            await self._writer.drain()
        return answer

    async def answer(self, coming: asyncio.Future[Any]) -> Any:
        """Wait for an answer as long as the route's patience; it may still come later.

        Raises `SendUncertain`.
        """
        done, _ = await asyncio.wait([coming], timeout=self._entry.timeout / 1_000)
        if not done:
            raise SendUncertain("the SMSC did not answer in time")
        return coming.result()

    async def request(self, command: str, **fields: Any) -> Any:
        """Send a request and wait for its answer. Raises as `start` and `answer`."""
        return await self.answer(await self.start(command, **fields))

    async def close(self) -> None:
        """Unbind, if that can be said, and disconnect."""
        if not self.ended.is_set() and self._tasks[1:]:
            with suppress(OSError, SendError, TimeoutError):
                async with asyncio.timeout(1):
                    await self.request("unbind")
        self._end()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _end(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        self._writer.close()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(SendUncertain("the connection to the SMSC was lost"))
                answer.exception()  # Nobody may wait for it any more.

    async def _read(self) -> None:
        """Take what comes until the connection ends."""
        try:
            while True:
                head = await self._reader.readexactly(_HEADER)
                length, command, status, sequence = struct.unpack(">LLLL", head)
                if not _HEADER <= length <= _LONGEST:
                    log.warning("route %s: not SMPP, the connection ends", self._entry.name)
                    return
                data = head + await self._reader.readexactly(length - _HEADER)
                if command & 0x80000000:
                    self._answered(sequence, _parsed(self, data, status))
                else:
                    await self._asked(sequence, _parsed(self, data, status))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._end()

    def _answered(self, sequence: int, pdu: Any) -> None:
        answer = self._waiting.pop(sequence, None)
        if answer is not None and not answer.done():
            if pdu is None:
                answer.set_exception(SendUncertain("an answer that is not SMPP"))
                answer.exception()
            else:
                answer.set_result(pdu)

    async def _asked(self, sequence: int, pdu: Any) -> None:
        """Answer the SMSC's own requests; a delivery only once it is safe."""
        name = pdu.command if pdu is not None else ""
        if name == "deliver_sm" and self._take is not None:
            # Not awaited: its way to the disk and to Kafka must not hold up keep-alives.
            task = asyncio.create_task(self._taken(sequence, pdu))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
        elif name == "deliver_sm":
            self._reply("deliver_sm_resp", sequence, consts.SMPP_ESME_RX_T_APPN)
        elif name in ("enquire_link", "unbind"):
            self._reply(f"{name}_resp", sequence)
            if name == "unbind":
                self._end()
        elif name != "alert_notification":
            self._reply("generic_nack", sequence, consts.SMPP_ESME_RINVCMDID)

    async def _taken(self, sequence: int, pdu: Any) -> None:
        assert self._take is not None
        self._reply("deliver_sm_resp", sequence, await self._take(pdu))

    def _reply(self, command: str, sequence: int, status: int = consts.SMPP_ESME_ROK) -> None:
        pdu = smpp.make_pdu(command, client=self)
        pdu.sequence, pdu.status = sequence, status
        with suppress(OSError, RuntimeError):
            self._writer.write(pdu.generate())

    async def _keep_alive(self) -> None:
        """Ask now and then whether the SMSC is still there; end if it is not."""
        while True:
            await asyncio.sleep(self._entry.enquire_every / 1_000)
            try:
                await self.request("enquire_link")
            except SendError:
                log.warning("route %s: the SMSC answers no enquire_link", self._entry.name)
                self._end()
                return


def _parsed(session: SmppSession, data: bytes, status: int) -> Any:
    """The PDU; without optional parameters where those are not of the standard, None for none."""
    try:
        name = smpp.pdu.extract_command(data)
        fields = {"need_sequence": False} if not name.endswith(("_resp", "_nack")) else {}
        pdu = smpp.make_pdu(name, client=session, allow_unknown_opt_params=True, **fields)
    except (exceptions.UnknownCommandError, TypeError):
        return None
    pdu.status = status
    with suppress(KeyError, struct.error, ValueError, TypeError):
        pdu.parse(data)
    return pdu


def status_text(status: int) -> str:
    """A command status in words."""
    return f"{consts.DESCRIPTIONS.get(status, 'error')} (0x{status:08x})"
