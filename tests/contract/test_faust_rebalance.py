"""What two Faust workers of a group keep while it changes, on Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from services.kafka import KafkaServer
from services.running import running
from services.waiting import wait_until
from tally import Tally, holds, story


@pytest.fixture
def tally(kafka, name, tmp_path) -> Iterator[Tally]:
    """A source with two partitions, a worker's share each."""
    tally = Tally(kafka.bootstrap, name("two"), tmp_path, partitions=2)
    yield tally
    tally.close()


@pytest.fixture
def lone(kafka, name, tmp_path) -> Iterator[Tally]:
    """A source with one partition, which only one of two workers can have."""
    tally = Tally(kafka.bootstrap, name("lone"), tmp_path)
    yield tally
    tally.close()


def test_workers_that_join_leave_and_die_lose_nothing(tally):
    first = tally.start("first")
    tally.write(50)
    tally.wait_done()

    second = tally.start("second")
    tally.write(50)
    wait_until(
        lambda: holds(first, [0]) or holds(first, [1]), "the two to share", detail=first.tail
    )
    tally.write(50)
    tally.wait_done()
    assert story(second, "done")

    second.stop()
    tally.write(50)
    tally.wait_done()

    third = tally.start("third")
    tally.write(50)
    wait_until(lambda: holds(third, [0]) or holds(third, [1]), "to share again", detail=third.tail)
    third.kill()
    tally.write(50)
    tally.wait_done()

    assert first.running
    tally.judge()


def test_a_partition_that_went_and_came_back_has_the_state_others_wrote(tally):
    first = tally.start("first")
    tally.write(50)
    tally.wait_done()
    second = tally.start("second")
    wait_until(lambda: holds(second, [0]) or holds(second, [1]), "to share", detail=second.tail)
    tally.write(100)
    tally.wait_done()

    second.kill()
    wait_until(lambda: holds(first, [0, 1]), "the first to have both again", detail=first.tail)

    # It knows everything: the ids it did itself and those that the second did meanwhile.
    assert story(first, "recovered")[-1]["ids"] == 150
    tally.write(20)
    tally.wait_done()
    tally.judge()


def test_a_worker_that_hung_past_its_session_writes_nothing_stale(lone):
    (lone.folder("first") / "hold").touch()
    lone.write(10, "held")
    lone.write(5)
    first = lone.start("first", hold="held")
    first.wait_for('"holding"')

    first.suspend()
    second = lone.start("second", hold="held")
    lone.wait_done()
    state = lone.state()

    (lone.folder("first") / "hold").unlink()
    first.resume()
    assert first.wait(30) == 75
    assert story(first, "fenced")
    lone.write(5)
    lone.wait_done()

    assert second.running
    assert all(lone.state()[place] >= ids for place, ids in state.items())
    lone.judge()


def test_a_worker_that_kept_its_group_waiting_too_long_writes_nothing_stale(lone):
    (lone.folder("first") / "hold").touch()
    lone.write(10, "held")
    lone.write(5)
    first = lone.start("first", hold="held")
    first.wait_for('"holding"')

    lone.start("second", hold="held")
    lone.wait_done()

    (lone.folder("first") / "hold").unlink()
    assert first.wait(30) == 75
    assert story(first, "fenced")
    lone.judge()


def test_a_hung_worker_that_comes_back_may_work_again(tally):
    first = tally.start("first")
    second = tally.start("second")
    tally.write(50)
    tally.wait_done()

    second.suspend()
    tally.write(50)
    tally.wait_done()
    second.resume()
    tally.write(50)
    tally.wait_done()

    assert first.running
    tally.judge()


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_broker_that_dies_or_restarts_under_a_worker_loses_nothing(how, name, tmp_path):
    with running(lambda: KafkaServer(tmp_path / "kafka")) as kafka:
        tally = Tally(kafka.bootstrap, name("broker"), tmp_path, partitions=2)
        try:
            worker = tally.start("worker")
            tally.write(300)
            worker.wait_for('"done"')

            if how == "kill":
                kafka.kill()
                kafka.start()
            else:
                kafka.restart()
            tally.write(50)
            # It rides it out or ends, but does not hang; whoever supervises starts it again.
            wait_until(
                lambda: not worker.running or tally.done() >= {"f349"},
                "the worker to go on or to end",
                timeout=120,
                detail=worker.tail,
            )
            if not worker.running:
                tally.start("again")
            tally.wait_done()
            tally.judge()
        finally:
            tally.close()
