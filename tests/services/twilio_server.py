"""A Twilio for tests: the Messages resource as documented, with a script of mishaps.

It runs in a thread of its own, so that tests may block and child processes may be killed.
"""

from __future__ import annotations

import asyncio
import threading
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web

ACCOUNT = "AC" + "0" * 32
TOKEN = "secret-token-of-the-tests"
FROM = "+15005550006"
SERVICE = "MG" + "1" * 32


@dataclass(frozen=True)
class Step:
    """What happens to one POST. `accept`: a message is made of it. Then the answer: None is the
    usual one, "hang" never comes, "slow" is the usual one after a second, "cut" closes the
    connection, else (status, code, headers) or (status, text).
    """

    accept: bool = False
    answer: Any = None


ACCEPT = Step(True)
LOST = Step(True, "hang")
SLOW = Step(True, "slow")
CUT_AFTER = Step(True, "cut")
CUT_BEFORE = Step(False, "cut")


def error(status: int, code: int | None = None, **headers: str) -> Step:
    """An answer of 400 or above, with nothing accepted."""
    return Step(False, (status, code, headers))


@dataclass
class Twilio:
    """The server's memory; `script` holds the steps of the next POSTs, then all are accepted.

    Messages accepted become visible in lists after `lag` more list requests. `queued` leaves them
    without a date of sending, as in a queue that is full. While it is `down` it hangs up on all.
    """

    script: list[Step] = field(default_factory=list)
    list_script: list[Step] = field(default_factory=list)
    opted_out: set[str] = field(default_factory=set)
    messages: list[dict[str, Any]] = field(default_factory=list)
    posts: list[dict[str, str]] = field(default_factory=list)
    lists: int = 0
    lag: int = 0
    queued: bool = False
    down: bool = False
    prefix: str = ""
    url: str = ""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._ended = asyncio.Event()
        app = web.Application()
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        app.router.add_post(path, self._post)
        app.router.add_get(path, self._list)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        self._ended.set()
        await self._runner.cleanup()

    # The resource

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return await self._answer(request, CUT_BEFORE, None, 0)
        if (refusal := _unauthorised(request)) is not None:
            return refusal
        form = {k: str(v) for k, v in (await request.post()).items()}
        self.posts.append(form)
        step = self.script.pop(0) if self.script else ACCEPT
        if step.accept and form["To"] in self.opted_out:
            return _error(400, 21610, {})
        made = self._accept(form) if step.accept else None
        return await self._answer(request, step, made, 201)

    def _accept(self, form: dict[str, str]) -> dict[str, Any]:
        now = format_datetime(datetime.now(UTC))
        service = form.get("MessagingServiceSid")
        message = {
            "sid": f"SM{len(self.messages):032}",
            "account_sid": ACCOUNT,
            "to": form["To"],
            "from": form.get("From"),
            "messaging_service_sid": service,
            "body": self.prefix + form["Body"],
            "status": "accepted" if service else "queued",
            "direction": "outbound-api",
            "num_segments": "0" if service else "1",
            "date_created": now,
            "date_sent": None if self.queued else now,
            "error_code": None,
            "visible_from": self.lists + self.lag,
        }
        self.messages.append(message)
        return message

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return await self._answer(request, CUT_BEFORE, None, 0)
        if (refusal := _unauthorised(request)) is not None:
            return refusal
        self.lists += 1
        query = dict(request.query)
        size, page = int(query.get("PageSize", 50)), int(query.get("Page", 0))
        after = query.get("DateSent>")
        found = [
            message
            for message in reversed(self.messages)
            if message["to"] == query.get("To", message["to"])
            and message["visible_from"] < self.lists
            and (not after or (message["date_sent"] and _sent(message) >= _time(after)))
        ]
        start = page * size
        following = {**query, "Page": str(page + 1)}
        answer = {
            "messages": found[start : start + size],
            "page": page,
            "page_size": size,
            "next_page_uri": f"{request.path}?{urlencode(following)}"
            if start + size < len(found)
            else None,
        }
        step = self.list_script.pop(0) if self.list_script else ACCEPT
        return await self._answer(request, step, answer, 200)

    async def _answer(
        self, request: web.Request, step: Step, usual: Any, status: int
    ) -> web.StreamResponse:
        if step.answer == "slow":
            await asyncio.sleep(1)
        if step.answer in (None, "slow"):
            return web.json_response(usual, status=status)
        if step.answer == "hang":
            await self._ended.wait()
        if step.answer in ("hang", "cut"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if len(step.answer) == 2:
            return web.Response(status=step.answer[0], text=step.answer[1])
        return _error(*step.answer)


def _unauthorised(request: web.Request) -> web.Response | None:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind == "Basic" and b64decode(value).decode() == f"{ACCOUNT}:{TOKEN}":
        return None
    return _error(401, 20003, {})


def _error(status: int, code: int | None, headers: dict[str, str]) -> web.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    words = {
        "code": code,
        "message": "The 'To' number +8613800138000 says no",
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(words, status=status, headers=headers)


def _sent(message: dict[str, Any]) -> datetime:
    return datetime.strptime(message["date_sent"], "%a, %d %b %Y %H:%M:%S %z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
