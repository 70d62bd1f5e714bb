"""What the channel's own files say of a made city: targets and marks of halls, the plan."""

from __future__ import annotations

from datetime import datetime
from importlib import resources
from pathlib import Path

from pipelines.simulate.city import City
from pipelines.simulate.plan import DAY_MS, LOCAL, CityPlan, seeded
from pipelines.simulate.truth import write_csv

_MARKED = ("hall", "partner_hall")
_HEAD = ("period", "outlet_id", "target", "inspection", "satisfaction", "complaints")


def write_channel(plan: CityPlan, city: City, folder: Path) -> None:
    """Write hall_marks.csv, a row a hall and month, and channel.toml into `folder`.

    A target is what the hall's demand would sell on the days of the month, give or take 30 %.
    """
    chance = seeded(plan.seed, "partners")
    days: dict[str, int] = {}
    for day in range(plan.days):
        month = _month(plan, day)
        days[month] = days.get(month, 0) + 1
    rows = [
        (
            month,
            outlet.id,
            max(1, round(sum(outlet.demand.values()) * count * chance.uniform(0.7, 1.3))),
            *(round(chance.uniform(70, 99), 1) for _ in range(3)),
        )
        for month, count in sorted(days.items())
        for outlet in city.outlets
        if outlet.kind.name in _MARKED
    ]
    write_csv(folder / "hall_marks.csv", _HEAD, rows)
    example = resources.files("pipelines.simulate") / "channel.toml"
    (folder / "channel.toml").write_text(example.read_text())


def _month(plan: CityPlan, day: int) -> str:
    at = (plan.start_ms + day * DAY_MS) / 1000
    return f"{datetime.fromtimestamp(at, LOCAL):%Y-%m}"
