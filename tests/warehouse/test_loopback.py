"""The loopback server: other processes read while the owner writes, and nobody else gets in."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from services.waiting import wait_until
from warehouse_harness import RunningServer

from pipelines.warehouse import Warehouse, migrate, open_for_reading, open_warehouse
from pipelines.warehouse.loopback.client import LoopbackClient
from schemas.errors import BusyError, WarehouseDown, WarehouseError


@pytest.fixture
def client(loopback: RunningServer) -> LoopbackClient:
    """What another process gets."""
    opened = open_for_reading(data=loopback.data)
    assert isinstance(opened, LoopbackClient)
    return opened


def test_questions_and_answers(embedded: Warehouse, client: LoopbackClient) -> None:
    embedded.execute("CREATE TABLE t (id Int64, note String) ENGINE = MergeTree ORDER BY id")
    embedded.insert("t", pa.table({"id": [1, 2], "note": ["it's", "出"]}))
    sql = "SELECT note FROM t WHERE id = {id:Int64}"
    assert client.query(sql, {"id": 2}).to_pylist() == [{"note": "出"}]
    assert client.query(sql, {"id": 3}) == embedded.query(sql, {"id": 3})
    assert client.query("SELECT * FROM t") == embedded.query("SELECT * FROM t")
    assert client.query_bytes("SELECT id FROM t", "CSV") == b"1\n2\n"
    assert client.query_bytes("SELECT id FROM t FORMAT TSVWithNames", "CSV") == b"id\n1\n2\n"
    with pytest.raises(WarehouseError, match="not_there") as caught:
        client.query("SELECT * FROM not_there")
    assert not isinstance(caught.value, WarehouseDown)


def test_clients_write_only_what_people_decide(embedded: Warehouse, client: LoopbackClient) -> None:
    migrate(embedded)
    client.insert("diversion_decisions", pa.table({"decision_id": ["1"], "why": ["seen"]}))
    assert embedded.query("SELECT why FROM diversion_decisions").to_pylist() == [{"why": "seen"}]
    with pytest.raises(WarehouseError, match="only the owner writes to stock_movements_rows"):
        client.insert("stock_movements_rows", pa.table({"iccid": ["1"]}))
    with pytest.raises(WarehouseError, match="no_such_column"):
        client.insert("diversion_decisions", pa.table({"no_such_column": ["1"]}))
    with pytest.raises(WarehouseError, match="only be read"):
        client.execute("DROP TABLE t")


def test_a_long_answer_comes_whole(client: LoopbackClient) -> None:
    rows = 3_000_000
    found = client.query(f"SELECT number, toString(number) AS text FROM numbers({rows})")
    assert found.num_rows == rows
    assert found["number"].to_numpy().sum() == rows * (rows - 1) // 2
    text = client.query_bytes(f"SELECT number FROM numbers({rows})", "TSV")
    assert text.count(b"\n") == rows


def test_reading_while_the_owner_writes(embedded: Warehouse, client: LoopbackClient) -> None:
    embedded.execute("CREATE TABLE t (id Int64) ENGINE = ReplacingMergeTree ORDER BY id")
    done = threading.Event()

    def write() -> None:
        try:
            for start in range(0, 30_000, 500):
                embedded.insert("t", pa.table({"id": range(start, start + 500)}))
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    counts = [0]
    while not done.is_set():
        counts += client.query("SELECT count() AS c FROM t FINAL")["c"].to_pylist()
    writer.join()
    assert counts == sorted(counts)
    assert all(count % 500 == 0 for count in counts)
    assert client.query("SELECT count() AS c FROM t")["c"].to_pylist() == [30_000]


def test_a_slow_query_does_not_hold_up_the_owners_loop(
    loopback: RunningServer, client: LoopbackClient
) -> None:
    """While one runs the loop goes on turning: it could not count otherwise."""
    asked, answered = threading.Event(), threading.Event()

    def ask() -> None:
        asked.set()
        client.query("SELECT sum(sipHash64(number)) AS s FROM numbers(50000000)")
        answered.set()

    async def turns_until_answered() -> int:
        turns = 0
        while not answered.is_set():
            await asyncio.sleep(0.001)
            turns += 1
        return turns

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()
    turns = asyncio.run_coroutine_threadsafe(turns_until_answered(), loopback.loop).result(60)
    thread.join()
    assert turns > 10


def test_only_the_owners_user_can_read_the_endpoint(loopback: RunningServer) -> None:
    mode = (loopback.data / "warehouse.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert loopback.endpoint()["pid"] == os.getpid()


@pytest.mark.parametrize("token", ["", "guess", "gu\u00e9ss"])
def test_nothing_is_answered_without_the_token(loopback: RunningServer, token: str) -> None:
    body = json.dumps({"sql": "SELECT 42", "format": "CSV"}).encode()
    for path in ("/query", "/nothing-here"):
        status, answer = loopback.request(body, token=token, path=path)
        assert status in (401, 404)
        assert b"42" not in answer
    assert loopback.request(body) == (200, b"42\n")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"sql": 1, "format": "CSV"}', b"\xff"])
def test_nonsense_is_answered_with_an_error(loopback: RunningServer, body: bytes) -> None:
    status, answer = loopback.request(body)
    assert status == 400
    assert answer


def test_the_endpoint_goes_with_its_owner(embedded: Warehouse, tmp_path: Path) -> None:
    data = tmp_path / "data"
    loopback = RunningServer(embedded, data)
    client = LoopbackClient.find(data)
    assert client is not None
    loopback.close()
    assert not (data / "warehouse.json").exists()
    assert LoopbackClient.find(data) is None
    with pytest.raises(WarehouseDown, match="went away"):
        client.query("SELECT 1")


def test_a_killed_owners_endpoint_is_passed_over(tmp_path: Path) -> None:
    """Nobody listens there any more, or somebody who has another token."""
    open_warehouse(data=tmp_path).close()
    for text in ('{"port": 9, "token": "x", "pid": 1}', "{", ""):
        (tmp_path / "warehouse.json").write_text(text)
        assert LoopbackClient.find(tmp_path) is None
        opened = open_for_reading(data=tmp_path)
        assert opened.query("SELECT 1 AS one")["one"].to_pylist() == [1]
        opened.close()


def test_another_owners_token_is_not_accepted(loopback: RunningServer) -> None:
    endpoint = loopback.endpoint()
    endpoint_file = loopback.data / "warehouse.json"
    endpoint_file.write_text(json.dumps({**endpoint, "token": "yesterday's"}))
    assert LoopbackClient.find(loopback.data) is None
    with pytest.raises(BusyError, match="in use by process"):
        open_for_reading(data=loopback.data, patience=0)


def test_an_endless_question_does_not_keep_the_owner(
    loopback: RunningServer, client: LoopbackClient
) -> None:
    failed: list[WarehouseError] = []

    def ask() -> None:
        try:
            client.query("SELECT sum(sipHash64(number)) FROM numbers(1000000000000)")
        except WarehouseError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    running = "SELECT count() AS c FROM system.processes WHERE query LIKE 'SELECT sum(sip%'"
    wait_until(lambda: client.query(running)["c"].to_pylist() == [1], "the question to be asked")
    loopback.run(loopback.loopback.stop())
    thread.join(60)
    assert failed
    still = [thread for thread in threading.enumerate() if thread.name == "warehouse-server"]
    assert all(thread.daemon for thread in still)
