"""One owner a data directory: an advisory lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from schemas.errors import BusyError, InputError


class OwnerLock:
    """Held from construction to `release`.

    Raises `BusyError` when another live holder has it (also one in this process), `InputError`
    when the directory cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"cannot use {path.parent}: {error.strerror}") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._handle, 32, 0).decode(errors="replace").strip()
            os.close(self._handle)
            who = f"process {holder}" if holder else "another process"
            raise BusyError(f"{path.parent} is in use by {who}; wait for it or stop it") from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it; twice does no harm."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
