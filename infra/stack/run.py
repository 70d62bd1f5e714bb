"""`zerostock run`: a city's files through the whole system, on one machine."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from alerts.policy.unknown_ids import unknown_ids
from infra.dead_letters.limit import DeadLetterLimit, FeedRefused
from infra.dead_letters.replay import carry_out, orders, waiting
from infra.dead_letters.resolve import LOOK_EVERY, Resolver, order_resolved, resolved_note
from infra.intake.serve import RunIntake
from infra.operations.ingest import topic_feeds
from infra.operations.sources import advice
from infra.settings import Settings
from infra.stack.broker import EmbeddedBroker
from infra.stack.children import Child
from infra.stack.snapshot import (
    Snapshot,
    load_snapshot,
    restore_snapshot,
    save_snapshot,
    take_snapshot,
)
from infra.stack.summary import Screen
from infra.topics import Lag, ensure_topics
from infra.wiring import check_way_out, policy_of, reader_options
from pipelines.files import OwnerLock
from pipelines.ingest import IngestOptions, IngestReport, ingest
from pipelines.ingest.feeds.topic import TopicAddress
from pipelines.ingest.ingest import reader_name
from pipelines.ingest.live_reference import LiveReference
from pipelines.ingest.mapping.mapping import Mapping, load_mapping
from pipelines.ingest.pack import unread_inputs
from pipelines.ingest.post import KafkaSink
from pipelines.ingest.reading.files import find_sources
from pipelines.ingest.reference import reference_fingerprint
from pipelines.stream.app import group_id
from pipelines.stream.warehouse_worker import RESULT_TOPICS
from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.loopback.client import LoopbackClient
from pipelines.warehouse.rows import to_rows
from schemas import topics
from schemas.errors import BrokerError, InputError, WarehouseError, ZerostockError

#: The embedded broker waits about a session time-out before it lets a worker in.
_EMBEDDED_SESSION = "2s"

#: A worker that ends by itself is started again, this many times in a run.
_RESTARTS = 10


@dataclass
class RunPlan:
    """What to run; `settings` has the rest."""

    input: Path
    data: Path
    settings: Settings
    topics: list[TopicAddress] = field(default_factory=list)
    follow: bool = False
    mapping: Path | None = None
    intake: str | None = None


@dataclass
class RunOutcome:
    """How a run went."""

    report: IngestReport
    seconds: float
    stopped: bool = False


@dataclass
class Stack:
    """Broker and workers of one run, and what is known of their health."""

    data: Path
    settings: Settings
    screen: Screen
    broker: EmbeddedBroker = field(init=False)
    workers: list[Child] = field(default_factory=list)
    restarts: int = 0

    def __post_init__(self) -> None:
        logs = self.data / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        self.broker = EmbeddedBroker(logs)

    def start_workers(self, reference: Path) -> None:
        """Start the three workers against the broker."""
        env = {
            "ZEROSTOCK_BROKER": self.broker.bootstrap,
            "ZEROSTOCK_KAFKA_SECURITY": "PLAINTEXT",
            "ZEROSTOCK_WAREHOUSE": "",
            "ZEROSTOCK_REFERENCE": str(reference.resolve()),
            "ZEROSTOCK_DATA": str(self.data.resolve()),
            "ZEROSTOCK_PARTITIONS": str(self.settings.partitions),
            "ZEROSTOCK_CLOCK": self.settings.clock or "event",
            "ZEROSTOCK_RESTATE_WITHIN": f"{self.settings.restate_within}ms",
            "ZEROSTOCK_GROUP_WAIT": f"{self.settings.group_wait}ms",
            "ZEROSTOCK_WATCHDOG": f"{self.settings.watchdog}ms",
            "ZEROSTOCK_WATCHDOG_WITHIN": f"{self.settings.watchdog_within}ms",
            "ZEROSTOCK_STALE_AFTER": f"{self.settings.stale_after}ms",
            "ZEROSTOCK_SMS": self.settings.sms,
            "ZEROSTOCK_ROUTES": str(self.settings.routes.resolve()) if self.settings.routes else "",
            "ZEROSTOCK_TEXTS": str(self.settings.texts.resolve()) if self.settings.texts else "",
            "ZEROSTOCK_SMS_SIGNATURE": self.settings.sms_signature,
            "ZEROSTOCK_POLICY": str(self.settings.policy.resolve()) if self.settings.policy else "",
            "ZEROSTOCK_SESSION_TIMEOUT": _EMBEDDED_SESSION,
            "ZEROSTOCK_COMMIT_INTERVAL": "500ms",
        }
        for number, name in enumerate(("stock", "alerts", "warehouse")):
            if self.settings.metrics_port:  # 0 takes a free one, for each
                env["ZEROSTOCK_METRICS_PORT"] = str(self.settings.metrics_port + number)
            worker = Child(
                name,
                [sys.executable, "-m", "infra.cli", "worker", name],
                self.data / "logs" / f"{name}.log",
                env=env,
                show=name == "alerts",
            )
            self._launch(worker)
            self.workers.append(worker)

    def _launch(self, worker: Child) -> None:
        worker.start()
        if worker.show:
            threading.Thread(target=self._show, args=(worker,), daemon=True).start()

    def _show(self, worker: Child) -> None:
        assert worker.process is not None
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self.screen.message(line.rstrip("\n"))

    def look_after(self) -> None:
        """Start a worker again that ended; raises when that does not help."""
        if self.broker.ended is not None:
            raise BrokerError(
                f"the embedded broker ended ({self.broker.last_words()}): run again to go on"
            )
        for worker in self.workers:
            if worker.ended is None:
                continue
            self.restarts += 1
            words = worker.last_words()
            if words.startswith("zerostock: ") or self.restarts > _RESTARTS:
                reason = words.removeprefix("zerostock: ")
                raise ZerostockError(f"the {worker.name} worker: {reason} (see {worker.log})")
            self.screen.note(f"the {worker.name} worker ended and is started again")
            self._launch(worker)

    def stop(self) -> None:
        """Stop everything, the workers side by side and the broker last."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait()
        self.broker.stop()


