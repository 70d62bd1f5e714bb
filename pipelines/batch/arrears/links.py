"""Which customers' books hang together although they were put into different parts.

Books hang together where one customer pays another's bill, or two have the same id. Ids travel as
prints: a hash, and in its lowest bits the part. A hash that two parts have is a link. Different ids
may have one hash: then two customers are settled together for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.batch.engine.transforms import JoinInput

Prints = npt.NDArray[np.uint64]

#: Room for the part in a print, as many as a job has at most; groups that prints are split into.
_PART_BITS, _GROUP_BITS = 9, 4


def about(bill_id: str) -> pl.Expr:
    """What ids of bills that differ in leading zeros and capitals only have in common."""
    return pl.col(bill_id).str.to_lowercase().str.strip_chars_start("0")


def _payment(payment_id: str) -> pl.Expr:
    return pl.col(payment_id).hash(1) ^ pl.col("channel").hash(2)


#: Columns of ids in each kind of rows, and their hashes.
_IDS: Mapping[str, Mapping[str, pl.Expr]] = {
    "bills": {"bill_id": about("bill_id").hash(3), "corrects": about("corrects").hash(3)},
    "payments": {
        "payment_id": _payment("payment_id"),
        "reverses": _payment("reverses"),
        "bill_id": about("bill_id").hash(3),
    },
    "records": {"record_id": pl.col("record_id").hash(4)},
    "customers": {},
}


def prints(side: JoinInput, rows: pl.DataFrame) -> Iterator[tuple[int, bytes]]:
    """The prints of some rows that `side` puts into parts, by group."""
    part = side.part().cast(pl.UInt64)
    for name, of_id in _IDS[side.name].items():
        if rows[name].null_count() == rows.height:
            continue
        found = rows.select((of_id // 2**_PART_BITS * 2**_PART_BITS + part).filter(_is_id(name)))
        ordered = np.sort(found.to_series().to_numpy())
        groups = np.arange(1, 2**_GROUP_BITS, dtype=np.uint64) << np.uint64(64 - _GROUP_BITS)
        for group, some in enumerate(np.split(ordered, np.searchsorted(ordered, groups))):
            if len(some):
                yield group, some.tobytes()


def _is_id(name: str) -> pl.Expr:
    return pl.col(name).is_not_null() & (pl.col(name) != "")


def links(group: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
    """All prints of a group → the hashes that two parts have."""
    _, arrived = group
    ordered = np.sort(np.concatenate([np.frombuffer(data, np.uint64) for data in arrived]))
    hashes = ordered >> np.uint64(_PART_BITS)
    linked = (hashes[1:] == hashes[:-1]) & (ordered[1:] != ordered[:-1])
    if linked.any():
        yield np.unique(hashes[1:][linked]).tobytes()


def astray(frames: Mapping[str, pl.DataFrame], found: Iterable[bytes]) -> pl.Series:
    """customer_id of those of a part whose books hang together with those of another part.

    `found` is what `links` gave. Whoever hangs together with one of them is one of them.
    """
    none: Prints = np.empty(0, np.uint64)
    linked = pl.Series(np.concatenate([none, *(np.frombuffer(d, np.uint64) for d in found)]))
    customers = pl.Series("customer_id", [], pl.String)
    if linked.is_empty():
        return customers
    ids = pl.concat(
        rows.filter(_is_id(name)).select("customer_id", id=of_id // 2**_PART_BITS)
        for kind, rows in frames.items()
        for name, of_id in _IDS[kind].items()
    ).unique()
    while True:
        reached = ids.filter(pl.col("id").is_in(linked.implode()))["customer_id"].unique()
        if reached.len() == customers.len():
            return customers
        customers = reached
        linked = ids.filter(pl.col("customer_id").is_in(customers.implode()))["id"].unique()
