"""A child process that dies with the test process, even when that one is killed with SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.stack.children import bound_to_parent
from services.waiting import wait_until


class Child:
    """A running program whose output goes to `log` (appended).

    The kernel's death signal is tied to the *thread* that starts the child, so start children from
    the main thread or from one that outlives them.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                bound_to_parent(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env} if env is not None else None,
                cwd=cwd,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def output(self) -> str:
        """What this start has written so far."""
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """The last lines written, for a message about a failure."""
        return "\n" + "\n".join(self.output().splitlines()[-lines:])

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the end; the exit status. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def wait_for(self, text: str, *, timeout: float = 60.0) -> None:
        """Wait until this start's output has `text`; fails at once when the child ends first."""

        def seen() -> bool:
            if text in self.output():
                return True
            if not self.running:
                raise ChildDied(f"{self.argv[0]} ended with {self.returncode}:{self.tail()}")
            return False

        wait_until(seen, f"{text!r} from {self.argv[0]}", timeout=timeout, detail=self.tail)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            self._process.send_signal(number)

    def suspend(self) -> None:
        """Stop the process's clock (SIGSTOP): it hangs, with its connections open."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process go on."""
        self.send(signal.SIGCONT)

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and SIGKILL when that is not heard in time; the exit status."""
        self.send(signal.SIGTERM)
        self.resume()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, and wait for the end; the exit status."""
        self.send(signal.SIGKILL)
        return self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


class ChildDied(AssertionError):
    """A child ended that should be running."""
