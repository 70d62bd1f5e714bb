"""The one way in which a worker ends when it cannot go on: at once, with a word in its log.

Whoever supervises it starts it again, and it goes on from its last commit. To end is always safe
here; to go on with a broken part is not.
"""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger(__name__)


def die(reason: str) -> None:
    """End the process at once, leaving everything since the last commit to be done again."""
    error = sys.exc_info()[1]
    why = f" ({type(error).__name__}: {error})" if error is not None else ""
    log.critical("%s%s; this worker ends and starts again", reason, why, exc_info=error)
    logging.shutdown()
    os._exit(1)
