"""An append-only file of lines that survives a crash at any byte. What the lines mean is elsewhere.

A line counts once its newline is on the disk: `append` returns after fsync, and an unfinished last
line is cut off by whoever appends next. Several processes of one machine may share a file; each
sees what the others wrote.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from schemas.errors import InputError, SettingsError

_Entry = TypeVar("_Entry")

#: What can be done about a damaged line that nothing depends on.
REMOVE_LINE: Final = "remove the line"

#: Bytes read at a time; a file may have grown for years.
_CHUNK = 1 << 20


class Journal:
    """One such file, created if need be, by default readable by its owner only.

    Raises `SettingsError` when the file cannot be opened. A full or failing disk raises OSError
    from `append` and leaves the file as it was.
    """

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        self.path = path
        self.lines_read = 0
        self._read = 0
        try:
            new = not path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, flags, mode)
        except OSError as error:
            raise SettingsError(f"cannot write to {path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            os.close(self._file)
            raise SettingsError(f"cannot write to {path}: not a regular file")
        if new:
            _sync_folder(path.parent)
        with self._locked():
            self._repair()

    def unread(self) -> Iterator[tuple[int, bytes]]:
        """The whole lines that were appended since the last call by anyone.

        Each comes without its newline and with its place, by which `line` finds it again.
        """
        rest = b""
        while chunk := os.pread(self._file, _CHUNK, self._read + len(rest)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                place = self._read
                self._read += len(line) + 1
                self.lines_read += 1
                yield place, line

    def entries(
        self, decode: Callable[[bytes], _Entry], *, remedy: str = ""
    ) -> Iterator[tuple[int, _Entry]]:
        """The unread lines with their places, as `decode` reads them.

        Raises `InputError`, which ends with the `remedy`, for a line that it cannot read.
        """
        for place, line in self.unread():
            try:
                entry = decode(line)
            except msgspec.MsgspecError as error:
                damaged = f"{self.path}, line {self.lines_read} is damaged ({error})"
                raise InputError("; ".join(filter(None, (damaged, remedy)))) from None
            yield place, entry

    def line(self, place: int) -> bytes:
        """The line at a place that `unread` gave."""
        data = b""
        while b"\n" not in data:
            data += os.pread(self._file, 4_096, place + len(data))
        return data[: data.index(b"\n")]

    def append(self, line: bytes, *, unless: Callable[[], bool] | None = None) -> bool:
        """Add a line (without newline) for good.

        `unless` is asked while no other process can append; if it says True nothing is written and
        the answer is False.
        """
        with self._locked():
            if unless is not None and unless():
                return False
            size = self._repair()
            try:
                _write(self._file, line + b"\n")
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, size)
                raise
        return True

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _repair(self) -> int:
        """Cut off an unfinished last line; the size of what is left."""
        size = end = os.fstat(self._file).st_size
        while end > 0:
            start = max(0, end - 4_096)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        return end


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    """Without this a crash of the machine may forget that the file exists."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
