"""The same jobs on a real Flink, through Beam's portable runner: the same rows."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import test_arrears
import test_line_loss
import test_subscriber_loss
from batch_harness import compute_tables
from flink_server import FlinkServer
from services.child import Child
from services.need import ServiceMissing, missing

Write = Callable[[Path, random.Random], None]


@pytest.fixture(scope="module")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkServer]:
    try:
        server = FlinkServer(tmp_path_factory.mktemp("flink"))
    except ServiceMissing as error:
        missing(error)
    server.start()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "when", "write"),
    [
        (
            "line-loss",
            "2026-01",
            lambda root, rng: test_line_loss.write(root, *test_line_loss.a_grid(rng)),
        ),
        (
            "arrears",
            "2026-03-31",
            lambda root, rng: test_arrears.write(root, *test_arrears.books(rng)),
        ),
        (
            "subscriber-loss",
            "2026-03",
            lambda root, rng: test_subscriber_loss.write(root, *test_subscriber_loss.a_trade(rng)),
        ),
    ],
)
def test_flink_finds_the_same_rows(
    flink: FlinkServer, tmp_path: Path, job: str, when: str, write: Write
) -> None:
    root = tmp_path / "input"
    write(root, random.Random(11))
    wanted = json.loads(json.dumps(compute_tables(job, root, when), default=str))
    out = tmp_path / "rows.json"
    script = str(Path(__file__).with_name("flink_child.py"))
    with Child(
        [sys.executable, script, job, when, str(root), flink.endpoint, str(out)],
        log=tmp_path / "child.log",
    ) as child:
        assert child.wait(300) == 0, child.tail()
    assert "RUNNING to FINISHED" in flink.ran()
    assert sum(len(rows) for rows in wanted.values()) > 3
    assert json.loads(out.read_text()) == wanted
