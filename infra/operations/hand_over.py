"""`zerostock hand-over`: a wholesaler leaves, another takes over and hears what is empty.

The entries are rows of hand_overs.csv beside the other reference tables; what follows from them is
`schemas.hand_over`'s. An entry is never deleted: undoing it is a time in its row.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec

from alerts.message.compose import compose, plain, title
from alerts.message.directory import ReferenceDirectory
from alerts.message.phones import contacts
from alerts.message.texts import OUR_TEXTS, Texts
from infra.settings import Settings
from infra.text import counted
from infra.wiring import delivery_of, reference_of, zone_of
from pipelines.core.effects import RowBuilder
from pipelines.files import replace_file
from pipelines.warehouse import Warehouse, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas.errors import SendError, UsageError
from schemas.fields import parse_time
from schemas.hand_over import HandOver, Takeover
from schemas.messages import ListedIncident, Message
from schemas.reference import Reference

_COLUMNS: Final = (
    "hand_over_id",
    "wholesaler_id",
    "successor_id",
    "territory_id",
    "valid_from",
    "undone_at",
)


def add_hand_over(
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
        raise UsageError("--to names the wholesaler who leaves: name another")
    if territory is not None and territory not in reference.territories:
        raise UsageError(f"no territory {territory!r} in territories.csv")
    valid_from = _time(at)
    facts = msgspec.msgpack.encode((leaving, successor, territory, valid_from))
    entry = HandOver(
        hand_over_id=f"s-{blake2b(facts, digest_size=4).hexdigest()}",
        wholesaler_id=leaving,
        successor_id=successor,
        territory_id=territory,
        valid_from=_iso(valid_from),
    )
    known = {e.hand_over_id: e for e in reference.hand_overs}
    if entry.hand_over_id in known:
        return f"{entry.hand_over_id} is there already"
    _write(settings, [*reference.hand_overs, entry])
    outlets = _taken(reference_of(settings), entry.hand_over_id)
    return (
        f"{entry.hand_over_id}: {counted(len(outlets), 'outlet')} of {leaving} go to {successor}"
        f" from {_iso(valid_from)} on; running workers know within ten seconds"
    )


def undo_hand_over(settings: Settings, hand_over_id: str, at: str | None) -> str:
    """Give back what an entry handed over, from a time on. Raises `UsageError` if there is none."""
    reference = reference_of(settings)
    known = {e.hand_over_id: e for e in reference.hand_overs}
    entry = known.get(hand_over_id)
    if entry is None:
        raise UsageError(f"no hand-over {hand_over_id!r}; there are: {', '.join(known) or 'none'}")
    if entry.undone_at is not None:
        return f"{hand_over_id} was undone at {_iso(entry.undone_at)}"
    undone = entry.model_copy(update={"undone_at": _time(at)})
    _write(settings, [undone if e is entry else e for e in reference.hand_overs])
    return f"{hand_over_id} is undone from {_iso(undone.undone_at or 0)} on"


def list_hand_overs(settings: Settings) -> str:
    """A line an entry."""
    reference = reference_of(settings)
    lines = []
    for entry in sorted(reference.hand_overs, key=lambda e: e.valid_from):
        where = f" in {entry.territory_id}" if entry.territory_id else ""
        undone = f", undone {_iso(entry.undone_at)}" if entry.undone_at is not None else ""
        outlets = counted(len(_taken(reference, entry.hand_over_id)), "outlet")
        lines.append(
            f"{entry.hand_over_id}  {entry.wholesaler_id} -> {entry.successor_id}{where}"
            f" from {_iso(entry.valid_from)}{undone}: {outlets}"
        )
    return "\n".join(lines) or "nobody has left"


def notify_successors(settings: Settings, at: str | None) -> Iterator[str]:
    """Tell successors, once each, what they serve now and what of it is empty; a line an entry.

    Takes the entries in force at a time (now). Reads the open stock-outs from the warehouse; they
    do not count as notified by this message, as each has messages of its own. Raises `SendError`
    after the last line if somebody was not reached.
    """
    moment = _time(at)
    reference = reference_of(settings)
    entries = [
        entry
        for entry in sorted(reference.hand_overs, key=lambda e: (e.valid_from, e.hand_over_id))
        if entry.valid_from <= moment and (entry.undone_at is None or moment < entry.undone_at)
    ]
    if not entries:
        yield "no hand-over is in force now"
    unreached = []
    warehouse = open_warehouse(data=settings.data, url=settings.warehouse)
    try:
        for entry in entries:
            said, reached = asyncio.run(_notify(settings, warehouse, reference, entry))
            yield f"{entry.hand_over_id} to {entry.successor_id}: {said}"
            if not reached:
                unreached.append(entry.successor_id)
    finally:
        warehouse.close()
    if unreached:
        raise SendError(f"not reached: {', '.join(unreached)}")


async def _notify(
    settings: Settings, warehouse: Warehouse, reference: Reference, entry: HandOver
) -> tuple[str, bool]:
    """The outcome in words, and whether the successor knows."""
    if not _taken(reference, entry.hand_over_id):
        return "moves no outlet, nothing to tell", True
    delivery = delivery_of(settings)
    signature = delivery.routes.signature
    message, numbers = _message(settings, warehouse, reference, entry, signature)
    if await delivery.settled(message.message_id) is not None:
        return "notified before", True
    if numbers:
        record = await delivery.deliver(message, numbers)
    else:
        record = delivery.record(message, "undeliverable", "no number of theirs is known")
    rows = RowBuilder("messages")
    rows.add(**msgspec.structs.asdict(record))
    warehouse.insert(*to_rows("messages", rows.batch()))
    said = f"{record.status}{': ' + record.error if record.error else ''}"
    return said, record.status == "sent"


def _message(
    settings: Settings,
    warehouse: Warehouse,
    reference: Reference,
    entry: HandOver,
    signature: str,
) -> tuple[Message, list[str]]:
    """The message of an entry, and the successor's numbers, the best first."""
    taken = {takeover.outlet_id for takeover in _taken(reference, entry.hand_over_id)}
    empty = warehouse.query(
        "SELECT outlet_id, sku, toUnixTimestamp64Milli(opened_at) AS opened_at"
        " FROM stock_incidents WHERE closed_at IS NULL"
    ).to_pylist()
    directory = ReferenceDirectory(reference)
    shelves = [
        directory.shelf(ListedIncident("", row["outlet_id"], row["sku"], row["opened_at"]))
        for row in empty
        if row["outlet_id"] in taken
    ]
    successor = directory.wholesaler(entry.successor_id)
    language = successor.language if successor is not None else ""
    leaving = directory.wholesaler(entry.wholesaler_id)
    lead = title("hand_over", language, (leaving and leaving.name) or "?", len(taken))
    zone = zone_of(settings)
    text = (
        compose(
            shelves,
            language=language,
            timezone=zone,
            signature=signature,
            kind="digest",
            lead=lead,
            texts=Texts(settings.texts, signature=signature),
        )
        if shelves
        else plain(lead, OUR_TEXTS.spoken(language), signature)
    )
    numbers = contacts(successor.phone, successor.backup_phone) if successor is not None else []
    message = Message(
        blake2b(f"hand-over/{entry.hand_over_id}".encode(), digest_size=12).hexdigest(),
        entry.successor_id,
        next(iter(numbers), ""),
        text.body,
        text.language,
        entry.valid_from,
        (),
        text.segments,
        entry.valid_from,
        asks=False,
    )
    return message, numbers


def _taken(reference: Reference, hand_over_id: str) -> list[Takeover]:
    return [t for t in reference.takeovers if t.hand_over_id == hand_over_id]


def _write(settings: Settings, entries: Iterable[HandOver]) -> None:
    """Replace the table in one step: a reader sees it as it was or as it is."""
    assert settings.reference is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        undone = _iso(entry.undone_at) if entry.undone_at is not None else ""
        writer.writerow(
            (
                entry.hand_over_id,
                entry.wholesaler_id,
                entry.successor_id,
                entry.territory_id or "",
                _iso(entry.valid_from),
                undone,
            )
        )
    path = settings.reference / "hand_overs.csv"
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