async def run(plan: RunPlan, screen: Screen) -> RunOutcome:
    """Run until the input is exhausted and all of it is in the warehouse.

    Going on where the last run on the same data ended. Raises `BusyError` while another run owns
    the data, `InputError` for an input that is none, `BrokerError` and others when a part fails.
    """
    if not plan.input.is_dir():
        raise InputError(f"--input {plan.input} is not a directory")
    live = LiveReference(plan.input / "reference")
    tables = live.tables
    check_way_out(plan.settings)
    policy = policy_of(plan.settings)
    if policy is not None and (unknown := unknown_ids(policy, tables)):
        screen.note(unknown)
    mapping = load_mapping(plan.mapping) if plan.mapping is not None else None
    intake = RunIntake(plan.intake, plan.input, plan.settings) if plan.intake else None
    with OwnerLock(plan.data / "run.lock"):
        snapshot = load_snapshot(plan.data / "state.snapshot", plan.settings.partitions)
        ends = not plan.follow and not plan.topics
        if snapshot is not None and ends and _nothing_new(plan, snapshot, mapping):
            screen.stage("nothing new to read")
            unread = find_sources(plan.input, mapping.names if mapping else None).unread
            _list_unread(plan, unread)
            screen.summary(plan.data, IngestReport(unread=unread), 0.0)
            return RunOutcome(IngestReport(), 0.0)
        stack = Stack(plan.data, plan.settings, screen)
        try:
            stack.broker.start()
            await ensure_topics(stack.broker.bootstrap, plan.settings.partitions)
            if snapshot is not None:
                await restore_snapshot(stack.broker.bootstrap, snapshot)
            _resolve_at_start(plan, snapshot, screen)
            stack.start_workers(live.folder)
            outcome = await _work(plan, stack, screen, mapping, live, intake)
            screen.stage("keeping the state for the next run")
            save_snapshot(
                plan.data / "state.snapshot",
                await take_snapshot(stack.broker.bootstrap, plan.settings.partitions, plan.input),
            )
            screen.summary(plan.data, outcome.report, outcome.seconds)
            for line in advice(outcome.report.disorder):
                screen.note(line)
        except asyncio.CancelledError:  # told to stop once more
            raise KeyboardInterrupt from None
        finally:
            screen.close()
            stack.stop()
    return outcome


def _nothing_new(plan: RunPlan, snapshot: Snapshot, mapping: Mapping | None) -> bool:
    (positions,) = snapshot.entries[topics.INGEST_POSITIONS]
    if plan.settings.archive is not None and find_sources(plan.input).own:
        return False  # it is still to be put away
    covered = snapshot.covers(plan.input, mapping)
    return covered and not waiting(plan.data, map(bytes.decode, positions))


def _list_unread(plan: RunPlan, unread: list[tuple[str, str]]) -> None:
    """Put on record what is there and is not read, as a reader would."""
    now, partitions = time.time_ns() // 1_000_000, plan.settings.partitions
    warehouse = open_warehouse(data=plan.data)
    try:
        migrate(warehouse, zone=plan.settings.time_zone)
        for effect in unread_inputs(reader_name(plan.input), now, unread, partitions):
            assert effect.rows is not None
            warehouse.insert(*to_rows(effect.header.kind, effect.rows))
    finally:
        warehouse.close()


