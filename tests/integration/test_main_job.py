"""Whole cities through `zerostock run`, held against what the simulator knows to be true."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from city import (
    ZEROSTOCK,
    anomalies,
    assert_equals_truth,
    dead_letters,
    incidents,
    messages,
    rows,
    stock,
    zerostock,
)
from oracle.vary import vary
from services.ports import free_port

from pipelines.simulate import CityPlan, Truth, read_truth, simulate

#: How many cities; more with ZEROSTOCK_TEST_CITIES=20.
CITIES = int(os.environ.get("ZEROSTOCK_TEST_CITIES", "6"))


def make(folder: Path, seed: int, **plan: object) -> Truth:
    rng = random.Random(seed)
    size = {"outlets": rng.randint(20, 120), "cdrs": rng.randint(500, 30_000), "days": 1}
    size |= {"switches": rng.randint(1, 3), **plan}
    simulate(CityPlan(seed=seed, **size), folder)  # type: ignore[arg-type]
    return read_truth(folder)


def run(city: Path, data: Path, *more: object) -> subprocess.CompletedProcess[str]:
    done = zerostock("run", "--input", city, "--data", data, "--sms", f"file:{data}.sms", *more)
    assert done.returncode == 0, done.stderr + done.stdout
    return done


def sms(data: Path) -> Path:
    return Path(f"{data}.sms")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, CITIES + 1))
def test_a_city_comes_out_as_it_is(tmp_path: Path, seed: int) -> None:
    truth = make(tmp_path / "city", seed)
    run(tmp_path / "city", tmp_path / "data", "--partitions", (1, 2, 4)[seed % 3])
    assert_equals_truth(tmp_path / "data", sms(tmp_path / "data"), truth)


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 2, 4])
def test_shuffled_doubled_and_split_it_is_the_same_city(tmp_path: Path, partitions: int) -> None:
    truth = make(tmp_path / "city", 40 + partitions)
    vary(tmp_path / "city", tmp_path / "other", seed=partitions, double=True, split=3)
    data = tmp_path / "data"
    run(tmp_path / "other", data, "--partitions", partitions)
    assert stock(data) == truth.stock
    assert anomalies(data) == sorted(map(tuple, truth.anomalies))
    assert messages(sms(data)) == sorted(map(tuple, truth.messages))
    assert [i[:5] for i in incidents(data)] == sorted(map(tuple, truth.incidents))
    # Every copy of a bad line is a bad line; its place is another.
    reasons = [reason for _, _, reason in dead_letters(data)]
    assert set(reasons) == set(truth.dead_reasons())


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    truth = make(tmp_path / "city", 7, outlets=200, cdrs=200_000)
    data, rng = tmp_path / "data", random.Random(7)
    command = [*ZEROSTOCK, "run", "--input", tmp_path / "city", "--data", data]
    command += ["--sms", f"file:{data}.sms"]
    for _ in range(5):
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.5, 6.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run(tmp_path / "city", data)
    assert_equals_truth(data, sms(data), truth)
    assert orphans(data) == []


def orphans(data: Path) -> list[str]:
    """Processes that still speak of a data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(data) in environment and int(process.name) != os.getpid():
            found.append(process.name)
    return found


@pytest.mark.slow
def test_run_again_it_repeats_nothing_and_reads_what_is_new(tmp_path: Path) -> None:
    truth = make(tmp_path / "city", 11, days=2, cdrs=10_000)
    data, part = tmp_path / "data", tmp_path / "part"
    shutil.copytree(tmp_path / "city", part)
    folders = {f.parent for top in ("cdr", "events") for f in (part / top).rglob("*.*")}
    later = [f for folder in folders for f in sorted(folder.iterdir())[24:]]
    assert later
    kept = {f: f.read_bytes() for f in later}
    for file in later:
        file.unlink()
    run(part, data)
    first = messages(sms(data))
    assert first
    run(part, data)
    assert messages(sms(data)) == first
    for file, content in kept.items():
        file.write_bytes(content)
    run(part, data)
    assert stock(data) == truth.stock
    assert set(first) <= set(messages(sms(data)))
    assert {a[:3] for a in map(tuple, truth.anomalies)} <= {a[:3] for a in anomalies(data)}


