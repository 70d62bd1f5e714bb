"""The log of a worker: one line a record, with the ids it is about, and nobody's number in it.

    2026-03-02T08:15:30.123Z WARNING alerts.delivery message 6f… is not through message_id=6f…

A record's `extra` fields that are ids follow the text as key=value. What looks like a phone number
or an IMSI is masked whoever wrote it; code that knows better masks earlier (`alerts.phones`).
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Final

#: Fields of `extra` that are shown, in this order.
IDS: Final = ("event_id", "incident_id", "message_id", "wholesaler_id", "source")

_OURS: Final = ("alerts", "infra", "pipelines")

#: E.164 numbers, and runs of exactly 15 digits, which are IMSIs.
_PERSONAL = re.compile(r"\+\d{8,15}(?!\d)|(?<!\d)\d{15}(?!\d)")


def mask(text: str) -> str:
    """The text with phone numbers and IMSIs shortened to their first 5 and last 2 characters."""
    return _PERSONAL.sub(lambda found: f"{found[0][:5]}***{found[0][-2:]}", text)


class OneLine(logging.Formatter):
    """Time, level, logger, text, ids; tracebacks on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        text = record.getMessage()
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info)
        if record.stack_info:
            text += " | " + record.stack_info
        ids = [f"{name}={value}" for name in IDS if (value := getattr(record, name, None))]
        moment = datetime.fromtimestamp(record.created, UTC)
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1_000:03}Z"
        line = " ".join([stamp, record.levelname, record.name, text, *ids])
        return mask(" ; ".join(part.strip() for part in line.splitlines() if part.strip()))


def start_logging(level: str) -> None:
    """Send records to stderr in this form: ours of a level and above, others' from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
