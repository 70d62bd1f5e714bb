"""How much of each input a run refused, and why; a run that refused too much does not publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from pipelines.batch.engine.columns import ROW, SOURCE, Dataset
from pipelines.batch.engine.loading import frames
from pipelines.batch.engine.transforms import COUNTED, NOTE, REJECTED
from schemas.errors import BatchError

#: Reasons shown, the commonest first: what fits on a screen.
_MOST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Refusals:
    """`inputs`: input, read, refused; `reasons`: input, kind, rows, example, the most first."""

    inputs: pl.DataFrame
    reasons: pl.DataFrame

    def lines(self) -> Iterator[str]:
        """The counts by input and reason, in words."""
        shown = self.reasons.head(_MOST_SHOWN)
        for name, kind, rows, example in shown.iter_rows():
            done = "noted" if kind.startswith(NOTE) else "refused"
            yield f"  {rows:,} {done} of {name}: {example.removeprefix(NOTE)}"
        rest = self.reasons[shown.height :]
        if rest.height:
            yield f"  {rest['rows'].sum():,} more, for {rest.height} other reasons"

    def check(self, most: float) -> None:
        """Raise `BatchError` if more than the share `most` of any one input was refused."""
        worst = self.inputs.with_columns(share=pl.col("refused") / pl.col("read")).filter(
            pl.col("share") > most
        )
        for name, read, refused, share in worst.sort("share", descending=True).iter_rows():
            raise BatchError(
                f"{refused:,} of {read:,} rows of {name} were refused ({share:.1%}; --most-refused"
                f" is {most:.1%}): nothing is published, the earlier result stays"
            )


def refusals(folder: str, datasets: Iterable[Dataset]) -> Refusals:
    """What a pipeline left in its folder of rows read and refused.

    An input is a file or, of a data set in many files, the folder that they lie in. A row that is
    refused twice counts once; notes about no row in particular (row 0) do not count.
    """
    names = [dataset.name for dataset in datasets]
    read = _all(folder, COUNTED, {"source": pl.String, "rows": pl.Int64})
    rejects = _all(folder, REJECTED, {SOURCE: pl.String, ROW: pl.UInt64, "reason": pl.String})
    rejects = rejects.filter(pl.col(ROW) > 0)

    def inputs(sources: pl.Series) -> pl.Series:
        unique = sources.unique()
        found = [_input(source, names) for source in unique]
        return sources.replace_strict(unique, found, return_dtype=pl.String).alias("input")

    counts = read.with_columns(inputs(read["source"])).group_by("input").agg(read=pl.sum("rows"))
    refused = rejects.with_columns(inputs(rejects[SOURCE]))
    lost = (
        refused.filter(~pl.col("reason").str.starts_with(NOTE))
        .group_by("input")
        .agg(refused=pl.struct(SOURCE, ROW).n_unique())
    )
    kind = pl.col("reason").str.extract(r"^((?:invalid_field|note): [^:\d]*|[^:]*)")
    return Refusals(
        counts.join(lost, on="input").sort("input"),
        refused.group_by("input", kind.alias("kind"))
        .agg(
            rows=pl.len(),
            example=pl.format("{} (row {})", "reason", ROW).sort_by(SOURCE, ROW).first(),
        )
        .sort("rows", "input", "kind", descending=[True, False, False]),
    )


def _all(folder: str, table: str, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    found = [frame.select(*schema).cast(schema) for frame in frames(folder, table)]  # type: ignore[arg-type]
    return pl.concat([pl.DataFrame(schema=schema), *found])


def _input(source: str, names: Iterable[str]) -> str:
    folder, _, _ = source.rpartition("/")
    return folder if any(name in folder.split("/") for name in names) else source
