"""The evening's lists: what will soon be empty, for wholesalers; what is doubted, for managers.

The arithmetic is `pipelines.core.channel.forecast`'s. Reads and writes the warehouse; what was sent
is in the same record as all other messages, so that a second run repeats nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import polars as pl
import pyarrow as pa

from alerts.message.compose import EmptyShelf, compose
from alerts.message.fill_levels import write_fill_levels
from alerts.message.phones import contacts
from alerts.message.texts import Texts
from alerts.policy.policy import Policy, load_policy
from infra.settings import Settings
from infra.text import counted
from infra.wiring import channels_of, delivery_of, zone_of
from pipelines.core.channel.forecast import (
    WINDOW,
    consumption,
    daily_books,
    fill_levels,
    lead_times,
    phantoms,
    soon_empty,
    van_round,
)
from pipelines.core.effects import RowBuilder
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.errors import InputError, SendError
from schemas.messages import Message, MessageRecord

if TYPE_CHECKING:
    from alerts.delivery.delivery import MessageDelivery

#: The channel that hears of doubted stock.
MANAGERS: Final = "fallback"

_DAYS_OF_HISTORY: Final = 90
_MOST_NAMED: Final = 50

#: Shelves by local day, all before the window as one.
_MOVEMENTS: Final = """
SELECT
    outlet_id, sku, greatest(toDate(at, {zone:String}), {before:Date}) AS day,
    sum(delta) AS net, sumIf(delta, cause = 'delivery') AS received,
    sumIf(delta, cause = 'transfer_in') AS transferred_in,
    -sumIf(delta, cause = 'first_use') AS activated
FROM stock_movements WHERE at < {evening:DateTime64(3, 'UTC')}
GROUP BY outlet_id, sku, day
"""


class Lists(msgspec.Struct, frozen=True):
    """The lists of a day's evening, as columns of their tables."""

    as_of: date
    worth: float
    risks: pl.DataFrame
    announced: pl.DataFrame
    doubted: pl.DataFrame
    fill_levels: pl.DataFrame


class Evening(NamedTuple):
    """What was done, line by line, and who should have been notified and was not."""

    lines: list[str]
    unreached: list[str]


def make_lists(
    warehouse: Warehouse,
    as_of: date | None,
    worth: float,
    zone: ZoneInfo,
    policy: Policy,
    cover_days: float = 14.0,
) -> Lists:
    """Both lists, and how many cards shelves need for `cover_days` beyond a delivery, as of
    the evening of a day of the zone, by default the last that the warehouse knows.

    A shelf is announced from `worth` lost sales on. Raises `InputError` when nothing is known of
    that day.
    """
    last = as_of or _last_day(warehouse, zone)
    evening = datetime.combine(last + timedelta(days=1), datetime.min.time(), zone).astimezone(UTC)
    first = last - timedelta(days=WINDOW - 1)
    movements = _frame(
        warehouse,
        _MOVEMENTS,
        {"zone": zone.key, "before": first - timedelta(days=1), "evening": evening},
    )
    if movements.is_empty():
        raise InputError(f"the warehouse knows of no day up to {last}")
    held = _frame(
        warehouse,
        "SELECT outlet_id, argMax(wholesaler_id, valid_from) AS wholesaler_id FROM assignments"
        " WHERE valid_from < {evening:DateTime64(3, 'UTC')} GROUP BY outlet_id",
        {"evening": evening},
    )
    closed = _frame(
        warehouse,
        "SELECT wholesaler_id, opened_at, closed_at FROM stock_incidents"
        " WHERE closed_at < {evening:DateTime64(3, 'UTC')}"
        " AND opened_at >= {since:DateTime64(3, 'UTC')}",
        {"evening": evening, "since": evening - timedelta(days=_DAYS_OF_HISTORY)},
    )
    shelves = consumption(daily_books(movements, first, last)).join(
        held, on="outlet_id", how="left"
    )
    shelves = shelves.with_columns(pl.col("wholesaler_id").fill_null(""))
    leads = lead_times(closed)
    levels = fill_levels(shelves, leads, cover_days=cover_days)
    bring = pl.max_horizontal(pl.col("fill_to") - pl.col("on_hand"), 1)
    risks = (
        soon_empty(shelves, leads)
        .join(levels, on=["outlet_id", "sku"], how="left")
        .with_columns(bring=pl.when(pl.col("fill_to").is_not_null()).then(bring))
    )
    own_stops = {
        name: own.round_stops
        for name, own in policy.wholesalers.items()
        if own.round_stops is not None
    }
    announced = van_round(risks, worth, policy.round_stops, own_stops)
    return Lists(last, worth, risks, announced, phantoms(shelves), levels)


