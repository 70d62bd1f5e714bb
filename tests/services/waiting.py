"""Waiting on conditions, with a deadline and a reason; the only place in the tests that sleeps."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitedTooLong(AssertionError):
    """A condition did not come true in time."""


def wait_until(
    condition: Callable[[], T],
    what: str,
    *,
    timeout: float = 60.0,
    every: float = 0.02,
    detail: Callable[[], str] = str,
) -> T:
    """The first true value of `condition`, asked again every `every` seconds.

    Raises `WaitedTooLong` after `timeout` seconds with `what` was waited for and `detail()`.
    Whatever `condition` raises ends the wait.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise WaitedTooLong(f"waited {timeout:g} s in vain for {what} {detail()}".rstrip())
        time.sleep(every)


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
