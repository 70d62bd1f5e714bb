"""The owner's door: lets other processes on this machine read the warehouse while it is in use.

HTTP on a loopback port that the kernel picks, behind a random word that only the user who runs the
owner can read (DATA/warehouse.json, mode 0600). It reads; nothing else comes through.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from concurrent.futures import Future
from pathlib import Path

import msgspec
from aiohttp import web

from pipelines.warehouse.door_client import DoorSign, sign_path
from pipelines.warehouse.embedded import Embedded
from pipelines.warehouse.port import Warehouse
from schemas.errors import ZerostockError

_CHUNK = 1 << 20

#: Questions that are worked on at a time.
_AT_ONCE = 4


class Question(msgspec.Struct):
    """The body of POST /query."""

    sql: str
    format: str


class Door:
    """Answers questions about `warehouse` from `start` to `stop`, without holding up the loop.

    Queries run in threads, a few at a time; the others wait their turn.
    """

    def __init__(self, warehouse: Warehouse, data: Path) -> None:
        self._warehouse = warehouse
        self._sign = sign_path(data)
        self._token = secrets.token_urlsafe(32)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, then put up the sign. Raises OSError when it cannot listen."""
        app = web.Application(client_max_size=16 * _CHUNK)
        app.add_routes([web.get("/alive", self._alive), web.post("/query", self._query)])
        # The owner decides about signals, and a reader's visits are nothing to log.
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self._put_up(DoorSign(port=port, token=self._token, pid=os.getpid()))

    async def stop(self) -> None:
        """Take the sign down and close; questions under way get two seconds to end."""
        if self._runner is None:
            return
        self._sign.unlink(missing_ok=True)
        await self._runner.cleanup()
        self._runner = None
        if isinstance(self._warehouse, Embedded):
            self._warehouse.end_queries()

    def _put_up(self, sign: DoorSign) -> None:
        new = self._sign.with_suffix(".json.new")
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(sign))
        new.replace(self._sign)  # never seen half written

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        return web.Response(text="yes\n")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        try:
            question = msgspec.json.decode(await request.read(), type=Question)
            async with self._turns:
                answer = await self._ask(question)
        except (ZerostockError, msgspec.MsgspecError) as error:
            return web.Response(status=400, text=str(error))
        response = web.StreamResponse()
        response.content_length = len(answer)  # so that a cut answer is seen as one
        await response.prepare(request)
        whole = memoryview(answer)
        for start in range(0, len(answer), _CHUNK):
            await response.write(whole[start : start + _CHUNK])
        await response.write_eof()
        return response

    async def _ask(self, question: Question) -> bytes:
        """Ask in a thread of its own: Python does not wait for it when the owner ends."""
        answer: Future[bytes] = Future()
        answer.set_running_or_notify_cancel()  # who stops waiting does not stop the thread

        def work() -> None:
            try:
                answer.set_result(self._warehouse.query_bytes(question.sql, question.format))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=work, name="warehouse-door", daemon=True).start()
        return await asyncio.wrap_future(answer)

    def _admit(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not secrets.compare_digest(given, f"Bearer {self._token}".encode()):
            raise web.HTTPUnauthorized(text="the word of DATA/warehouse.json is wanted")
