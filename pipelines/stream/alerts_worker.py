"""The alerts worker: stock-outs become groups, groups become messages that go out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import faust

from pipelines.core.stage import Stage
from pipelines.stream.app import new_app
from pipelines.stream.faust_fixes.stall_guard import StallGuard
from pipelines.stream.options import StreamOptions
from pipelines.stream.stateful import Act, StatefulAgent
from schemas import topics


def alerts_app(
    options: StreamOptions,
    new_wholesalers: Callable[[int], Stage[str]],
    deliver: Act,
    stop: Callable[[], None],
    set_up: Callable[[faust.App], asyncio.Event],
) -> tuple[faust.App, StatefulAgent]:
    """The application and its agent.

    `deliver` begins to send what is due and says what was sent; `stop` ends all sending, as the
    partitions may be another worker's now. Nothing is taken before the event of `set_up` is set.
    """
    app = new_app("alerts", options)
    ready = set_up(app)
    wholesalers = StatefulAgent(
        app,
        "wholesalers",
        options.partitions,
        new_wholesalers,
        deliver,
        options.commit_interval,
        options.longest_suspension,
        StallGuard(app, options.give_up_after),
        on_reset=stop,
    )

    @app.agent(app.topic(topics.STOCK_INCIDENTS, value_type=bytes), name="wholesalers")  # type: ignore[untyped-decorator]
    async def follow_incidents(stream: faust.Stream[bytes]) -> None:
        await ready.wait()
        await wholesalers.run(stream)

    async def revoked(*_: object, **__: object) -> None:
        stop()

    app.on_partitions_revoked.connect(revoked, weak=False)
    return app, wholesalers
