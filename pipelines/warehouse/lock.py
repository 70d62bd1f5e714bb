"""One owner a data directory: an advisory lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from schemas.errors import BusyError, InputError


class OwnerLock:
    """Held from construction to `release`.

    Raises `BusyError` when another live holder (also one in this process) still has it after
    `patience` seconds, `InputError` when the directory cannot be written.
    """

    def __init__(self, path: Path, *, patience: float = 0.0) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"cannot use {path.parent}: {error.strerror}") from None
        if not self._take(patience):
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip()
            self.release()
            who = f"process {holder}" if holder else "another process"
            raise BusyError(f"{path.parent} is in use by {who}; wait for it or stop it")
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
        """Let others have it; twice does no harm."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
