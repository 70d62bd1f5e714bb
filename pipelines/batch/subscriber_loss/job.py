"""Subscriber loss of a month, from call records and the events of the SIM cards.

Every chunk of calls becomes a few figures a SIM: first use, last chargeable event. Those of a SIM
come together, the deliveries (`sim_events`) say which outlet sold it (`with_seller`), and sums by
territory, outlet, wholesaler and cohort are added up. The rules are in `core.channel.churn` and
`core.stock.placement`, data sets and tables in `files`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
import polars as pl

from pipelines.batch.attribution import reference_of, with_seller
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.job import Job, Plan
from pipelines.batch.engine.transforms import (
    FramePart,
    JoinedRows,
    JoinInput,
    Keyed,
    Results,
    SumFrames,
    together,
)
from pipelines.batch.sim_events import ReadEvents, placements_once
from pipelines.batch.subscriber_loss.files import (
    ACCOUNT,
    CALLS,
    EVENTS,
    KEY_ACCOUNTS,
    LOSS,
    PLACED,
    RETENTION,
    SILENT,
    USE,
)
from pipelines.core.channel import churn
from schemas.errors import InputError
from schemas.reference import Reference

#: Consecutive SIMs stay together, as deliveries speak of ranges.
_BLOCK = pl.col("imsi") // 1000


@dataclass(frozen=True, slots=True)
class _Month:
    """What every step must know."""

    start: int
    end: int
    inactive_days: int
    silent_days: int
    zone: str


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    options, results = plan.options, plan.results
    if not plan.chunks[CALLS.name] and not plan.chunks[EVENTS.name]:
        raise InputError(f"{plan.root} has nothing to read: it needs a folder events/ or cdr/")
    month = _Month(*plan.span, options.inactive_days, options.silent_days, options.time_zone)
    reference = reference_of(plan)
    uses = JoinInput("uses", "block", USE, plan.parts)
    accounts = JoinInput("accounts", "block", ACCOUNT, plan.parts)
    placed = JoinInput("placed", "event_id", PLACED)
    figures = partial(_uses, month=month, reference=reference, side=uses)
    calls = plan.read(pipeline, CALLS, partial(_uses_of_calls, then=figures), tags=["charged"])
    events = plan.chunk_list(pipeline, EVENTS) | "Read events" >> beam.ParDo(
        ReadEvents(figures, placed, reference, results)
    ).with_outputs("charged", "placed", main="main")
    charged = (
        (calls["charged"], events["charged"])
        | "Charged rows" >> beam.Flatten()
        | "Any charged" >> beam.CombineGlobally(sum)
    )
    placements = together(
        "Placements once", [events["placed"]], [placed], partial(placements_once, results=results)
    )
    judged = together(
        "Judge SIMs",
        [
            calls["main"],
            events["main"],
            plan.read(pipeline, KEY_ACCOUNTS, partial(_accounts, accounts)),
        ],
        [uses, accounts],
        partial(_judge, month=month, reference=reference, results=results),
        [beam.pvalue.AsSingleton(charged), beam.pvalue.AsIter(placements)],
        ["retention"],
    )
    for name, tag, keys, finish in (
        ("loss", "main", ["dimension", "key"], _write_loss),
        ("retention", "retention", ["dimension", "key", "cohort"], _write_retention),
    ):
        _ = (
            judged[tag]
            | f"Add up {name}" >> beam.CombineGlobally(SumFrames(keys)).without_defaults()
            | f"Write {name}" >> beam.Map(finish, results)
        )


def _uses_of_calls(
    piece: FramePart, then: Callable[[pl.DataFrame], Iterator[object]]
) -> Iterator[object]:
    yield from then(
        piece.frame.select(
            "imsi",
            at="start_time",
            event_id="call_id",
            charge_fen=pl.col("charge_fen").fill_null(0),
        )
    )


def _uses(
    happened: pl.DataFrame, month: _Month, reference: Reference, side: JoinInput
) -> Iterator[object]:
    """Figures by SIM, of ours, up to the month's end; on the side, how many have a charge."""
    ours = reference.registered(happened["imsi"].to_numpy()) & (
        happened["at"].to_numpy() < month.end
    )
    rows = happened.filter(pl.Series(ours))
    if rows.is_empty():
        return
    at, charge = pl.col("at"), pl.col("charge_fen")
    before = at < month.start
    figures = rows.group_by("imsi").agg(
        first_use=at.min(),
        charged_before=at.filter((charge > 0) & before).max(),
        charged=at.filter(charge > 0).max(),
        called_before=at.filter(charge.is_not_null() & before).max(),
        called=at.filter(charge.is_not_null()).max(),
    )
    first = (
        rows.join(figures, left_on=["imsi", "at"], right_on=["imsi", "first_use"], how="semi")
        .group_by("imsi")
        .agg(first_event=pl.col("event_id").min())
    )
    uses = figures.join(first, on="imsi").with_columns(_BLOCK.alias("block"))
    yield from side.split(uses.select(*USE))
    yield beam.pvalue.TaggedOutput("charged", figures["charged"].count())


