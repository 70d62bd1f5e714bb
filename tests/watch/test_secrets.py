"""Nothing that a run, a worker or a mistake prints has a secret or somebody's number in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from services.ports import free_port
from services.twilio_server import ACCOUNT, CUT_BEFORE, FROM, TOKEN, Twilio, error

from pipelines.simulate import CityPlan, simulate

KAFKA_PASSWORD = "kafka-pass-word-1"
CLICKHOUSE_PASSWORD = "click-house-pass-2"
SECRETS = (TOKEN, KAFKA_PASSWORD, CLICKHOUSE_PASSWORD)
NUMBERS = re.compile(r"\+\d{8,15}(?!\d)|(?<!\d)\d{15}(?!\d)")


def zerostock(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


def assert_clean(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text
    assert NUMBERS.findall(text) == []


@pytest.mark.slow
def test_a_run_prints_no_secret_and_nobodys_number(tmp_path: Path) -> None:
    plan = CityPlan(seed=3, outlets=20, cdrs=1_000, territories=2, wholesalers=2)
    simulate(plan, tmp_path / "city")
    with Twilio() as twilio:
        # A number that takes none, an answer that means wait, and a line that is cut.
        twilio.script += [error(400, 21211), error(500), CUT_BEFORE, error(429, 20429)]
        done = zerostock(
            "run", "--input", tmp_path / "city", "--data", tmp_path / "data", "--sms", "twilio",
            ZEROSTOCK_TWILIO_ACCOUNT_SID=ACCOUNT,
            ZEROSTOCK_TWILIO_AUTH_TOKEN=TOKEN,
            ZEROSTOCK_TWILIO_FROM=FROM,
            ZEROSTOCK_TWILIO_BASE_URL=twilio.url,
            ZEROSTOCK_KAFKA_PASSWORD=KAFKA_PASSWORD,
            ZEROSTOCK_LOG_LEVEL="DEBUG",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert twilio.messages, "SMS did go out"
        told = {message["to"] for message in twilio.messages}
    logs = {path.name: path.read_text() for path in (tmp_path / "data" / "logs").iterdir()}
    assert "is not through" in logs["alerts.log"], "the mishaps are logged"
    assert "incident_id=" in logs["stock.log"]
    assert "message_id=" in logs["alerts.log"]
    for text in (done.stdout, done.stderr, *logs.values()):
        assert_clean(text)
        assert not any(number.removeprefix("+") in text for number in told)
    lines = [line for name in ("stock", "alerts", "warehouse")
             for line in logs[f"{name}.log"].splitlines()]  # fmt: skip
    odd = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ \S+ ", line)]
    assert odd == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "SELECT 1"),
        ("migrate",),
        ("dead-letters", "list"),
        ("reconcile", "--input", "."),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_cannot_be_reached_is_named_without_its_password(arguments: tuple[str, ...]) -> None:
    url = f"clickhouse://zerostock:{CLICKHOUSE_PASSWORD}@127.0.0.1:{free_port()}/city"
    done = zerostock(
        *arguments,
        ZEROSTOCK_WAREHOUSE=url,
        ZEROSTOCK_BROKER=f"127.0.0.1:{free_port()}",
        ZEROSTOCK_KAFKA_PASSWORD=KAFKA_PASSWORD,
        ZEROSTOCK_TWILIO_AUTH_TOKEN=TOKEN,
    )
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert_clean(done.stdout + done.stderr)


@pytest.mark.parametrize("name", ["ZEROSTOCK_KAFKA_PASSWORD", "ZEROSTOCK_TWILIO_AUTH_TOKEN"])
def test_a_wrong_setting_is_named_without_the_secrets_beside_it(name: str) -> None:
    done = zerostock("migrate", **{name: KAFKA_PASSWORD, "ZEROSTOCK_PARTITIONS": "many"})
    assert done.returncode == 1
    assert "ZEROSTOCK_PARTITIONS" in done.stderr
    assert_clean(done.stdout + done.stderr)
