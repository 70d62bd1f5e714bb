"""How well diversion is found, on simulated cities in which it was planted.

Each city runs through the product and its job `channel`; what the cases accuse is compared with the
outlets that truly carried SIMs off. Precision is the share of the accused that did, recall the
share of those that were accused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from infra.bench.common.cities import lived
from infra.bench.common.report import Measurement
from pipelines.simulate import CityPlan
from pipelines.warehouse import open_for_reading

_JOB = ("channel", "--period", "2026-03", "--time-zone", "Asia/Shanghai")


class Outlets(NamedTuple):
    """How many outlets: where it was planted; accused by an alarm, or watched at least; and of
    those, rightly."""

    planted: int
    alarmed: int
    alarmed_rightly: int
    watched: int
    watched_rightly: int


def run(
    *, outlets: int = 1_500, days: int = 10, cdrs: int = 400_000, seed: int = 21, runs: int = 6
) -> Iterator[Measurement]:
    """The lines of the benchmark; `runs` cities, of `seed` and the seeds after it."""
    cities = [
        _city(CityPlan(seed=one, outlets=outlets, days=days, cdrs=cdrs))
        for one in range(seed, seed + runs)
    ]
    found = Outlets(*map(sum, zip(*cities, strict=True)))
    yield Measurement("diversion", "planted", "outlets", found.planted)
    for accused, by, rightly in (
        ("alarms", found.alarmed, found.alarmed_rightly),
        ("alarms and watched", found.watched, found.watched_rightly),
    ):
        yield Measurement("diversion", accused, "outlets", by)
        yield Measurement("diversion", f"{accused}, precision", "%", 100 * rightly / max(by, 1))
        yield Measurement(
            "diversion", f"{accused}, recall", "%", 100 * rightly / max(found.planted, 1)
        )


def _city(plan: CityPlan) -> Outlets:
    with lived(plan, _JOB) as (city, data):
        planted = set(pl.read_csv(city / "truth" / "diversion.csv")["outlet_id"])
        warehouse = open_for_reading(data=data)
        try:
            cases = warehouse.query("SELECT outlet_id, level FROM diversion_cases").to_pylist()
        finally:
            warehouse.close()
    watched = {case["outlet_id"] for case in cases}
    alarmed = {case["outlet_id"] for case in cases if case["level"] == "alarm"}
    return Outlets(
        len(planted), len(alarmed), len(alarmed & planted), len(watched), len(watched & planted)
    )
