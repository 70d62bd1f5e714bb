"""Loopback ports that stay ours while a service is down.

Asking the kernel for port 0 and closing it again invites a race: while a killed broker is down, any
outgoing connection may be given its port. So ports are drawn from below the range that the kernel
hands out by itself, and a lock file keeps other test processes off for as long as this one lives.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

_LOWEST: Final = 18_000
_held: dict[int, int] = {}


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def _lock(port: int) -> int | None:
    folder = Path(tempfile.gettempdir()) / f"zerostock-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection that lingers in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A free loopback port, kept from other test processes until this one ends or releases it."""
    draw = random.Random(os.urandom(8))
    for _ in range(1_000):
        port = draw.randrange(_LOWEST, max(_ephemeral_start(), _LOWEST + 1_000))
        if port in _held:
            continue
        handle = _lock(port)
        if handle is None:
            continue
        if _is_free(port):
            _held[port] = handle
            return port
        os.close(handle)
    raise OSError("no free loopback port was found in 1,000 draws")


def release(port: int) -> None:
    """Let other test processes have the port again."""
    handle = _held.pop(port, None)
    if handle is not None:
        os.close(handle)