@pytest.mark.slow
def test_a_live_run_answers_queries_refuses_a_second_and_stops_cleanly(tmp_path: Path) -> None:
    truth = make(tmp_path / "city", 3)
    data = tmp_path / "data"
    command = [*ZEROSTOCK, "run", "--input", tmp_path / "city", "--data", data, "--follow"]
    command += ["--sms", f"file:{data}.sms", "--group-wait", "60s"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        wait_until(lambda: (data / "warehouse.json").exists() and dead_letters(data))
        again = zerostock("run", "--input", tmp_path / "city", "--data", data)
        assert again.returncode == 1
        assert f"{data} is in use by process {process.pid}" in again.stderr
        assert "Traceback" not in again.stderr
        wait_until(lambda: len(dead_letters(data)) == len(truth.dead_letters))
        wait_until(lambda: len(stock(data)) >= len(truth.stock) * 0.9)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert rows(data, "SELECT 1") == [(1,)]
    assert orphans(data) == []


@pytest.mark.slow
def test_a_run_that_waits_for_a_provider_ends_on_the_second_ctrl_c(tmp_path: Path) -> None:
    truth = make(tmp_path / "city", 11)
    data = tmp_path / "data"
    command = [*ZEROSTOCK, "run", "--input", tmp_path / "city", "--data", data, "--sms", "twilio"]
    away = {"ACCOUNT_SID": "AC" + "0" * 32, "AUTH_TOKEN": "t" * 32, "FROM": "+8613800138000"}
    away |= {"BASE_URL": f"http://127.0.0.1:{free_port()}"}
    env = os.environ | {f"ZEROSTOCK_TWILIO_{name}": value for name, value in away.items()}
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, env=env)
    try:
        wait_until(lambda: "waiting for the last rows" in log.read_text())
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "once more ends it at once" in log.read_text())
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1, log.read_text()
    finally:
        process.kill()
    assert log.read_text().splitlines()[-1] == "zerostock: stopped"
    assert orphans(data) == []
    run(tmp_path / "city", data)
    assert_equals_truth(data, sms(data), truth)


def wait_until(condition, patience: float = 120) -> None:
    """Wait for a condition; the pause only keeps the machine free for others."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "--input", "nowhere", "--data", "d"], 1, "not a directory"),
        (["run", "--data", "d"], 2, "--input"),
        (["run", "--input", ".", "--data", "d"], 1, "reference"),
        (["run", "--input", ".", "--data", "d", "--disorder", "soon"], 2, "--disorder: 'soon'"),
        (["run", "--input", ".", "--data", "d", "--clock", "sun"], 2, "--clock"),
        (["run", "--input", ".", "--data", "d", "--sms", "file:"], 2, "file:sms.ndjson"),
        (["run", "--input", ".", "--data", "d", "--partitions", "0"], 2, "--partitions"),
        (["run", "--input", ".", "--data", "d", "--loud"], 2, "No such option: --loud"),
        (["run", "--input", ".", "--input", "kafka://h", "--data", "d"], 2, "HOST:PORT/TOPIC"),
        (["run", "--input", "kafka://h:1/t", "--data", "d"], 2, "one exchange directory"),
        (["run", "--input", ".", "--data", "d", "--intake", "127.0.0.1:0"], 2, "add --follow"),
        (["ingest", "kafka://h:1/t"], 2, "add --reference DIR"),
        (["intake", "--reference", "."], 1, "FEEDER TOKEN"),
        (["intake", "--reference", ".", "--tokens", "none"], 1, "none cannot be read"),
        (["dead-letters", "eat"], 2, "zerostock dead-letters --help"),
        (["query", "--data", "nothing-here", "SELECT 1"], 1, "no warehouse"),
        (["query", "SELECT 1"], 2, "warehouse"),
        (["worker", "nobody"], 2, "stock, alerts or warehouse"),
        (["frobnicate"], 2, "No such command"),
        (["simulate", "--out", "city", "--outlets", "1"], 2, "outlets must be between"),
    ],
)
def test_a_mistake_gets_one_clear_line(
    tmp_path: Path, monkeypatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = zerostock(*arguments)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert says in line


def test_a_setting_that_is_wrong_is_no_bad_usage(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ZEROSTOCK_GROUP_WAIT", "soon")
    done = zerostock("run", "--input", tmp_path, "--data", tmp_path / "d")
    assert done.returncode == 1
    assert "ZEROSTOCK_GROUP_WAIT" in done.stderr


def test_every_command_explains_itself() -> None:
    for command in ("run", "ingest", "worker", "query", "migrate", "simulate", "dead-letters list"):
        done = zerostock(*command.split(), "--help")
        assert done.returncode == 0
        assert "Example" in done.stdout, command


def test_query_speaks_clickhouse_formats(tmp_path: Path) -> None:
    assert zerostock("migrate", "--data", tmp_path).returncode == 0
    done = zerostock("query", "--data", tmp_path, "--format", "JSONEachRow", "SELECT 1 AS one")
    assert json.loads(done.stdout) == {"one": 1}
    refused = zerostock("query", "--data", tmp_path, "DROP TABLE stock_movements_rows")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
