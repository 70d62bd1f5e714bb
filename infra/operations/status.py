"""`zerostock status`: one screen of what runs, how far it is, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from infra.operations.sources import states_of
from infra.settings import Settings
from infra.text import counted, printable
from infra.topics import FOLDED, Lag, group_members
from infra.wiring import kafka_security
from pipelines.ingest.sources import SourceState
from pipelines.kafka import check_login
from pipelines.stream.warehouse_worker import RESULT_TOPICS
from pipelines.warehouse import Warehouse, open_for_reading
from pipelines.warehouse.loopback.client import LoopbackClient
from schemas.envelope import NO_WATERMARK
from schemas.errors import BrokerDown, UsageError, ZerostockError
from schemas.fields import format_duration

#: What each kind of worker reads, in the order of the way of the data.
_READ: Final = {**FOLDED, "warehouse": RESULT_TOPICS}
#: Of a live feed an older watermark is worth a line.
_OLD: Final = 600_000

_FACTS: Final = (
    ("data until (UTC)", "SELECT formatDateTime(until, '%Y-%m-%d %H:%i:%S') FROM data_until"),
    ("open stock-outs", "SELECT count() FROM stock_incidents WHERE closed_at IS NULL"),
    ("open dead letters", "SELECT count() FROM dead_letters_open"),
    ("files and sources not read", "SELECT count() FROM unread_inputs"),
)
_WRONG: Final = (
    (
        "SELECT count() FROM stock_incidents WHERE closed_at IS NULL AND wholesaler_id = ''",
        "stock-out at outlets that no wholesaler holds: add them to assignments.csv",
        "stock-outs at outlets that no wholesaler holds: add them to assignments.csv",
    ),
    (
        "SELECT count() FROM sms_messages WHERE status IN ('refused', 'undeliverable', 'failed')"
        " AND created_at > (SELECT max(created_at) FROM sms_messages) - INTERVAL 1 DAY",
        "message of the last day did not go out: see sms_messages",
        "messages of the last day did not go out: see sms_messages",
    ),
    (
        "SELECT count() FROM dead_letters_open"
        " WHERE received_at > (SELECT max(received_at) FROM dead_letters) - INTERVAL 1 DAY",
        "line of the last day was refused: `zerostock dead-letters list`",
        "lines of the last day were refused: `zerostock dead-letters list`",
    ),
)


async def show_status(settings: Settings, console: Console, now: int) -> bool:
    """Print the screen; whether all is well. `now` (ms) is what watermarks are held against.

    A server is asked if a broker was named, else the run on a data directory. What cannot be
    reached is a line of what is wrong, not an error. Raises `UsageError` where there is nothing to
    look at.
    """
    if settings.warehouse is None and settings.data is None:
        raise UsageError("give --data DATA of a run, or --warehouse URL and --broker of a server")
    wrong: list[str] = []
    facts = Table.grid(padding=(0, 2))
    kafka = "broker" in settings.model_fields_set or settings.data is None
    if kafka:
        for worker in _READ:
            facts.add_row(f"{worker} workers", await _worker(settings, worker, wrong))
    elif settings.data is not None:
        owner = LoopbackClient.find(settings.data)
        facts.add_row("run", "is on" if owner is not None else "is not on")
    try:
        states = await states_of(settings.model_copy(update={"data": None}) if kafka else settings)
    except ZerostockError as error:
        states = {}
        wrong.append(str(error))
    facts.add_row("sources", _sources(states, now, wrong, live=settings.live))
    try:
        with closing(open_for_reading(data=settings.data, url=settings.warehouse)) as warehouse:
            for name, sql in _FACTS:
                facts.add_row(name, str(_one(warehouse, sql)))
            wrong += _wrong(warehouse)
    except ZerostockError as error:
        wrong.append(str(error))
    console.print(facts)
    for line in wrong:
        console.print(f"[red]wrong:[/red] {printable(line)}", soft_wrap=True)
    if not wrong:
        console.print("nothing is wrong")
    return not wrong


async def _worker(settings: Settings, worker: str, wrong: list[str]) -> str:
    security = kafka_security(settings)
    try:
        await check_login(settings.broker, security)
        members = await group_members(settings.broker, worker, security)
        async with Lag(settings.broker, worker, settings.partitions, security) as lag:
            behind = await lag.of(*_READ[worker])
    except (KafkaError, BrokerDown) as error:
        line = f"Kafka at {settings.broker} cannot be asked: {error}"
        if line not in wrong:
            wrong.append(line)
        return "unknown"
    if not members:
        wrong.append(f"no {worker} worker runs")
    return f"{members}, {counted(behind, 'message')} behind"


def _sources(states: Mapping[str, SourceState], now: int, wrong: list[str], *, live: bool) -> str:
    statuses = [state.status for state in states.values()]
    for name, state in sorted(states.items()):
        if state.status == "absent":
            wrong.append(f"the reader of {name} is down since {_time(state.seen)}")
    holding = [(state.watermark, name) for name, state in states.items() if state.status == "open"]
    text = ", ".join(f"{statuses.count(s)} {s}" for s in sorted(set(statuses))) or "none"
    if not holding or min(holding)[0] == NO_WATERMARK:
        return text
    reached, holder = min(holding)
    if live and now - reached > _OLD:
        wrong.append(
            f"the watermark is {format_duration((now - reached) // 60_000 * 60_000)} old:"
            f" {holder} holds it back"
        )
    return f"{text}; watermark {_time(reached)}"


def _wrong(warehouse: Warehouse) -> Iterator[str]:
    for sql, one, many in _WRONG:
        count = _one(warehouse, sql)
        if count:
            yield f"{count:,} {one if count == 1 else many}"


def _one(warehouse: Warehouse, sql: str) -> object:
    found = warehouse.query(sql).column(0)
    return found[0].as_py() if len(found) else "-"


def _time(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
