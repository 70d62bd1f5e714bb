"""What is special about the ClickHouse in this process: one owner, killed owners, many threads."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import warehouse_children
from services.child import Child
from services.waiting import wait_until

from pipelines.warehouse import Warehouse, open_for_reading, open_warehouse
from schemas.errors import BusyError, InputError, UsageError, WarehouseDown, WarehouseError


def _start(what: str, data: Path, log: Path) -> Child:
    argv = [sys.executable, str(Path(warehouse_children.__file__)), what, str(data)]
    return Child(argv, log=log, env={"PYTHONPATH": os.pathsep.join(sys.path)})


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    owner = open_warehouse(data=tmp_path)
    with pytest.raises(BusyError, match=f"in use by process {os.getpid()};"):
        open_warehouse(data=tmp_path, patience=0)
    other = _start("open", tmp_path, tmp_path / "log")
    other.wait()
    assert other.output().startswith(f"busy: {tmp_path} is in use by process {os.getpid()};")
    owner.close()
    owner.close()
    other = _start("open", tmp_path, tmp_path / "log")
    other.wait()
    assert other.output() == "opened\n"


def test_replaced_rows_do_not_come_back_with_the_next_owner(tmp_path: Path) -> None:
    child = _start("replace", tmp_path / "data", tmp_path / "log")
    child.wait_for("replaced\n")
    child.kill()
    warehouse = open_warehouse(data=tmp_path / "data")
    try:
        cells = warehouse.query("SELECT cell_id FROM cells ORDER BY cell_id")
        assert cells["cell_id"].to_pylist() == ["after", "both"]
    finally:
        warehouse.close()


@pytest.mark.parametrize("batches", [1, 4, 9])
def test_a_killed_owner_loses_nothing_that_it_had_inserted(tmp_path: Path, batches: int) -> None:
    child = _start("insert", tmp_path / "data", tmp_path / "log")
    child.wait_for(f"wrote {batches}\n")
    child.kill()
    said = [int(number) for number in re.findall(r"wrote (\d+)\n", child.output())]
    warehouse = open_warehouse(data=tmp_path / "data")
    try:
        found = warehouse.query(
            "SELECT batch, count() AS rows FROM numbers FINAL GROUP BY batch ORDER BY batch"
        ).to_pydict()
        assert set(said) <= set(found["batch"])
        for number in [*said, max(said) + 1]:  # what is sent again, as after a restart
            warehouse.insert("numbers", warehouse_children.batch(number))
        found = warehouse.query(
            "SELECT count() AS rows, uniqExact(id) AS ids, max(batch) AS last FROM numbers FINAL"
        ).to_pylist()[0]
        assert found["rows"] == found["ids"] == (max(said) + 2) * warehouse_children.BATCH
        assert found["last"] == max(said) + 1
    finally:
        warehouse.close()


def test_many_threads_read_while_one_writes(embedded: Warehouse) -> None:
    embedded.execute("CREATE TABLE t (id Int64) ENGINE = ReplacingMergeTree ORDER BY id")
    done = threading.Event()

    def read() -> list[int]:
        seen = [0]
        while not done.is_set():
            seen += embedded.query("SELECT count() AS c FROM t FINAL")["c"].to_pylist()
        return seen

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        for start in range(0, 20_000, 500):
            embedded.insert("t", pa.table({"id": range(start, start + 500)}))
        done.set()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen)
            assert all(count % 500 == 0 for count in seen)
    assert embedded.query("SELECT count() AS c FROM t")["c"].to_pylist() == [20_000]


def _asking(warehouse: Warehouse, threads: ThreadPoolExecutor, sql: str) -> Future[pa.Table]:
    """Ask, and return once ClickHouse is at it."""
    answer = threads.submit(warehouse.query, sql)
    running = "SELECT count() AS c FROM system.processes WHERE query LIKE '%sipHash64%' AND "
    running += "query NOT LIKE '%system.processes%'"
    wait_until(lambda: warehouse.query(running)["c"].to_pylist() == [1], "the query to run")
    return answer


def test_close_lets_a_short_query_end(tmp_path: Path) -> None:
    warehouse = open_warehouse(data=tmp_path)
    with ThreadPoolExecutor(1) as threads:
        sql = "SELECT sum(sipHash64(number) % 2 + sleepEachRow(0.1)) > 0 AS yes FROM numbers(4)"
        answer = _asking(warehouse, threads, sql)
        warehouse.close()
        assert answer.result()["yes"].to_pylist() == [1]
    with pytest.raises(WarehouseDown, match="closed"):
        warehouse.query("SELECT 1")
    with pytest.raises(WarehouseDown, match="closed"):
        warehouse.insert("t", pa.table({"id": [1]}))


def test_close_does_not_wait_for_an_endless_query(tmp_path: Path) -> None:
    warehouse = open_warehouse(data=tmp_path)
    with ThreadPoolExecutor(1) as threads:
        sql = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"
        answer = _asking(warehouse, threads, sql)
        warehouse.close()
        with pytest.raises(WarehouseError, match="cancelled"):
            answer.result()
    open_warehouse(data=tmp_path, patience=0).close()


def test_who_waits_a_moment_gets_a_directory_that_is_let_go_of(tmp_path: Path) -> None:
    first = open_warehouse(data=tmp_path)
    child = _start("open", tmp_path, tmp_path / "log")  # as patient as a command is
    wait_until(lambda: (tmp_path / "warehouse.lock").exists() and child.running, "the child")
    first.close()
    child.wait()
    assert child.output() == "opened\n"


def test_one_directory_a_process(tmp_path: Path) -> None:
    first = open_warehouse(data=tmp_path / "a")
    with pytest.raises(BusyError, match="close it first"):
        open_warehouse(data=tmp_path / "b")
    first.close()
    second = open_warehouse(data=tmp_path / "b")
    second.close()


def test_what_a_query_sets_or_leaves_open_does_not_outlive_it(embedded: Warehouse) -> None:
    for sql in ("SELECT 1 SETTINGS max_threads = 7", "SELECT 1 SETTINGS readonly = 0"):
        with pytest.raises(WarehouseError, match="readonly"):
            embedded.query(sql)
    assert embedded.query("SELECT currentDatabase() AS d")["d"].to_pylist() == ["default"]


def test_the_working_directorys_config_is_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.xml").write_text("<clickhouse><path>/nowhere/at/all/</path></clickhouse>")
    monkeypatch.chdir(tmp_path)
    child = _start("open", Path("data"), tmp_path / "log")
    child.wait()
    assert child.output() == "opened\n"
    open_warehouse(data=Path("data")).close()
    assert (tmp_path / "data" / "warehouse").is_dir()


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        open_warehouse(data=tmp_path / "file")
    with pytest.raises(WarehouseError, match="must not have"):
        open_warehouse(data=tmp_path / "what?")
    with pytest.raises(UsageError, match="no warehouse was named"):
        open_warehouse()


def test_reading_where_there_is_no_warehouse(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no warehouse in"):
        open_for_reading(data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_signals_stay_the_programs_own(embedded: Warehouse) -> None:
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: heard.append(n))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        embedded.query("SELECT 1")
        for number in before:
            os.kill(os.getpid(), number)
        wait_until(lambda: len(heard) == 2, "both signals")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
