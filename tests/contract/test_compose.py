"""infra/compose.yaml, checked as far as that goes without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from services.kafka import KafkaServer
from services.need import ServiceMissing, missing
from services.running import running
from typer.main import get_command

from infra.cli import app
from infra.settings import Settings

INFRA = Path(__file__).resolve().parents[2] / "infra"
COMPOSE = INFRA / "compose.yaml"
OURS = {"migrate", "stock", "alerts", "warehouse", "ingest", "intake"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, anchors resolved."""
    return yaml.safe_load(COMPOSE.read_text())["services"]


def settings_of(file: Path) -> dict[str, str]:
    """NAME=value lines."""
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line)


def test_a_compose_client_accepts_it(tmp_path):
    environment = {"ZEROSTOCK_CITY": "/srv/city", "ZEROSTOCK_CLICKHOUSE_PASSWORD": "not-this-one"}
    config = ["--project-directory", str(INFRA), "--profile", "intake", "-f"]
    if _works("docker", "compose", "version"):
        command = ["docker", "compose", *config, str(COMPOSE), "config"]
    elif shutil.which("docker-compose"):
        # Version 1 knows the same services, but no top-level name.
        old = tmp_path / "compose.yaml"
        old.write_text(re.sub(r"(?m)^name:.*\n", "", COMPOSE.read_text()))
        command = ["docker-compose", *config, str(old), "config"]
    else:
        missing(ServiceMissing("no compose client (apt-get install docker-compose)"))

    resolved = subprocess.run(
        command,
        env=environment | {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert resolved.returncode == 0, resolved.stderr
    assert yaml.safe_load(resolved.stdout)["services"].keys() >= OURS


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_every_port_is_bound_to_loopback(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned_and_ours_run_with_nothing_to_spare(services):
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert tag not in ("latest", service["image"]), name
        if name in OURS:
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


def test_databases_say_when_they_are_ready_and_everyone_waits_for_them(services):
    for name in ("kafka", "clickhouse"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    for name in OURS - {"migrate"}:
        assert services[name]["depends_on"]["kafka"] == {"condition": "service_healthy"}
    assert services["warehouse"]["depends_on"]["migrate"] == {
        "condition": "service_completed_successfully"
    }


def test_no_secret_has_a_value_in_the_file(services):
    secret = re.compile("PASSWORD|TOKEN|SECRET|SID")
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert value is None or str(value).startswith("${"), name
    assert services["warehouse"]["environment"]["ZEROSTOCK_WAREHOUSE"].count("${") == 1


def test_commands_and_settings_exist(services):
    commands = get_command(app).commands
    known = {f"ZEROSTOCK_{name.upper()}" for name in Settings.model_fields}

    for name in OURS:
        assert services[name]["command"][0] in commands
        assert services[name].get("environment", {}).keys() <= known
    assert [services[name]["command"][1] for name in ("stock", "alerts", "warehouse")] == [
        "stock",
        "alerts",
        "warehouse",
    ]


def test_a_real_kafka_of_the_same_version_takes_the_brokers_settings(services, tmp_path):
    image_only = {"CLUSTER_ID", "KAFKA_LOG_DIRS", "KAFKA_NODE_ID", "KAFKA_PROCESS_ROLES"}
    addresses = re.compile("LISTENER|QUORUM")
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in settings_of(INFRA / "kafka" / "broker.env").items()
        if name not in image_only and not addresses.search(name)
    }
    assert len(settings) >= 8

    with running(lambda: KafkaServer(tmp_path / "kafka", settings=settings)) as kafka:
        log = kafka.child.output()

    assert "supplied but are not used" not in log
    for name, value in settings.items():
        assert re.search(rf"(?m)^\s+{re.escape(name)} = {re.escape(value)}$", log), name
    version = services["kafka"]["image"].rpartition(":")[2]
    assert f"Kafka version: {version}" in log
