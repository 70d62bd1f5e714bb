"""All metrics of the stream: their names, what they mean, and the counting.

Counting is done by envelope, never by row. Work done again after a crash is counted again: metrics
are for watching, tables are for counting. Serving them is `infra.health`'s.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipelines.core.effects import Effect
from pipelines.core.stock.sim_registry import Int64s, SimRegistry
from pipelines.core.stock.sim_stage import SimStage
from pipelines.core.watchdog import without_watchdog
from schemas.alert_events import KINDS as ALERT_EVENT_KINDS
from schemas.envelope import Header

if TYPE_CHECKING:
    from pipelines.stream.watchdog import WatchdogWatch

REGISTRY: Final = CollectorRegistry()

EVENTS_IN: Final = Counter(
    "zerostock_events_in_total", "Rows of sim-events taken.", ["kind"], registry=REGISTRY
)
CANDIDATES: Final = Counter(
    "zerostock_candidates_total", "Calls that may be a SIM's first use.", registry=REGISTRY
)
UNKNOWN_SIMS: Final = Counter(
    "zerostock_unknown_sim_uses_total",
    "Calls and activations of SIMs that the worker's tables do not have.",
    registry=REGISTRY,
)
MOVEMENTS: Final = Counter(
    "zerostock_movements_total", "SIMs that came to a shelf or left it.", registry=REGISTRY
)
RESTATED: Final = Counter(
    "zerostock_restated_rows_total",
    "Movements that late events put into a past already decided.",
    registry=REGISTRY,
)
INCIDENTS: Final = Counter(
    "zerostock_incidents_total",
    "Stock-outs opened, closed, restated and withdrawn.",
    ["change"],
    registry=REGISTRY,
)
UNASSIGNED: Final = Counter(
    "zerostock_incidents_unassigned_total",
    "Stock-outs at outlets that no wholesaler holds.",
    registry=REGISTRY,
)
SMS: Final = Counter(
    "zerostock_sms_messages_total", "Messages by outcome.", ["status"], registry=REGISTRY
)
SMS_SEGMENTS: Final = Counter(
    "zerostock_sms_segments_total", "What sent messages cost, in segments.", registry=REGISTRY
)
SMS_ROUTE_FAILING: Final = Gauge(
    "zerostock_sms_route_failing",
    "1 while number after number fails by a route; others are tried instead",
    ["route"],
    registry=REGISTRY,
)
#: By `state`: blocked (never written to) or unreachable (still tried); alerts workers only.
SMS_NUMBERS: Final = Gauge(
    "zerostock_sms_numbers", "Phone numbers that take no messages.", ["state"], registry=REGISTRY
)
ALERT_EVENTS: Final = Counter(
    "zerostock_alert_events_total",
    "Decisions and answers about stock-outs.",
    ["kind"],
    registry=REGISTRY,
)
POLICY_REFUSED: Final = Gauge(
    "zerostock_policy_refused",
    "1 while the policy file cannot be used and the old one holds.",
    registry=REGISTRY,
)
WATCHDOG_AGE: Final = Gauge(
    "zerostock_watchdog_age_seconds",
    "How old the newest of the watchdog's stock-outs is that came through; alerts workers only.",
    registry=REGISTRY,
)
DEAD_LETTERS: Final = Counter(
    "zerostock_dead_letters_total", "Input refused.", ["reason"], registry=REGISTRY
)
ROWS_WRITTEN: Final = Counter(
    "zerostock_rows_written_total", "Rows in the warehouse.", ["kind"], registry=REGISTRY
)
LOST: Final = Counter(
    "zerostock_messages_lost_total",
    "Messages that Kafka had deleted before they were read.",
    ["topic"],
    registry=REGISTRY,
)
INSERT_RETRIES: Final = Counter(
    "zerostock_insert_retries_total",
    "Further tries at a warehouse that is down.",
    ["table"],
    registry=REGISTRY,
)

INTAKE_EVENTS: Final = Counter(
    "zerostock_intake_events_total", "Events that came by HTTP.", ["outcome"], registry=REGISTRY
)
INTAKE_PUT_OFF: Final = Counter(
    "zerostock_intake_put_off_total",
    "Requests that were told to come again: what takes events is down or too slow.",
    registry=REGISTRY,
)

_LATENCIES: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3_600, 86_400)

EVENT_TO_WRITTEN: Final = Histogram(
    "zerostock_event_to_written_seconds",
    "From an envelope's newest event to the warehouse.",
    ["kind"],
    buckets=_LATENCIES,
    registry=REGISTRY,
)
BROKER_TO_WRITTEN: Final = Histogram(
    "zerostock_broker_to_written_seconds",
    "From an envelope's arrival on its topic to the warehouse.",
    ["kind"],
    buckets=_LATENCIES,
    registry=REGISTRY,
)

# Gauges: measured when somebody asks, by `infra.health`.

#: How far the watermark of a source (label `source`) that has not ended is behind the wall clock.
WATERMARK_DELAY: Final = "zerostock_watermark_delay_seconds"
#: How far the watermark acted on is behind the wall clock; `source` is the one that holds it back.
WATERMARK_AGE: Final = "zerostock_watermark_age_seconds"
#: 1 for each `source` that nobody can read at present, so that it is not waited for.
SOURCE_ABSENT: Final = "zerostock_source_absent"
#: Messages of a `topic` and `partition` that are not yet committed.
CONSUMER_LAG: Final = "zerostock_consumer_lag_messages"
#: 1 while /healthz fails.
STALLED: Final = "zerostock_worker_stalled"

#: What watches the watchdog's stock-outs in this process.
watchdogs: WeakSet[WatchdogWatch] = WeakSet()

#: The SIM stages of this process that are alive.
sim_stages: WeakSet[SimStage] = WeakSet()


class CountedSimRegistry(SimRegistry):
    """A registry that counts what it lets through, and what it does not know."""

    def slots(self, imsis: Int64s) -> Int64s:
        """See `SimRegistry`."""
        found = super().slots(imsis)
        UNKNOWN_SIMS.inc(len(found) - int(np.count_nonzero(found)))
        return found

    def candidates(self, imsis: Int64s, at: Int64s) -> Int64s:
        """See `SimRegistry`."""
        found = super().candidates(imsis, at)
        CANDIDATES.inc(len(found))
        return found


class CountedSimStage(SimStage):
    """A SIM stage that counts what it takes."""

    def process(self, header: Header, rows: pa.RecordBatch | None) -> None:
        """See `SimStage`."""
        if rows is not None:
            EVENTS_IN.labels(header.kind).inc(rows.num_rows)
        super().process(header, rows)


def count_effects(effects: list[Effect]) -> list[Effect]:
    """Count the rows of effects; returns them."""
    for effect in effects:
        if effect.rows is None:
            continue
        if effect.header.kind == "movements":
            MOVEMENTS.inc(effect.rows.num_rows)
            late = pc.greater(effect.rows["known_at"], effect.rows["at"])
            RESTATED.inc(pc.sum(late).as_py() or 0)
        elif effect.header.kind == "incidents":
            _count_incidents(without_watchdog(effect.rows))
        elif effect.header.kind == "messages":
            for status in effect.rows["status"].to_pylist():
                SMS.labels(status).inc()
            sent = pc.equal(effect.rows["status"], "sent")
            SMS_SEGMENTS.inc(pc.sum(effect.rows.filter(sent)["segments"]).as_py() or 0)
        elif effect.header.kind == "alert_events":
            for kind in effect.rows["kind"].to_pylist():
                ALERT_EVENTS.labels(_known_kind(kind)).inc()
    return effects


def _known_kind(kind: str) -> str:
    """Foreign programs may answer anything; labels must stay few."""
    return kind if kind in ALERT_EVENT_KINDS else "other"


def _count_incidents(rows: pa.RecordBatch) -> None:
    late = pc.fill_null(pc.equal(rows["restated_at"], rows["at"]), False)
    restated = rows.filter(late)
    withdrawn = pc.sum(restated["withdrawn"]).as_py() or 0
    INCIDENTS.labels("withdrawn").inc(withdrawn)
    INCIDENTS.labels("restated").inc(restated.num_rows - withdrawn)
    rows = rows.filter(pc.invert(late))
    opened = rows.filter(pc.is_null(rows["closed_at"]))
    INCIDENTS.labels("opened").inc(opened.num_rows)
    INCIDENTS.labels("closed").inc(rows.num_rows - opened.num_rows)
    UNASSIGNED.inc(opened["wholesaler_id"].to_pylist().count(""))


#: Which column says when a row's event was.
_EVENT_TIME: Final = {
    **{"levels": "as_of", "messages": "created_at", "dead_letters": "received_at"},
    **{"cases": "version", "case_steps": "version"},
}


def count_written(kind: str, rows: pa.RecordBatch, on_topic_at: float) -> None:
    """Count an envelope whose rows are in the warehouse now; `on_topic_at` in s since 1970."""
    now = time.time()
    ROWS_WRITTEN.labels(kind).inc(rows.num_rows)
    BROKER_TO_WRITTEN.labels(kind).observe(max(now - on_topic_at, 0))
    newest = pc.max(rows[_EVENT_TIME.get(kind, "at")]).as_py()
    if newest is not None:
        EVENT_TO_WRITTEN.labels(kind).observe(max(now - newest / 1_000, 0))
    if kind == "dead_letters":
        for reason in filter(None, rows["reason"].to_pylist()):  # one without is taken back
            DEAD_LETTERS.labels(reason.split(":", 1)[0]).inc()