def run_soon_empty(
    settings: Settings,
    as_of: date | None,
    worth: float,
    *,
    only: Collection[str] = (),
    dry_run: bool,
) -> Evening:
    """`tell_evening` on the warehouse of the settings.

    Raises `BusyError` while a run owns the data directory.
    """
    with closing(open_warehouse(data=settings.data, url=settings.warehouse)) as warehouse:
        migrate(warehouse, zone=settings.time_zone)
        return tell_evening(warehouse, settings, as_of, worth, only=only, dry_run=dry_run)


def tell_evening(
    warehouse: Warehouse,
    settings: Settings,
    as_of: date | None,
    worth: float,
    *,
    only: Collection[str] = (),
    dry_run: bool = False,
) -> Evening:
    """Make the lists, tell of them, and keep them.

    They are kept last: whoever dies before makes them again, and tells nobody twice. If wholesalers
    are named, `only` they are notified, and managers are not. `dry_run` only shows it.
    """
    policy = load_policy(settings.policy) if settings.policy is not None else Policy()
    cover_days = settings.cover_target / 86_400_000
    lists = make_lists(warehouse, as_of, worth, zone_of(settings), policy, cover_days)
    # A dry run writes nothing, not even a record that nothing was sent.
    delivery = delivery_of(settings) if not dry_run else None
    signature = delivery.routes.signature if delivery else settings.sms_signature
    messages = [
        (message, numbers)
        for message, numbers in _messages(warehouse, lists, settings, signature)
        if not only or message.wholesaler_id in only
    ]
    said = [
        f"{lists.as_of}: {counted(lists.announced.height, 'shelf', 'shelves')} of"
        f" {lists.risks.height:,} will soon be empty,"
        f" the stock of {lists.doubted.height} is doubted"
    ]
    if delivery is None:
        said += [f"{m.wholesaler_id or 'nobody'}: {m.body}" for m, _ in messages]
        return Evening(said, [])
    if settings.data is not None:
        (settings.data / "sms").mkdir(parents=True, exist_ok=True)
        write_fill_levels(settings.data / "sms", lists.fill_levels.iter_rows())
    records = asyncio.run(_tell(delivery, messages))
    _record(warehouse, records)
    sent = sum(record.status == "sent" for record in records)
    said.append(f"{sent} of {counted(len(records), 'message')} went out")
    failed = [record for record in records if record.status != "sent"]
    unreached = [record.wholesaler_id or "nobody" for record in failed]
    said += [f"{who}: {r.error}" for who, r in zip(unreached, failed, strict=True)]
    if not only and lists.doubted.height:
        told, line = _tell_managers(settings, lists)
        said.append(line)
        unreached += [] if told else [MANAGERS]
    _keep(warehouse, lists)
    return Evening(said, unreached)


def _last_day(warehouse: Warehouse, zone: ZoneInfo) -> date:
    found = warehouse.query(
        "SELECT toDate(until, {zone:String}) AS day FROM data_until", {"zone": zone.key}
    )
    if not found.num_rows:
        raise InputError("the warehouse knows of no movement yet: `zerostock run` fills it")
    day: date = found["day"][0].as_py()
    return day