def _resolve_at_start(plan: RunPlan, snapshot: Snapshot | None, screen: Screen) -> None:
    """Order a replay of dead letters that wanted what the tables have now."""
    known = snapshot.reference if snapshot is not None else ""
    if not (plan.data / "warehouse").is_dir() or known == reference_fingerprint(
        plan.input / "reference"
    ):
        return
    partitions, live = plan.settings.partitions, plan.settings.live
    if count := order_resolved(plan.data, plan.input, partitions=partitions, live=live):
        screen.note(resolved_note(count))


async def _resolve(stack: Stack, resolver: Resolver) -> None:
    """Send on dead letters for which a table has a row now."""
    owner = await asyncio.to_thread(LoopbackClient.find, stack.data)
    if owner is None:  # not up yet, or being started again
        return
    try:
        count = await resolver.look(owner, stack.broker.bootstrap, {})
    except (WarehouseError, BrokerError) as error:
        stack.screen.note(f"dead letters wait to be sent on: {error}")
        return
    if count:
        stack.screen.note(resolved_note(count))


async def _replay(plan: RunPlan, stack: Stack, mapping: Mapping | None) -> None:
    """Send the dead letters that were accepted after a fix, before anything new is read."""
    if orders(plan.data):
        async with KafkaSink(stack.broker.bootstrap, {}, None) as post:
            sent = await carry_out(plan.data, plan.input, mapping, post, plan.settings.live)
        if sent:
            stack.screen.stage(f"{sent:,} dead letters replayed")


async def _work(
    plan: RunPlan,
    stack: Stack,
    screen: Screen,
    mapping: Mapping | None,
    live: LiveReference,
    intake: RunIntake | None,
) -> RunOutcome:
    started = time.monotonic()
    stop, closing = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    work = asyncio.current_task()
    assert work is not None

    def told_to_stop() -> None:
        if stop.is_set():
            work.cancel()
        else:
            screen.note("finishing what was read; once more ends it at once, to go on later")
            stop.set()
            closing.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, told_to_stop)
    options = IngestOptions(
        **reader_options(plan.settings),
        mapping=mapping,
        archive=plan.settings.archive,
        follow=plan.follow,
        throttle_group=group_id("stock"),
    )
    resolver = Resolver(live, plan.settings.partitions, live=plan.settings.live)
    await _replay(plan, stack, mapping)
    reading = asyncio.create_task(
        ingest(
            plan.input,
            stack.broker.bootstrap,
            options=options,
            feeds=topic_feeds(plan.topics, plan.settings, mapping, follow=plan.follow),
            progress=DeadLetterLimit(plan.settings.dead_letter_limit, screen.progress),
            stop=stop,
        )
    )
    taking = asyncio.create_task(intake.serve(closing)) if intake is not None else None
    try:
        looked = started
        while not reading.done():
            stack.look_after()
            if taking is not None and taking.done() and not closing.is_set():
                taking.result()  # it could not listen
            await asyncio.wait([reading], timeout=0.2)
            if plan.follow and not stop.is_set() and time.monotonic() - looked > LOOK_EVERY:
                looked = time.monotonic()
                if await asyncio.to_thread(live.look):
                    resolver.changed()
                await _resolve(stack, resolver)
        screen.stage("waiting for the last rows to reach the warehouse")
        if isinstance(reading.exception(), FeedRefused):
            # The refused lines have to be in the warehouse for somebody to look at.
            await _drain(stack, plan.settings.partitions)
        report = reading.result()
        await _drain(stack, plan.settings.partitions)
    finally:
        closing.set()
        reading.cancel()
        # They give their connections back.
        await asyncio.wait([reading, *([taking] if taking is not None else [])])
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)
    return RunOutcome(report, time.monotonic() - started, stop.is_set())


async def _drain(stack: Stack, partitions: int) -> None:
    """Wait until each worker has done with all that the one before it said."""
    for worker, names in (
        ("stock", (topics.SIM_EVENTS,)),
        ("stock", (topics.STOCK_MOVEMENTS, topics.CASE_EVENTS)),
        ("stock", (topics.CASES,)),
        ("alerts", (topics.STOCK_INCIDENTS,)),
        ("warehouse", RESULT_TOPICS),
    ):
        async with Lag(stack.broker.bootstrap, worker, partitions) as lag:
            while await lag.of(*names):
                stack.look_after()
                await asyncio.sleep(0.1)
