"""`zerostock backup` and `restore`: all that one machine keeps under a data directory, as one file.

Taken while everything runs, or at rest. The state is read first, the warehouse next, the record of
what was sent last: whoever starts from that folds some of the input once more, which changes no
row, and finds on record whatever was sent of it.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from pipelines.files import OwnerLock
from pipelines.warehouse import open_for_reading
from pipelines.warehouse.engines.embedded import Embedded
from pipelines.warehouse.loopback.client import LoopbackClient, endpoint_path
from schemas.errors import InputError, NewerVersion, UsageError

_VERSION: Final = 1

#: What the file begins with.
_MANIFEST: Final = "backup.json"

_STATE: Final = "state.snapshot"
_WAREHOUSE: Final = "warehouse"

#: What belongs to the processes that run now, or is written by itself.
_PASSING: Final = (".lock", ".draft", "-wal", "-shm", "-journal")


class Manifest(msgspec.Struct):
    """When (ms) a backup was taken, by which release, and the version of its form."""

    at: int
    release: str
    version: int = _VERSION


def back_up(data: Path, to: Path) -> int:
    """Write the backup of a data directory to a new file, only its owner may read it; its bytes.

    Raises `UsageError` if the file exists or would lie in the directory, `InputError` if there is
    nothing to back up, `BusyError` while another backup is taken, `WarehouseError` as the
    warehouse does, OSError.
    """
    if not data.is_dir() or not any(data.iterdir()):
        raise InputError(f"there is nothing in {data}")
    if to.exists():
        raise UsageError(f"{to} exists: name another file")
    if to.resolve().is_relative_to(data.resolve()):
        raise UsageError(f"{to} lies in {data}, which may be lost with it")
    draft = to.with_name(f"{to.name}.draft")
    with OwnerLock(data / "backup.lock"):
        try:
            with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
                _add_all(tar, data)
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            draft.rename(to)
        finally:
            draft.unlink(missing_ok=True)
    return to.stat().st_size


def _add_all(tar: tarfile.TarFile, data: Path) -> None:
    manifest = Manifest(time.time_ns() // 1_000_000, version("zerostock"))
    _add_bytes(tar, _MANIFEST, msgspec.json.encode(manifest))
    with suppress(FileNotFoundError):
        _add_bytes(tar, _STATE, (data / _STATE).read_bytes())
    if (data / _WAREHOUSE).is_dir():
        _add_warehouse(tar, data)
    for path in _files(data):
        name = str(path.relative_to(data))
        if _is_sqlite(path):
            _add_sqlite(tar, name, path)
        else:
            with suppress(FileNotFoundError):
                _add_bytes(tar, name, path.read_bytes())


def _files(data: Path) -> Iterator[Path]:
    """All but the state, the warehouse, logs, and what belongs to running processes."""
    for path in sorted(data.rglob("*")):
        top = path.relative_to(data).parts[0]
        if top in (_STATE, _WAREHOUSE, "logs", endpoint_path(data).name):
            continue
        if top.startswith(f"{_WAREHOUSE}.") or path.name.endswith(_PASSING):
            continue
        if path.is_file() and not path.is_symlink():
            yield path


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    tar.addfile(entry, io.BytesIO(content))


def _is_sqlite(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"
    return False


def _add_sqlite(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """A database as it is at one moment, whoever writes to it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        tar.add(copy, name)


def _add_warehouse(tar: tarfile.TarFile, data: Path) -> None:
    left = data / f"{_WAREHOUSE}.backup"
    if left.exists():  # a backup was cut short
        shutil.rmtree(left)
    opened = open_for_reading(data=data)
    assert isinstance(opened, Embedded | LoopbackClient)
    try:
        tar.add(opened.back_up(), left.name)
    finally:
        opened.close()
        shutil.rmtree(left, ignore_errors=True)


def restore(backup: Path, data: Path) -> Manifest:
    """Lay out what a backup has in a data directory that is empty, or is not there yet.

    Raises `UsageError` if it is not empty, `InputError` if the file is no backup or damaged,
    `NewerVersion`, OSError. What fails leaves nothing there.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise UsageError(f"{data} is not empty: name another --data")
    try:
        with tarfile.open(backup) as tar:
            manifest = _manifest(tar, backup)
            data.mkdir(parents=True, exist_ok=True)
            try:
                _lay_out(tar, data)
            except BaseException:
                shutil.rmtree(data, ignore_errors=True)
                raise
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{backup} is no backup, or damaged: {error}") from None
    return manifest


def _manifest(tar: tarfile.TarFile, backup: Path) -> Manifest:
    first = tar.next()
    written = tar.extractfile(first) if first is not None and first.name == _MANIFEST else None
    if written is None:
        raise InputError(f"{backup} is no backup of zerostock")
    try:
        manifest = msgspec.json.decode(written.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise InputError(f"{backup} is damaged: {error}") from None
    if manifest.version > _VERSION:
        raise NewerVersion(f"{backup} was written by zerostock {manifest.release}: upgrade first")
    return manifest


def _lay_out(tar: tarfile.TarFile, data: Path) -> None:
    """The state comes last: without it a run would read its input again, and change nothing."""
    for entry in tar:
        if entry.name == _MANIFEST:
            continue
        tar.extract(entry, data, filter="data")
        if entry.name == _STATE:
            (data / _STATE).rename(data / f"{_STATE}.draft")
    kept = data / f"{_WAREHOUSE}.backup"
    if kept.is_dir():
        warehouse = Embedded(data)
        try:
            warehouse.restore(kept.resolve())
        finally:
            warehouse.close()
        shutil.rmtree(kept)
    if (data / f"{_STATE}.draft").exists():
        (data / f"{_STATE}.draft").rename(data / _STATE)


def taken(manifest: Manifest) -> str:
    """When and by what a backup was taken, for a person."""
    moment = datetime.fromtimestamp(manifest.at / 1_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC by zerostock {manifest.release}"
