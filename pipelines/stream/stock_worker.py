"""The stock worker: SIM events become movements, movements become stock-outs; and cases.

The stages of cases are here too, because another process would cost more than they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust

from pipelines.core.effects import Effect
from pipelines.core.service.case_stage import CaseStage
from pipelines.core.service.repeat_stage import RepeatStage
from pipelines.core.stage import Stage
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
from schemas.service.rules import ServiceRules


def stock_app(
    options: StreamOptions,
    registry: SimRegistry,
    holder: Holder,
    rules: Callable[[], ServiceRules] = ServiceRules,
) -> faust.App:
    """The application; `registry`, `holder` and `rules` come from the reference tables."""
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

    def new_repeats(partition: int) -> RepeatStage:
        return RepeatStage(partition, options.partitions, rules, options.restate_within)

    def new_cases(partition: int) -> CaseStage:
        return CaseStage(partition, options.partitions, rules, options.restate_within)

    async def fold(
        stage: SimStage | OutletStage | RepeatStage | CaseStage, now: int
    ) -> list[Effect]:
        del now
        return trace.traced(metrics.count_effects(stage.advance()))

    def agent(name: str, make: Callable[[int], Stage[Any]]) -> StatefulAgent:
        return StatefulAgent(
            app,
            name,
            options.partitions,
            make,
            fold,
            options.commit_interval,
            options.longest_suspension,
            progress,
        )

    sims, outlets = agent("sims", new_sims), agent("outlets", new_outlets)
    repeats, cases = agent("repeats", new_repeats), agent("cases", new_cases)

    @app.agent(app.topic(topics.SIM_EVENTS, value_type=bytes), name="sims")  # type: ignore[untyped-decorator]
    async def follow_sims(stream: faust.Stream[bytes]) -> None:
        await sims.run(stream)

    @app.agent(app.topic(topics.STOCK_MOVEMENTS, value_type=bytes), name="outlets")  # type: ignore[untyped-decorator]
    async def follow_outlets(stream: faust.Stream[bytes]) -> None:
        await outlets.run(stream)

    @app.agent(app.topic(topics.CASE_EVENTS, value_type=bytes), name="repeats")  # type: ignore[untyped-decorator]
    async def follow_openings(stream: faust.Stream[bytes]) -> None:
        await repeats.run(stream)

    @app.agent(app.topic(topics.CASES, value_type=bytes), name="cases")  # type: ignore[untyped-decorator]
    async def follow_cases(stream: faust.Stream[bytes]) -> None:
        await cases.run(stream)

    return app
