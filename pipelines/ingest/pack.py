"""Accepted rows into envelopes: who is concerned, how late they are, which partition they go to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.effects import Effect, RowBuilder
from pipelines.core.stock.placement import PlacementType
from pipelines.ingest.check import Checked
from pipelines.ingest.sent_uses import SentUses
from pipelines.ingest.service.rows import service_rows
from pipelines.ingest.sim_ranges import Placed, sim_ranges
from pipelines.ingest.source_clock import LONGEST_CALL, SourceClock
from pipelines.ingest.times import Bools, Int64s
from schemas import topics
from schemas.cards import CardList
from schemas.envelope import (
    LATE_USES,
    SIM_CARDS,
    USES,
    Header,
)
from schemas.events import Delivery, Event, Refused, Registration, Return, Transfer, WriteOff
from schemas.reference import Reference
from schemas.service.events import ServiceEvent
from schemas.topics import SIM_BLOCK, block_of, partition_of_block, partition_of_key

#: Uses an envelope carries at most.
ENVELOPE_USES = 16_384

#: Inputs that are not read and are named.
MOST_UNREAD = 1_000

#: Bytes of rows an envelope has at most: less than a broker's usual limit of 1 MB a message.
ENVELOPE_BYTES = 900_000


@dataclass
class Packed:
    """A chunk as envelopes, its refused lines, and what was counted on the way."""

    effects: list[Effect]
    refused: list[tuple[int, str, bytes]]
    uses: int = 0
    placements: int = 0
    outsiders: int = 0


def pack_chunk(
    checked: Checked,
    source: str,
    clock: SourceClock,
    reference: Reference,
    partitions: int,
    file: str = "",
    sent: SentUses | None = None,
) -> Packed:
    """The envelopes of a chunk; the last of each partition bears the source's new watermark.

    `file` is where the lines stand: what only a stage can refuse becomes a dead letter there. Uses
    of SIMs in no batch travel too, if their numbers begin like ours: a batch may come later; of
    those only what is not in `sent`.
    """
    before = clock.watermark
    others, refused, outsiders = _resolve(checked, reference)
    lines = np.concatenate([checked.lines, np.array([line for line, _, _ in others], np.int64)])
    times = np.concatenate([checked.at, np.array([e.at for _, e, _ in others], np.int64)])
    order = np.argsort(lines, kind="stable")
    known = np.empty(len(lines), np.int64)
    lasted = _lasted(checked, len(others))[order] if clock.by_end else None
    known[order] = clock.known_at(times[order], lasted)
    ours = reference.registered(checked.imsis)
    packed = Packed([], checked.refused + refused, outsiders=outsiders + int((~ours).sum()))
    batches: dict[int, list[tuple[str, pa.RecordBatch]]] = {p: [] for p in range(partitions)}
    for partition, kind, rows in _uses(checked, known[: len(checked.at)], ours, partitions):
        batches[partition].append((kind, rows))
        packed.uses += rows.num_rows
    others_uses = ~ours
    if others_uses.any():
        others_uses &= reference.own_network(checked.imsis)
    if sent is not None and others_uses.any():
        numbers = np.flatnonzero(others_uses)
        others_uses[numbers] = sent.unsent(checked.imsis[numbers], checked.at[numbers])
    for partition, numbers in _by_partition(checked, others_uses, partitions):
        for batch in _to_size(_columns_of(checked, numbers, USES)):
            batches[partition].append(("unregistered_uses", batch))
    placements: dict[int, RowBuilder] = {}
    registrations: dict[int, RowBuilder] = {}
    service: list[tuple[int, ServiceEvent, int]] = []
    for (line, event, ranges), known_at in zip(
        others, known[len(checked.at) :].tolist(), strict=True
    ):
        if isinstance(event, Registration):
            for imsi, _ in ranges:
                partition = partition_of_block(block_of(imsi), partitions)
                registrations.setdefault(partition, RowBuilder("registrations")).add(
                    event_id=event.event_id, imsi=imsi, at=event.at, complete=event.complete
                )
            continue
        if isinstance(event, ServiceEvent):
            service.append((line, event, known_at))
        if not isinstance(event, Placed):
            continue
        packed.placements += 1
        for first, count in _cut(ranges):
            partition = partition_of_block(block_of(first), partitions)
            _add_placement(
                placements.setdefault(partition, RowBuilder("placements")),
                event,
                known_at,
                first,
                count,
            )
    for partition, rows in placements.items():
        batches[partition] += [("placements", some) for some in _to_size(rows.batch())]
    cases: dict[int, list[tuple[str, pa.RecordBatch]]] = {p: [] for p in range(partitions)}
    for kind, partition, found in service_rows(service, file, partitions):
        if kind == "case_events":
            cases[partition] += [(kind, some) for some in _to_size(found)]
        else:
            packed.effects += [
                Effect(topics.SERVICE_RECORDS, partition, Header(kind), some)
                for some in _to_size(found)
            ]
    for topic, of_topic in ((topics.SIM_EVENTS, batches), (topics.CASE_EVENTS, cases)):
        for partition, some in of_topic.items():
            packed.effects += _enveloped(topic, some, source, partition, before, clock.watermark)
    for partition, rows in registrations.items():
        packed.effects += [
            Effect(topics.REGISTRATIONS, partition, Header("registrations"), some)
            for some in _to_size(rows.batch())
        ]
    return packed


def _lasted(checked: Checked, others: int) -> Int64s:
    """How long each row's call lasted, ms, and 0 for all other events behind them."""
    found = np.zeros(len(checked.at) + others, np.int64)
    if checked.detail is not None:
        seconds = pc.fill_null(checked.detail["duration_s"], 0).to_numpy()
        found[: len(seconds)] = np.minimum(seconds * 1_000, LONGEST_CALL)
    return found


