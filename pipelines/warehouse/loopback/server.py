"""Lets other processes on this machine use an embedded warehouse while its owner uses it.

HTTP on a loopback port that the kernel picks, behind a random token that only the user who runs the
owner can read (DATA/warehouse.json, mode 0600). Queries are answered, and rows are taken for the
tables of what people decide; an owner who can do without the warehouse may be asked to leave.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
from aiohttp import web

from pipelines.files import replace_file
from pipelines.warehouse.engines.embedded import Embedded
from pipelines.warehouse.loopback.client import Endpoint, endpoint_path
from pipelines.warehouse.port import Warehouse
from schemas.errors import ZerostockError

T = TypeVar("T")

_CHUNK = 1 << 20

#: Tables of what people decide: rows are only added, a few at a time, whoever owns the warehouse.
DECIDED = frozenset({"diversion_decisions", "dead_letters_replayed_rows"})

#: Queries that run at a time.
_AT_ONCE = 4


class QueryRequest(msgspec.Struct):
    """The body of POST /query."""

    sql: str
    format: str


class LoopbackServer:
    """Answers queries to `warehouse` from `start` to `stop`, without holding up the loop.

    Queries run in threads, a few at a time; the others wait their turn. `leave`, if given, is
    called in a thread when another process wants to own the warehouse.
    """

    def __init__(
        self, warehouse: Warehouse, data: Path, leave: Callable[[], None] | None = None
    ) -> None:
        self._warehouse = warehouse
        self._leave_now = leave
        self._path = endpoint_path(data)
        self._token = secrets.token_urlsafe(32)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, then publish the endpoint. Raises OSError when it cannot listen."""
        app = web.Application(client_max_size=16 * _CHUNK)
        app.add_routes(
            [
                web.get("/alive", self._alive),
                web.post("/query", self._query),
                web.post("/insert/{table}", self._insert),
                web.post("/leave", self._leave),
                web.post("/back-up", self._back_up),
            ]
        )
        # The owner handles signals, and requests are not logged.
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        endpoint = Endpoint(port=port, token=self._token, pid=os.getpid())
        replace_file(self._path, msgspec.json.encode(endpoint), mode=0o600)

    async def stop(self) -> None:
        """Withdraw the endpoint and close; queries under way get two seconds to end."""
        if self._runner is None:
            return
        self._path.unlink(missing_ok=True)
        await self._runner.cleanup()
        self._runner = None
        if isinstance(self._warehouse, Embedded):
            self._warehouse.end_queries()

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        return web.Response(text="yes\n")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        try:
            question = msgspec.json.decode(await request.read(), type=QueryRequest)
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

    async def _insert(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        table = request.match_info["table"]
        if table not in DECIDED:
            return web.Response(status=400, text=f"only the owner writes to {table}")
        try:
            rows = pa.ipc.open_stream(await request.read()).read_all()
            await _in_thread(lambda: self._warehouse.insert(table, rows))
        except (ZerostockError, pa.ArrowInvalid) as error:
            return web.Response(status=400, text=str(error))
        return web.Response()

    async def _leave(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        if self._leave_now is None:
            return web.Response(status=409, text="it is needed here")
        # Not awaited: leaving stops this very server.
        threading.Thread(target=self._leave_now, name="warehouse-leave", daemon=True).start()
        return web.Response()

    async def _back_up(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        owned = self._warehouse
        if not isinstance(owned, Embedded):
            return web.Response(status=400, text="this warehouse has no folder of its own")
        try:
            return web.Response(text=str(await _in_thread(owned.back_up)))
        except ZerostockError as error:
            return web.Response(status=400, text=str(error))

    async def _ask(self, question: QueryRequest) -> bytes:
        return await _in_thread(lambda: self._warehouse.query_bytes(question.sql, question.format))

    def _admit(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not secrets.compare_digest(given, f"Bearer {self._token}".encode()):
            raise web.HTTPUnauthorized(text="missing or wrong token (DATA/warehouse.json has it)")


async def _in_thread(work: Callable[[], T]) -> T:
    """Work in a thread of its own: Python does not wait for it when the owner ends."""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # who stops waiting does not stop the thread

    def working() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=working, name="warehouse-loopback", daemon=True).start()
    return await asyncio.wrap_future(answer)


@contextmanager
def serve_loopback(
    warehouse: Warehouse, data: Path, leave: Callable[[], None] | None = None
) -> Iterator[None]:
    """Serve the warehouse of an owner that has no event loop while the context lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="warehouse-loopback", daemon=True)
    thread.start()
    server = LoopbackServer(warehouse, data, leave)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
