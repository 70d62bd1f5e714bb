"""Workers, ingest and replay over SASL_SSL: let in with the right login, one clear line without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services.certificates import make_certificates
from services.kafka import SASL_PASSWORD, SASL_USER, KafkaServer
from services.running import running
from services.waiting import wait_until

from pipelines.simulate import CityPlan, read_truth, simulate

COMMAND = [sys.executable, "-m", "infra.cli"]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Apache Kafka with a SASL_SSL listener."""
    folder = tmp_path_factory.mktemp("kafka")
    with running(lambda: KafkaServer(folder, secure=True)) as server:
        yield server


@pytest.fixture
def login(kafka: KafkaServer) -> dict[str, str]:
    """The settings that the server accepts."""
    assert kafka.certificates is not None
    return {
        "ZEROSTOCK_BROKER": kafka.secure_bootstrap,
        "ZEROSTOCK_KAFKA_SECURITY": "SASL_SSL",
        "ZEROSTOCK_KAFKA_MECHANISM": "SCRAM-SHA-512",
        "ZEROSTOCK_KAFKA_USERNAME": SASL_USER,
        "ZEROSTOCK_KAFKA_PASSWORD": SASL_PASSWORD,
        "ZEROSTOCK_KAFKA_CA": str(kafka.certificates.authority),
    }


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small city."""
    folder = tmp_path_factory.mktemp("secure") / "city"
    plan = CityPlan(seed=4, outlets=15, cdrs=500, territories=2, wholesalers=2, bad_lines=5)
    simulate(plan, folder)
    return folder


def zerostock(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


@pytest.mark.slow
def test_a_city_goes_through_over_tls(city: Path, login: dict[str, str], tmp_path: Path) -> None:
    truth, data = read_truth(city), tmp_path / "data"
    env = {**os.environ, **login, "ZEROSTOCK_REFERENCE": str(city / "reference"),
           "ZEROSTOCK_DATA": str(data), "ZEROSTOCK_CLOCK": "event",
           "ZEROSTOCK_SMS": f"file:{tmp_path}/sms"}  # fmt: skip
    done = zerostock("ingest", city, **login)
    assert done.returncode == 0, done.stderr
    workers = []
    try:
        for name in ("stock", "alerts", "warehouse"):
            with (tmp_path / f"{name}.log").open("wb") as log:
                workers.append(
                    subprocess.Popen([*COMMAND, "worker", name], env=env, stdout=log, stderr=log)
                )

        def stock() -> dict[tuple[str, str], int]:
            for worker in workers:
                assert worker.poll() is None, logs()
            found = zerostock(
                "query", "--data", data, "--format", "TSV",
                "SELECT outlet_id, sku, on_hand FROM stock_on_hand",
            )  # fmt: skip
            rows = [line.split("\t") for line in found.stdout.splitlines()]
            return {(outlet, sku): int(on_hand) for outlet, sku, on_hand in rows}

        def logs() -> str:
            return "".join(path.read_text() for path in tmp_path.glob("*.log"))

        wait_until(lambda: stock() == truth.stock, "the stock", timeout=60, every=1, detail=logs)
        wait_until((tmp_path / "sms").exists, "an SMS", detail=logs)
        assert SASL_PASSWORD not in logs()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)


@pytest.mark.parametrize("command", [["ingest"], ["worker", "stock"], ["worker", "warehouse"]])
@pytest.mark.parametrize(
    "wrong",
    [
        {"ZEROSTOCK_KAFKA_PASSWORD": "a-wrong-secret"},
        {"ZEROSTOCK_KAFKA_USERNAME": "nobody", "ZEROSTOCK_KAFKA_MECHANISM": "PLAIN"},
    ],
    ids=["password", "user"],
)
def test_a_wrong_login_gets_one_clear_line(
    command: list[str], wrong: dict[str, str], login: dict[str, str], city: Path, tmp_path: Path
) -> None:
    paths = [city] if command == ["ingest"] else []
    env = {"ZEROSTOCK_REFERENCE": str(city / "reference"), "ZEROSTOCK_DATA": str(tmp_path)}
    done = zerostock(*command, *paths, **(login | env | wrong))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("zerostock: ")]
    assert login["ZEROSTOCK_BROKER"] in line
    assert "login" in line
    assert "Traceback" not in done.stderr
    assert "a-wrong-secret" not in done.stderr


def test_a_stranger_s_certificate_gets_one_clear_line(
    login: dict[str, str], city: Path, tmp_path: Path
) -> None:
    stranger = make_certificates(tmp_path / "stranger").authority
    done = zerostock("ingest", city, **(login | {"ZEROSTOCK_KAFKA_CA": str(stranger)}))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("zerostock: ")
    assert "certificate" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ZEROSTOCK_KAFKA_CA": "/nowhere/ca.pem"}, "ZEROSTOCK_KAFKA_CA"),
        ({"ZEROSTOCK_KAFKA_MECHANISM": "MAGIC"}, "ZEROSTOCK_KAFKA_MECHANISM"),
        ({"ZEROSTOCK_KAFKA_SECURITY": "TLS"}, "ZEROSTOCK_KAFKA_SECURITY"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, str], says: str, city: Path) -> None:
    right = {
        "ZEROSTOCK_BROKER": "127.0.0.1:1",
        "ZEROSTOCK_KAFKA_SECURITY": "SASL_SSL",
        "ZEROSTOCK_KAFKA_USERNAME": "u",
        "ZEROSTOCK_KAFKA_PASSWORD": "p",
    }
    done = zerostock("ingest", city, **(right | wrong))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_a_login_is_asked_for_where_one_is_needed(city: Path) -> None:
    done = zerostock("ingest", city, ZEROSTOCK_KAFKA_SECURITY="SASL_SSL")
    assert done.returncode == 1
    assert done.stderr.startswith("zerostock: ZEROSTOCK_KAFKA_SECURITY asks for a login")