def dead_letters(name: str, refused: list[tuple[int, str, bytes]], partitions: int) -> list[Effect]:
    """The dead letters of a file as envelopes; `refused` has (line, reason, bytes)."""
    if not refused:
        return []
    rows = RowBuilder("dead_letters")
    now = time.time_ns() // 1_000_000
    for line, reason, payload in refused:
        rows.add(source=name, position=line, received_at=now, reason=reason, payload=payload)
    partition = partition_of_key(name, partitions)
    header = Header("dead_letters")
    return [Effect(topics.DEAD_LETTERS, partition, header, some) for some in _to_size(rows.batch())]


def unread_inputs(
    reader: str, at: int, unread: list[tuple[str, str]], partitions: int
) -> list[Effect]:
    """What a reader found at a time (ms) and does not read: (name, why), the first of them."""
    rows = RowBuilder("unread_inputs")
    shown = [("", ""), *unread[:MOST_UNREAD]]
    for number, (name, why) in enumerate(shown):
        rows.add(reader=reader, at=at, n=number, input=name, reason=why)
    partition = partition_of_key(reader, partitions)
    header = Header("unread_inputs")
    return [Effect(topics.DEAD_LETTERS, partition, header, some) for some in _to_size(rows.batch())]


def _to_size(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows in slices that fit into an envelope; a single row is never cut."""
    if rows.nbytes <= ENVELOPE_BYTES or rows.num_rows == 1:
        yield rows
        return
    half = rows.num_rows // 2
    yield from _to_size(rows.slice(0, half))
    yield from _to_size(rows.slice(half))


def sim_ranges_of(reference: Reference, partitions: int) -> list[Effect]:
    """Which SIMs are ours, for all partitions: to be sent before the first row about them."""
    if not reference.batches:
        return []
    rows = RowBuilder("sim_ranges")
    for batch in reference.batches:
        rows.add(
            range_start=int(batch.first_imsi),
            sims=batch.count,
            sku=batch.sku,
            first_iccid=batch.first_iccid,
            luhn=batch.luhn,
        )
    return [
        Effect(topics.SIM_EVENTS, partition, Header("sim_ranges"), some)
        for partition in range(partitions)
        for some in _to_size(rows.batch())
    ]


def sim_cards_of(cards: CardList, partitions: int) -> list[Effect]:
    """Which listed cards are ours, each to the partition of its SIM, likewise."""
    found: list[Effect] = []
    partition_of = partition_of_block(block_of(cards.imsis), partitions)
    for partition in np.unique(partition_of).tolist():
        some = cards.filter(partition_of == partition)
        columns = [pa.array(column) for column in (some.imsis, some.iccids, some.skus)]
        rows = pa.record_batch(columns, schema=SIM_CARDS)
        header = Header("sim_cards")
        found += [Effect(topics.SIM_EVENTS, partition, header, few) for few in _to_size(rows)]
    return found


def announcement(header: Header, partitions: int) -> list[Effect]:
    """What is to be known of a source, to all partitions, without rows."""
    return [
        Effect(topic, partition, header)
        for topic in (topics.SIM_EVENTS, topics.CASE_EVENTS)
        for partition in range(partitions)
    ]


_Resolved = list[tuple[int, Event, list[tuple[int, int]]]]


def _resolve(
    checked: Checked, reference: Reference
) -> tuple[_Resolved, list[tuple[int, str, bytes]], int]:
    """Other events with the SIM ranges they speak of; those naming unknown things are refused."""
    found: _Resolved = []
    refused: list[tuple[int, str, bytes]] = []
    outsiders = 0
    for (line, event), raw in zip(checked.others, checked.raw_others, strict=True):
        try:
            ranges = sim_ranges(event, reference)
        except Refused as reason:
            refused.append((line, str(reason), raw))
            continue
        if isinstance(event, Registration) and not ranges:
            outsiders += 1
        found.append((line, event, ranges))
    return found, refused, outsiders


def _cut(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges of SIMs cut at block borders."""
    for first, count in ranges:
        start, end = first, first + count
        while start < end:
            border = min(end, (block_of(start) + 1) * SIM_BLOCK)
            yield start, border - start
            start = border


_TYPES: dict[type[Placed], PlacementType] = {
    Delivery: PlacementType.DELIVERY,
    Return: PlacementType.RETURN,
    Transfer: PlacementType.TRANSFER,
    WriteOff: PlacementType.WRITE_OFF,
}


def _add_placement(rows: RowBuilder, event: Placed, known_at: int, first: int, count: int) -> None:
    if isinstance(event, Transfer):
        outlet_id, to_outlet_id = event.from_outlet_id, event.to_outlet_id
    else:
        outlet_id, to_outlet_id = event.outlet_id, ""
    rows.add(
        event_id=event.event_id,
        at=event.at,
        known_at=known_at,
        type=int(_TYPES[type(event)]),
        outlet_id=outlet_id,
        to_outlet_id=to_outlet_id,
        first_imsi=first,
        count=count,
    )


def _uses(
    checked: Checked, known: Int64s, ours: Bools, parts: int
) -> Iterator[tuple[int, str, pa.RecordBatch]]:
    """Calls and activations of registered SIMs by partition, in the order of lines."""
    late = bool((known > checked.at)[ours].any())
    kind, schema = ("late_uses", LATE_USES) if late else ("uses", USES)
    for partition, some in _by_partition(checked, ours, parts):
        more = [pa.array(known[some])] if late else []
        for batch in _to_size(_columns_of(checked, some, schema, *more)):
            yield partition, kind, batch


def _by_partition(checked: Checked, wanted: Bools, parts: int) -> Iterator[tuple[int, Int64s]]:
    """The numbers of the rows that are wanted, by partition, as many as an envelope may carry."""
    if not wanted.any():
        return
    partition_of = np.where(wanted, partition_of_block(block_of(checked.imsis), parts), -1)
    for partition in range(parts):
        rows = np.flatnonzero(partition_of == partition)
        for start in range(0, len(rows), ENVELOPE_USES):
            yield partition, rows[start : start + ENVELOPE_USES]


def _columns_of(
    checked: Checked, rows: Int64s, schema: pa.Schema, *more: pa.Array
) -> pa.RecordBatch:
    some = pa.array(rows)
    columns = [pa.array(checked.imsis[rows]), pa.array(checked.at[rows]), checked.ids.take(some)]
    return pa.record_batch([*columns, *more], schema=schema)


def _enveloped(
    topic: str,
    batches: list[tuple[str, pa.RecordBatch]],
    source: str,
    partition: int,
    before: int,
    after: int,
) -> Iterator[Effect]:
    """A partition's share of a chunk: the new watermark is true only once all of it is there."""
    if not batches:
        yield Effect(topic, partition, Header("none", source, after))
    for number, (kind, rows) in enumerate(batches, start=1):
        mark = after if number == len(batches) else before
        yield Effect(topic, partition, Header(kind, source, mark), rows)
