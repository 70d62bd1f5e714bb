"""Starting a service for the length of a fixture or a with-statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from services.child import Child
from services.need import ServiceMissing, missing


class Service(Protocol):
    """What all services can do."""

    name: str

    @property
    def child(self) -> Child:
        """The running (or last) process."""
        ...

    def start(self) -> None:
        """Start, and wait until it serves."""
        ...

    def stop(self) -> None:
        """Shut down in good order."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def close(self) -> None:
        """End it at once, if it runs."""
        ...


S = TypeVar("S", bound=Service)


@contextmanager
def running(make: Callable[[], S]) -> Iterator[S]:
    """The service that `make` makes, started; ended whatever happens.

    Skips the test that asks for it, or fails it where services are required, when it cannot be had.
    """
    try:
        service = make()
    except ServiceMissing as error:
        missing(error)
    try:
        service.start()
        yield service
    finally:
        service.close()