def _accounts(side: JoinInput, piece: FramePart) -> Iterator[Keyed]:
    yield from side.split(piece.frame.with_columns(_BLOCK.alias("block")).select(*ACCOUNT))


def _judge(
    group: JoinedRows,
    charged: int,
    placed: Iterable[bytes],
    *,
    month: _Month,
    reference: Reference,
    results: Results,
) -> Iterator[object]:
    """All figures of some SIMs → who is in service, lost, silent; sums, and the list of silent."""
    uses = (
        group.frames["uses"]
        .sort("first_use", "first_event")
        .group_by("imsi")
        .agg(
            pl.col("first_use", "first_event").first(),
            pl.col("charged_before", "charged", "called_before", "called").max(),
        )
        .sort("imsi")
    )
    # An export without any charges (flat rates) has calls only to tell by.
    kind = "charged" if charged else "called"
    sims = (
        with_seller(uses, placed, reference)
        .with_columns(
            seen_before=pl.col(f"{kind}_before"),
            seen=pl.col(kind),
            cohort=_day_time("first_use", month.zone).dt.strftime("%Y-%m"),
        )
        .with_columns(
            churn.standing(month.start, month.end, month.inactive_days, month.silent_days)
        )
    )
    accounts, rejects = deduplicate(group.frames["accounts"], ["imsi"])
    results.refuse(f"accounts-{group.name}", rejects)
    silent = sims.filter("pre_lost").join(accounts, on="imsi", how="left")
    results.put(
        SILENT.name,
        group.name,
        silent.select(
            "imsi",
            _day_time("first_use"),
            _day_time(pl.max_horizontal("seen", "first_use")).alias("last_seen"),
            "silent_days",
            "outlet_id",
            "wholesaler_id",
            "territory_id",
            pl.col("account", "manager").fill_null(""),
        ),
    )
    yield churn.loss(sims)
    yield beam.pvalue.TaggedOutput("retention", churn.retention(sims))


def _day_time(ms: str | pl.Expr, zone: str = "UTC") -> pl.Expr:
    times = pl.col(ms) if isinstance(ms, str) else ms
    utc = pl.from_epoch(times, time_unit="ms").dt.replace_time_zone("UTC")
    return utc if zone == "UTC" else utc.dt.convert_time_zone(zone)


def _write_loss(sums: pl.DataFrame, results: Results) -> None:
    results.put(LOSS.name, "all", churn.rates(sums))


def _write_retention(sums: pl.DataFrame, results: Results) -> None:
    rows = sums.with_columns(retention_rate=pl.col("in_service") / pl.col("activated"))
    results.put(RETENTION.name, "all", rows.sort("dimension", "key", "cohort"))


JOB = Job(
    "subscriber-loss",
    "either",
    (CALLS, EVENTS, KEY_ACCOUNTS),
    (LOSS, RETENTION, SILENT),
    _build,
)
