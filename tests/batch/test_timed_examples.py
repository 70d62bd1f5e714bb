"""The examples for systemd, Kubernetes and Airflow: well formed, and their commands are ours."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from infra.cli import app
from pipelines.batch import JOBS

INFRA = Path(__file__).parents[2] / "infra"
SYSTEMD = INFRA / "systemd"
CRONJOB = INFRA / "k8s/batch.yaml"
DAG = INFRA / "airflow/zerostock_monthly.py"


def is_understood(line: str) -> str:
    """Parse a `zerostock batch` line as the command line would; the job it names."""
    words = shlex.split(line)
    command = get_command(app).commands["batch"]
    context = command.make_context("batch", words[words.index("batch") + 1 :])
    job: str = context.params["job"]
    assert job in JOBS
    assert set(context.args) == {"--time-zone=Asia/Shanghai"}
    return job


def test_the_cron_job_runs_one_at_a_time() -> None:
    job = yaml.safe_load(CRONJOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (line,) = container["args"]
    assert is_understood(re.sub(r"\$\(.*?\)", "2026-03-31", line)) == "arrears"
    assert container["env"][0]["valueFrom"]["secretKeyRef"]


def test_the_dag_compiles_and_its_command_is_ours() -> None:
    tree = ast.parse(DAG.read_text())
    jobs = [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_run"
        and isinstance(node.args[0], ast.Constant)
    ]  # fmt: skip
    assert jobs == ["line-loss", "meter-suspects"]
    (text,) = [
        ast.unparse(word.value)
        for word in ast.walk(tree)
        if isinstance(word, ast.keyword) and word.arg == "bash_command"
    ]
    line = text[2:-1].format(job="line-loss", _MONTH="2026-03", _ZONE="Asia/Shanghai")
    assert is_understood(line) == "line-loss"


def test_the_service_runs_a_command_of_ours() -> None:
    service = (SYSTEMD / "zerostock-line-loss.service").read_text()
    (line,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", service, re.MULTILINE)
    shell = line.replace("$$", "$").replace("%%", "%").replace("exec /opt/", "echo /opt/")
    said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert is_understood(said) == "line-loss"
    assert re.search(r"--period \d{4}-\d{2} ", said)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    (timer,) = re.findall(r"OnCalendar=(.*)", (SYSTEMD / "zerostock-line-loss.timer").read_text())
    for unit in SYSTEMD.iterdir():
        shutil.copy(unit, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "zerostock-" in line]
    assert [line for line in ours if "not executable" not in line] == []
    subprocess.run(["systemd-analyze", "calendar", timer], capture_output=True, check=True)


def test_what_beam_lacks_for_google_is_not_told() -> None:
    code = (
        "from pipelines.batch import run_job\n"
        "from schemas.errors import ZerostockError\n"
        "try: run_job('line-loss', period='2026-01', input='/nowhere', warehouse=None)\n"
        "except ZerostockError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=INFRA.parent)  # fmt: skip
    assert (done.stdout, done.stderr) == ("refused\n", "")
