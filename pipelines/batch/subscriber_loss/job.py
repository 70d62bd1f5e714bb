"""Subscriber loss of a month, from call records and the events of the SIM cards.

Every chunk of calls becomes a few figures a SIM: first use, last use, number. Those of a SIM come
together, the deliveries (`sim_events`) say which outlet sold it (`with_seller`). Those of a number
come together, as a replaced card is no loss, and sums by territory, outlet, wholesaler and cohort
are added up. The rules are in `core.channel.churn` and
`core.stock.placement`, data sets and tables in `files`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from zoneinfo import ZoneInfo

import apache_beam as beam
import polars as pl

from pipelines.batch.attribution import reference_of, with_seller
from pipelines.batch.engine.deduplicate import deduplicate
from pipelines.batch.engine.job import Job, Plan, known_until, newest_of
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
    REPLACED,
    RETENTION,
    SILENT,
    SIM,
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
    use: str


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    options, results = plan.options, plan.results
    if not plan.chunks[CALLS.name] and not plan.chunks[EVENTS.name]:
        raise InputError(f"{plan.root} has nothing to read: it needs a folder events/ or cdr/")
    month = _Month(
        *plan.span,
        options.inactive_days,
        options.silent_days,
        options.time_zone,
        options.use,
    )
    reference = reference_of(plan)
    uses = JoinInput("uses", "block", USE, plan.parts)
    accounts = JoinInput("accounts", "block", ACCOUNT, plan.parts)
    placed = JoinInput("placed", "event_id", PLACED)
    figures = partial(_uses, month=month, reference=reference, side=uses)
    calls = plan.read(pipeline, CALLS, partial(_uses_of_calls, then=figures), tags=["newest"])
    events = plan.chunk_list(pipeline, EVENTS) | "Read events" >> beam.ParDo(
        ReadEvents(figures, placed, reference, results)
    ).with_outputs("newest", "placed", main="main")
    newest = (
        (calls["newest"], events["newest"])
        | "Newest of each" >> beam.Flatten()
        | "Newest" >> beam.CombineGlobally(newest_of)
    )
    placements = together(
        "Placements once", [events["placed"]], [placed], partial(placements_once, results=results)
    )
    side = JoinInput("sims", "subscriber", SIM, plan.parts)
    sims = together(
        "Who sold each SIM",
        [
            calls["main"],
            events["main"],
            plan.read(pipeline, KEY_ACCOUNTS, partial(_accounts, accounts)),
        ],
        [uses, accounts],
        partial(_sims, side=side, reference=reference, results=results),
        [beam.pvalue.AsIter(placements)],
    )
    judged = together(
        "Judge subscribers",
        [sims],
        [side],
        partial(_judge, month=month, results=results),
        [beam.pvalue.AsSingleton(newest)],
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
            msisdn="msisdn",
        )
    )


def _uses(
    happened: pl.DataFrame, month: _Month, reference: Reference, side: JoinInput
) -> Iterator[object]:
    """Figures by SIM, of ours, up to the month's end; on the side, the newest time of all."""
    known = happened.filter(pl.col("at") < month.end)
    if known.is_empty():
        return
    yield beam.pvalue.TaggedOutput("newest", known["at"].max())
    rows = known.filter(pl.Series(reference.registered(known["imsi"].to_numpy())))
    at, charge = pl.col("at"), pl.col("charge_fen")
    used = charge > 0 if month.use == "charged" else charge.is_not_null()
    figures = rows.group_by("imsi").agg(
        first_use=at.min(),
        seen_before=at.filter(used & (at < month.start)).max(),
        seen=at.filter(used).max(),
    )
    first = (
        rows.join(figures, left_on=["imsi", "at"], right_on=["imsi", "first_use"], how="semi")
        .group_by("imsi")
        .agg(first_event=pl.col("event_id").min())
    )
    uses = (
        figures.join(first, on="imsi")
        .join(_numbers(rows), on="imsi", how="left")
        .with_columns(_BLOCK.alias("block"))
    )
    yield from side.split(uses.select(*USE))


