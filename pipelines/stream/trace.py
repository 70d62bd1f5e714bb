"""A stock-out's way through the log, at level INFO: opened, notified, closed, in the warehouse.

Each line carries the ids as fields, so that one search finds the whole way. Nothing is done at
higher levels.
"""

from __future__ import annotations

import logging

import pyarrow as pa

from pipelines.core.effects import Effect

log = logging.getLogger(__name__)


def traced(effects: list[Effect]) -> list[Effect]:
    """Log the stock-outs and messages among effects; returns them."""
    if log.isEnabledFor(logging.INFO):
        for effect in effects:
            if effect.rows is not None:
                _follow(effect.header.kind, effect.rows, "")
    return effects


def written(kind: str, rows: pa.RecordBatch) -> None:
    """Log the stock-outs and messages that are in the warehouse now."""
    if log.isEnabledFor(logging.INFO):
        _follow(kind, rows, ", in the warehouse")


def _follow(kind: str, rows: pa.RecordBatch, where: str) -> None:
    if kind == "incidents":
        for row in rows.to_pylist():
            what = "opened" if row["closed_at"] is None else "closed"
            if row["withdrawn"]:
                what = "withdrawn"
            log.info(
                "stock-out %s%s",
                what,
                where,
                extra={key: row[key] for key in ("incident_id", "wholesaler_id")},
            )
    elif kind == "messages":
        for row in rows.to_pylist():
            for incident_id in row["incident_ids"]:
                ids = {key: row[key] for key in ("message_id", "wholesaler_id")}
                log.info(
                    "message %s%s", row["status"], where, extra=ids | {"incident_id": incident_id}
                )
