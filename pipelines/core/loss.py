"""Line loss: energy shared out by time, readings that overlap, sums up the grid's tree.

Energy is added as whole microwatt-hours (`Int128` in frames, `int` in the tree), so that the order
of the rows and the number of chunks change nothing, and no unit is "negative" by a rounding error.
Reading files, shuffling and writing live in `pipelines.batch`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

#: Microwatt-hours in a kWh.
MICRO = 10**9

#: No single meter shows more in one reading (kWh): a 1 GW line for a year. Beyond is a bad value.
MOST_KWH = 9e9

LEVELS = ("region", "voltage", "feeder", "transformer_area")

#: A loss rate above this is `high`; a file `loss_thresholds` (level, threshold) replaces them.
THRESHOLDS: Mapping[str, float] = {
    "region": 0.08,
    "voltage": 0.08,
    "feeder": 0.08,
    "transformer_area": 0.07,
}


def micro_within(start: int, end: int) -> pl.Expr:
    """The part of `kwh` that falls into [start, end), in µWh; rows must overlap the span.

    Works on columns start, end (ms, end > start) and kwh. A reading that straddles is shared out
    evenly over its time.
    """
    overlap = pl.min_horizontal("end", pl.lit(end)) - pl.max_horizontal("start", pl.lit(start))
    whole = pl.col("kwh")
    part = pl.col("kwh") * overlap / (pl.col("end") - pl.col("start"))
    inside = (pl.col("start") >= start) & (pl.col("end") <= end)
    return (pl.when(inside).then(whole).otherwise(part) * float(MICRO)).round().cast(pl.Int64)


def overlaps(start: int, end: int) -> pl.Expr:
    """Whether a reading has any of its time in [start, end)."""
    return (pl.col("start") < end) & (pl.col("end") > start)


# --- readings of one meter that overlap ---------------------------------------------------------

#: Times in fingerprints are seconds (in ms): starts rounded down, ends up, so that none is missed.
TICK = 1000

#: Bits of a fingerprint that tell meters apart, and times (the seconds of a month fit 22 bits).
METER_BITS = 41
_TIME_BITS = 22

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]


def fingerprints(meters: UInt64s, starts: Int64s, ends: Int64s) -> UInt64s:
    """Two numbers a reading, its start and its end.

    `meters` holds METER_BITS of a hash; times are ticks since the period's start, within it.
    Sorted, those of a meter without overlaps alternate start, end, start, end.
    """
    prints = np.empty(2 * len(meters), np.uint64)
    firsts, lasts = prints[: len(meters)], prints[len(meters) :]
    np.left_shift(meters, np.uint64(_TIME_BITS), out=firsts)
    np.bitwise_or(firsts, ends.view(np.uint64), out=lasts)
    np.bitwise_or(firsts, starts.view(np.uint64), out=firsts)
    np.left_shift(prints, np.uint64(1), out=prints)
    np.bitwise_or(firsts, np.uint64(1), out=firsts)
    return prints


def suspects(prints: UInt64s) -> UInt64s:
    """The meter hashes among sorted fingerprints that may have readings which overlap.

    Never misses one; names a few too many, as different meters can share a hash.
    """
    starts = (prints & np.uint64(1)).astype(np.bool_)
    second = np.flatnonzero(starts[1:] & starts[:-1]) + 1
    bits = np.uint64(_TIME_BITS + 1)
    meter, before = prints[second] >> bits, prints[second - 1] >> bits
    return np.unique(meter[meter == before])


def joined(prints: UInt64s) -> UInt64s:
    """Fewer fingerprints that show the same overlaps with others: where a reading ends at the very
    time at which the meter's next one starts, the two are as good as one long reading."""
    if not len(prints):
        return prints
    meets = prints[1:] == (prints[:-1] | np.uint64(1))
    meets &= prints[1:] != prints[:-1]
    keep = np.ones(len(prints), np.bool_)
    keep[:-1] &= ~meets
    keep[1:] &= ~meets
    return prints[keep]


class Reading(NamedTuple):
    """One reading of a suspect meter, as far as it decides which readings count; times in ms."""

    estimated: bool
    start: int
    end: int
    kwh: float
    owner: str
    source: str
    row: int
    place: int = 0


def settle(readings: Iterable[Reading]) -> tuple[list[Reading], list[tuple[Reading, Reading]]]:
    """(repeated, refused with the reading each clashes with) among one meter's readings.

    A reading said again word for word is repeated and simply does not count twice. Of readings that
    overlap the measured one stands before the estimated, then the one that starts (ends) earlier,
    then the smaller; the other is refused whole. The order of the rows decides nothing.
    """
    repeated: list[Reading] = []
    refused: list[tuple[Reading, Reading]] = []
    kept: list[Reading] = []  # disjoint, by start
    previous: Reading | None = None
    for reading in sorted(readings):
        if previous is not None and reading[:5] == previous[:5]:
            repeated.append(reading)
            continue
        previous = reading
        at = bisect_left(kept, reading.start, key=lambda other: other.start)
        clash = None
        if at > 0 and kept[at - 1].end > reading.start:
            clash = kept[at - 1]
        elif at < len(kept) and kept[at].start < reading.end:
            clash = kept[at]
        if clash is None:
            kept.insert(at, reading)
        else:
            refused.append((reading, clash))
    return repeated, refused


