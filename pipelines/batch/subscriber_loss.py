"""Subscriber loss of a month, from call records and the events of the SIM cards.

Every chunk of calls becomes a few figures a SIM: first use, last chargeable event. Those of a SIM
come together, the deliveries say from which outlet it was sold, and sums by territory, outlet,
wholesaler and cohort are added up. The rules are in `pipelines.core.churn` and
`pipelines.core.placement`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.columns import ORIGIN, REJECTS, ROW, SOURCE, Dataset, imsi, text, time, whole
from pipelines.batch.job import Job, Plan
from pipelines.batch.once import once
from pipelines.batch.sources import Chunk
from pipelines.batch.tables import REAL, TEXT, TIME, WHOLE, ResultTable
from pipelines.batch.transforms import (
    COUNTED,
    Group,
    Keyed,
    Piece,
    Results,
    Side,
    SumFrames,
    from_bytes,
    to_bytes,
    together,
)
from pipelines.core import churn
from pipelines.core.placement import Placement, PlacementType
from pipelines.ingest.reference import load_reference
from pipelines.ingest.sim_ranges import Placed, sim_ranges
from schemas.errors import InputError
from schemas.events import (
    Activation,
    Call,
    Delivery,
    Event,
    Refused,
    Registration,
    Return,
    Transfer,
    WriteOff,
    accept,
)
from schemas.reference import Reference

CALLS = Dataset(
    "cdr",
    (text("call_id"), time("start_time"), imsi("imsi"),
     whole("charge_fen", required=False, present=False)),
    folders=("",),
)  # fmt: skip
EVENTS = Dataset("events", (), folders=("",), events=True)
KEY_ACCOUNTS = Dataset(
    "key_accounts",
    (imsi("imsi"), text("account"), text("manager")),
    optional=True,
    folders=("reference", ""),
)

LOSS = ResultTable(
    "subscriber_loss",
    ("period", "dimension", "key"),
    {
        "period": TEXT,
        "dimension": TEXT,
        "key": TEXT,
        "base": WHOLE,
        "lost": WHOLE,
        "pre_lost": WHOLE,
        "loss_rate": REAL,
        "pre_loss_rate": REAL,
        "annualised_rate": REAL,
    },
)
RETENTION = ResultTable(
    "subscriber_retention",
    ("period", "dimension", "key", "cohort"),
    {
        "period": TEXT,
        "dimension": TEXT,
        "key": TEXT,
        "cohort": TEXT,
        "activated": WHOLE,
        "in_service": WHOLE,
        "retention_rate": REAL,
    },
)
SILENT = ResultTable(
    "silent_subscribers",
    ("period", "imsi"),
    {
        "period": TEXT,
        "imsi": WHOLE,
        "first_use": TIME,
        "last_seen": TIME,
        "silent_days": WHOLE,
        "outlet_id": TEXT,
        "wholesaler_id": TEXT,
        "territory_id": TEXT,
        "account": TEXT,
        "manager": TEXT,
    },
)

#: One SIM's figures from some of its events; times in ms, null where there is none.
_USE = {
    "imsi": pl.Int64,
    "block": pl.Int64,
    "first_use": pl.Int64,
    "first_event": pl.String,
    "charged_before": pl.Int64,
    "charged": pl.Int64,
    "called_before": pl.Int64,
    "called": pl.Int64,
}
_PLACED = {
    "at": pl.Int64,
    "event_id": pl.String,
    "type": pl.Int64,
    "outlet_id": pl.String,
    "to_outlet_id": pl.String,
    "first_imsi": pl.Int64,
    "count": pl.Int64,
    **ORIGIN,
}
_ACCOUNT = {
    "imsi": pl.Int64,
    "account": pl.String,
    "manager": pl.String,
    **ORIGIN,
    "block": pl.Int64,
}
#: Calls and activations alike; `charge_fen` is null for an activation, which is no call.
_HAPPENED = {
    "imsi": pl.Int64,
    "at": pl.Int64,
    "event_id": pl.String,
    "charge_fen": pl.Int64,
}

#: Consecutive SIMs stay together, as deliveries speak of ranges.
_BLOCK = pl.col("imsi") // 1000
#: Lines of events looked at together.
_LINES = 50_000


@dataclass(frozen=True, slots=True)
class _Month:
    """What every step must know."""

    period: str
    start: int
    end: int
    inactive_days: int
    silent_days: int
    zone: str


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    options, results = plan.options, plan.results
    month = _Month(
        plan.period, *plan.span, options.inactive_days, options.silent_days, options.time_zone
    )
    reference = _reference(plan)
    uses = Side("uses", "block", _USE, plan.parts)
    accounts = Side("accounts", "block", _ACCOUNT, plan.parts)
    placed = Side("placed", "event_id", _PLACED)
    figures = partial(_uses, month=month, reference=reference, side=uses)
    calls = plan.read(pipeline, CALLS, partial(_uses_of_calls, then=figures), tags=["charged"])
    events = plan.chunk_list(pipeline, EVENTS) | "Read events" >> beam.ParDo(
        _ReadEvents(figures, placed, reference, results)
    ).with_outputs("charged", "placed", main="main")
    charged = (
        (calls["charged"], events["charged"])
        | "Charged rows" >> beam.Flatten()
        | "Any charged" >> beam.CombineGlobally(sum)
    )
    placements = together(
        "Placements once", [events["placed"]], [placed], partial(_placements_once, results=results)
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
            | f"Write {name}" >> beam.Map(finish, month.period, results)
        )


def _reference(plan: Plan) -> Reference:
    """The reference tables, wherever the input is; what they refuse goes to the rejects."""
    with tempfile.TemporaryDirectory(prefix="zerostock-") as folder:
        for result in FileSystems.match([f"{plan.root.rstrip('/')}/reference/*.csv"]):
            for entry in result.metadata_list:
                copy = Path(folder) / entry.path.rsplit("/", 1)[-1]
                with FileSystems.open(entry.path) as stream:
                    copy.write_bytes(stream.read())
        try:
            loaded = load_reference(Path(folder))
        except InputError as error:
            raise InputError(str(error).replace(folder, f"{plan.root}/reference")) from None
    rejects = {
        SOURCE: [line.source for line in loaded.refused],
        ROW: [line.line - 1 for line in loaded.refused],  # rows are counted without the header
        "reason": [line.reason for line in loaded.refused],
    }
    plan.results.refuse("reference", pl.DataFrame(rejects, schema=REJECTS))
    return loaded.reference


def _uses_of_calls(
    piece: Piece, then: Callable[[pl.DataFrame], Iterator[object]]
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
    happened: pl.DataFrame, month: _Month, reference: Reference, side: Side
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
    yield from side.split(uses.select(*_USE))
    yield beam.pvalue.TaggedOutput("charged", figures["charged"].count())


def _accounts(side: Side, piece: Piece) -> Iterator[Keyed]:
    yield from side.split(piece.frame.with_columns(_BLOCK.alias("block")).select(*_ACCOUNT))


class _ReadEvents(beam.DoFn):  # type: ignore[misc]
    """Event files → figures by SIM; on the side placements, and how many calls are charged."""

    def __init__(
        self,
        then: Callable[[pl.DataFrame], Iterator[object]],
        placed: Side,
        reference: Reference,
        results: Results,
    ) -> None:
        self._then, self._placed = then, placed
        self._reference, self._results = reference, results

    def process(self, chunk: Chunk) -> Iterator[object]:
        with FileSystems.open(chunk.file.path) as stream:
            lines = enumerate(iter(stream.readline, b""), start=1)
            for block, some in enumerate(iter(lambda: list(islice(lines, _LINES)), [])):
                yield from self._block(f"events-{chunk.number:06d}-{block:06d}", chunk, some)

    def _block(self, name: str, chunk: Chunk, lines: list[tuple[int, bytes]]) -> Iterator[object]:
        source = chunk.file.source
        happened: list[tuple[int, int, str, int | None]] = []
        placed: list[tuple[object, ...]] = []
        rejects: list[tuple[str, int, str]] = []
        told = [(number, line) for number, line in lines if line.strip()]
        for number, line in told:
            try:
                event = _event(line)
                if isinstance(event, Call):
                    happened.append(
                        (int(event.imsi), event.at, event.event_id, event.charge_fen or 0)
                    )
                elif isinstance(event, Activation):
                    happened.append((int(event.imsi), event.at, event.event_id, None))
                elif not isinstance(event, Registration):
                    placed += [(*row, source, number) for row in _placed(event, self._reference)]
            except Refused as reason:
                rejects.append((source, number, str(reason)))
        self._results.put(COUNTED, name, pl.DataFrame({"rows": [len(told)]}))
        self._results.refuse(name, pl.DataFrame(rejects, schema=REJECTS, orient="row"))
        rows = pl.DataFrame(happened, schema=_HAPPENED, orient="row")
        yield from self._then(rows)
        for part in self._placed.split(pl.DataFrame(placed, schema=_PLACED, orient="row")):
            yield beam.pvalue.TaggedOutput("placed", part)


def _event(line: bytes) -> Event:
    """The event on a line. Raises `Refused`."""
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(f"malformed: {error}") from None
    return accept(row)


_TYPES: dict[type[Placed], PlacementType] = {
    Delivery: PlacementType.DELIVERY,
    Return: PlacementType.RETURN,
    Transfer: PlacementType.TRANSFER,
    WriteOff: PlacementType.WRITE_OFF,
}


def _placed(event: Placed, reference: Reference) -> Iterator[tuple[object, ...]]:
    """A row for each range of SIMs a delivery and its kin speak of. Raises `Refused`."""
    if isinstance(event, Transfer):
        outlet_id, to_outlet_id = event.from_outlet_id, event.to_outlet_id
    else:
        outlet_id, to_outlet_id = event.outlet_id, ""
    for first_imsi, count in sim_ranges(event, reference):
        kind = int(_TYPES[type(event)])
        yield event.at, event.event_id, kind, outlet_id, to_outlet_id, first_imsi, count


def _placements_once(group: Group, results: Results) -> Iterator[bytes]:
    kept, rejects = once(group.frames["placed"], ["event_id", "first_imsi"])
    results.refuse("placements", rejects)
    yield to_bytes(kept.sort("at", "event_id"))


def _judge(
    group: Group,
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
        _sold_by(uses, placed, reference)
        .with_columns(
            seen_before=pl.col(f"{kind}_before"),
            seen=pl.col(kind),
            cohort=_day_time("first_use", month.zone).dt.strftime("%Y-%m"),
        )
        .with_columns(
            churn.standing(month.start, month.end, month.inactive_days, month.silent_days)
        )
    )
    accounts, rejects = once(group.frames["accounts"], ["imsi"])
    results.refuse(f"accounts-{group.name}", rejects)
    silent = sims.filter("pre_lost").join(accounts, on="imsi", how="left")
    results.put(
        SILENT.name,
        group.name,
        silent.select(
            pl.lit(month.period).alias("period"),
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


def _sold_by(uses: pl.DataFrame, placed: Iterable[bytes], reference: Reference) -> pl.DataFrame:
    """SIMs with outlet_id, territory_id and wholesaler_id as they were at first use."""
    placements = [
        Placement(at, event_id, at, kind, outlet, to, first_imsi, count)
        for data in placed
        for at, event_id, kind, outlet, to, first_imsi, count, _, _ in from_bytes(data).iter_rows()
    ]
    outlets = churn.outlets_at_first_use(
        uses["imsi"].to_numpy(), uses["first_use"].to_numpy(), uses["first_event"], placements
    )
    shops = pl.DataFrame(
        [(shop.outlet_id, shop.territory_id) for shop in reference.outlets.values()],
        schema={"outlet_id": pl.String, "territory_id": pl.String},
        orient="row",
    )
    held = pl.DataFrame(
        [(row.outlet_id, row.wholesaler_id, row.valid_from) for row in reference.assignments],
        schema={"outlet_id": pl.String, "wholesaler_id": pl.String, "valid_from": pl.Int64},
        orient="row",
    ).sort("valid_from")
    return (
        uses.with_columns(outlets)
        .join(shops, on="outlet_id", how="left")
        .sort("first_use")
        .join_asof(held, left_on="first_use", right_on="valid_from", by="outlet_id",
                   check_sortedness=False)
        .with_columns(
            pl.col("outlet_id", "territory_id", "wholesaler_id")
            .fill_null("")
            .replace("", churn.UNKNOWN)
        )
    )  # fmt: skip


def _write_loss(sums: pl.DataFrame, period: str, results: Results) -> None:
    results.put(LOSS.name, "all", churn.rates(sums).with_columns(period=pl.lit(period)))


def _write_retention(sums: pl.DataFrame, period: str, results: Results) -> None:
    rate = pl.col("in_service") / pl.col("activated")
    rows = sums.with_columns(period=pl.lit(period), retention_rate=rate)
    results.put(RETENTION.name, "all", rows.sort("dimension", "key", "cohort"))


JOB = Job(
    "subscriber-loss",
    "either",
    (CALLS, EVENTS, KEY_ACCOUNTS),
    (LOSS, RETENTION, SILENT),
    _build,
)