def _numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """imsi, msisdn, named_at: the newest number of each SIM whose rows name one."""
    number = pl.col("msisdn").str.strip_chars_start("+")
    named = rows.filter(pl.col("msisdn") != "")
    return (
        named.group_by("imsi", number)
        .agg(named_at=pl.col("at").max())
        .group_by("imsi")
        .agg(pl.col("msisdn", "named_at").sort_by("named_at", "msisdn").last())
    )


def _accounts(side: JoinInput, piece: FramePart) -> Iterator[Keyed]:
    yield from side.split(piece.frame.with_columns(_BLOCK.alias("block")).select(*ACCOUNT))


def _sims(
    group: JoinedRows,
    placed: Iterable[bytes],
    *,
    side: JoinInput,
    reference: Reference,
    results: Results,
) -> Iterator[Keyed]:
    """All figures of some SIMs → the SIMs with who sold them, on their way to their subscribers."""
    uses = (
        group.frames["uses"]
        .sort("first_use", "first_event")
        .group_by("imsi")
        .agg(
            pl.col("first_use", "first_event").first(),
            pl.col("seen_before", "seen").max(),
            pl.col("msisdn").sort_by("named_at", "msisdn", nulls_last=False).last(),
        )
        .sort("imsi")
    )
    accounts, rejects = deduplicate(group.frames["accounts"], ["imsi"])
    results.refuse(f"accounts-{group.name}", rejects)
    sims = (
        with_seller(uses, placed, reference)
        .join(accounts, on="imsi", how="left")
        .with_columns(subscriber=pl.coalesce("msisdn", pl.format("imsi {}", "imsi")))
    )
    yield from side.split(sims.select(*SIM))


def _judge(
    group: JoinedRows, newest: int | None, *, month: _Month, results: Results
) -> Iterator[object]:
    """All SIMs of some subscribers → who is in service, lost, silent; sums, and lists.

    A subscriber came with the first SIM, and may be reached under the newest.
    """
    sims = group.frames["sims"].sort("first_use", "first_event", "imsi")
    results.put(REPLACED.name, group.name, _replaced(sims, month))
    first = ["first_use", "first_event", "outlet_id", "territory_id", "wholesaler_id"]
    subscribers = (
        sims.group_by("subscriber", maintain_order=True)
        .agg(
            pl.col(first).first(),
            pl.col("seen_before", "seen").max(),
            pl.col("imsi", "msisdn").last(),
            pl.col("account", "manager").drop_nulls().last(),
        )
        .with_columns(cohort=_day_time("first_use", month.zone).dt.strftime("%Y-%m"))
    )
    # Silence beyond what is known is none.
    until = known_until((month.start, month.end), ZoneInfo(month.zone), newest)
    subscribers = subscribers.filter(pl.col("first_use") < until).with_columns(
        churn.standing(month.start, until, month.inactive_days, month.silent_days)
    )
    silent = subscribers.filter("in_service", pl.col("silent_days") >= month.silent_days)
    results.put(
        SILENT.name,
        group.name,
        silent.with_columns(
            _day_time("first_use"),
            _day_time(pl.max_horizontal("seen", "first_use")).alias("last_seen"),
            pl.col("account", "manager", "msisdn").fill_null(""),
            is_new=(~pl.col("base")).cast(pl.UInt8),
        ).drop("first_event", "seen", "seen_before"),
    )
    yield churn.loss(subscribers)
    yield beam.pvalue.TaggedOutput("retention", churn.retention(subscribers))


def _replaced(sims: pl.DataFrame, month: _Month) -> pl.DataFrame:
    """Cards first used in the month under a number that another card had; `sims` in order."""
    return (
        sims.with_columns(old_imsi=pl.col("imsi").shift().over("subscriber"))
        .filter(pl.col("old_imsi").is_not_null(), pl.col("first_use") >= month.start)
        .select("msisdn", "old_imsi", new_imsi="imsi", replaced_at=_day_time("first_use"))
    )


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
    (LOSS, RETENTION, SILENT, REPLACED),
    _build,
    also=("reference/*.csv",),
)
