"""What a city is asked to be, and what became of it. No randomness and no files here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from random import Random
from typing import Final, Literal

from schemas.errors import UsageError

#: The city's clock: China Standard Time, all year.
LOCAL: Final = timezone(timedelta(hours=8))
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

CdrFormat = Literal["mixed", "csv", "csv.gz", "parquet"]
_FORMATS: Final = ("csv", "csv.gz", "parquet")

#: Switches write a call when it starts, or, as most do, when it ends.
CallsBy = Literal["start", "end"]


@dataclass(frozen=True)
class CityPlan:
    """The same plan writes the same bytes.

    `cdrs` is the least number of CDR rows, duplicates and first calls come on top. `territories`
    is the number of counties, each with three districts. `disorder_s` bounds how late a row may
    be written after its event. `duplicates` is the share of rows written twice. Format "mixed"
    gives the switches csv, csv.gz and parquet in turn. With `calls_by` "end" a switch writes a
    call when it ends, so start times run backwards by up to the longest call. `late_papers` is
    the share of deliveries, returns, transfers and write-offs that are reported hours or days
    after they happened. Neither changes what happens in the city, only when it is heard of.

    Raises `UsageError` where no city can be made of it.
    """

    seed: int = 1
    outlets: int = 3_500
    days: int = 1
    cdrs: int = 2_000_000
    start: date = date(2026, 3, 2)
    territories: int = 16
    wholesalers: int = 40
    switches: int = 2
    cdr_format: CdrFormat = "mixed"
    duplicates: float = 0.005
    bad_lines: int = 60
    disorder_s: int = 60
    group_wait_s: int = 60
    calls_by: CallsBy = "start"
    late_papers: float = 0.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("seed", 0, 2**63 - 1),
            ("outlets", 10, 1_000_000),
            ("days", 1, 366),
            ("cdrs", 0, 10**10),
            ("territories", 1, 99),
            ("wholesalers", self.territories, 10_000),
            ("switches", 1, 26),
            ("duplicates", 0, 1),
            ("late_papers", 0, 1),
            ("bad_lines", 0, 1_000_000),
            ("disorder_s", 0, 3_600),
            ("group_wait_s", 0, 86_400),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise UsageError(f"{name} must be between {least} and {most}, not {value}")
        if self.cdr_format not in ("mixed", *_FORMATS):
            raise UsageError(f"cdr_format must be mixed, csv, csv.gz or parquet: {self.cdr_format}")
        if self.calls_by not in ("start", "end"):
            raise UsageError(f"calls_by must be start or end: {self.calls_by}")

    @property
    def start_ms(self) -> int:
        """Local midnight of the first day, in ms since the epoch."""
        midnight = datetime(self.start.year, self.start.month, self.start.day, tzinfo=LOCAL)
        return int(midnight.timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.days * DAY_MS

    @property
    def daily_files(self) -> bool:
        """Whether each source writes a file a day, and not one an hour: in cities of many days, as
        long as memory can hold one."""
        return self.days > 10 and self.cdrs // self.days <= 400_000

    @property
    def disorder_ms(self) -> int:
        return self.disorder_s * 1000

    def format_of(self, switch: int) -> str:
        """The file name ending of a switch's CDR files."""
        return _FORMATS[switch % 3] if self.cdr_format == "mixed" else self.cdr_format


@dataclass(frozen=True)
class Summary:
    """What was written. `events` and `cdrs` count lines with duplicates, without the bad ones."""

    cdrs: int
    events: int
    files: int
    first_uses: int
    customers_turned_away: int
    stock_outs: int
    still_out: int
    messages: int
    anomalies: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)


def seeded(seed: int, purpose: str) -> Random:
    """A stream of chance of its own for each purpose, so that one does not disturb another."""
    return Random(f"{purpose} {seed}")  # noqa: S311 - a made city needs no secrets


def iso(ms: int) -> str:
    """Local time with its offset, as operators write it: 2026-03-02T08:00:00.000+08:00."""
    return datetime.fromtimestamp(ms / 1000, LOCAL).isoformat(timespec="milliseconds")
