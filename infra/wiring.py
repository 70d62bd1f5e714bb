"""The composition root: settings in, running parts out. Nothing else knows them all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import faust
import numpy as np
from tenacity import (
    before_sleep_log,
    retry,
    retry_if_exception_type,
    wait_random_exponential,
)

from alerts.answers.links import Links
from alerts.delivery.delivery import MessageDelivery
from alerts.delivery.dispatcher import Dispatcher
from alerts.delivery.log_receipts import LogReceipts, wholesaler_of
from alerts.delivery.outbox import Outbox
from alerts.delivery.ports import Link
from alerts.delivery.receipts import FileReceipts, Receipts
from alerts.delivery.refused_numbers import RefusedNumbers
from alerts.delivery.routes import Route, Routes
from alerts.lifecycle.stage import RECEIPTS, WholesalerStage, deliver
from alerts.message.directory import ReferenceDirectory
from alerts.message.fill_levels import FillLevelsFile
from alerts.message.texts import Texts
from alerts.policy.policy import Policy, parse_policy, read_policy
from alerts.policy.rules import AlertRules
from alerts.policy.unknown_ids import unknown_ids
from alerts.senders.opening import open_routes, open_sender
from alerts.senders.table import load_table
from infra.dead_letters.resolve import LOOK_EVERY, Resolver, resolved_note
from infra.health import watch
from infra.policy_watch import LivePolicy, watch_policy
from infra.settings import Settings
from infra.topics import ensure_topics
from pipelines.core.effects import Effect
from pipelines.core.watchdog import WATCHDOG
from pipelines.ingest.live_reference import LiveReference
from pipelines.stream import metrics, trace
from pipelines.stream.alerts_worker import alerts_app
from pipelines.stream.options import StreamOptions
from pipelines.stream.reference_watch import watch_reference
from pipelines.stream.stock_worker import stock_app
from pipelines.stream.warehouse_worker import WarehouseSink, warehouse_app
from pipelines.stream.watchdog import WatchdogWatch
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.loopback.server import LoopbackServer
from pipelines.warehouse.reference import replace_all
from schemas import topics
from schemas.answers import PolicyRecord, pack_policy
from schemas.errors import BrokerDown, SettingsError, WarehouseDown, ZerostockError
from schemas.reference import Reference

if TYPE_CHECKING:
    from alerts.delivery.channels import AppriseChannels
    from alerts.senders.twilio import TwilioOptions

log = logging.getLogger(__name__)


def kafka_security(settings: Settings, prefix: str = "kafka") -> dict[str, Any]:
    """What a Kafka client needs to be let in, as aiokafka's arguments.

    `prefix` begins the names of the settings: `kafka`, or `feed_kafka` for an outside cluster.
    """
    security, ca, username, password, mechanism = (
        getattr(settings, f"{prefix}_{name}")
        for name in ("security", "ca", "username", "password", "mechanism")
    )
    names = f"ZEROSTOCK_{prefix.upper()}"
    if security in (None, "PLAINTEXT"):
        return {}
    found: dict[str, Any] = {"security_protocol": security}
    if security.endswith("SSL"):
        from aiokafka.helpers import create_ssl_context

        authority = str(ca) if ca else None
        try:
            found["ssl_context"] = create_ssl_context(cafile=authority)
        except OSError as error:  # ssl.SSLError is one as well
            raise SettingsError(
                f"{names}_CA names {authority}, which cannot be used: {error.strerror}"
            ) from None
    if security.startswith("SASL"):
        if username is None or password is None:
            raise SettingsError(
                f"{names}_SECURITY asks for a login: set {names}_USERNAME and {names}_PASSWORD"
            )
        found["sasl_mechanism"] = mechanism
        found["sasl_plain_username"] = username
        found["sasl_plain_password"] = password.get_secret_value()
    return found


def stream_options(settings: Settings) -> StreamOptions:
    """What the workers are told."""
    return StreamOptions(
        broker=settings.broker,
        partitions=settings.partitions,
        clock=settings.clock or "wall",
        restate_within=settings.restate_within,
        commit_interval=settings.commit_interval,
        session_timeout=settings.session_timeout,
        stall_after=settings.stall_after,
        security=_faust_security(kafka_security(settings)),
    )


def reader_options(settings: Settings) -> dict[str, Any]:
    """What the reader is told of time, as arguments of `IngestOptions`."""
    return {
        "disorder_ms": settings.disorder,
        "idle_after_ms": settings.idle_after,
        "absent_after_ms": settings.absent_after,
        "ahead_ms": settings.ahead,
        "live": settings.live,
        "watchdog_ms": settings.watchdog,
    }


def _faust_security(security: Mapping[str, Any]) -> dict[str, Any]:
    if not security:
        return {}
    context = security.get("ssl_context")
    if "sasl_mechanism" not in security:
        return {"broker_credentials": faust.SSLCredentials(context=context)}
    return {
        "broker_credentials": faust.SASLCredentials(
            username=security["sasl_plain_username"],
            password=security["sasl_plain_password"],
            mechanism=security["sasl_mechanism"],
            ssl_context=context,
        )
    }


def reference_of(settings: Settings) -> Reference:
    """The reference tables that the settings name."""
    return live_reference(settings).tables


def live_reference(settings: Settings) -> LiveReference:
    """The reference tables that the settings name, as they are now."""
    if settings.reference is None:
        raise SettingsError("no reference tables: give --reference DIR or ZEROSTOCK_REFERENCE")
    return LiveReference(settings.reference)


def new_worker(name: str, settings: Settings) -> faust.App:
    """The Faust application of one worker, its topics created."""
    asyncio.run(_topics(settings))
    app = {"stock": _stock, "alerts": _alerts, "warehouse": _warehouse}[name](settings)
    if settings.metrics_port is not None:
        live = settings.clock != "event"
        where = settings.metrics_host, settings.metrics_port
        watch(app, name, *where, settings.stall_after, live=live)
    return app


@retry(
    retry=retry_if_exception_type(BrokerDown),
    wait=wait_random_exponential(max=10),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
async def _topics(settings: Settings) -> None:
    """See that the topics are there; a broker that is down is waited for."""
    await ensure_topics(
        settings.broker, settings.partitions, settings.replication, kafka_security(settings)
    )


def _stock(settings: Settings) -> faust.App:
    live = live_reference(settings)
    batches = live.tables.batches
    # Which SIMs are ours comes by the log, in order with what is said of them.
    registry = metrics.CountedSimRegistry()
    registry.reserve(
        np.array([int(batch.first_imsi) for batch in batches], np.int64),
        np.array([batch.count for batch in batches], np.int64),
    )
    blocks = np.unique(topics.block_of(live.tables.cards.imsis))
    registry.reserve(blocks * topics.SIM_BLOCK, np.ones(len(blocks), np.int64))
    app = stock_app(stream_options(settings), registry, live.holder, lambda: live.tables.service)
    watch_reference(app, live, lambda _: None)
    return app


def check_way_out(settings: Settings) -> None:
    """Raise `SettingsError` now, and not in a worker's log, if messages cannot be sent so."""
    if settings.texts is not None:
        Texts(settings.texts, signature=settings.sms_signature)
    if settings.routes is not None:
        load_table(settings.routes)
    elif settings.sms == "twilio" and _twilio(settings) is None:
        raise SettingsError(
            "--sms twilio needs ZEROSTOCK_TWILIO_ACCOUNT_SID and ZEROSTOCK_TWILIO_AUTH_TOKEN"
        )


