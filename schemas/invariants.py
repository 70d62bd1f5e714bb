"""What rows on a topic have to satisfy, whoever wrote them. No I/O.

Our own programs write nothing else. A row that breaks a rule comes from a foreign program or a
fault, and a worker that took it would fail on it again at each start.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cards import iccid_in, series_of
from schemas.fields import TIME_END
from schemas.topics import SIM_BLOCK, block_of

#: The least and the greatest value of numbers, by the name of their column.
_BOUNDS: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(
        (
            "at",
            "known_at",
            "opened_at",
            "closed_at",
            "created_at",
            "as_of",
            "received_at",
            "restated_at",
            "due_at",
            "warn_at",
            "answered_at",
            "started_at",
            "finished_at",
        ),
        (0, TIME_END),
    ),
    **dict.fromkeys(("imsi", "first_imsi", "range_start"), (0, 10**15 - 1)),
    "sims": (1, 10**9),
    "count": (1, SIM_BLOCK),
    "type": (1, 4),
    "delta": (-1, 1),
    "on_hand": (0, 2**31 - 1),
    **dict.fromkeys(("paused_s", "late_s", "answered_after_s", "duration_s"), (0, 2**53)),
    **dict.fromkeys(("points", "of", "score"), (0, 2**53)),
    "on_time": (0, 1),
    **dict.fromkeys(("n", "reopened"), (0, 2**62)),
    "version": (0, 2**63 - 1),
}

#: The columns in which nothing is an answer: it lasts, or is as it always was, or nobody knows.
_MAY_BE_NULL: Final = (
    *("closed_at", "restated_at", "due_at", "warn_at", "answered_at", "finished_at"),
    *("on_time", "satisfied", "late_s", "answered_after_s", "duration_s", "score"),
)


def violation(rows: pa.RecordBatch) -> str | None:
    """Why rows cannot be used, in a few words; None when they can.

    Looks at whole columns: a few microseconds each.
    """
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if column.null_count:
            if name not in _MAY_BE_NULL:
                return f"{name} is missing in some row"
            column = column.drop_null()  # noqa: PLW2901
        bounds = _BOUNDS.get(name)
        if bounds is None or not len(column):
            continue
        numbers = column.to_numpy()
        if numbers.min() < bounds[0] or numbers.max() > bounds[1]:
            return f"{name} is not between {bounds[0]} and {bounds[1]} in some row"
    if "delta" in rows.schema.names and not np.all(rows["delta"].to_numpy()):
        return "delta is 0 in some row"
    if "first_imsi" in rows.schema.names:
        first = rows["first_imsi"].to_numpy()
        if (block_of(first) != block_of(first + rows["count"].to_numpy() - 1)).any():
            return f"count goes past a block of {SIM_BLOCK} SIMs in some row"
    if "range_start" in rows.schema.names and (why := _no_cards(rows)) is not None:
        return why
    if rows.schema.names == ["imsi", "iccid", "sku"] and (why := _no_card(rows)) is not None:
        return why
    if "incident_ids" in rows.schema.names and rows["incident_ids"].flatten().null_count:
        return "incident_ids has a gap in some row"
    return None


def _no_card(rows: pa.RecordBatch) -> str | None:
    """Why single cards cannot be: a number that is none, or a SIM that comes twice."""
    if not pc.all(pc.match_substring_regex(rows["iccid"], "^[0-9A-F]{18,22}$")).as_py():
        return "iccid is no card's number in some row"
    if pc.count_distinct(rows["imsi"]).as_py() < rows.num_rows:
        return "imsi comes twice"
    return None


def _no_cards(rows: pa.RecordBatch) -> str | None:
    """Why ranges of SIMs have no cards: their numbers run out, or a check digit is wrong."""
    for row in rows.to_pylist():
        try:
            series, first = series_of(row["first_iccid"], luhn=row["luhn"])
            iccid_in(series, first + row["sims"] - 1)
        except ValueError as error:
            return f"first_iccid: {error} in some row"
    return None
