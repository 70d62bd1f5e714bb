"""One live process a data directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import BusyError, InputError


@contextmanager
def owned(data: Path) -> Iterator[None]:
    """Hold the directory, creating it; the kernel lets go of it however this process ends.

    Raises `BusyError` naming the owner if another process holds it.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "run.lock").open("a+")
    except OSError as error:
        raise InputError(f"--data {data} cannot be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise BusyError(
                f"{data} is in use by another zerostock run (process {owner}):"
                " wait for it, stop it, or give another --data"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
