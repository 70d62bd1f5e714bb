"""Arrears as of a day: ageing, recovery, credit, and the money the channels say they took.

Rows come together once, by customer, and all that is one customer's is settled in one place
(`customer_books`). Customers of different parts whose books hang together (`links`: one pays
another's bill, an id is there twice) are settled in one place of their own. Sums by segment and
hall are added up last. The rules are in `pipelines.core.billing`, data sets and tables in `files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial

import apache_beam as beam
import polars as pl

from pipelines.batch.arrears.customer_books import settle, settle_part
from pipelines.batch.arrears.files import (
    AGEING,
    BILLS,
    CREDIT,
    CUSTOMERS,
    DOUBLES,
    OPEN_BILLS,
    PAYMENTS,
    RECEIVED,
    RECONCILIATION,
    RECORDS,
    RECOVERY,
    STATEMENTS,
)
from pipelines.batch.arrears.links import links, prints
from pipelines.batch.arrears.reconciliation import reconcile
from pipelines.batch.engine.job import Job, Plan
from pipelines.batch.engine.transforms import (
    FramePart,
    JoinInput,
    Results,
    SumFrames,
    gather,
    join,
    together,
)
from pipelines.core.billing import arrears
from schemas.errors import BatchError


def _build(pipeline: beam.Pipeline, plan: Plan) -> None:
    as_of, results = plan.as_of, plan.results
    sides = {
        name: JoinInput(name, "customer_id", dataset.schema, plan.parts)
        for name, dataset in (
            ("customers", CUSTOMERS),
            ("records", RECORDS),
            ("bills", BILLS),
            ("payments", PAYMENTS),
        )
    }
    read = [
        plan.read(pipeline, dataset, partial(_books, side=side), tags=["prints"])
        for dataset, side in zip((CUSTOMERS, RECORDS, BILLS, PAYMENTS), sides.values(), strict=True)
    ]
    found = (
        [of["prints"] for of in read]
        | "Prints" >> beam.Flatten()
        | "Same prints" >> beam.GroupByKey()
        | "Links" >> beam.FlatMap(links)
    )
    settling = partial(settle, as_of=as_of, results=results)
    tags = ["recovery", "balance", "received"]
    parts = join(
        "Settle with each customer",
        gather("Books", [of["main"] for of in read]),
        [*sides.values()],
        partial(settle_part, then=settling, sides=sides),
        [beam.pvalue.AsIter(found)],
        [*tags, "astray"],
    )
    astray = together("Settle the linked", [parts["astray"]], [*sides.values()], settling, (), tags)
    sums = {
        name: (parts[tag], astray[tag])
        | f"All {name}" >> beam.Flatten()
        | f"Add up {name}" >> beam.CombineGlobally(SumFrames(keys)).without_defaults()
        for name, tag, keys in (
            ("ageing", "main", ["dimension", "key", "bucket"]),
            ("recovery", "recovery", ["dimension", "key", "billing_period"]),
            ("balance", "balance", ["is"]),
            ("received", "received", ["day", "channel"]),
        )
    }
    for name, finish in (
        ("ageing", _write_ageing),
        ("recovery", _write_recovery),
        ("balance", _check_balance),
    ):
        _ = sums[name] | f"Write {name}" >> beam.Map(finish, as_of, results)
    received = JoinInput("received", "day", RECEIVED)
    stated = JoinInput("stated", "day", STATEMENTS.schema)
    together(
        "Reconcile",
        [
            sums["received"] | "Received" >> beam.FlatMap(received.split),
            plan.read(pipeline, STATEMENTS, stated.of_piece),
        ],
        [received, stated],
        partial(reconcile, as_of=as_of, results=results),
    )


def _books(piece: FramePart, side: JoinInput) -> Iterator[object]:
    """Rows to the part of their customer; on the side their prints, where there are several."""
    yield from side.split(piece.frame)
    if side.parts > 1:
        yield from (beam.pvalue.TaggedOutput("prints", some) for some in prints(side, piece.frame))


def _check_balance(sums: pl.DataFrame, as_of: date, results: Results) -> None:
    billed, still_open, allocated = sums.row(0)[1:]
    if billed != still_open + allocated:
        raise BatchError(
            f"billed {billed} fen is not open {still_open} plus allocated {allocated} as of {as_of}"
        )


def _write_ageing(sums: pl.DataFrame, _: date, results: Results) -> None:
    results.put(AGEING.name, "all", sums)


def _write_recovery(sums: pl.DataFrame, _: date, results: Results) -> None:
    results.put(RECOVERY.name, "all", arrears.rates(sums))


JOB = Job(
    "arrears",
    "as_of",
    (CUSTOMERS, BILLS, PAYMENTS, STATEMENTS, RECORDS),
    (AGEING, RECOVERY, CREDIT, OPEN_BILLS, RECONCILIATION, DOUBLES),
    _build,
)
