"""How the command ends if nothing is wrong, or somebody ends it. Mistakes: test_main_job."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from services.waiting import wait_until

COMMAND = [sys.executable, "-m", "infra.cli"]


def zerostock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("arguments", ["--help", "run --help", "users add --help", "--version"])
def test_help_and_version_are_0(arguments: str) -> None:
    ended = zerostock(*arguments.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "zerostock" in ended.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small city and the data of a run over it."""
    folder = tmp_path_factory.mktemp("ran")
    city, data = folder / "city", folder / "data"
    made = zerostock("simulate", "--out", str(city), "--outlets", "10", "--cdrs", "500")
    assert made.returncode == 0, made.stderr
    ended = zerostock("run", "--input", str(city), "--data", str(data), "--sms", "console")
    assert ended.returncode == 0, ended.stderr
    return folder


def test_what_is_written_is_for_its_owner_only(ran: Path) -> None:
    written = [path for path in ran.rglob("*") if not path.is_symlink()]
    assert len(written) > 50
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_the_status_of_a_run_names_what_is_wrong(ran: Path) -> None:
    data = ("--data", str(ran / "data"))
    shown = zerostock("status", *data)
    asked = zerostock("query", *data, "--format", "TSV", "SELECT count() FROM dead_letters_open")
    assert int(asked.stdout) > 0
    assert shown.returncode == 1
    assert f"wrong: {int(asked.stdout):,} lines of the last day were refused" in shown.stdout
    assert "3 ended" in shown.stdout
    nowhere = zerostock("status", *data, "--broker", "127.0.0.1:1")
    assert nowhere.returncode == 1
    assert "wrong: Kafka at 127.0.0.1:1 cannot be" in nowhere.stdout
    assert zerostock("status").returncode == 2


@pytest.mark.parametrize(
    ("out", "bytes_", "said"), [("city", "20000", "File too large"), ("file/city", "", "Not a dir")]
)
def test_a_disk_that_will_not_do_is_one_line(
    tmp_path: Path, out: str, bytes_: str, said: str
) -> None:
    (tmp_path / "file").touch()
    ended = subprocess.run(
        ["prlimit", f"--fsize={bytes_ or 'unlimited'}", *COMMAND, "simulate", "--outlets", "10",
         "--cdrs", "50000", "--out", str(tmp_path / out)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("zerostock: ")
    assert said in ended.stderr


def test_the_desk_of_data_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    ended = zerostock("serve", "--data", str(tmp_path / "typo"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"zerostock: {tmp_path}/typo does not exist")
    assert not (tmp_path / "typo").exists()


def test_a_password_of_the_command_line_is_not_in_the_list_of_processes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # answers nothing: the command waits
        url = f"clickhouse://me:hush-hush@127.0.0.1:{listener.getsockname()[1]}/default"
        asking = subprocess.Popen(
            [*COMMAND, "query", "--warehouse", url, "SELECT 1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with asking, listener.accept()[0]:
            seen = Path(f"/proc/{asking.pid}/cmdline").read_bytes()
            asking.kill()
    assert b"me:***@127.0.0.1" in seen
    assert b"hush-hush" not in seen


def test_ctrl_c_is_one_line_and_1(tmp_path: Path) -> None:
    out = tmp_path / "city"
    making = subprocess.Popen(
        [*COMMAND, "simulate", "--out", str(out), "--cdrs", "500000000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: any(tmp_path.iterdir()), "the first files")
    said = ""
    while not said and making.poll() is None:
        # A library's C code may swallow a KeyboardInterrupt (seen once); people press again.
        making.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            _, said = making.communicate(timeout=20)
    assert (making.returncode, said) == (1, "zerostock: stopped\n")
    assert not out.exists()
