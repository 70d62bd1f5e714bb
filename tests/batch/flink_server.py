"""Apache Flink: Beam's job server with a local Flink cluster in it, a child process.

The jars are named by flink-pom.xml beside this file and fetched by Maven into the user's cache,
once; `python tests/batch/flink_server.py` fetches them ahead of time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from services.child import Child
from services.need import ServiceMissing
from services.ports import free_port
from services.waiting import accepts_connections, wait_until

_POM: Final = Path(__file__).with_name("flink-pom.xml")
_MAVEN_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def flink_jars() -> Path:
    """The folder of the job server's jars, fetched if need be.

    Raises `ServiceMissing` without a Java runtime, or without the jars and a way to fetch them.
    """
    if shutil.which("java") is None:
        raise ServiceMissing("Apache Flink needs Java 11 or newer (apt-get install default-jre)")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    folder = Path(home) / "zerostock" / f"flink-{version}"
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise ServiceMissing(
            "Apache Flink's jars are not cached and Maven is missing (apt-get install maven)"
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
            raise ServiceMissing(f"Maven could not fetch Apache Flink: {fetched.stdout[-1000:]}")
        try:
            jars.rename(folder)  # whole or not at all, whoever else fetches at the same time
        except OSError:
            if not folder.is_dir():
                raise
    return folder


class FlinkServer:
    """A job server at `endpoint` with Flink inside it; `start()` returns when it takes jobs."""

    name = "Apache Flink"

    def __init__(self, folder: Path) -> None:
        self._jars = flink_jars()
        self._folder = folder
        self._port = free_port()
        self._child: Child | None = None

    @property
    def endpoint(self) -> str:
        """host:port for --job_endpoint."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it takes jobs."""
        self._child = child = Child(
            ["java", "-Xmx1g", "-cp", f"{self._jars}/*",
             "org.apache.beam.runners.flink.FlinkJobServerDriver", "--flink-master=[local]",
             "--job-host=127.0.0.1", f"--job-port={self._port}", "--artifact-port=0",
             "--expansion-port=0", f"--artifacts-dir={self._folder / 'artifacts'}"],
            log=self._folder / "flink.log",
        )  # fmt: skip

        def serves() -> bool:
            assert child.running, f"Flink's job server ended:{child.tail()}"
            return accepts_connections(self._port)

        wait_until(serves, "Flink's job server", timeout=120, detail=child.tail)

    def ran(self) -> str:
        """What it has written: which jobs ran, among others."""
        assert self._child is not None, "never started"
        return self._child.output()

    def close(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.kill()


if __name__ == "__main__":
    print(flink_jars())
