"""What a run tells: its figures at the end, and lines on the way. No Beam here, so it is cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: Called with one line of plain text whenever a run has got further.
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a run changes in one table, by the table's key."""

    added: int
    removed: int
    changed: int
    same: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """One finished run of a batch job.

    `period` is what it was for (YYYY-MM, or the day as of which). `rows_written` is by table.
    `changes` (by table, against what stood before) is what a dry run reports, which writes nothing.
    """

    run_id: str
    job: str
    period: str
    status: str
    rows_read: int
    rows_rejected: int
    rows_written: Mapping[str, int]
    seconds: float
    changes: Mapping[str, Changes] = field(default_factory=dict)
