"""`zerostock intake`: events by HTTP, onto a real Kafka or, within a run, into its directory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import uvicorn
from prometheus_client import start_http_server
from starlette.applications import Starlette

from infra.http_server import http_server, listen
from infra.intake.app import IntakeLimits, Take, intake_app
from infra.intake.folder import IntakeFolder
from infra.intake.tokens import FeederTokens
from infra.settings import Settings
from infra.topics import ensure_topics
from infra.wiring import kafka_security, reader_options
from pipelines.ingest import IngestOptions, ingest
from pipelines.ingest.check import believable
from pipelines.ingest.feeds.http import HttpFeed
from pipelines.stream import metrics
from schemas.errors import BrokerDown, BrokerError, SettingsError, UsageError

log = logging.getLogger(__name__)

#: Seconds between two tries to reach Kafka.
TRY_AGAIN: Final = 5.0

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def run_intake(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises `SettingsError` for what is missing or wrong."""
    if settings.reference is None:
        raise SettingsError("no reference tables: give --reference DIR or ZEROSTOCK_REFERENCE")
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.REGISTRY)
    asyncio.run(_serve_into_kafka(settings, settings.reference))


async def _serve_into_kafka(settings: Settings, reference: Path) -> None:
    tokens = FeederTokens(settings)
    feed = HttpFeed(lambda: tokens.feeders)
    app = _app(tokens, settings, feed.take, lambda: feed.ready)
    stop, ended = asyncio.Event(), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    reading = asyncio.create_task(_keep_reading(feed, settings, reference, ended))
    serving = asyncio.create_task(serve_intake(app, settings, stop))
    reading.add_done_callback(lambda _: stop.set())
    try:
        await serving
    finally:
        # The last answers are given: what they spoke of is safe.
        ended.set()
        await reading


async def _keep_reading(
    feed: HttpFeed, settings: Settings, reference: Path, stop: asyncio.Event
) -> None:
    """Bring to Kafka what the feed takes; a Kafka that is down is waited for."""
    security = kafka_security(settings)
    options = IngestOptions(
        **reader_options(settings) | {"live": settings.clock != "event"},
        follow=True,
        security=security,
    )
    reached = False
    while not stop.is_set():
        try:
            await ensure_topics(
                settings.broker, settings.partitions, settings.replication, security
            )
            reached = True
            await ingest(
                None,
                settings.broker,
                options=options,
                feeds=[feed],
                reference=reference,
                stop=stop,
            )
        except BrokerError as error:
            if not reached and not isinstance(error, BrokerDown):
                raise
            log.error("events are put off until Kafka is there: %s", error)  # noqa: TRY400
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TRY_AGAIN)


def _app(
    tokens: FeederTokens, settings: Settings, take: Take, ready: Callable[[], bool]
) -> Starlette:
    return intake_app(tokens, take, IntakeLimits(settings.intake_body, settings.intake_rate), ready)


class _Unsignalled(uvicorn.Server):
    """A server beside other work of the process, which hears the signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def serve_intake(app: Starlette, settings: Settings, stop: asyncio.Event) -> None:
    """Serve where the settings say, until `stop` is set and all requests are answered."""
    host, tls = settings.intake_host, _tls(settings)
    server = _Unsignalled(http_server(app, tls=tls).config)
    with listen(host, settings.intake_port) as listener:
        shown = f"{'https' if tls else 'http'}://{host}:{listener.getsockname()[1]}/v1/events"
        if tls is None and host not in _LOOPBACK:
            log.warning("tokens travel unencrypted: give --tls-cert and --tls-key, or a proxy")
        print(f"Events are taken at {shown} (Ctrl-C ends it).", flush=True)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        server.should_exit = True
        await serving


def _tls(settings: Settings) -> tuple[Path, Path] | None:
    if settings.intake_tls_cert is None and settings.intake_tls_key is None:
        return None
    if settings.intake_tls_cert is None or settings.intake_tls_key is None:
        raise SettingsError("TLS needs both: --tls-cert FILE and --tls-key FILE")
    return settings.intake_tls_cert, settings.intake_tls_key


class RunIntake:
    """What a run takes by HTTP into the directory that it follows; `address` is HOST:PORT.

    Raises `UsageError` for another address, `SettingsError` and `InputError` for what is missing.
    """

    def __init__(self, address: str, directory: Path, settings: Settings) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise UsageError(f"--intake {address}: give it as HOST:PORT, like 127.0.0.1:8086")
        self._settings = settings.model_copy(
            update={"intake_host": host.strip("[]"), "intake_port": int(port)}
        )
        tokens = FeederTokens(settings)
        self._folder = IntakeFolder(directory, lambda: believable(settings.live, settings.ahead))
        self._app = _app(tokens, self._settings, self._folder.take, lambda: True)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        try:
            await serve_intake(self._app, self._settings, stop)
        finally:
            self._folder.close()
