"""What a single Faust worker keeps when it dies, on Apache Kafka and on the embedded broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from services.waiting import wait_until
from tally import Tally, story
from wire import Row, committed, read, write


@pytest.fixture
def tally(broker, name, tmp_path) -> Iterator[Tally]:
    """A source with one partition."""
    tally = Tally(broker.bootstrap, name("one"), tmp_path)
    yield tally
    tally.close()


@pytest.mark.parametrize("step", ["before effect", "before state", "before ack", "after ack"])
def test_a_worker_killed_at_any_step_loses_nothing(tally, step):
    tally.write(30)
    first = tally.start("first", die_at=step, die_after=11)
    assert first.wait(60) == -9
    tally.write(10)

    tally.start("second")
    tally.wait_done()

    tally.judge()


def test_a_worker_goes_on_where_it_committed(tally):
    tally.write(20)
    first = tally.start("first")
    tally.wait_done()
    wait_until(
        lambda: committed(tally.bootstrap, tally.group, tally.source) == 20, "all to be committed"
    )
    first.kill()

    tally.write(5)
    second = tally.start("second")
    tally.wait_done()

    assert [line["offset"] for line in story(second, "done")] == [20, 21, 22, 23, 24]
    assert story(second, "recovered")[0]["ids"] == 20
    tally.judge()


def test_what_waits_at_a_restart_is_not_lost_in_the_recovery(tally):
    # Without SteadyFlow every other such restart loses some or all of these.
    for turn in range(3):
        tally.write(200)
        worker = tally.start(f"worker-{turn}", settings={"broker_commit_interval": 60.0})
        tally.wait_done()
        worker.kill()

    tally.judge()


@pytest.mark.parametrize("committed_before", [False, True])
def test_what_is_fetched_while_a_recovery_ends_is_not_lost(tally, committed_before):
    # Without SteadyConsumer it is fetched for nobody and, if nothing was committed, never again.
    interval = 0.1 if committed_before else 60.0
    tally.write(20)
    first = tally.start("first", settings={"broker_commit_interval": interval})
    tally.wait_done()
    if committed_before:
        wait_until(
            lambda: committed(tally.bootstrap, tally.group, tally.source) == 20, "the commit"
        )
    first.kill()
    tally.write(20)

    recovering = tally.folder("second") / "recovering"
    recovering.touch()
    second = tally.start("second")
    second.wait_for('"recovered"')
    # A late entry of the changelog wakes the fetch that waits for it.
    entry = read(tally.bootstrap, tally.changelog)[-1]
    write(tally.bootstrap, tally.changelog, [Row(entry.value, entry.key)] * 3, each=True)
    tally.write(3)
    recovering.unlink()

    tally.wait_done()
    tally.judge()


def test_a_stopped_worker_commits_and_leaves(tally):
    tally.write(20)
    worker = tally.start("worker", settings={"broker_commit_interval": 60.0})
    tally.wait_done()

    assert worker.stop() == 0

    assert committed(tally.bootstrap, tally.group, tally.source) == 20