# --- the grid's tree ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of the grid; parent_id is "" at the top."""

    unit_id: str
    level: str
    parent_id: str


@dataclass(slots=True)
class Energy:
    """What one unit's own readings add up to, in µWh; supplied is None without a reading."""

    supplied: int | None = None
    sold: int = 0
    estimated: int = 0


@dataclass(slots=True)
class Loss:
    """One row of line_loss: energies in µWh, None where nobody can know."""

    unit: Unit
    supplied: int | None
    sold: int
    transferred: int = 0
    own_loss: int | None = None
    sold_total: int | None = 0
    loss: int | None = None
    estimated_total: int = 0
    status: str = "ok"
    reasons: list[str] = field(default_factory=list)

    @property
    def loss_rate(self) -> float | None:
        """loss / supplied, None where nothing was supplied."""
        return self.loss / self.supplied if self.loss is not None and self.supplied else None

    @property
    def estimated_share(self) -> float | None:
        """The estimated part of the energy sold in the subtree, None where none was sold."""
        if not self.sold_total:
            return None
        return self.estimated_total / self.sold_total


def loops(units: Mapping[str, Unit]) -> dict[str, str]:
    """unit_id → the loop it lies on, written out ("A > B > A"); units merely below one are not."""
    found: dict[str, str] = {}
    done: set[str] = set()
    for start in units:
        path: dict[str, int] = {}
        here = start
        while here in units and here not in done and here not in path:
            path[here] = len(path)
            here = units[here].parent_id
        if here in path:
            ring = list(path)[path[here] :]
            first = ring.index(min(ring))
            ring = ring[first:] + ring[:first]
            found.update(dict.fromkeys(ring, " > ".join([*ring, ring[0]])))
        done.update(path)
    return found


def _top_down(
    units: Mapping[str, Unit], cut: Mapping[str, str]
) -> tuple[list[str], dict[str, list[str]]]:
    """All units, parents before their children, and the children of each; loops are cut open."""
    children: dict[str, list[str]] = {unit_id: [] for unit_id in units}
    order = []
    for unit in units.values():
        if unit.unit_id not in cut and unit.parent_id in units:
            children[unit.parent_id].append(unit.unit_id)
        else:
            order.append(unit.unit_id)
    for unit_id in order:  # grows while it is walked
        order.extend(children[unit_id])
    return order, children


def line_loss(
    units: Mapping[str, Unit],
    energy: Mapping[str, Energy],
    thresholds: Mapping[str, float] = THRESHOLDS,
) -> list[Loss]:
    """Every unit's balance, parents before children.

    A parent that is not among the units makes its child a top unit; a unit on a loop keeps its own
    figures and is skipped: what its tree holds cannot be known. Sums are added, rates divided last.
    """
    cut = loops(units)
    order, children = _top_down(units, cut)
    nothing = Energy()
    losses: dict[str, Loss] = {}
    for unit_id in reversed(order):
        unit, own = units[unit_id], energy.get(unit_id, nothing)
        row = Loss(unit, own.supplied, own.sold)
        below = [losses[child] for child in children[unit_id]]
        row.transferred = sum(child.supplied or 0 for child in below)
        row.sold_total = own.sold + sum(child.sold_total or 0 for child in below)
        row.estimated_total = own.estimated + sum(child.estimated_total for child in below)
        if own.supplied is not None:
            row.loss = own.supplied - row.sold_total
        unread = sum(child.supplied is None for child in below)
        if own.supplied is not None and not unread:
            row.own_loss = own.supplied - row.transferred - own.sold
        _judge(row, unread, len(below), cut.get(unit_id), thresholds)
        if unit.parent_id and unit.parent_id not in units:
            row.reasons.append(f"its parent {unit.parent_id} is not among the grid units")
        losses[unit_id] = row
    return [losses[unit_id] for unit_id in order]


def _judge(
    row: Loss, unread: int, children: int, loop: str | None, thresholds: Mapping[str, float]
) -> None:
    """Set the status, and the reasons a person can act on."""
    if loop is not None:
        row.status = "skipped"
        row.reasons.append(f"the hierarchy has a loop: {loop}")
        row.own_loss = row.loss = row.sold_total = None
        row.estimated_total = 0
        return
    rate = row.loss_rate
    limit = thresholds.get(row.unit.level)
    if row.loss is None:
        row.status = "skipped"
        row.reasons.append("no supply reading")
    elif row.loss < 0:
        row.status = "negative"
        row.reasons.append("more was sold than supplied: check meters and who hangs on this unit")
    elif rate is not None and limit is not None and rate > limit:
        row.status = "high"
        row.reasons.append(f"loss rate over {limit:.1%}")
    if unread:
        row.reasons.append(
            f"own loss unknown: {unread} of {children} children have no supply reading"
        )


