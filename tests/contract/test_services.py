"""The harness itself: services that start, die and come back as tests rely on."""

from __future__ import annotations

import sys
from pathlib import Path

import clickhouse_driver
import pytest
from clickhouse_driver import errors
from services.broker import EmbeddedBroker
from services.child import Child
from services.clickhouse import PASSWORD, READER, USER, ClickHouseServer
from services.kafka import KafkaServer
from services.need import ServiceMissing, missing
from services.ports import free_port
from services.running import running
from services.waiting import accepts_connections, wait_until
from wire import Row, create_topic, read, write


def test_kafka_keeps_its_data_and_its_address_when_killed_and_restarted(tmp_path):
    with running(lambda: KafkaServer(tmp_path / "kafka")) as kafka:
        address = kafka.bootstrap
        create_topic(address, "t")
        write(address, "t", [Row(b"before")])

        kafka.kill()
        assert not accepts_connections(int(address.partition(":")[2]))
        kafka.start()
        write(address, "t", [Row(b"between")])
        kafka.restart()

        assert kafka.bootstrap == address
        assert [r.value for r in read(address, "t")] == [b"before", b"between"]


def test_the_embedded_brokers_memory_dies_with_it(tmp_path):
    with running(lambda: EmbeddedBroker(tmp_path / "broker")) as broker:
        create_topic(broker.bootstrap, "t")
        write(broker.bootstrap, "t", [Row(b"gone")])

        broker.kill()
        broker.start()
        create_topic(broker.bootstrap, "t")

        assert read(broker.bootstrap, "t") == []


def test_clickhouse_keeps_its_data_and_asks_for_a_password(tmp_path):
    with running(lambda: ClickHouseServer(tmp_path / "clickhouse", secure=True)) as server:
        with clickhouse_driver.Client.from_url(server.url) as client:
            client.execute("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
            client.execute("INSERT INTO t VALUES", [(1,), (2,)])
        server.kill()
        server.start()

        trusting = f"{server.secure_url}&verify=true&ca_certs={server.certificates.authority}"
        with clickhouse_driver.Client.from_url(trusting) as client:
            assert client.execute("SELECT a FROM t ORDER BY a") == [(1,), (2,)]

        reading = server.url.replace(f"{USER}:", f"{READER}:")
        with clickhouse_driver.Client.from_url(reading) as client:
            assert client.execute("SELECT count() FROM t") == [(2,)]
            with pytest.raises(errors.ServerException, match="readonly"):
                client.execute("INSERT INTO t VALUES", [(3,)])

        wrong = server.url.replace(PASSWORD, "wrong")
        with (
            clickhouse_driver.Client.from_url(wrong) as client,
            pytest.raises(errors.ServerException, match="Wrong password"),
        ):
            client.execute("SELECT 1")


def test_a_service_dies_with_a_test_process_that_is_killed(tmp_path):
    program = (
        "import sys; from pathlib import Path; from services.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(Path(sys.argv[1])); broker.start()\n"
        "print('port', broker.bootstrap.rpartition(':')[2], flush=True)\n"
        "sys.stdin = open('/dev/zero'); sys.stdin.read()\n"
    )
    folder = str(Path(__file__).resolve().parents[1])
    owner = Child(
        [sys.executable, "-c", program, str(tmp_path)],
        log=tmp_path / "owner.log",
        env={"PYTHONPATH": folder},
    )
    owner.wait_for("port ")
    port = int(owner.output().split()[1])
    assert accepts_connections(port)

    owner.kill()

    wait_until(lambda: not accepts_connections(port), "the orphaned broker to be gone", timeout=10)


def test_ports_are_never_given_twice():
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50


def test_what_is_missing_is_skipped_at_a_desk_and_fails_where_it_is_required(monkeypatch):
    error = ServiceMissing("no such thing (apt-get install thing)")

    monkeypatch.delenv("ZEROSTOCK_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install thing"):
        missing(error)
    monkeypatch.setenv("ZEROSTOCK_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install thing"):
        missing(error)
