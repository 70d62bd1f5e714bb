"""The reference tables of the exchange directory, and which shop sold which SIM."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.engine.columns import REJECTS, ROW, SOURCE
from pipelines.batch.engine.job import Plan
from pipelines.batch.engine.transforms import from_bytes
from pipelines.core.channel import churn
from pipelines.core.stock.placement import Placement
from pipelines.ingest.reference import load_reference
from schemas.errors import InputError
from schemas.reference import Reference


def reference_of(plan: Plan) -> Reference:
    """The reference tables, wherever the input is; what they refuse goes to the rejects."""
    with tempfile.TemporaryDirectory(prefix="zerostock-") as folder:
        top = f"{plan.root.rstrip('/')}/reference"
        for result in FileSystems.match([f"{top}/*.csv", f"{top}/*.toml"]):
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


def with_seller(uses: pl.DataFrame, placed: Iterable[bytes], reference: Reference) -> pl.DataFrame:
    """SIMs with outlet_id, territory_id and wholesaler_id as they were at first use."""
    placements = [
        Placement(at, event_id, at, kind, outlet, to, first_imsi, count, at)
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
