"""A chunk of readings as line loss needs it: one shape, which are sound, and their sums by unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from pipelines.batch.engine.columns import ROW, SOURCE, Dataset, empty_rejects
from pipelines.batch.engine.transforms import from_bytes
from pipelines.batch.line_loss.files import CUSTOMER, ENERGY
from pipelines.core.energy.proration import MICRO, MOST_KWH, micro_within, overlaps

#: What is worked with. Columns of names are left behind early: copying them takes long.
SOUND = ("hash", "unit_id", "sign", "start", "end", "kwh", "estimated", SOURCE, ROW)

#: What is besides needed where readings are kept.
SHOWN = (*SOUND, "meter_id", "quality")


def sound(
    frame: pl.DataFrame,
    dataset: Dataset,
    span: tuple[int, int],
    columns: Sequence[str] = SOUND,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(readings that touch the month and tell an amount; rejects among those that touch it)."""
    readings = _in_one_shape(frame, dataset)
    fit, rejects = _fit(readings, span)
    rows = readings.select(columns)
    return rows if fit.all() else rows.filter(fit), rejects


def known_units(units: Iterable[bytes]) -> pl.Series:
    """unit_id of the grid."""
    none = pl.Series("unit_id", [], pl.String)
    return pl.concat([none, *(from_bytes(data)["unit_id"] for data in units)])


def of_known_units(
    rows: pl.DataFrame, sums: pl.DataFrame, units: Iterable[bytes]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(rows, sums by unit; rejects) without the units that the grid does not have."""
    ids = sums.select("unit_id")
    strange = ids.filter(~pl.col("unit_id").is_in(known_units(units).implode()))
    if strange.is_empty():
        return rows, sums, empty_rejects()
    rejects = rows.join(strange, on="unit_id", how="semi").select(
        SOURCE, ROW, pl.format("unknown_unit: {}", "unit_id").alias("reason")
    )
    return (
        rows.join(strange, on="unit_id", how="anti"),
        sums.join(strange, on="unit_id", how="anti"),
        rejects,
    )


def energy_by_unit(rows: pl.DataFrame, span: tuple[int, int]) -> pl.DataFrame:
    """Sums by unit of readings that touch the month."""
    # Of all kWh together below that, no sum can leave 64 bits, which are twice as fast.
    small = (rows["kwh"].sum() or 0) < MOST_KWH
    micro = pl.col("micro").cast(pl.Int64 if small else pl.Int128)
    sums: dict[str, pl.Expr] = {
        "supplied": pl.lit(0),
        "readings": pl.lit(0),
        "sold": micro.sum(),
        "estimated": micro.filter(pl.col("estimated")).sum(),
    }
    if (rows["sign"] != 0).any():
        is_sale = pl.col("sign") == 0
        sums = {
            "supplied": (micro * pl.col("sign")).sum(),
            "readings": (~is_sale).sum(),
            "sold": micro.filter(is_sale).sum(),
            "estimated": micro.filter(is_sale & pl.col("estimated")).sum(),
        }
    return (
        rows.lazy()
        .select("unit_id", "sign", "estimated", micro=micro_within(*span))
        .group_by("unit_id")
        .agg(**sums)
        .cast({name: kind for name, kind in ENERGY.items() if name != "unit_id"})
        .collect()
        .select(*ENERGY)
    )


def meters_of(
    frame: pl.DataFrame, counted: pl.DataFrame, span: tuple[int, int], before: tuple[int, int]
) -> pl.DataFrame:
    """METER: the customers' meters that a chunk has rows of, in the month or the one before.

    `counted` has SOURCE and ROW of the readings that count.
    """
    names, none = ["meter_id", "unit_id"], pl.lit(0, pl.Int64)
    now = frame.filter(overlaps(*span))
    # Here and not in the groups below, where the look-up would be made anew for each of them.
    read = pl.lit(1) if counted.height == now.height else pl.col(ROW).is_in(counted[ROW].implode())
    now = now.with_columns(read.cast(pl.Int64).alias("read"))
    amount = (pl.col("quality") != "missing") & (pl.col("kwh") >= 0)
    past = frame.filter(overlaps(*before), amount, pl.col("end") > pl.col("start"))
    return pl.concat(
        [
            now.group_by(names).agg(
                rows=pl.len().cast(pl.Int64),
                read=pl.col("read").sum(),
                read_before=none,
                before=none,
            ),
            past.group_by(names).agg(
                rows=none,
                read=none,
                read_before=pl.len().cast(pl.Int64),
                before=micro_within(*before).sum(),
            ),
        ]
    )


def shown(rows: pl.DataFrame, span: tuple[int, int]) -> pl.DataFrame:
    """Readings that touch the month as the table shows them; `rows` have `SHOWN` columns."""
    side = pl.when(pl.col("sign") == 0).then(pl.lit("customer"))
    return rows.select(
        "unit_id",
        "meter_id",
        "kwh",
        "quality",
        SOURCE,
        ROW,
        side=side.when(pl.col("sign") > 0).then(pl.lit("in")).otherwise(pl.lit("out")),
        start=pl.from_epoch("start", "ms").dt.replace_time_zone("UTC"),
        end=pl.from_epoch("end", "ms").dt.replace_time_zone("UTC"),
        kwh_in_period=micro_within(*span) / MICRO,
    )


def _in_one_shape(rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Both kinds of readings in one shape; `meter` is what may have one reading at a time.

    A boundary meter may stand between two units, in for one and out for the other. The registers of
    a customer's meter, and its two directions, each have readings of their own.
    """
    if dataset.name == CUSTOMER.name:
        parts = [
            name for name in ("register", "direction") if rows[name].null_count() < rows.height
        ]
        meter = pl.concat_str("meter_id", *parts, separator="\x1f", ignore_nulls=True)
        feeds_in = pl.col("direction") == "feed_in"
        meters = rows.with_columns(
            meter=meter if parts else pl.col("meter_id"),
            sign=feeds_in.fill_null(value=False).cast(pl.Int8)
            if "direction" in parts
            else pl.lit(0, pl.Int8),
        )
    else:
        meters = rows.with_columns(
            meter=pl.concat_str("meter_id", "unit_id", "direction", separator="\x1f"),
            sign=pl.when(direction="in").then(1).otherwise(-1).cast(pl.Int8),
        )
    return meters.with_columns(
        hash=pl.col("meter").hash(), estimated=pl.col("quality") == "estimated"
    )


def _fit(rows: pl.DataFrame, span: tuple[int, int]) -> tuple[pl.Series, pl.DataFrame]:
    """(which readings touch the month and tell an amount; rejects among those that touch it)."""
    backwards = pl.col("end") <= pl.col("start")
    amiss = backwards | pl.col("kwh").is_null() | (pl.col("kwh") < 0)
    counts = (pl.col("quality") != "missing") & (overlaps(*span) | backwards)
    judged = rows.select(fit=counts & ~amiss, amiss=counts & amiss)
    if not judged["amiss"].any():
        return judged["fit"], empty_rejects()
    reason = (
        pl.when(backwards)
        .then(pl.lit("invalid_field: end: not after start"))
        .when(pl.col("kwh").is_null())
        .then(pl.lit("invalid_field: kwh: missing"))
        .otherwise(pl.lit("negative_kwh: the meter ran backwards or rolled over"))
    )
    rejects = rows.filter(judged["amiss"]).select(SOURCE, ROW, reason.alias("reason"))
    return judged["fit"], rejects
