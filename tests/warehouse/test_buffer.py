"""The buffer: when it flushes, what it does while the warehouse is down, and that it loses nothing.

The clock and the waiting are the tests' own: nothing here takes time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.warehouse.buffer import Buffer, Flushed
from schemas.errors import WarehouseDown, WarehouseError


class Recorder:
    """A warehouse that remembers inserts and can be down, or refuse."""

    def __init__(self) -> None:
        self.inserts: list[tuple[str, list[int]]] = []
        self.failures: list[WarehouseError] = []

    def insert(self, table: str, rows: pa.Table) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.inserts.append((table, rows["n"].to_pylist()))

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        raise NotImplementedError

    def query_bytes(self, sql: str, format: str) -> bytes:
        raise NotImplementedError

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Time:
    """A clock that moves when told to; waiting moves it too."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


@pytest.fixture
def warehouse() -> Recorder:
    return Recorder()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def buffer(warehouse: Recorder, time: Time) -> Buffer:
    return Buffer(warehouse, max_rows=10, max_age=2.0, clock=time.clock, wait=time.wait)


def rows(*numbers: int) -> pa.Table:
    return pa.table({"n": pa.array(numbers, pa.int64())})


def test_nothing_is_due_in_an_empty_buffer(buffer: Buffer, warehouse: Recorder) -> None:
    buffer.add("a", rows())
    assert not buffer.due()
    assert buffer.next_due() is None
    assert buffer.flush() == buffer.flush_due() == []
    assert warehouse.inserts == []


def test_a_table_is_flushed_whole_when_it_has_rows_enough(
    buffer: Buffer, warehouse: Recorder
) -> None:
    buffer.add("a", rows(*range(6)))
    buffer.add("b", rows(99))
    assert buffer.flush_due() == []
    buffer.add("a", rows(*range(6, 13)))
    assert buffer.due()
    assert buffer.full
    assert buffer.next_due() == 0.0
    assert buffer.flush_due() == [Flushed("a", 13, 0.0)]
    assert warehouse.inserts == [("a", list(range(13)))]
    assert buffer.rows == 1
    assert not buffer.full


def test_a_table_is_flushed_when_its_oldest_row_is_old(
    buffer: Buffer, warehouse: Recorder, time: Time
) -> None:
    buffer.add("a", rows(1))
    time.now += 1.5
    buffer.add("b", rows(2))
    buffer.add("a", rows(3))
    assert buffer.next_due() == 0.5
    assert not buffer.due()
    time.now += 0.5
    assert buffer.flush_due() == [Flushed("a", 2, 0.0)]
    assert buffer.next_due() == 1.5
    time.now += 1.5
    assert buffer.flush_due() == [Flushed("b", 1, 0.0)]
    assert warehouse.inserts == [("a", [1, 3]), ("b", [2])]


def test_full_counts_the_rows_of_all_tables(buffer: Buffer) -> None:
    for table in "abcde":
        buffer.add(table, rows(1, 2))
    assert buffer.full
    buffer.flush()
    assert buffer.rows == 0


def test_it_waits_longer_and_longer_for_a_warehouse_that_is_down(
    warehouse: Recorder, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    retried: list[str] = []
    buffer = Buffer(
        warehouse,
        clock=time.clock,
        wait=time.wait,
        on_retry=retried.append,
        first_wait=0.5,
        longest_wait=3.0,
    )
    buffer.add("a", rows(1, 2))
    warehouse.failures = [WarehouseDown("nobody there") for _ in range(6)]
    with caplog.at_level(logging.WARNING, logger="pipelines.warehouse.buffer"):
        assert buffer.flush() == [Flushed("a", 2, sum(time.waits))]
    assert time.waits == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert retried == ["a"] * 6
    assert caplog.messages[0] == "nobody there; rows for a wait, next attempt in 0.5 s"
    assert warehouse.inserts == [("a", [1, 2])]


def test_a_refusal_is_no_reason_to_wait_and_the_rows_stay(
    buffer: Buffer, warehouse: Recorder, time: Time
) -> None:
    buffer.add("a", rows(1))
    warehouse.failures = [WarehouseError("no such table")]
    with pytest.raises(WarehouseError, match="no such table"):
        buffer.flush()
    assert time.waits == []
    assert buffer.rows == 1
    buffer.flush()
    assert warehouse.inserts == [("a", [1])]


def test_giving_up_ends_the_waiting_and_keeps_the_rows(warehouse: Recorder) -> None:
    buffer = Buffer(warehouse, first_wait=3600, longest_wait=3600, on_retry=lambda _: told.set())
    told = threading.Event()
    buffer.add("a", rows(1))
    warehouse.failures = [WarehouseDown("nobody there") for _ in range(9)]
    raised: list[Exception] = []

    def flush() -> None:
        try:
            buffer.flush()
        except WarehouseDown as error:
            raised.append(error)

    thread = threading.Thread(target=flush)
    thread.start()
    told.wait()
    buffer.give_up()
    thread.join(60)
    assert [str(error) for error in raised] == ["nobody there"]
    assert buffer.rows == 1
    assert warehouse.inserts == []


def test_rows_added_while_others_are_written_stay_for_the_next_flush(
    warehouse: Recorder, time: Time
) -> None:
    def wait(seconds: float) -> bool:
        buffer.add("a", rows(3))
        buffer.add("b", rows(4))
        return time.wait(seconds)

    buffer = Buffer(warehouse, max_age=60.0, clock=time.clock, wait=wait)
    buffer.add("a", rows(1, 2))
    warehouse.failures = [WarehouseDown("nobody there")]
    assert [(done.table, done.rows) for done in buffer.flush()] == [("a", 2)]
    assert buffer.rows == 2
    buffer.flush()
    assert warehouse.inserts == [("a", [1, 2]), ("a", [3]), ("b", [4])]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 7)),
        st.tuples(st.just("flush"), st.booleans(), st.integers(0, 3)),
        st.tuples(st.just("later"), st.just(""), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(steps=steps)
def test_nothing_is_lost_doubled_or_put_out_of_order(
    steps: list[tuple[str, object, int]],
) -> None:
    warehouse, time = Recorder(), Time()
    buffer = Buffer(warehouse, max_rows=10, max_age=2.0, clock=time.clock, wait=time.wait)
    added: dict[str, list[int]] = {}
    number = reported = 0
    for what, where, count in [*steps, ("flush", False, 0)]:
        if what == "add":
            numbers = range(number, number + count)
            number += count
            added.setdefault(str(where), []).extend(numbers)
            buffer.add(str(where), rows(*numbers))
        elif what == "later":
            time.now += count
        else:
            warehouse.failures = [WarehouseDown("down") for _ in range(count)]
            flushed = buffer.flush_due() if where else buffer.flush()
            warehouse.failures = []
            reported += sum(done.rows for done in flushed)
        assert buffer.rows == number - sum(len(n) for _, n in warehouse.inserts)
        assert buffer.full == (buffer.rows >= 10)
    written: dict[str, list[int]] = {}
    for table, numbers_ in warehouse.inserts:
        written.setdefault(table, []).extend(numbers_)
    assert written == {table: n for table, n in added.items() if n}
    assert reported == number
    assert buffer.next_due() is None
