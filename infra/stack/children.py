"""Child processes that never outlive their parent.

The kernel ties them to the *thread* that starts them: start them from the main thread, or from one
that outlives them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def bound_to_parent(argv: Sequence[str]) -> list[str]:
    """`argv` so that the kernel kills it when the thread that starts it is gone (Linux).

    setpriv (util-linux) asks the kernel and execs, so no Python runs between fork and exec, which
    would be unsafe beside the threads of chdb, Arrow and gRPC. Without it: `argv` as it is.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else list(argv)


class Child:
    """A process whose output goes to a log file, or to a pipe for whoever shows it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        show: bool = False,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.env = {**os.environ, **(env or {})}
        self.show = show
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, in a group of its own so that a terminal's Ctrl-C reaches only the parent."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                bound_to_parent(self.argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.show else log,
                stderr=log,
                env=self.env,
                text=True,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """The exit code, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def terminate(self) -> None:
        """Tell it to stop, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, patience: float = 10) -> None:
        """Wait until it has stopped, and kill it after `patience` seconds."""
        if self.process is None:
            return
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self, patience: float = 10) -> None:
        """SIGTERM, and SIGKILL after `patience` seconds."""
        self.terminate()
        self.wait(patience)

    def last_words(self) -> str:
        """The last line of its log, for an error message."""
        lines = (
            self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        )
        return lines[-1] if lines else "its log is empty"
