"""`POST /v1/events`: checks who asks and how much, and answers what became of each line."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from infra.intake.body import check_headers, lines_of
from infra.intake.tokens import FeederTokens
from infra.webhook.http import web_app
from pipelines.ingest.reading.lines import count_lines
from pipelines.stream import metrics
from schemas.errors import BrokerError, InputError

#: Seconds that a feeder waits for an answer, and after which to try again what was not taken.
PATIENCE: Final = 30.0
TRY_AGAIN: Final = "5"

#: Seconds over which a feeder's rate is measured.
WINDOW: Final = 10

OPENAPI: Final = Path(__file__).with_name("openapi.json")

#: Takes a feeder's lines and how many they are; gives those that were refused (from 1), and why.
Take = Callable[[str, bytes, int], Awaitable[list[tuple[int, str]]]]


@dataclass(frozen=True)
class IntakeLimits:
    """Bytes of a body, packed or not, and events a second that one feeder may send."""

    body: int
    rate: int


def intake_app(
    tokens: FeederTokens, take: Take, limits: IntakeLimits, ready: Callable[[], bool]
) -> Starlette:
    """The application; `ready` says whether the place where events go can take any."""
    description = json.loads(OPENAPI.read_text())
    rate = RateLimitItemPerSecond(limits.rate * WINDOW, WINDOW)
    limiter = FixedWindowRateLimiter(MemoryStorage())

    async def events(request: Request) -> Response:
        feeder = tokens.feeder_of(request.headers.get("authorization", ""))
        if feeder is None:
            raise HTTPException(
                401, "missing or wrong token", headers={"WWW-Authenticate": "Bearer"}
            )
        check_headers(request)
        if not limiter.test(rate, feeder):
            wait = limiter.get_window_stats(rate, feeder).reset_time - time.time()
            raise HTTPException(
                429,
                f"more than {limits.rate:,} events a second",
                headers={"Retry-After": str(max(1, math.ceil(wait)))},
            )
        lines = await lines_of(request, limits.body)
        count = sum(map(bool, map(bytes.strip, lines.split(b"\n"))))
        refused: list[tuple[int, str]] = []
        if count:
            limiter.hit(rate, feeder, cost=count)
            refused = await _taken(take(feeder, lines, count_lines(lines)))
        metrics.INTAKE_EVENTS.labels("refused").inc(len(refused))
        metrics.INTAKE_EVENTS.labels("accepted").inc(count - len(refused))
        return JSONResponse(
            {
                "accepted": count - len(refused),
                "refused": [{"line": line, "reason": why} for line, why in refused],
            }
        )

    async def openapi(_: Request) -> Response:
        return JSONResponse(description)

    async def healthz(_: Request) -> Response:
        if not ready():
            return PlainTextResponse("events cannot be taken now\n", 503)
        return PlainTextResponse("ok\n")

    return web_app(
        [
            Route("/v1/events", events, methods=["POST"]),
            Route("/v1/openapi.json", openapi, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
        ]
    )


async def _taken(work: Awaitable[list[tuple[int, str]]]) -> list[tuple[int, str]]:
    """What was refused. Raises `HTTPException` when nobody knows whether all of it was taken."""
    try:
        return await asyncio.wait_for(work, PATIENCE)
    except (BrokerError, InputError, OSError, TimeoutError) as error:
        metrics.INTAKE_PUT_OFF.inc()
        why = str(error) or "it takes too long"
        raise HTTPException(
            503,
            f"not taken now: {why}; send it again, which is harmless",
            headers={"Retry-After": TRY_AGAIN},
        ) from None
