"""A row repeated with the same id counts once."""

from __future__ import annotations

import polars as pl

from pipelines.batch.engine.columns import ROW, SOURCE, empty_rejects


def deduplicate(rows: pl.DataFrame, key: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(one row a key; rejects: rows that repeat a key with other values).

    All rows of a key must be present. Which of differing rows is kept depends on their values
    alone, the least one, so that neither the order of rows nor that of files decides.
    """
    # Different hashes are of different keys; equal ones are looked at below.
    if rows.select(pl.struct(key).hash().n_unique()).item() == rows.height:
        return rows, empty_rejects()
    values = [name for name in rows.columns if name not in (*key, SOURCE, ROW)]
    ordered = rows.sort(*key, *values, SOURCE, ROW)
    kept = ordered.unique(key, keep="first", maintain_order=True)
    first = kept.select(
        *key,
        pl.struct(values).alias("_kept"),
        pl.col(SOURCE).alias("_in"),
        pl.col(ROW).alias("_at"),
    )
    differing = (
        ordered.join(first, on=key, nulls_equal=True)
        .filter(pl.struct(values).ne_missing(pl.col("_kept")))
        .select(
            SOURCE,
            ROW,
            pl.format(
                "conflict: {} {} has other values in {} row {}",
                pl.lit(" ".join(key)),
                pl.concat_str(key, separator=" ", ignore_nulls=True),
                "_in",
                "_at",
            ).alias("reason"),
        )
    )
    return kept, differing
