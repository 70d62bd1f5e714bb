"""Real workers on Apache Kafka, killed at each step of their work, one step after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from city import assert_messages_equal_a_run, assert_tables_equal_truth
from cluster import POLICY, Cluster
from services.kafka import KafkaServer

from pipelines.simulate import CityPlan, read_truth, simulate

pytestmark = pytest.mark.slow

#: A worker that was killed is waited for as long as its session lasts.
QUICK = {"ZEROSTOCK_SESSION_TIMEOUT": "1500ms", "ZEROSTOCK_STALL_AFTER": "2500ms"}

#: What is sent, the state it leads to (facts, then the watermarks that cover them), the offset;
#: before the last two a worker that takes nothing any more, and nobody knows why.
STEPS = [
    ("before effects", 3),
    ("between effects and state", 2),
    ("within state", 1),
    ("between state and offset", 2),
    ("deaf", 1),
    ("before the commit", 1),
    ("after the commit", 1),
]
ROWS = [
    ("before effects", 1),
    ("between effects and offset", 1),
    ("deaf", 1),
    ("before the commit", 1),
    ("after the commit", 1),
]


def test_a_worker_of_each_kind_killed_at_each_step_loses_and_repeats_nothing(
    tmp_path: Path, kafka: KafkaServer, clusters: Callable[..., Cluster]
) -> None:
    simulate(CityPlan(seed=41, outlets=120, cdrs=60_000), tmp_path / "city")
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    settings = QUICK | {"ZEROSTOCK_POLICY": str(policy)}
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2, settings)
    plans = {"stock": STEPS, "alerts": STEPS, "warehouse": ROWS}
    for kind, plan in plans.items():
        cluster.add(kind, kind, faults=plan)
    cluster.read_all()
    cluster.drain()
    cluster.stop()
    for kind, plan in plans.items():
        # Each fault fired: each was in the way of what had to be done.
        assert cluster.fired(kind).read_text().splitlines() == [point for point, _ in plan]
    for worker in cluster.workers:
        assert "messages wait and nothing has moved for 5 s" in worker.output()
    assert_tables_equal_truth(cluster.data, read_truth(tmp_path / "city"))
    assert_messages_equal_a_run(cluster.sms, tmp_path / "city", tmp_path, policy)