def _frame(warehouse: Warehouse, sql: str, parameters: dict[str, object]) -> pl.DataFrame:
    frame = pl.from_arrow(warehouse.query(sql, parameters))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _messages(
    warehouse: Warehouse, lists: Lists, settings: Settings, signature: str
) -> list[tuple[Message, list[str]]]:
    """One message a wholesaler, about all that he should bring, and his numbers, the best first."""
    zone = zone_of(settings)
    names = {
        row["outlet_id"]: (row["outlet"], row["territory"])
        for row in warehouse.query(
            "SELECT outlets.outlet_id AS outlet_id, outlets.name AS outlet,"
            " territories.name AS territory FROM outlets"
            " LEFT JOIN territories ON territories.territory_id = outlets.territory_id"
        ).to_pylist()
    }
    people = {
        row["wholesaler_id"]: row
        for row in warehouse.query(
            "SELECT wholesaler_id, phone, backup_phone, language FROM wholesalers"
        ).to_pylist()
    }
    evening = datetime.combine(lists.as_of, datetime.min.time(), zone) + timedelta(days=1)
    at = round(evening.timestamp() * 1_000)
    messages = []
    for (wholesaler_id,), rows in lists.announced.group_by("wholesaler_id", maintain_order=True):
        shelves = [
            EmptyShelf(
                r["outlet_id"],
                *names.get(r["outlet_id"], ("", "")),
                r["sku"],
                at,
                r["bring"],
            )
            for r in rows.to_dicts()
        ]
        person = people.get(str(wholesaler_id), {})
        language = person.get("language", "")
        text = compose(
            shelves,
            language=language,
            timezone=zone,
            signature=signature,
            texts=Texts(settings.texts, signature=signature),
            kind="soon_empty",
        )
        name = msgspec.msgpack.encode(("soon-empty", wholesaler_id, str(lists.as_of)))
        numbers = contacts(person.get("phone"), person.get("backup_phone"))
        message = Message(
            blake2b(name, digest_size=12).hexdigest(),
            str(wholesaler_id),
            next(iter(numbers), ""),
            text.body,
            text.language,
            at,
            (),
            text.segments,
            at,
            asks=False,
        )
        messages.append((message, numbers))
    return messages


async def _tell(
    delivery: MessageDelivery, messages: list[tuple[Message, list[str]]]
) -> list[MessageRecord]:
    records = []
    for message, numbers in messages:
        settled = await delivery.settled(message.message_id)
        if settled is None and numbers:
            settled = await delivery.deliver(message, numbers)
        nobody = "nobody holds these shops, or no number of theirs is known"
        records.append(settled or delivery.record(message, "undeliverable", nobody))
    return records


def _keep(warehouse: Warehouse, lists: Lists) -> None:
    """Rows first, then the run that shows them."""
    run_at = datetime.now(UTC)
    stamp = {"as_of": lists.as_of, "run_at": run_at}
    for table, rows in (("soon_empty", lists.announced), ("phantom_stock", lists.doubted)):
        columns = warehouse.query(f"DESCRIBE TABLE {table}")["name"].to_pylist()
        stamped = rows.with_columns(
            as_of=pl.lit(lists.as_of), run_at=pl.lit(run_at).cast(pl.Datetime("ms", "UTC"))
        ).select(*columns, "run_at")
        if stamped.height:
            warehouse.insert(f"{table}_rows", stamped.to_arrow())
    run = stamp | {
        "worth": lists.worth,
        "shelves": lists.risks.height,
        "announced": lists.announced.height,
        "phantoms": lists.doubted.height,
    }
    schema = pa.schema(
        [
            ("as_of", pa.date32()),
            ("run_at", pa.timestamp("ms", tz="UTC")),
            ("worth", pa.float64()),
            *((name, pa.int64()) for name in ("shelves", "announced", "phantoms")),
        ]
    )
    warehouse.insert("soon_empty_runs", pa.Table.from_pylist([run], schema=schema))


def _record(warehouse: Warehouse, records: list[MessageRecord]) -> None:
    rows = RowBuilder("messages")
    for record in records:
        rows.add(**msgspec.structs.asdict(record))
    if len(rows):
        warehouse.insert(*to_rows("messages", rows.batch()))


def _tell_managers(settings: Settings, lists: Lists) -> tuple[bool, str]:
    """Whether they heard of doubted stock, in words as well."""
    channels = channels_of(settings)
    if channels is None or MANAGERS not in channels.names:
        return False, "doubted stock was told to nobody: ZEROSTOCK_CHANNELS names no `fallback`"
    named = lists.doubted.head(_MOST_NAMED).to_dicts()
    body = "\n".join(
        "{outlet_id} {sku}: {on_hand} on the books, silent for {silent_days} days".format(**row)
        for row in named
    )
    title = f"Stock to look at, {lists.as_of}: {counted(lists.doubted.height, 'shelf', 'shelves')}"
    try:
        asyncio.run(channels.tell(MANAGERS, title, body))
    except SendError as error:
        return False, f"managers were not told of doubted stock: {error}"
    doubted = counted(lists.doubted.height, "doubted shelf", "doubted shelves")
    return True, f"managers were told of {doubted}"
