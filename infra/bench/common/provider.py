"""A provider that takes every message as Twilio does, and notes when the request came."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

#: What a worker has to be told to send here, besides the address.
SETTINGS: Final = {
    "sms": "twilio",
    "twilio_account_sid": "AC" + "0" * 32,
    "twilio_auth_token": "of the benchmark",
    "twilio_from": "+15005550006",
    # The pace is not what is measured.
    "twilio_rate": "10000",
}

_SHOP: Final = re.compile(r"Shop (\d+)")


@asynccontextmanager
async def provider(told_of: Callable[[int, float], None]) -> AsyncIterator[str]:
    """The address of a provider; `told_of` gets each shop's number and the time it was told of."""

    async def take(request: web.Request) -> web.Response:
        now = time.perf_counter()
        form = await request.post()
        for number in _SHOP.findall(str(form["Body"])):
            told_of(int(number), now)
        return web.json_response(
            {"sid": "SM" + "0" * 32, "status": "queued", "num_segments": "1"}, status=201
        )

    app = web.Application()
    app.router.add_post("/2010-04-01/Accounts/{account}/Messages.json", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
