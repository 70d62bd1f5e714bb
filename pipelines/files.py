"""Files and directories that processes share: replaced whole, owned by one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Self

from schemas.errors import BusyError, InputError


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` in the place of the file at `path`: readers see the old one or the new one.

    It is on the disk when this returns. Raises OSError.
    """
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a link below `folder` names a file elsewhere: whoever writes links there could have
    us show them any file that we may read. The folder itself may be a link.
    """
    return path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())


class OwnerLock:
    """One owner a directory, from construction to `release`; the kernel releases a dead owner's.

    `path` is the lock file in the directory, which is created. Raises `BusyError` when another
    live holder (also one in this process) still has it after `patience` seconds, `InputError` when
    the directory cannot be written.
    """

    def __init__(self, path: Path, *, patience: float = 0.0) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{path.parent} cannot be used: {error.strerror}") from None
        if not self._take(patience):
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip()
            self.release()
            who = f"process {holder}" if holder else "another process"
            raise BusyError(
                f"{path.parent} is in use by {who}; wait for it, stop it, or give another --data"
            )
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def _take(self, patience: float) -> bool:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(0.05)  # the kernel cannot wait for a lock and watch a clock
            else:
                return True

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
