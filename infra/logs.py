"""The log of a worker: one line a record, with the ids it is about, and nobody's number in it.

    2026-03-02T08:15:30.123Z WARNING alerts.delivery.delivery message 6f… failed message_id=6f…

A record's `extra` fields that are ids follow the text as key=value. What looks like a phone number
or an IMSI is masked, whoever wrote it (`schemas.masking`).
Libraries that say the same again and again, as Kafka clients do while a broker is away, are heard
once a minute with the number of times.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Final

from schemas.masking import mask_text

#: Fields of `extra` that are shown, in this order.
IDS: Final = ("event_id", "incident_id", "message_id", "wholesaler_id", "source")

_OURS: Final = ("alerts", "infra", "pipelines")

#: Loggers heard from ERROR on: they warn of Faust's own pace, which lag and health tell better.
_PACE: Final = ("mode.timers", "faust.transport.producer", "faust.app.base")

#: Seconds within which a library is heard once on a thing.
_SELDOM: Final = 60.0

#: Things remembered at a time.
_REMEMBERED: Final = 1_000


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
        return mask_text(" ; ".join(part.strip() for part in line.splitlines() if part.strip()))


class Seldom(logging.Filter):
    """Holds back what a library said within the last minute already, numbers aside; counts it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record; ours and critical ones always."""
        if record.name.split(".")[0] in _OURS or record.levelno >= logging.CRITICAL:
            return True
        text = record.getMessage()
        key = (record.name, record.levelno, _NUMBERS.sub("", text))
        since, held = self._said.get(key, (-_SELDOM, 0))
        if record.created - since < _SELDOM:
            self._said[key] = since, held + 1
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[key] = record.created, 0
        if held:
            record.msg, record.args = f"{text} ({held:,} more like it before)", ()
        return True


_NUMBERS = re.compile(r"\d+")


def start_logging(level: str) -> None:
    """Send records to stderr in this form: ours of a level and above, others' from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    handler.addFilter(Seldom())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in _PACE:
        logging.getLogger(name).setLevel(logging.ERROR)