@dataclass(frozen=True, slots=True)
class Line:
    """What a unit's line and transformer are made of; `shape` is RMS over mean of its current."""

    resistance_ohm: float
    voltage_kv: float
    power_factor: float = 0.95
    shape: float = 1.05
    no_load_kw: float = 0.0

    def loss(self, supplied_kwh: float, hours: float) -> float:
        """kWh lost in passing on `supplied_kwh` in `hours`: 3·(shape·I)²·R plus the iron's share.

        The method of the mean current: I = P / (√3·U·cos φ) of the three phases.
        """
        current = supplied_kwh / hours / (3**0.5 * self.voltage_kv * self.power_factor)
        copper_kw = 3 * (self.shape * current) ** 2 * self.resistance_ohm / 1000
        return (copper_kw + self.no_load_kw) * hours


def to_columns(
    period: str, losses: Sequence[Loss], lines: Mapping[str, Line] | None = None, hours: float = 1.0
) -> dict[str, list[object]]:
    """The rows of line_loss by column, energies in kWh; `hours` is the length of the month."""

    def kwh(value: int | None) -> float | None:
        return None if value is None else value / MICRO

    def in_theory(row: Loss) -> float | None:
        line, supplied = (lines or {}).get(row.unit.unit_id), kwh(row.supplied)
        return None if line is None or supplied is None else line.loss(supplied, hours)

    theory = [in_theory(row) for row in losses]
    return {
        "period": [period] * len(losses),
        "level": [row.unit.level for row in losses],
        "unit_id": [row.unit.unit_id for row in losses],
        "parent_id": [row.unit.parent_id for row in losses],
        "supplied_kwh": [kwh(row.supplied) for row in losses],
        "transferred_kwh": [kwh(row.transferred) for row in losses],
        "sold_kwh": [kwh(row.sold) for row in losses],
        "own_loss_kwh": [kwh(row.own_loss) for row in losses],
        "sold_total_kwh": [kwh(row.sold_total) for row in losses],
        "loss_kwh": [kwh(row.loss) for row in losses],
        "loss_rate": [row.loss_rate for row in losses],
        "estimated_share": [row.estimated_share for row in losses],
        "status": [row.status for row in losses],
        "reason": ["; ".join(row.reasons) for row in losses],
        "theoretical_kwh": list(theory),
        "unexplained_kwh": [
            None if physics is None or row.own_loss is None else row.own_loss / MICRO - physics
            for row, physics in zip(losses, theory, strict=True)
        ],
    }


# --- meters that break from their own history ---------------------------------------------------

#: Months of history a meter must have, and how far back they are looked for.
LEAST_MONTHS, HISTORY_MONTHS = 3, 12
#: A month is out of line beyond so many standard deviations, and by so large a share of the usual.
DEVIATIONS, LEAST_CHANGE = 3.0, 0.5


def meter_suspects(months: pl.DataFrame) -> pl.DataFrame:
    """Meters whose month breaks from their own history and from their neighbours', with reasons.

    `months`: meter_id, customer_id, unit_id, age (0 for the month looked at, 1 for the one before,
    …), kwh; all meters of a unit. change is kwh / usual_kwh − 1; neighbours_change the median of
    it in the unit. The score is the part of the usual energy that is missing (or too much) after
    what the neighbours do as well.
    """
    usual = pl.col("kwh").filter(pl.col("age") > 0)
    meters = (
        months.sort("age")
        .group_by("meter_id")
        .agg(
            pl.col("customer_id", "unit_id").first(),
            kwh=pl.col("kwh").filter(pl.col("age") == 0).sum(),
            read=(pl.col("age") == 0).any(),
            usual_kwh=usual.mean(),
            spread=usual.std().fill_null(0),
            months=usual.len().cast(pl.Int64),
        )
        .filter("read", pl.col("months") >= LEAST_MONTHS, pl.col("usual_kwh") > 0)
        .with_columns(change=pl.col("kwh") / pl.col("usual_kwh") - 1)
        .with_columns(neighbours_change=pl.col("change").median().over("unit_id"))
    )
    own = pl.col("change")
    apart = own - pl.col("neighbours_change")
    beyond = (pl.col("kwh") - pl.col("usual_kwh")).abs() > DEVIATIONS * pl.col("spread")
    words = [
        pl.when(pl.col("kwh") == 0).then(pl.lit("nothing used")),
        pl.when((own < 0) & (pl.col("kwh") > 0)).then(
            pl.format("{}% less than its {} months before", _percent(-own), "months")
        ),
        pl.when(own > 0).then(
            pl.format("{}% more than its {} months before", _percent(own), "months")
        ),
        pl.format(
            "neighbours {}{}%",
            pl.when(pl.col("neighbours_change") < 0).then(pl.lit("-")).otherwise(pl.lit("+")),
            _percent(pl.col("neighbours_change").abs()),
        ),
    ]
    return (
        meters.filter(beyond, own.abs() >= LEAST_CHANGE, apart.abs() >= LEAST_CHANGE)
        .with_columns(
            score=apart.abs(), reasons=pl.concat_str(words, separator="; ", ignore_nulls=True)
        )
        .drop("spread", "read")
    )


def _percent(share: pl.Expr) -> pl.Expr:
    return (share * 100).round().cast(pl.Int64)
