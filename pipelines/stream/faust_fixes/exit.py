"""How a worker ends when it cannot go on, or cannot stop: at once, with a line in its log.

Whoever supervises it starts it again, and it goes on from its last commit. To end is always safe
here; to go on with a broken part is not.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from mode import Worker

from schemas.errors import LostState, NewerVersion, SettingsError

log = logging.getLogger(__name__)

#: Seconds a worker may take to stop; containers are killed after ten.
STOP_WITHIN = 8.0


def die(reason: str) -> None:
    """End the process at once, leaving everything since the last commit to be done again."""
    error = sys.exc_info()[1]
    why = f" ({type(error).__name__}: {error})" if error is not None else ""
    # By somebody: to start again does not help.
    corrected = isinstance(error, SettingsError | NewerVersion | LostState)
    log.critical(
        "%s%s; this worker ends and starts again",
        reason,
        why,
        exc_info=None if corrected else error,
    )
    logging.shutdown()
    if corrected:  # the last line of the log, as of any command
        print(f"zerostock: {error}", file=sys.stderr, flush=True)
    os._exit(1)


class EndingWorker(Worker):  # type: ignore[misc]  # mode ships no types
    """A process that ends in time once it was told to stop, or failed.

    It may wait for a warehouse that is down, or for Faust, which never stops when the signal comes
    while it still starts, nor always when a broker was not there for its start. What is not
    committed by then is done again, as after any other death.
    """

    _last: threading.Timer | None = None

    def _schedule_shutdown(self, number: signal.Signals) -> None:
        self._be_gone("told to stop")
        super()._schedule_shutdown(number)

    def on_worker_shutdown(self) -> None:
        """Called before all that it runs is stopped, however it came to that."""
        self._be_gone("about to end")

    def _be_gone(self, why: str) -> None:
        if self._last is not None:  # the time runs, and is told, from the first reason on
            return
        reason = f"{why}, and still here after {STOP_WITHIN:.0f} s"
        self._last = threading.Timer(STOP_WITHIN, die, [reason])
        self._last.daemon = True
        self._last.start()
        # Should not even Python run any more: an embedded engine has threads of its own.
        signal.alarm(int(STOP_WITHIN) + 1)

    def _shutdown_loop(self) -> None:
        """Called when all has stopped and is committed.

        The process ends here and now: mode would wait a second for tasks that wait for nothing, and
        when the interpreter is taken down, threads of an embedded engine crash or hang.
        """
        if self.crash_reason is not None or sys.exc_info()[1] is not None:
            super()._shutdown_loop()  # whatever it was is raised, and the exit code says so
            return
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
