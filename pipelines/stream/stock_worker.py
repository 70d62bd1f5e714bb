"""The stock worker: SIM events become movements, movements become stock-outs."""

from __future__ import annotations

import faust

from pipelines.core.effects import Effect
from pipelines.core.stock.outlet_stage import OutletStage
from pipelines.core.stock.shelf import Holder
from pipelines.core.stock.sim_registry import SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.stream import metrics, trace
from pipelines.stream.app import new_app
from pipelines.stream.faust_fixes.stall_guard import StallGuard
from pipelines.stream.options import StreamOptions
from pipelines.stream.stateful import StatefulAgent
from schemas import topics


def stock_app(options: StreamOptions, registry: SimRegistry, holder: Holder) -> faust.App:
    """The application; `registry` and `holder` come from the reference tables."""
    app = new_app("stock", options)
    progress = StallGuard(app, options.give_up_after)

    def new_sims(partition: int) -> SimStage:
        stage = metrics.CountedSimStage(
            partition, options.partitions, registry, holder, options.restate_within
        )
        metrics.sim_stages.add(stage)
        return stage

    def new_outlets(partition: int) -> OutletStage:
        return OutletStage(partition, options.partitions, holder, options.restate_within)

    async def fold(stage: SimStage | OutletStage, now: int) -> list[Effect]:
        del now
        return trace.traced(metrics.count_effects(stage.advance()))

    sims = StatefulAgent(
        app,
        "sims",
        options.partitions,
        new_sims,
        fold,
        options.commit_interval,
        options.longest_suspension,
        progress,
    )
    outlets = StatefulAgent(
        app,
        "outlets",
        options.partitions,
        new_outlets,
        fold,
        options.commit_interval,
        options.longest_suspension,
        progress,
    )

    @app.agent(app.topic(topics.SIM_EVENTS, value_type=bytes), name="sims")  # type: ignore[untyped-decorator]
    async def follow_sims(stream: faust.Stream[bytes]) -> None:
        await sims.run(stream)

    @app.agent(app.topic(topics.STOCK_MOVEMENTS, value_type=bytes), name="outlets")  # type: ignore[untyped-decorator]
    async def follow_outlets(stream: faust.Stream[bytes]) -> None:
        await outlets.run(stream)

    return app
