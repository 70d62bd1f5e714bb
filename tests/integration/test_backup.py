"""A backup taken under load brings everything back, on a machine that was lost."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from city import ZEROSTOCK, assert_equals_truth, zerostock
from services.waiting import wait_until

from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from infra.stack.backup import Manifest, back_up, restore
from pipelines.simulate import CityPlan, read_truth, simulate
from pipelines.warehouse import open_warehouse
from schemas.errors import InputError, NewerVersion, UsageError

OPTED_OUT = RefusedNumber("+8613900000001", "STOP", "its owner asked for no more messages", 1, "c")


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def started(command: list[object], sms: Path) -> subprocess.Popen[bytes]:
    """A run that has sent more messages than there were before."""
    before = size(sms)
    running = subprocess.Popen(
        [*ZEROSTOCK, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    more = "messages to go out"
    wait_until(lambda: running.poll() is not None or size(sms) > before, more, timeout=240)
    return running


@pytest.mark.slow
def test_a_machine_is_lost_and_nothing_is_missing_or_repeated(tmp_path: Path) -> None:
    city, data, sms = tmp_path / "city", tmp_path / "data", tmp_path / "sms.ndjson"
    simulate(CityPlan(seed=5, outlets=80, cdrs=60_000, switches=2), city)
    (data / "sms").mkdir(parents=True)
    RefusedNumbers(data / "sms/refused-numbers.log").remember(OPTED_OUT)
    command: list[object] = ["run", "--input", city, "--data", data, "--sms", f"file:{sms}"]
    running, backup = started(command, sms), tmp_path / "backup.tar"
    done = zerostock("backup", "--data", data, "--to", backup)
    assert done.returncode == 0, done.stderr
    assert backup.stat().st_mode & 0o077 == 0
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    shutil.rmtree(data)
    done = zerostock("restore", backup, "--data", data)
    assert done.returncode == 0, done.stderr
    done = zerostock(*command)
    assert done.returncode == 0, done.stderr
    assert_equals_truth(data, sms, read_truth(city))
    assert RefusedNumbers(data / "sms/refused-numbers.log").get(OPTED_OUT.number) == OPTED_OUT


def filled(data: Path) -> Path:
    warehouse = open_warehouse(data=data)
    warehouse.execute("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
    warehouse.insert("t", pa.table({"a": pa.array(range(1_000), pa.int64())}))
    warehouse.close()
    (data / "sms").mkdir()
    (data / "sms/answers.log").write_text("one\n")
    (data / "state.snapshot").write_bytes(b"state")
    return data


def kept(data: Path) -> tuple[int, str, bytes]:
    warehouse = open_warehouse(data=data)
    (total,) = warehouse.query("SELECT sum(a) AS a FROM t")["a"].to_pylist()
    warehouse.close()
    return total, (data / "sms/answers.log").read_text(), (data / "state.snapshot").read_bytes()


def test_what_is_restored_is_what_was_there_and_moves(tmp_path: Path) -> None:
    data, backup = filled(tmp_path / "data"), tmp_path / "b.tar"
    was = kept(data)
    (data / "warehouse.backup").mkdir()  # a backup that was killed
    assert back_up(data, backup) == backup.stat().st_size
    assert kept(data) == was
    assert not list(tmp_path.glob("**/*.draft"))
    shutil.rmtree(data)
    restore(backup, tmp_path / "elsewhere")
    assert kept(tmp_path / "elsewhere") == was


def spoiled(backup: Path, change: Callable[[bytes], bytes]) -> Path:
    backup.write_bytes(change(backup.read_bytes()))
    return backup


def tar_of(**files: bytes) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


MANIFEST = msgspec.json.encode(Manifest(1, "0.1.0"))
NEWER = msgspec.json.encode(Manifest(1, "9.9.9", 99))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda _: b"", InputError, "no backup"),
        (lambda _: b"PK\3\4" * 400, InputError, "no backup"),
        (lambda _: tar_of(**{"x": b"1"}), InputError, "no backup of zerostock"),
        (lambda _: tar_of(**{"backup.json": b"{"}), InputError, "damaged"),
        (lambda _: tar_of(**{"backup.json": NEWER}), NewerVersion, "zerostock 9.9.9: upgrade"),
        (lambda _: tar_of(**{"backup.json": MANIFEST, "../out": b"1"}), InputError, "outside"),
        (lambda whole: whole[: len(whole) // 2], InputError, "damaged"),
    ],
)
def test_what_is_no_backup_leaves_nothing(
    tmp_path: Path, change: Callable[[bytes], bytes], error: type[Exception], says: str
) -> None:
    data = filled(tmp_path / "data")
    back_up(data, tmp_path / "b.tar")
    with pytest.raises(error, match=says):
        restore(spoiled(tmp_path / "b.tar", change), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    data, backup = filled(tmp_path / "data"), tmp_path / "b.tar"
    back_up(data, backup)
    with pytest.raises(UsageError, match="exists"):
        back_up(data, backup)
    with pytest.raises(UsageError, match="may be lost with it"):
        back_up(data, data / "b.tar")
    with pytest.raises(UsageError, match="not empty"):
        restore(backup, data)
    with pytest.raises(InputError, match="nothing in"):
        back_up(tmp_path / "nowhere", tmp_path / "c.tar")