def policy_of(settings: Settings) -> Policy | None:
    """The policy that the settings name.

    Raises `SettingsError` with the line that is wrong, or the channel that is not set up.
    """
    if settings.policy is None:
        return None
    return _checked_policy(settings, settings.policy, read_policy(settings.policy))


def _checked_policy(settings: Settings, path: Path, text: str) -> Policy:
    policy, channels = parse_policy(text, str(path)), channels_of(settings)
    known = channels.names if channels is not None else []
    if missing := sorted(set(policy.managers.values()).difference(known)):
        raise SettingsError(
            f"{path} names {', '.join(missing)} under [managers]:"
            " there is no such channel in ZEROSTOCK_CHANNELS"
        )
    return policy


def channels_of(settings: Settings) -> AppriseChannels | None:
    """The managers' channels, if there are any. Raises `SettingsError`."""
    if settings.channels is None:
        return None
    from alerts.delivery.channels import AppriseChannels

    return AppriseChannels(settings.channels.get_secret_value())


def _link(settings: Settings) -> Link | None:
    """What makes the links of the answer page, if there is one."""
    if settings.link_key is None or settings.webhook_url is None:
        return None
    key = settings.link_key.get_secret_value()
    return Links(key, settings.webhook_url, settings.link_lifetime).link


def _twilio(settings: Settings) -> TwilioOptions | None:
    if settings.twilio_account_sid is None or settings.twilio_auth_token is None:
        return None
    from alerts.senders.twilio import TwilioOptions

    return TwilioOptions(
        account_sid=settings.twilio_account_sid,
        auth_token=settings.twilio_auth_token.get_secret_value(),
        from_number=settings.twilio_from or "",
        messaging_service_sid=settings.twilio_messaging_service_sid or "",
        base_url=settings.twilio_base_url or "",
        validity_period=settings.twilio_validity // 1_000,
        webhook_url=settings.webhook_url or "",
    )


