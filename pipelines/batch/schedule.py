"""Timed runs: which are due, the missed ones too, one after the other.

The run ledger is the only memory: a fire time is settled once a run of its job and period that
began at or after it has succeeded. So it does not matter how long the scheduler was down, nor who
ran the job meanwhile. What a run is, is in `runner`.
"""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.batch import JOBS, run_job
from pipelines.batch.engine.report import Progress, RunReport
from schemas.errors import SettingsError, ZerostockError

if TYPE_CHECKING:
    from pipelines.warehouse.port import Warehouse

#: After a failure, the next try.
TRY_AGAIN = timedelta(minutes=15)

Clock = Callable[[], datetime]


#: The evening's lists: timed like a job, but what the evening is over for is not made up.
EVENING: Final = "soon-empty"


def _a_job(name: str) -> str:
    if name not in JOBS and name != EVENING:
        raise ValueError(f"there are {', '.join([*JOBS, EVENING])}")
    return name


def _a_crontab(line: str) -> str:
    CronTrigger.from_crontab(line, timezone=UTC)
    return line


def _a_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError) as error:
        raise ValueError("no such time zone") from error
    return name


class Timed(BaseModel):
    """One line of the schedule: `job` runs at each fire of `cron`, for what it `covers` then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Annotated[str, AfterValidator(_a_job)]
    cron: Annotated[str, AfterValidator(_a_crontab)]
    covers: Literal["last_month", "this_month", "yesterday", "today"]
    input: str = ""
    beam_args: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Timed:
        if self.job == EVENING and (self.input or self.beam_args or self.covers != "today"):
            raise ValueError('soon-empty covers = "today", and takes no input and no beam_args')
        if self.job != EVENING and not self.input:
            raise ValueError("input is missing")
        return self

    def fires(self, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
        """The fire times in (after, until]."""
        trigger = CronTrigger.from_crontab(self.cron, timezone=zone)
        fire = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
        while fire is not None and fire <= until:
            yield fire
            fire = trigger.get_next_fire_time(fire, fire + timedelta(microseconds=1))

    def next_fire(self, zone: ZoneInfo, after: datetime) -> datetime | None:
        """The first fire time after a moment; None where there will be none."""
        trigger = CronTrigger.from_crontab(self.cron, timezone=zone)
        fire: datetime | None = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
        return fire

    def when(self, fire: datetime) -> tuple[str | None, date | None]:
        """(period, as_of), one of them, of the run at a fire time."""
        day = fire.date()
        if self.covers == "last_month":
            return f"{day.replace(day=1) - timedelta(days=1):%Y-%m}", None
        if self.covers == "this_month":
            return f"{day:%Y-%m}", None
        return None, day if self.covers == "today" else day - timedelta(days=1)


class Schedule(BaseModel):
    """All timed runs. Fire times, days and months are those of `time_zone`; missed runs of
    `catch_up_days` are made up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: tuple[Timed, ...] = Field(min_length=1)
    time_zone: Annotated[str, AfterValidator(_a_zone)] = "Asia/Shanghai"
    catch_up_days: Annotated[int, Field(ge=0, le=400)] = 35

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the fire times."""
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True, slots=True)
class Due:
    """A run that is due."""

    timed: Timed
    fire: datetime
    period: str | None
    as_of: date | None

    @property
    def label(self) -> tuple[str, str]:
        """Job and period as the ledger has them."""
        when = self.period if self.period is not None else f"{self.as_of}"
        return self.timed.job, when


def load_schedule(path: Path, time_zone: str = "Asia/Shanghai") -> Schedule:
    """The schedule in a TOML file: `[[runs]]` tables, `time_zone` (or else the one given, which is
    the business's), `catch_up_days`.

    Raises `SettingsError` that names the first thing wrong.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        return Schedule.model_validate({"time_zone": time_zone} | found)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no schedule: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path}: {where}: {first['msg']}") from error


def due(schedule: Schedule, done: Sequence[dict[str, object]], now: datetime) -> list[Due]:
    """What should have run by `now` and has not, the oldest first; of one period only the last.

    `done`: job, period and started_at of the runs that succeeded.
    """
    since = now - timedelta(days=schedule.catch_up_days)
    found: dict[tuple[str, str], Due] = {}
    for timed in schedule.runs:
        for fire in timed.fires(schedule.zone, since, now):
            if timed.job == EVENING and fire.date() < now.astimezone(schedule.zone).date():
                continue
            run = Due(timed, fire, *timed.when(fire))
            found[run.label] = run
    return sorted(
        (run for run in found.values() if not any(_settles(row, run) for row in done)),
        key=lambda run: (run.fire, run.label),
    )


def _settles(row: dict[str, object], run: Due) -> bool:
    job, when = run.label
    started = row["started_at"]
    assert isinstance(started, datetime)
    return row["job"] == job and row["period"] == when and started >= run.fire


def _succeeded(warehouse: Warehouse) -> list[dict[str, object]]:
    found: list[dict[str, object]] = warehouse.query(
        "SELECT job, period, max(started_at) AS started_at FROM batch_runs"
        " WHERE status = 'succeeded' GROUP BY job, period UNION ALL"
        " SELECT {evening:String}, toString(as_of), max(run_at) FROM soon_empty_runs"
        " GROUP BY as_of",
        {"evening": EVENING},
    ).to_pylist()
    return found


def catch_up(
    schedule: Schedule,
    warehouse: Warehouse,
    *,
    now: datetime,
    progress: Progress,
    runs: Callable[..., RunReport] = run_job,
) -> tuple[list[RunReport], list[Due]]:
    """(reports of the runs that were due; those that failed), one run at a time.

    A failure is reported; the others still run.
    """
    reports, failed = [], []
    for run in due(schedule, _succeeded(warehouse), now):
        job, when = run.label
        progress(f"{job} {when}: due since {run.fire.isoformat(timespec='minutes')}")
        try:
            reports.append(
                runs(
                    job,
                    period=run.period,
                    as_of=run.as_of,
                    input=run.timed.input,
                    warehouse=warehouse,
                    beam_args=(f"--time-zone={schedule.time_zone}", *run.timed.beam_args),
                    progress=progress,
                )
            )
        except ZerostockError as error:
            progress(f"{job} {when}: failed: {error}")
            failed.append(run)
    return reports, failed


def serve(
    schedule: Schedule,
    warehouse: Warehouse,
    *,
    stop: threading.Event,
    progress: Progress,
    clock: Clock = lambda: datetime.now(UTC),
    runs: Callable[..., RunReport] = run_job,
) -> None:
    """Run what is due, wait for the next fire time, and so on until `stop` is set."""
    while not stop.is_set():
        _, failed = catch_up(schedule, warehouse, now=clock(), progress=progress, runs=runs)
        now = clock()
        times = [
            fire
            for timed in schedule.runs
            if (fire := timed.next_fire(schedule.zone, now)) is not None
        ]
        if failed:
            times.append(now + TRY_AGAIN)
        # Woken once a day at least: a clock may be set, a laptop may sleep.
        until = min([*times, now + timedelta(days=1)])
        stop.wait(max(0.0, (until - now).total_seconds()))
