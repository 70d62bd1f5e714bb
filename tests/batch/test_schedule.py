"""Timed runs: what is due when, what was missed, one at a time, and what a failure leaves."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.batch.engine.report import RunReport
from pipelines.batch.schedule import Schedule, Timed, catch_up, due, load_schedule, serve
from pipelines.warehouse.port import Warehouse
from schemas.errors import BatchError, SettingsError

MONTHLY = Timed(job="line-loss", cron="30 2 3 * *", covers="last_month", input="in")
DAILY = Timed(job="arrears", cron="0 4 * * *", covers="yesterday", input="in")
NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


def ran(job: str, period: str, started_at: datetime) -> dict[str, object]:
    return {"job": job, "period": period, "started_at": started_at}


def record(warehouse: Warehouse, job: str, period: str, started_at: datetime) -> None:
    warehouse.insert(
        "batch_run_states",
        pa.table(
            {
                "run_id": [f"{job}.{period}.{started_at:%H%M%S}"],
                "job": [job],
                "period": [period],
                "started_at": pa.array([started_at], pa.timestamp("ms", "UTC")),
                "status": ["succeeded"],
            }
        ),
    )


class Runs:
    """Stands for the jobs: keeps what was asked, and records success like a run does."""

    def __init__(self, warehouse: Warehouse, failing: str = "") -> None:
        self.asked: list[tuple[str, str | None, date | None]] = []
        self._warehouse, self._failing = warehouse, failing

    def __call__(self, job: str, **how: Any) -> RunReport:
        self.asked.append((job, how["period"], how["as_of"]))
        if job == self._failing:
            raise BatchError("no")
        when = how["period"] or f"{how['as_of']}"
        record(self._warehouse, job, when, NOW)
        return RunReport("r", job, when, "succeeded", 0, 0, {}, 0.0)


def test_what_a_run_covers() -> None:
    fire = datetime(2026, 3, 1, 2, tzinfo=UTC)
    covers = {
        kind: MONTHLY.model_copy(update={"covers": kind}).when(fire)
        for kind in ("last_month", "this_month", "yesterday", "today")
    }
    assert covers == {
        "last_month": ("2026-02", None),
        "this_month": ("2026-03", None),
        "yesterday": (None, date(2026, 2, 28)),
        "today": (None, date(2026, 3, 1)),
    }


def test_missed_runs_are_due_the_oldest_first() -> None:
    schedule = Schedule(time_zone="UTC", runs=(MONTHLY, DAILY), catch_up_days=3)
    done = [ran("arrears", "2026-03-03", datetime(2026, 3, 4, 4, 0, 1, tzinfo=UTC))]
    assert [run.label for run in due(schedule, done, NOW)] == [
        ("line-loss", "2026-02"),
        ("arrears", "2026-03-02"),
        ("arrears", "2026-03-04"),
    ]
    longer = schedule.model_copy(update={"catch_up_days": 4})
    assert [run.label for run in due(longer, done, NOW)] == [
        ("arrears", "2026-03-01"),
        ("line-loss", "2026-02"),
        ("arrears", "2026-03-02"),
        ("arrears", "2026-03-04"),
    ]


def test_a_run_before_the_fire_time_does_not_settle_it() -> None:
    schedule = Schedule(time_zone="UTC", runs=(MONTHLY,), catch_up_days=5)
    fire = datetime(2026, 3, 3, 2, 30, tzinfo=UTC)
    assert due(schedule, [ran("line-loss", "2026-02", fire - timedelta(seconds=1))], NOW)
    assert due(schedule, [ran("line-loss", "2026-02", fire)], NOW) == []


def test_fire_times_are_those_of_the_place() -> None:
    there = Schedule(runs=(MONTHLY,), time_zone="Asia/Shanghai", catch_up_days=3)
    before = datetime(2026, 3, 2, 18, 29, tzinfo=UTC)
    assert due(there, [], before) == []
    assert len(due(there, [], before + timedelta(minutes=1))) == 1


def test_of_one_period_only_the_last_fire_counts() -> None:
    hourly = DAILY.model_copy(update={"cron": "0 * * * *", "covers": "this_month",
                                      "job": "line-loss"})  # fmt: skip
    (run,) = due(Schedule(time_zone="UTC", runs=(hourly,), catch_up_days=2), [], NOW)
    assert run.fire == NOW


def test_a_failure_is_told_and_the_others_run(warehouse: Warehouse) -> None:
    schedule = Schedule(time_zone="UTC", runs=(MONTHLY, DAILY), catch_up_days=4)
    runs, told = Runs(warehouse, failing="line-loss"), list[str]()
    reports, failed = catch_up(schedule, warehouse, now=NOW, progress=told.append, runs=runs)
    assert [run.timed for run in failed] == [MONTHLY]
    assert "line-loss 2026-02: failed: no" in told
    assert [r.job for r in reports] == ["arrears"] * 4
    again = Runs(warehouse)
    catch_up(schedule, warehouse, now=NOW, progress=told.append, runs=again)
    assert again.asked == [("line-loss", "2026-02", None)]


def test_it_serves_until_it_is_stopped(warehouse: Warehouse) -> None:
    stop = threading.Event()
    runs = Runs(warehouse)

    def told(line: str) -> None:
        if len(runs.asked) == 1:
            stop.set()

    schedule = Schedule(time_zone="UTC", runs=(DAILY,), catch_up_days=2)
    serve(schedule, warehouse, stop=stop, progress=told, clock=lambda: NOW, runs=runs)
    assert runs.asked == [
        ("arrears", None, date(2026, 3, 3)),
        ("arrears", None, date(2026, 3, 4)),
    ]


def test_a_schedule_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "schedule.toml"
    path.write_text(
        'time_zone = "Asia/Shanghai"\n[[runs]]\njob = "line-loss"\ncron = "30 2 3 * *"\n'
        'covers = "last_month"\ninput = "in"\n'
    )
    assert load_schedule(path) == Schedule(runs=(MONTHLY,), time_zone="Asia/Shanghai")
    for wrong, says in (
        ("", "runs"),
        (
            '[[runs]]\njob = "x"\ncron = "0 4 * * *"\ncovers = "today"\ninput = "in"',
            r"runs\.0\.job",
        ),
        (
            '[[runs]]\njob = "arrears"\ncron = "0 4"\ncovers = "today"\ninput = "in"',
            r"runs\.0\.cron",
        ),
        ("time_zone = ", "no schedule"),
    ):
        path.write_text(wrong)
        with pytest.raises(SettingsError, match=says):
            load_schedule(path)


EVENING = Timed(job="soon-empty", cron="0 18 * * *", covers="today")


def test_an_evening_is_not_made_up_once_it_is_over() -> None:
    schedule = Schedule(runs=(EVENING,), time_zone="UTC")
    of_day = {
        hour: due(schedule, [], datetime(2026, 3, 5, hour, tzinfo=UTC)) for hour in (9, 18, 23)
    }
    assert {hour: [run.label for run in runs] for hour, runs in of_day.items()} == {
        9: [], 18: [("soon-empty", "2026-03-05")], 23: [("soon-empty", "2026-03-05")],
    }  # fmt: skip


def test_an_evening_is_settled_by_its_list(warehouse: Warehouse) -> None:
    schedule = Schedule(runs=(EVENING,), time_zone="UTC")
    runs, now = Runs(warehouse), datetime(2026, 3, 5, 18, 5, tzinfo=UTC)
    catch_up(schedule, warehouse, now=now, progress=print, runs=runs)
    assert runs.asked == [("soon-empty", None, date(2026, 3, 5))]
    warehouse.insert(
        "soon_empty_runs",
        pa.table(
            {
                "as_of": pa.array([date(2026, 3, 5)]),
                "run_at": pa.array([now], pa.timestamp("ms", "UTC")),
            }
        ),
    )
    catch_up(schedule, warehouse, now=now, progress=print, runs=runs)
    assert len(runs.asked) == 1


@pytest.mark.parametrize(
    "more", [{"input": "in"}, {"covers": "yesterday"}, {"beam_args": ("--x",)}]
)
def test_an_evening_takes_only_its_time(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="soon-empty covers"):
        Timed(**{"job": "soon-empty", "cron": "0 18 * * *", "covers": "today"} | more)


def test_a_job_needs_its_input() -> None:
    with pytest.raises(ValueError, match="input is missing"):
        Timed(job="arrears", cron="0 4 * * *", covers="yesterday")