def sms_folder(settings: Settings) -> Path:
    """The folder of the record of messages, made if need be. Raises `SettingsError`."""
    if settings.data is None:
        raise SettingsError("the record of what was sent needs a directory: give --data DIR")
    folder = settings.data / "sms"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def local_receipts(settings: Settings) -> FileReceipts:
    """The receipts under the data directory."""
    return FileReceipts(sms_folder(settings) / "receipts.db")


def routes_of(settings: Settings, claimed: Callable[[str], bool]) -> Routes:
    """The routes of the table that the settings name, or the one that --sms is short for.

    `claimed` is `Receipts.claimed`.
    """
    twilio = _twilio(settings)
    if settings.routes is not None:
        return open_routes(
            load_table(settings.routes),
            settings.routes.parent,
            signature=settings.sms_signature,
            twilio=twilio,
            channels=channels_of(settings),
            claimed=claimed,
        )
    sender = open_sender(settings.sms, twilio=twilio, claimed=claimed)
    rate = settings.twilio_rate if settings.sms == "twilio" else None
    return Routes([Route(sender, signature=settings.sms_signature, rate=rate)])


def texts_of(settings: Settings, routes: Routes) -> Texts:
    """The wording of messages. Raises `SettingsError` for a text that is not fit to be sent."""
    return Texts(settings.texts, signature=routes.signature)


def delivery_of(settings: Settings, receipts: Receipts | None = None) -> MessageDelivery:
    """What sends messages; by default with the receipts under the data directory alone."""
    folder = sms_folder(settings)
    receipts = receipts or local_receipts(settings)
    return MessageDelivery(
        routes_of(settings, receipts.claimed),
        receipts,
        numbers=RefusedNumbers(folder / "refused-numbers.log"),
        stale_after=settings.stale_after if settings.clock != "event" else None,
    )


