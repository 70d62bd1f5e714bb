"""An SMS gateway for tests: JSON in, JSON out, a look-up by reference, and a script of mishaps."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

KEY = "key-of-the-gateway"


@dataclass
class Gateway:
    """The server's memory.

    Each POST /send does what the `script` says next: (status, answer) refuses, "silent" and "cut"
    accept without answering, "garbage" accepts and answers nonsense. Afterwards all are accepted.
    """

    script: list[Any] = field(default_factory=list)
    lookups: list[Any] = field(default_factory=list)
    messages: dict[str, dict[str, str]] = field(default_factory=dict)
    sends: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/send", self._send)
        app.router.add_get("/messages/{ref}", self._find)
        self._ended = asyncio.Event()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.set()
        await self._runner.cleanup()

    async def _send(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"code": "auth"}, status=401)
        sent = json.loads(await request.text())
        self.sends.append(sent)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, tuple):
            status, answer = step
            return web.json_response(answer, status=status, headers={"Retry-After": "7"})
        known = self.messages.setdefault(sent["ref"], {**sent, "id": f"G{len(self.messages)}"})
        if step == "silent":
            await self._ended.wait()
        if step in ("silent", "cut"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if step == "garbage":
            return web.Response(status=500, text="<html>Internal error for 13800138000")
        return web.json_response({"code": 0, "data": [{"id": known["id"]}]})

    async def _find(self, request: web.Request) -> web.StreamResponse:
        if self.lookups:
            status, answer = self.lookups.pop(0)
            return web.json_response(answer, status=status)
        known = self.messages.get(request.match_info["ref"])
        if known is None:
            return web.json_response({"code": "absent"}, status=404)
        return web.json_response({"code": 0, "id": known["id"]})
