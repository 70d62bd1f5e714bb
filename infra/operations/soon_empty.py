"""The evening's lists: what will soon be empty, for wholesalers; what is doubted, for managers.

The arithmetic is `pipelines.core.channel.forecast`'s. Reads and writes the warehouse; what was sent
is in the same record as all other messages, so that a second run repeats nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec
import polars as pl
import pyarrow as pa

from alerts.message.compose import EmptyShelf, compose
from alerts.message.fill_levels import write_fill_levels
from alerts.message.phones import contacts
from alerts.message.texts import Texts
from infra.settings import Settings
from infra.text import counted
from infra.wiring import channels_of, delivery_of, zone_of
from pipelines.core.channel.forecast import (
    WINDOW,
    consumption,
    fill_levels,
    lead_times,
    phantoms,
    soon_empty,
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


class Lists(msgspec.Struct, frozen=True):
    """The lists of a day's evening, as columns of their tables."""

    as_of: date
    target: float
    shelves: int
    announced: pl.DataFrame
    doubted: pl.DataFrame
    fill_levels: pl.DataFrame


def make_lists(
    warehouse: Warehouse, as_of: date | None, target: float, cover_days: float = 14.0
) -> Lists:
    """Both lists, and how many cards shelves need for `cover_days` beyond a delivery, as of
    the evening of a day, by default the last that the warehouse knows.

    Raises `InputError` when it knows nothing of that day.
    """
    last = as_of or _last_day(warehouse)
    parameters: dict[str, object] = {"from": last - timedelta(days=WINDOW), "to": last}
    daily = _frame(
        warehouse,
        "SELECT outlet_id, sku, day, opening, received, transferred_in, activated, closing"
        " FROM outlet_daily WHERE day > {from:Date} AND day <= {to:Date}",
        parameters,
    )
    if daily.is_empty():
        raise InputError(f"the warehouse knows of no day up to {last}")
    evening = datetime.combine(last, datetime.min.time(), UTC) + timedelta(days=1)
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
    shelves = consumption(daily).join(held, on="outlet_id", how="left")
    shelves = shelves.with_columns(pl.col("wholesaler_id").fill_null(""))
    leads = lead_times(closed)
    levels = fill_levels(shelves, leads, cover_days=cover_days)
    risks = soon_empty(shelves, leads).join(levels, on=["outlet_id", "sku"], how="left")
    announced = risks.filter(pl.col("risk") > target).sort("risk", "outlet_id", descending=True)
    return Lists(last, target, risks.height, announced, phantoms(shelves), levels)


def run_soon_empty(
    settings: Settings,
    as_of: date | None,
    target: float,
    *,
    only: Collection[str] = (),
    dry_run: bool,
) -> list[str]:
    """Make the lists, keep them, and tell of them; what was done, line by line.

    If wholesalers are named, `only` they are told, and managers are not. `dry_run` only says what
    would be told. Raises `BusyError` while a run owns the data directory.
    """
    warehouse = open_warehouse(data=settings.data, url=settings.warehouse)
    try:
        migrate(warehouse)
        lists = make_lists(warehouse, as_of, target, settings.cover_target / 86_400_000)
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
            f" {lists.shelves:,} will soon be empty, the stock of {lists.doubted.height} is doubted"
        ]
        if delivery is None:
            return said + [f"{m.wholesaler_id or 'nobody'}: {m.body}" for m, _ in messages]
        _keep(warehouse, lists)
        if settings.data is not None:
            (settings.data / "sms").mkdir(parents=True, exist_ok=True)
            write_fill_levels(settings.data / "sms", lists.fill_levels.iter_rows())
        records = asyncio.run(_tell(delivery, messages))
        _record(warehouse, records)
        sent = sum(record.status == "sent" for record in records)
        said.append(f"{sent} of {counted(len(records), 'message')} went out")
        said += [f"{r.wholesaler_id or 'nobody'}: {r.error}" for r in records if r.status != "sent"]
        return said if only else said + _tell_managers(settings, lists)
    finally:
        warehouse.close()


def _last_day(warehouse: Warehouse) -> date:
    found = warehouse.query("SELECT max(day) AS day, count() AS days FROM outlet_daily")
    if not found["days"][0].as_py():
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
                max(1, r["fill_to"] - r["on_hand"]) if r["fill_to"] is not None else None,
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
        "target": lists.target,
        "shelves": lists.shelves,
        "announced": lists.announced.height,
        "phantoms": lists.doubted.height,
    }
    schema = pa.schema(
        [
            ("as_of", pa.date32()),
            ("run_at", pa.timestamp("ms", tz="UTC")),
            ("target", pa.float64()),
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


def _tell_managers(settings: Settings, lists: Lists) -> list[str]:
    channels = channels_of(settings)
    if lists.doubted.is_empty():
        return []
    if channels is None or MANAGERS not in channels.names:
        return ["doubted stock was told to nobody: ZEROSTOCK_CHANNELS names no `fallback`"]
    named = lists.doubted.head(_MOST_NAMED).to_dicts()
    body = "\n".join(
        "{outlet_id} {sku}: {on_hand} on the books, silent for {silent_days} days".format(**row)
        for row in named
    )
    title = f"Stock to look at, {lists.as_of}: {counted(lists.doubted.height, 'shelf', 'shelves')}"
    try:
        asyncio.run(channels.tell(MANAGERS, title, body))
    except SendError as error:
        return [f"managers were not told of doubted stock: {error}"]
    return [
        f"managers were told of {counted(lists.doubted.height, 'doubted shelf', 'doubted shelves')}"
    ]
