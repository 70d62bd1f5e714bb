"""A Faust application set up the way zerostock's guarantees need it."""

from __future__ import annotations

import os
import tempfile

import faust
from faust.sensors.base import SensorDelegate
from faust.types import SensorT
from mode.utils.queues import FlowControlEvent

from pipelines.kafka import compress_lightly
from pipelines.stream.faust_fixes.consumer import SteadyConsumer
from pipelines.stream.options import StreamOptions
from schemas import topics

#: Topics that carry rows, all cut into the same number of partitions.
TOPICS = (
    topics.SIM_EVENTS,
    topics.STOCK_MOVEMENTS,
    topics.STOCK_INCIDENTS,
    topics.STOCK_LEVELS,
    topics.SMS_MESSAGES,
    topics.ANOMALIES,
    topics.REGISTRATIONS,
    topics.CASE_EVENTS,
    topics.CASES,
    topics.CASE_STATES,
    topics.SERVICE_RECORDS,
    topics.DEAD_LETTERS,
)


def group_id(worker: str) -> str:
    """The consumer group of a worker, which is also its Faust application id."""
    return f"zerostock-{worker}"


class SteadyFlow(FlowControlEvent):  # type: ignore[misc]  # mode ships no types
    """Flow control whose `resume` keeps what agents have not read yet.

    Faust fetches from the sources again before its recovery calls `resume`, and the stock `resume`
    clears all queues: messages in them would be lost, for good if it was a single one. Revocation
    still clears explicitly.
    """

    def resume(self) -> None:
        """Let agents read on; nothing to do if they already may."""
        if not self.is_active():
            super().resume()


class NoSensors(SensorDelegate):  # type: ignore[misc]  # faust ships no types
    """Nobody asks for Faust's own measurements, which are a good part of a message's cost."""

    def add(self, sensor: SensorT) -> None:
        """Leave it out."""


def new_app(worker: str, options: StreamOptions) -> faust.App:
    """An application without web server, leader topic or hidden buffers."""
    compress_lightly()
    app = faust.App(
        group_id(worker),
        broker=f"kafka://{options.broker}",
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=options.partitions,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        # Faust makes a folder for tables on disk, which are not used here.
        datadir=f"{tempfile.gettempdir()}/zerostock-{os.getuid()}",
        # Envelopes are big: a long queue of them would be memory that no back-pressure bounds.
        stream_buffer_maxsize=64,
        consumer_max_fetch_size=4 * 1024 * 1024,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=options.commit_interval / 2_000,
        broker_session_timeout=options.session_timeout / 1_000,
        broker_rebalance_timeout=options.session_timeout / 1_000,
        broker_heartbeat_interval=options.session_timeout / 4_000,
        producer_acks=-1,
        producer_max_request_size=4 * 1024 * 1024,
        producer_max_batch_size=1024 * 1024,
        producer_compression_type="lz4",
        producer_linger=0.002,
        stream_recovery_delay=0.0,
        # A standby would load, and act on, partitions that are somebody else's.
        table_standby_replicas=0,
        # At a rebalance what is in hand is dropped and delivered again; waiting for it to be
        # acknowledged would wait for ever, because a stateful agent acknowledges in steps.
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
        **options.security,
    )
    app.flow_control = SteadyFlow(loop=None)
    app.sensors = NoSensors(app)
    app.transport.Consumer = SteadyConsumer
    return app


def hasten_fetches(app: faust.App, milliseconds: int = 20) -> None:
    """Shorten the broker's long poll, which Faust fixes at 1.5 s.

    There is one fetch in flight a broker: a partition that was still being read when it left would
    wait for its end before its next message arrives.
    """
    app.consumer._thread._consumer._fetcher._fetch_max_wait_ms = milliseconds
