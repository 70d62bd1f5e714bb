"""Apache Kafka 4: one KRaft node, broker and controller in one JVM, for the tests.

The jars are named by pom.xml beside this file and fetched by Maven into the user's cache, once;
`python -m services.kafka` (run in tests/) fetches them ahead of time, and leaves an archive of
Kafka's classes beside them, with which each node starts with two thirds of the work.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from infra.bench.common.kafka import node_properties
from services.certificates import Certificates, make_certificates
from services.child import Child
from services.need import ServiceMissing
from services.ports import free_port
from services.waiting import accepts_connections, wait_until

_POM: Final = Path(__file__).with_name("pom.xml")
_CLUSTER_ID: Final = "emVyb3N0b2NrLXRlc3RzMA"
_MAVEN_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

#: Who may log in to the SASL_SSL listener, by PLAIN or SCRAM-SHA-512.
SASL_USER: Final = "zerostock"
SASL_PASSWORD: Final = "only-for-tests"

_LOG4J: Final = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "[%d] %p %m (%c)%n"}
  Loggers:
    Root: {level: INFO, AppenderRef: {ref: out}}
"""


def kafka_version() -> str:
    """The version of Kafka that pom.xml names."""
    found = re.search(r"<kafka\.version>([^<]+)<", _POM.read_text())
    assert found, f"{_POM} names no kafka.version"
    return found[1]


def cache_folder() -> Path:
    """Where fetched jars are kept: outside the work tree, shared by all clones of a user."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "zerostock" / f"kafka-{kafka_version()}"


def kafka_jars() -> Path:
    """The folder of Kafka's jars, fetched if need be.

    Raises `ServiceMissing` without a Java runtime, or without the jars and a way to fetch them.
    """
    if shutil.which("java") is None:
        raise ServiceMissing("Apache Kafka needs Java 17 or newer (apt-get install default-jre)")
    folder = cache_folder()
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise ServiceMissing(
            "Apache Kafka's jars are not cached and Maven is missing (apt-get install maven)"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as work:
        pom = Path(work) / "pom.xml"
        shutil.copy(_POM, pom)
        jars = Path(work) / "jars"
        fetched = subprocess.run(
            ["mvn", "-B", "-q", "-f", pom, _MAVEN_COPY, f"-DoutputDirectory={jars}",
             "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip
        if fetched.returncode != 0:
            raise ServiceMissing(f"Maven could not fetch Apache Kafka: {fetched.stdout[-1000:]}")
        try:
            jars.rename(folder)  # whole or not at all, whoever else fetches at the same time
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def class_archive() -> Path:
    """Where the JVM may find Kafka's classes loaded; made by `make_class_archive`."""
    return cache_folder().with_name(f"{cache_folder().name}.jsa")


def make_class_archive() -> None:
    """Start and stop a node once, so that its JVM leaves the classes that it loaded."""
    with tempfile.TemporaryDirectory(dir=cache_folder().parent, prefix="archiving-") as work:
        archive = Path(work) / "classes.jsa"
        server = KafkaServer(Path(work) / "node", jvm=[f"-XX:ArchiveClassesAtExit={archive}"])
        server.start()
        server.stop()
        if archive.exists():
            archive.rename(class_archive())


#: What formatting leaves in a node's data folder, plain and secure: the same for every node.
_FORMATTED: Final[dict[bool, dict[str, bytes]]] = {}