def zone_of(settings: Settings) -> ZoneInfo:
    """The readers' time zone."""
    try:
        return ZoneInfo(settings.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SettingsError(
            f"no time zone {settings.time_zone!r}: use a name like Asia/Shanghai"
        ) from None


def _alerts(settings: Settings) -> faust.App:
    options = stream_options(settings)
    zone = zone_of(settings)
    receipts = LogReceipts(local_receipts(settings))
    delivery = delivery_of(settings, receipts)
    for state, blocked in (("blocked", True), ("unreachable", False)):
        known = partial(delivery.numbers.count, blocked=blocked)
        metrics.SMS_NUMBERS.labels(state).set_function(known)
    for name, turns in delivery.turns.items():
        metrics.SMS_ROUTE_FAILING.labels(name or settings.sms.partition(":")[0]).set_function(
            partial(getattr, turns, "failing")
        )
    live = live_reference(settings)

    def read() -> str:
        if settings.policy is None:
            return ""
        text = read_policy(settings.policy)
        if unknown := unknown_ids(_checked_policy(settings, settings.policy, text), live.tables):
            log.warning("%s", unknown)
        return text

    policy = LivePolicy(settings.policy, read, sms_folder(settings) / "policy.toml")
    directory = ReferenceDirectory(live.tables)
    rules = AlertRules(
        settings.group_wait,
        zone=zone,
        places=directory,
        wall=options.clock == "wall",
        restate_within=options.restate_within,
    )
    watchdog = WatchdogWatch(settings.watchdog, settings.watchdog_within)
    dispatcher = Dispatcher(
        delivery,
        directory,
        timezone=zone,
        channels=channels_of(settings),
        fill_levels=FillLevelsFile(settings.data / "sms") if settings.data is not None else None,
        link=_link(settings),
        texts=texts_of(settings, delivery.routes),
        watchdog=watchdog.arrived,
    )

    outbox = Outbox(dispatcher)

    def in_use() -> None:
        if options.clock == "wall":
            outbox.fallback_after = parse_policy(policy.text).fallback_after

    in_use()

    def new_wholesalers(partition: int) -> WholesalerStage:
        return WholesalerStage(partition, options.partitions, rules, receipts, policy_awaited=True)

    async def act(stage: WholesalerStage, now: int) -> list[Effect]:
        return trace.traced(metrics.count_effects(deliver(stage, outbox, now)))

    def stop() -> None:
        outbox.stop()
        receipts.reset()

    def set_up(app: faust.App) -> asyncio.Event:
        async def publish(record: PolicyRecord) -> None:
            data = pack_policy(record)
            for partition in range(options.partitions):
                send = app.producer.send
                await (await send(topics.STOCK_INCIDENTS, None, data, partition, None, None))

        return watch_policy(app, policy, publish, in_use)

    app, wholesalers = alerts_app(options, new_wholesalers, act, stop, set_up)

    async def write(name: str, entry: bytes) -> None:
        partition = topics.partition_of_key(wholesaler_of(name), options.partitions)
        await wholesalers.write_through(partition, RECEIPTS + name.encode(), entry)

    receipts.write = write
    if settings.watchdog:
        home = topics.partition_of_key(WATCHDOG, options.partitions)
        watchdog.follow(app, lambda: home in wholesalers.stages)
    watch_reference(app, live, directory.replace)
    return app


@retry(
    retry=retry_if_exception_type(WarehouseDown),
    wait=wait_random_exponential(max=10),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
def _open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse, its tables up to date; one that is down is waited for."""
    warehouse = open_warehouse(data=settings.data, url=settings.warehouse)
    try:
        migrate(warehouse, zone=settings.time_zone)
    except WarehouseDown:
        warehouse.close()
        raise
    return warehouse


def _warehouse(settings: Settings) -> faust.App:
    warehouse = _open_warehouse(settings)
    app = warehouse_app(stream_options(settings), WarehouseSink(warehouse))
    if settings.reference is not None:
        live = live_reference(settings)
        replace_all(warehouse, live.tables)
        resolver = Resolver(live, settings.partitions, live=settings.live)

        def changed(tables: Reference) -> None:
            replace_all(warehouse, tables)
            resolver.changed()

        watch_reference(app, live, changed)
        if settings.warehouse is not None:  # else the run that owns all of it resolves
            _resolve(app, settings, warehouse, resolver)
    if settings.data is not None and settings.warehouse is None:
        server = LoopbackServer(warehouse, settings.data)
        app.on_before_shutdown.connect(lambda *_, **__: server.stop(), weak=False)
        app.task(server.start)
    return app


def _resolve(app: faust.App, settings: Settings, warehouse: Warehouse, resolver: Resolver) -> None:
    """Have a worker send on dead letters that wanted rows of reference tables."""

    async def look() -> None:
        while not app.should_stop:
            await asyncio.sleep(LOOK_EVERY)
            try:
                count = await resolver.look(warehouse, settings.broker, kafka_security(settings))
            except ZerostockError as error:
                log.warning("dead letters wait to be sent on: %s", error)
                continue
            if count:
                log.warning("%s", resolved_note(count))

    app.task(look)


__all__ = ["kafka_security", "new_worker", "reference_of"]
