"""Calls written when they end and papers that come days late: history is that of all facts.

The bound is kept at its default, so many rows come beyond it. What was told of stock-outs follows
from what was known in time, so messages are judged elsewhere.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from city import anomalies, incidents, rows, stock, zerostock

from pipelines.simulate import CityPlan, read_truth, simulate


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "partitions"), [(71, 1), (72, 4)])
def test_what_comes_late_is_put_in_its_true_place(
    tmp_path: Path, seed: int, partitions: int
) -> None:
    plan = CityPlan(
        seed=seed, outlets=60, days=4, cdrs=20_000, calls_by="end", late_papers=0.2, bad_lines=0
    )
    simulate(plan, tmp_path / "city")
    truth, data = read_truth(tmp_path / "city"), tmp_path / "data"
    done = zerostock(
        *("run", "--input", tmp_path / "city", "--data", data, "--partitions", partitions),
        *("--sms", f"file:{data}.sms"),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert stock(data) == truth.stock
    assert incidents(data) == sorted(map(tuple, truth.incidents))
    found = [a for a in anomalies(data) if a[2] != "late"]
    assert found == sorted(map(tuple, truth.anomalies))
    assert Counter(a[2] for a in anomalies(data))["late"] > 0
    assert books_do_not_add_up(data) == []
    # The judge knows the facts, not what the stream made of them.
    judged = zerostock("reconcile", "--input", tmp_path / "city", "--data", data)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def books_do_not_add_up(data: Path) -> list[tuple]:
    """Days of a shelf on which it closes below zero, or other than it opened the day after."""
    return rows(
        data,
        "SELECT day, outlet_id, sku, closing FROM outlet_daily WHERE closing < 0 OR opening"
        " + received + transferred_in - activated - returned - transferred_out - written_off"
        " != closing",
    )
