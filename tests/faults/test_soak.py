"""A long feed while workers, the reader and the broker are killed at random.

`ZEROSTOCK_TEST_SOAK` is how many seconds the feed lasts: 600 for ten minutes.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from city import assert_equals_truth
from cluster import Cluster, Feed
from services.kafka import KafkaServer

from pipelines.simulate import CityPlan, read_truth, simulate

#: Seconds the feed lasts, and, on average, between two deaths.
SOAK = float(os.environ.get("ZEROSTOCK_TEST_SOAK", "30"))
PACE = 5.0


@pytest.mark.slow
@pytest.mark.timeout(SOAK + 600)
def test_deaths_at_random_lose_and_repeat_nothing(
    tmp_path: Path, kafka: KafkaServer, clusters: Callable[..., Cluster]
) -> None:
    days = max(1, round(SOAK / 100))
    plan = CityPlan(seed=21, outlets=300, cdrs=max(200_000, round(SOAK * 2_000)), days=days)
    simulate(plan, tmp_path / "city")
    cluster = clusters(kafka.bootstrap, tmp_path, tmp_path / "city", 2)
    cluster.start(stock=2, alerts=1, warehouse=1)
    feed = Feed(tmp_path / "city", tmp_path / "feed")
    feed.bring(0)
    reading = cluster.ingest("--follow", city=feed.folder)

    rng, deaths = random.Random(21), Counter[str]()
    start = time.monotonic()
    next_death = rng.expovariate(1 / PACE)
    while (at := time.monotonic() - start) < SOAK:
        feed.bring(at / SOAK)
        if not reading.running:
            reading = cluster.ingest("--follow", city=feed.folder)
        cluster.look_after()
        if at >= next_death:
            next_death = at + rng.expovariate(1 / PACE)
            victim = rng.choice([*cluster.workers, *cluster.workers, kafka, reading])
            if victim is kafka:
                deaths["broker"] += 1
                rng.choice([kafka.kill, kafka.stop])()
                kafka.start()
            elif victim is reading:
                deaths["reader"] += 1
                reading.kill()
            else:
                deaths[victim.kind] += 1
                cluster.kill(victim)
        time.sleep(0.1)  # the feed's pace, not a wait for anything
    feed.bring(1)
    reading.kill()
    cluster.read_all(city=feed.folder)
    cluster.drain()
    cluster.stop()

    truth = read_truth(tmp_path / "city")
    starts = Counter({w.name: w.starts for w in cluster.workers})
    print(
        f"\n{SOAK:g} s, {plan.cdrs:,} CDRs, {len(truth.incidents)} stock-outs,"
        f" {len(truth.messages)} messages; deaths: {deaths.total()} {dict(deaths)};"
        f" starts: {dict(starts)}"
    )
    assert deaths.total() >= SOAK / PACE / 3
    assert_equals_truth(cluster.data, cluster.sms, truth)
