"""The embedded broker (Tansu, a Kafka-protocol broker in memory) with KafkaServer's interface."""

from __future__ import annotations

from pathlib import Path

from infra.stack.broker import BROKER_ENV, broker_command
from schemas.errors import BrokerError
from services.child import Child
from services.need import ServiceMissing
from services.ports import free_port
from services.waiting import accepts_connections, wait_until


class EmbeddedBroker:
    """A Tansu broker; its topics, groups and offsets live in memory and die with it."""

    name = "embedded broker"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        try:
            self._command = broker_command(self._port)
        except BrokerError as error:
            raise ServiceMissing(str(error)) from None
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """host:port of the listener."""
        return f"127.0.0.1:{self._port}"

    @property
    def child(self) -> Child:
        """The running (or last) process."""
        assert self._child is not None, "never started"
        return self._child

    def start(self) -> None:
        """Start empty, and wait until it serves clients."""
        assert self._child is None or not self._child.running, "already running"
        self._child = Child(self._command, log=self._folder / "broker.log", env=BROKER_ENV)

        def serves() -> bool:
            assert self.child.running, f"the embedded broker ended:{self.child.tail()}"
            return accepts_connections(self._port)

        wait_until(serves, "the embedded broker's listener")

    def stop(self) -> None:
        """SIGTERM."""
        self.child.stop(10)

    def kill(self) -> None:
        """SIGKILL; everything it held is gone."""
        self.child.kill()

    def close(self) -> None:
        """End it at once, if it runs."""
        if self._child is not None:
            self._child.kill()
