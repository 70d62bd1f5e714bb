"""`zerostock succession`: a wholesaler leaves, another takes over, and is told what is empty.

The entries are rows of successions.csv beside the other reference tables; what follows from them is
`schemas.hand_over`'s. An entry is never taken away: undoing it is a time in its row.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec

from alerts.message.compose import EmptyShelf, Text, compose, title
from alerts.message.phones import usable
from alerts.message.segments import segments
from infra.settings import Settings
from infra.text import counted
from infra.wiring import delivery_of, reference_of, zone_of
from pipelines.core.effects import RowBuilder
from pipelines.files import replace_file
from pipelines.warehouse import Warehouse, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.errors import UsageError
from schemas.fields import parse_time
from schemas.hand_over import Succession, Takeover
from schemas.messages import Message
from schemas.reference import Reference

_COLUMNS: Final = (
    "succession_id",
    "wholesaler_id",
    "successor_id",
    "territory_id",
    "valid_from",
    "undone_at",
)


def add_succession(
    settings: Settings, leaving: str, successor: str, territory: str | None, at: str | None
) -> str:
    """Write an entry; what follows from it, in a line. The same entry again changes nothing.

    Raises `UsageError` for a wholesaler or territory that no table knows.
    """
    reference = reference_of(settings)
    for wholesaler in (leaving, successor):
        if wholesaler not in reference.wholesalers:
            raise UsageError(f"no wholesaler {wholesaler!r} in wholesalers.csv")
    if leaving == successor:
        raise UsageError("nobody succeeds himself: name another wholesaler with --to")
    if territory is not None and territory not in reference.territories:
        raise UsageError(f"no territory {territory!r} in territories.csv")
    valid_from = _time(at)
    facts = msgspec.msgpack.encode((leaving, successor, territory, valid_from))
    entry = Succession(
        succession_id=f"s-{blake2b(facts, digest_size=4).hexdigest()}",
        wholesaler_id=leaving,
        successor_id=successor,
        territory_id=territory,
        valid_from=_iso(valid_from),
    )
    known = {e.succession_id: e for e in reference.successions}
    if entry.succession_id in known:
        return f"{entry.succession_id} is there already"
    _write(settings, [*reference.successions, entry])
    outlets = _taken(reference_of(settings), entry.succession_id)
    return (
        f"{entry.succession_id}: {counted(len(outlets), 'outlet')} of {leaving} go to {successor}"
        f" from {_iso(valid_from)} on; workers know when they are started again"
    )


def undo_succession(settings: Settings, succession_id: str, at: str | None) -> str:
    """Give back what an entry handed over, from a time on. Raises `UsageError` if there is none."""
    reference = reference_of(settings)
    known = {e.succession_id: e for e in reference.successions}
    entry = known.get(succession_id)
    if entry is None:
        raise UsageError(
            f"no succession {succession_id!r}; there are: {', '.join(known) or 'none'}"
        )
    if entry.undone_at is not None:
        return f"{succession_id} was undone at {_iso(entry.undone_at)}"
    undone = entry.model_copy(update={"undone_at": _time(at)})
    _write(settings, [undone if e is entry else e for e in reference.successions])
    return f"{succession_id} is undone from {_iso(undone.undone_at or 0)} on"


def list_successions(settings: Settings) -> str:
    """A line an entry."""
    reference = reference_of(settings)
    lines = []
    for entry in sorted(reference.successions, key=lambda e: e.valid_from):
        where = f" in {entry.territory_id}" if entry.territory_id else ""
        undone = f", undone {_iso(entry.undone_at)}" if entry.undone_at is not None else ""
        outlets = counted(len(_taken(reference, entry.succession_id)), "outlet")
        lines.append(
            f"{entry.succession_id}  {entry.wholesaler_id} -> {entry.successor_id}{where}"
            f" from {_iso(entry.valid_from)}{undone}: {outlets}"
        )
    return "\n".join(lines) or "nobody has left"


def hand_over(settings: Settings, at: str | None) -> list[str]:
    """Tell successors, once each, what they serve now and which of it is empty; line by line.

    Counts entries that hold at a time (now). Reads the open stock-outs from the warehouse; the
    message does not count as having told of them, which their own messages do.
    """
    moment = _time(at)
    reference = reference_of(settings)
    warehouse = open_warehouse(data=settings.data, url=settings.warehouse)
    try:
        return [
            asyncio.run(_tell(settings, warehouse, reference, entry))
            for entry in sorted(
                reference.successions, key=lambda e: (e.valid_from, e.succession_id)
            )
            if entry.valid_from <= moment and (entry.undone_at is None or moment < entry.undone_at)
        ] or ["no succession holds now"]
    finally:
        warehouse.close()


async def _tell(
    settings: Settings, warehouse: Warehouse, reference: Reference, entry: Succession
) -> str:
    to = f"{entry.succession_id} to {entry.successor_id}"
    if not _taken(reference, entry.succession_id):
        return f"{to}: moves no outlet, nothing to tell"
    delivery = delivery_of(settings)
    message = _message(settings, warehouse, reference, entry)
    if await delivery.settled(message.message_id) is not None:
        return f"{to}: told before"
    if not message.to:
        record = delivery.record(message, "undeliverable", "no number of theirs is known")
    else:
        record = await delivery.deliver(message, [message.to])
    rows = RowBuilder("messages")
    rows.add(**msgspec.structs.asdict(record))
    warehouse.insert(*to_rows("messages", rows.batch()))
    return f"{to}: {record.status}{': ' + record.error if record.error else ''}"


def _message(
    settings: Settings, warehouse: Warehouse, reference: Reference, entry: Succession
) -> Message:
    taken = {takeover.outlet_id for takeover in _taken(reference, entry.succession_id)}
    empty = warehouse.query(
        "SELECT outlet_id, sku, toUnixTimestamp64Milli(opened_at) AS opened_at"
        " FROM stock_incidents WHERE closed_at IS NULL"
    ).to_pylist()
    shelves = []
    for row in empty:
        outlet = reference.outlets.get(row["outlet_id"])
        territory = reference.territories.get((outlet and outlet.territory_id) or "")
        if row["outlet_id"] in taken and outlet is not None:
            names = (outlet.name, territory.name if territory is not None else "")
            shelves.append(EmptyShelf(row["outlet_id"], *names, row["sku"], row["opened_at"]))
    successor = reference.wholesalers.get(entry.successor_id)
    language = (successor.language if successor is not None else None) or ""
    leaving = reference.wholesalers.get(entry.wholesaler_id)
    first = title("hand_over", language, (leaving and leaving.name) or "?", len(taken))
    zone = zone_of(settings)
    text = (
        compose(shelves, language=language, timezone=zone, kind="digest", lead=first)
        if shelves
        else Text(first, language, segments(first))
    )
    phones = (successor.phone, successor.backup_phone) if successor is not None else ()
    return Message(
        blake2b(f"hand-over/{entry.succession_id}".encode(), digest_size=12).hexdigest(),
        entry.successor_id,
        next((usable(phone) for phone in phones if phone and usable(phone)), ""),
        text.body,
        text.language,
        entry.valid_from,
        (),
        text.segments,
        entry.valid_from,
        asks=False,
    )


def _taken(reference: Reference, succession_id: str) -> list[Takeover]:
    return [t for t in reference.takeovers if t.succession_id == succession_id]


def _write(settings: Settings, entries: Iterable[Succession]) -> None:
    """Replace the table in one step: a reader sees it as it was or as it is."""
    assert settings.reference is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        undone = _iso(entry.undone_at) if entry.undone_at is not None else ""
        writer.writerow(
            (
                entry.succession_id,
                entry.wholesaler_id,
                entry.successor_id,
                entry.territory_id or "",
                _iso(entry.valid_from),
                undone,
            )
        )
    path = settings.reference / "successions.csv"
    replace_file(path, text.getvalue().encode())


def _time(written: str | None) -> int:
    if written is None:
        return round(datetime.now(UTC).timestamp() * 1_000)
    try:
        return parse_time(written)
    except ValueError as error:
        raise UsageError(f"--at {written}: {error}") from None


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds")
