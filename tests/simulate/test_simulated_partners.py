"""The made city's channel files: targets and marks that fit its halls, a plan that can be read."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest

from pipelines.batch.channel.plans import read_plans
from pipelines.core.channel.commission import fees
from pipelines.simulate.city import build_city
from pipelines.simulate.demand import SKUS
from pipelines.simulate.partners import write_channel
from pipelines.simulate.plan import CityPlan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan = CityPlan(seed=3, outlets=400, days=5, start=date(2026, 3, 30))
    tmp_path = tmp_path / "channel"
    write_channel(plan, build_city(plan), tmp_path)
    return tmp_path


def test_every_hall_has_a_target_in_every_month(folder: Path) -> None:
    plan = CityPlan(seed=3, outlets=400)
    halls = {one.id for one in build_city(plan).outlets if "hall" in one.kind.name}
    with (folder / "hall_marks.csv").open() as file:
        rows = list(csv.DictReader(file))
    for month in ("2026-03", "2026-04"):
        assert {row["outlet_id"] for row in rows if row["period"] == month} == halls
    assert len(rows) == 2 * len(halls) > 0
    assert all(int(row["target"]) > 0 for row in rows)
    assert all(0 <= float(row["inspection"]) <= 100 for row in rows)


def test_the_plan_pays_for_every_article(folder: Path) -> None:
    plan = read_plans((folder / "channel.toml").read_text()).plan_of("2026-03")
    assert plan is not None
    paid = {row["sku"]: row["pays_fen"] for row in fees([plan]).to_dicts()}
    assert paid.keys() == set(SKUS)
    assert min(paid.values()) > 0


def test_the_plan_in_the_docs_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs/channel.md").read_text()
    [block] = [part.partition("```")[0] for part in text.split("```toml\n")[1:]]
    assert read_plans(block).plan_of("2026-03") is not None