class KafkaServer:
    """A Kafka 4 node in `folder`; `start()` returns when it serves.

    `kill()` and `start()` again come back on the same ports with the same data. With `secure`,
    `secure_bootstrap` is a SASL_SSL listener (PLAIN and SCRAM-SHA-512) for SASL_USER, whose
    certificate `certificates.authority` signed. `settings` go into server.properties.
    """

    name = "Apache Kafka"

    def __init__(
        self,
        folder: Path,
        *,
        heap_mb: int = 384,
        secure: bool = False,
        settings: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
    ) -> None:
        self._jars = kafka_jars()
        if not jvm and class_archive().exists():
            jvm = [f"-XX:SharedArchiveFile={class_archive()}"]
        self._jvm = list(jvm)
        self._folder = folder
        self._heap_mb = heap_mb
        self._port, self._controller_port = free_port(), free_port()
        self._secure_port = free_port() if secure else None
        self._settings = dict(settings or {})
        self._child: Child | None = None
        self._starts = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.certificates: Certificates | None = (
            make_certificates(folder / "certificates") if secure else None
        )

    @property
    def bootstrap(self) -> str:
        """host:port of the plain listener."""
        return f"127.0.0.1:{self._port}"

    @property
    def secure_bootstrap(self) -> str:
        """host:port of the SASL_SSL listener; the certificate names localhost and 127.0.0.1."""
        assert self._secure_port is not None, "this server was made without secure=True"
        return f"localhost:{self._secure_port}"

    @property
    def log(self) -> Path:
        """The log of the latest start."""
        return self._folder / f"server-{self._starts}.log"

    @property
    def child(self) -> Child:
        """The running (or last) JVM."""
        assert self._child is not None, "never started"
        return self._child

    def _properties(self) -> dict[str, str]:
        listeners = {
            "PLAINTEXT": f"PLAINTEXT://127.0.0.1:{self._port}",
            "CONTROLLER": f"CONTROLLER://127.0.0.1:{self._controller_port}",
        }
        properties = node_properties(self._folder / "data", self._port, self._controller_port) | {
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"
            ),
            # Topics are declared on purpose, or a typing error becomes a topic.
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # A killed node is registered until its session ends and may not come back before.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "400",
        }
        if self.certificates is not None:
            listeners["SECURE"] = f"SECURE://localhost:{self._secure_port}"
            keystore = self._folder / "keystore.pem"
            keystore.touch(mode=0o600)
            keystore.write_text(self.certificates.keystore)
            plain = (
                "org.apache.kafka.common.security.plain.PlainLoginModule required"
                f' user_{SASL_USER}="{SASL_PASSWORD}";'
            )
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            properties |= {
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
                "listener.name.secure.plain.sasl.jaas.config": plain,
                "listener.name.secure.scram-sha-512.sasl.jaas.config": scram,
                "listener.name.secure.ssl.keystore.type": "PEM",
                "listener.name.secure.ssl.keystore.location": str(keystore),
            }
        properties["listeners"] = ",".join(listeners.values())
        properties["advertised.listeners"] = ",".join(
            address for name, address in listeners.items() if name != "CONTROLLER"
        )
        return properties | self._settings

    def _java(self, *arguments: str) -> list[str]:
        return [
            "java",
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            # Half the time to start; a test's traffic does not repay the second compiler.
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}",
            "-cp",
            f"{self._jars}/*",
            *arguments,
        ]

    def _format(self, config: Path) -> None:
        """Write what Kafka's own tool wrote the first time in this process."""
        secure, data = self.certificates is not None, self._folder / "data"
        if secure not in _FORMATTED:
            self._run_storage_tool(config)
            _FORMATTED[secure] = {f.name: f.read_bytes() for f in data.iterdir() if f.is_file()}
        data.mkdir(exist_ok=True)
        for name, content in _FORMATTED[secure].items():
            (data / name).write_bytes(content)

    def _run_storage_tool(self, config: Path) -> None:
        scram = (
            ["--add-scram", f"SCRAM-SHA-512=[name={SASL_USER},password={SASL_PASSWORD}]"]
            if self.certificates is not None
            else []
        )
        tool = Child(
            self._java(
                "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(config), *scram
            ),
            log=self._folder / "format.log",
        )
        if tool.wait(120) != 0:
            raise AssertionError(f"formatting Kafka's storage failed:{tool.tail()}")

    def start(self) -> None:
        """Start, on whatever data is there, and wait until the node serves clients."""
        assert self._child is None or not self._child.running, "already running"
        config = self._folder / "server.properties"
        (self._folder / "log4j2.yaml").write_text(_LOG4J)
        config.write_text("".join(f"{k}={v}\n" for k, v in self._properties().items()))
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(config)
        self._starts += 1
        self._child = Child(self._java(*self._jvm, "kafka.Kafka", str(config)), log=self.log)
        self._child.wait_for("Kafka Server started", timeout=120)
        ports = [port for port in (self._port, self._secure_port) if port is not None]
        wait_until(lambda: all(map(accepts_connections, ports)), "Kafka's listeners")

    def stop(self) -> None:
        """Shut down in good order (SIGTERM)."""
        self.child.stop(60)

    def kill(self) -> None:
        """SIGKILL: what was not yet flushed is in the page cache and survives."""
        self.child.kill()

    def restart(self) -> None:
        """Stop in good order and start again on the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it at once, if it runs; the data are about to go."""
        if self._child is not None:
            self._child.kill()


if __name__ == "__main__":
    print(kafka_jars())
    if not class_archive().exists():
        make_class_archive()
