"""Apache Kafka as a child of a benchmark: one node, broker and controller, from a folder of jars.

Several workers can share its topics, which the embedded broker cannot have.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from infra.stack.broker import free_port
from infra.stack.children import Child
from schemas.errors import BrokerError

#: Names the folder of Apache Kafka's jars: `libs` of its distribution.
JARS = "ZEROSTOCK_BENCH_KAFKA"

_CLUSTER_ID = "emVyb3N0b2NrLWJlbmNoMA"


def node_properties(data: Path, port: int, controller_port: int) -> dict[str, str]:
    """server.properties of a node that is broker and controller, on loopback, for one machine."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "log.dirs": str(data),
        # One node cannot keep three copies.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.min.session.timeout.ms": "1000",
        "message.max.bytes": str(16 * 1024 * 1024),
    }


class Kafka(Child):
    """A node whose data live in `folder`. Raises `BrokerError` where there is none to start."""

    def __init__(self, folder: Path) -> None:
        jars = os.environ.get(JARS)
        if not jars:
            raise BrokerError(f"{JARS} does not name a folder with Apache Kafka's jars")
        self.port, controller = free_port(), free_port()
        self._config = folder / "kafka.properties"
        properties = node_properties(folder / "kafka", self.port, controller) | {
            # Workers that start together get their partitions together.
            "group.initial.rebalance.delay.ms": "5000",
        }
        self._config.write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
        self._java = ["java", "-Xmx1g", "-cp", f"{jars}/*"]
        argv = [*self._java, "kafka.Kafka", str(self._config)]
        super().__init__("kafka", argv, folder / "kafka.log")

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Format the storage, start, and wait until it listens."""
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(self._config)]
        formatted = subprocess.run([*self._java, *tool], check=False, capture_output=True)
        if formatted.returncode != 0:
            raise BrokerError(f"Kafka's storage cannot be made: {formatted.stderr.decode()[-300:]}")
        super().start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.ended is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise BrokerError(f"Kafka did not start: {self.last_words()}")
