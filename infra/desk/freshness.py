"""How fresh a view is: until when its data reach, when it was computed, for which days."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from infra.desk.page import Freshness, ViewRequest
from infra.desk.translation import N_

#: Hours without any newer event after which live figures are called out of date.
STALE_HOURS: Final = 2

_UNTIL: Final = "SELECT until FROM data_until"

#: The newest word on the policy of alerts.
_POLICY: Final = """
SELECT argMax(kind, at) AS newest, argMax(detail, at) AS details FROM alert_news
WHERE incident_id = '' AND kind IN ('policy_changed', 'policy_refused')
"""
_COMPUTED: Final = """
SELECT toNullable(max(published_at)) AS at, count() AS runs FROM batch_publications
WHERE job = {job:String} AND period = {period:String}
"""
_LISTED: Final = """
SELECT toNullable(max(run_at)) AS at, count() AS runs FROM soon_empty_runs
WHERE as_of = {period:Date32}
"""


@dataclass(frozen=True)
class JobRun:
    """A batch job; `streams` if its figures also rest on the stream's tables."""

    name: str
    streams: bool = False


def of_stream(request: ViewRequest) -> Freshness:
    """Of figures that the stream keeps."""
    until = _until(request)
    hours = (request.services.now() - until).total_seconds() / 3_600 if until else 0.0
    if hours <= STALE_HOURS:
        policy = request.row(_POLICY)
        if policy is None or policy["newest"] != "policy_refused":
            return Freshness(until)
        why = str(json.loads(policy["details"]).get("error", ""))
        text = N_("The new policy of alerts cannot be used, the old one holds: {}")
        return Freshness(until, warning=text, values=(why,))
    if hours < 48:
        text, count = N_("Nothing newer has arrived for {} hours."), round(hours)
    else:
        text, count = N_("Nothing newer has arrived for {} days."), round(hours / 24)
    return Freshness(until, warning=text, values=(f"{count:,}",))


def of_job(request: ViewRequest, job: JobRun, period: str) -> Freshness:
    """Of figures that a batch job computed for a month or as of a day."""
    span = span_of(period)
    if span is None:
        return Freshness(_until(request) if job.streams else None)
    sql = _LISTED if job.name == "soon-empty" else _COMPUTED
    found = request.row(sql, {"job": job.name, "period": period}) or {}
    computed = found.get("at") if found.get("runs") else None
    until = _until(request) if job.streams else None
    zone = ZoneInfo(request.services.zone)
    end = datetime.combine(span[1] + timedelta(days=1), datetime.min.time(), zone).astimezone(UTC)
    warning = ""
    if computed and computed < end and (until is None or computed < until):
        warning = N_("Computed before the period ended: the figures are incomplete.")
    elif until and until < end - timedelta(hours=STALE_HOURS) and job.name != "soon-empty":
        warning = N_("The data end before the period does: the figures are incomplete.")
    return Freshness(until, computed, span, warning)


def span_of(period: str) -> tuple[date, date] | None:
    """First and last day of YYYY-MM, or of a day; None for anything else."""
    try:
        if len(period) != 7:
            day = date.fromisoformat(period)
            return day, day
        first = date.fromisoformat(f"{period}-01")
    except ValueError:
        return None
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _until(request: ViewRequest) -> datetime | None:
    found = request.row(_UNTIL)
    return found["until"] if found else None
