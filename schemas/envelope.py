"""The columnar envelope: one Kafka message that carries many rows.

Layout of the bytes::

    b"ZS" | version u8 | 0 u8 | header length u32 | CRC-32 of version and what follows u32 | 0 u32
    | header, msgpack, padded | Arrow record batch

The record batch is an Arrow IPC message *without* its schema: the kind in the header names one of
`SCHEMAS`, so a one-row envelope stays small and a 16,384-row one decodes without a copy. Anything
that does not fit raises `EnvelopeError`; no other error leaves this module. The checksum is there
because one odd byte in a source's name would be a source that holds back the watermark for ever.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec
import pyarrow as pa

from schemas import topics
from schemas.errors import EnvelopeError, NewerVersion
from schemas.fields import TIME_END
from schemas.invariants import violation

_PREFIX: Final = struct.Struct("<2sBBIII")
_MAGIC: Final = b"ZS"
_VERSION: Final = 4

#: A watermark lower than any event's time: nothing is known of the input yet.
NO_WATERMARK: Final = -(2**63)

_ms = pa.timestamp("ms", tz="UTC")

#: Rows that may be a SIM's first use: calls and activations alike. As `unregistered_uses` they are
#: of SIMs in no batch that their reader knows, which a batch may name later.
USES = pa.schema([("imsi", pa.int64()), ("at", pa.int64()), ("event_id", pa.string())])

#: The same with `known_at`, for chunks in which some row came later than its source's watermark.
LATE_USES = USES.append(pa.field("known_at", pa.int64()))

#: What outlets and wholesalers report, cut at SIM block borders. `type` is a `PlacementType`;
#: `outlet_id` is where the SIMs go (delivery) or come from; `to_outlet_id` is set for transfers.
PLACEMENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("at", pa.int64()),
        ("known_at", pa.int64()),
        ("type", pa.uint8()),
        ("outlet_id", pa.string()),
        ("to_outlet_id", pa.string()),
        ("first_imsi", pa.int64()),
        ("count", pa.int32()),
    ]
)

#: SIMs that are ours, as `pipelines.core.stock.sim_registry.SimRange` has them: they precede, in
#: every partition, the first row that speaks of them.
SIM_RANGES = pa.schema(
    [
        ("range_start", pa.int64()),
        ("sims", pa.int64()),
        ("sku", pa.string()),
        ("first_iccid", pa.string()),
        ("luhn", pa.bool_()),
    ]
)

#: Cards whose numbers follow no rule, likewise, each in the partition of its SIM's block.
SIM_CARDS = pa.schema([("imsi", pa.int64()), ("iccid", pa.string()), ("sku", pa.string())])

#: A SIM came to a shelf or left it. A row with `known_at` after `at` restates history; of rows with
#: one `movement_id` the one known last holds, and says with `withdrawn` that it never was.
MOVEMENTS = pa.schema(
    [
        ("movement_id", pa.string()),
        ("at", pa.int64()),
        ("known_at", pa.int64()),
        ("outlet_id", pa.string()),
        ("sku", pa.string()),
        ("imsi", pa.int64()),
        ("iccid", pa.string()),
        ("delta", pa.int8()),
        ("cause", pa.string()),
        ("event_id", pa.string()),
        ("wholesaler_id", pa.string()),
        ("withdrawn", pa.bool_()),
    ]
)

#: A stock-out opened (`closed_at` is null), closed, restated or withdrawn; `at` is when that
#: became known, `restated_at` when it last became another than it had been.
INCIDENTS = pa.schema(
    [
        ("incident_id", pa.string()),
        ("outlet_id", pa.string()),
        ("sku", pa.string()),
        ("wholesaler_id", pa.string()),
        ("opened_at", pa.int64()),
        ("closed_at", pa.int64()),
        ("at", pa.int64()),
        ("restated_at", pa.int64()),
        ("withdrawn", pa.bool_()),
    ]
)

#: What was heard about messages; see `schemas.answers`.
ANSWERS = pa.schema(
    [
        ("answer_id", pa.string()),
        ("at", pa.int64()),
        ("wholesaler_id", pa.string()),
        ("kind", pa.string()),
        ("message_id", pa.string()),
        ("incident_id", pa.string()),
        ("detail", pa.string()),
        ("by", pa.string()),
    ]
)

#: What operators decided about alerts; see `schemas.answers`.
POLICIES = pa.schema(
    [
        ("record_id", pa.string()),
        ("at", pa.int64()),
        ("name", pa.string()),
        ("text", pa.string()),
        ("error", pa.string()),
    ]
)

LEVELS = pa.schema(
    [
        ("outlet_id", pa.string()),
        ("sku", pa.string()),
        ("on_hand", pa.int32()),
        ("wholesaler_id", pa.string()),
        ("as_of", pa.int64()),
        ("withdrawn", pa.bool_()),
    ]
)

MESSAGES = pa.schema(
    [
        ("message_id", pa.string()),
        ("wholesaler_id", pa.string()),
        ("incident_ids", pa.list_(pa.string())),
        ("body", pa.string()),
        ("segments", pa.int32()),
        ("created_at", pa.int64()),
        ("status", pa.string()),
        ("attempts", pa.int32()),
        ("provider_id", pa.string()),
        ("error", pa.string()),
        ("version", pa.int64()),
    ]
)

#: What was decided and heard about stock-outs; see `schemas.alert_events`.
ALERT_EVENTS = pa.schema(
    [
        ("incident_id", pa.string()),
        ("wholesaler_id", pa.string()),
        ("at", pa.int64()),
        ("kind", pa.string()),
        ("message_id", pa.string()),
        ("detail", pa.string()),
        ("by", pa.string()),
        ("slot", pa.string()),
        ("version", pa.int64()),
    ]
)

ANOMALIES = pa.schema(
    [
        ("event_id", pa.string()),
        ("iccid", pa.string()),
        ("kind", pa.string()),
        ("at", pa.int64()),
        ("detail", pa.string()),
        ("known_at", pa.int64()),
        ("withdrawn", pa.bool_()),
    ]
)

REGISTRATIONS = pa.schema(
    [("event_id", pa.string()), ("imsi", pa.int64()), ("at", pa.int64()), ("complete", pa.bool_())]
)

#: What happened to cases. `subject` is the kind of an opening, the step done, or what was said;
#: `flag` says green of an opening, satisfied of a call back. Texts that an event lacks are ''.
#: `repeat_of` is known behind the first stage. `source` and `position` are where the line stands.
CASE_EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("at", pa.int64()),
        ("known_at", pa.int64()),
        ("event_type", pa.string()),
        ("case_id", pa.string()),
        ("subject", pa.string()),
        ("unit_id", pa.string()),
        ("customer_id", pa.string()),
        ("about", pa.string()),
        ("severity", pa.string()),
        ("flag", pa.bool_()),
        ("repeat_of", pa.string()),
        ("source", pa.string()),
        ("position", pa.int64()),
    ]
)

#: A case as it stands; of rows with one `case_id` that of the highest version holds.
CASES = pa.schema(
    [
        ("case_id", pa.string()),
        ("kind", pa.string()),
        ("unit_id", pa.string()),
        ("severity", pa.string()),
        ("green", pa.bool_()),
        ("step", pa.string()),
        ("customer_id", pa.string()),
        ("about", pa.string()),
        ("opened_at", pa.int64()),
        ("due_at", pa.int64()),
        ("answered_at", pa.int64()),
        ("closed_at", pa.int64()),
        ("paused_s", pa.float64()),
        ("on_time", pa.int8()),
        ("repeat_of", pa.string()),
        ("reopened", pa.int32()),
        ("satisfied", pa.int8()),
        ("outcome", pa.string()),
        ("version", pa.int64()),
    ]
)

#: A step that was begun, for the `n`-th time.
CASE_STEPS = pa.schema(
    [
        ("case_id", pa.string()),
        ("step", pa.string()),
        ("n", pa.int32()),
        ("unit_id", pa.string()),
        ("started_at", pa.int64()),
        ("due_at", pa.int64()),
        ("warn_at", pa.int64()),
        ("finished_at", pa.int64()),
        ("paused_s", pa.float64()),
        ("late_s", pa.float64()),
        ("withdrawn", pa.bool_()),
        ("version", pa.int64()),
    ]
)

CONTACTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("at", pa.int64()),
        ("unit_id", pa.string()),
        ("agent_id", pa.string()),
        ("direction", pa.string()),
        ("answered_after_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("second", pa.bool_()),
    ]
)

INSPECTIONS = pa.schema(
    [
        ("event_id", pa.string()),
        ("at", pa.int64()),
        ("unit_id", pa.string()),
        ("form", pa.string()),
        ("item", pa.string()),
        ("points", pa.float64()),
        ("of", pa.float64()),
        ("inspector_id", pa.string()),
        ("note", pa.string()),
    ]
)

RATINGS = pa.schema(
    [
        ("event_id", pa.string()),
        ("at", pa.int64()),
        ("unit_id", pa.string()),
        ("satisfied", pa.bool_()),
        ("agent_id", pa.string()),
    ]
)

EXAMS = pa.schema(
    [
        ("event_id", pa.string()),
        ("at", pa.int64()),
        ("unit_id", pa.string()),
        ("agent_id", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float64()),
        ("attended", pa.bool_()),
    ]
)

DEAD_LETTERS = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("received_at", pa.int64()),
        ("reason", pa.string()),
        ("payload", pa.binary()),
    ]
)

#: What a reader found and does not read; its newest list, told by `at`, replaces those before. The
#: row `n` = 0 names nothing: there is a list, perhaps an empty one.
UNREAD_INPUTS = pa.schema(
    [
        ("reader", pa.string()),
        ("at", pa.int64()),
        ("n", pa.int32()),
        ("input", pa.string()),
        ("reason", pa.string()),
    ]
)

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "uses": USES,
    "late_uses": LATE_USES,
    "unregistered_uses": USES,
    "placements": PLACEMENTS,
    "sim_ranges": SIM_RANGES,
    "sim_cards": SIM_CARDS,
    "movements": MOVEMENTS,
    "incidents": INCIDENTS,
    "answers": ANSWERS,
    "policies": POLICIES,
    "levels": LEVELS,
    "messages": MESSAGES,
    "alert_events": ALERT_EVENTS,
    "anomalies": ANOMALIES,
    "registrations": REGISTRATIONS,
    "case_events": CASE_EVENTS,
    "cases": CASES,
    "case_steps": CASE_STEPS,
    "contacts": CONTACTS,
    "inspections": INSPECTIONS,
    "ratings": RATINGS,
    "exams": EXAMS,
    "dead_letters": DEAD_LETTERS,
    "unread_inputs": UNREAD_INPUTS,
}


#: The kinds of rows that a topic carries; watermarks without rows travel on all.
KINDS: Final[dict[str, tuple[str, ...]]] = {
    topics.SIM_EVENTS: (
        *("uses", "late_uses", "unregistered_uses", "placements"),
        *("sim_ranges", "sim_cards"),
    ),
    topics.STOCK_MOVEMENTS: ("movements",),
    topics.STOCK_INCIDENTS: ("incidents", "answers", "policies"),
    topics.STOCK_LEVELS: ("levels",),
    topics.SMS_MESSAGES: ("messages", "alert_events"),
    topics.ANOMALIES: ("anomalies",),
    topics.REGISTRATIONS: ("registrations",),
    topics.CASE_EVENTS: ("case_events",),
    topics.CASES: ("case_events",),
    topics.CASE_STATES: ("cases", "case_steps"),
    topics.SERVICE_RECORDS: ("contacts", "inspections", "ratings", "exams"),
    topics.DEAD_LETTERS: ("dead_letters", "unread_inputs"),
}


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What an envelope says about itself besides its rows.

    `source` names the input whose `watermark` this is: an exchange folder on sim-events, a
    partition of the topic before on the others. The watermark holds *after* the rows: none that
    follows from this source is known before it. `ended` says that the source has no more for now
    (or, retired, never again), `absent` that nobody reads it at present: it holds nobody back until
    an envelope of it says otherwise, but the input has not ended. `peers` lists all sources there
    are, so that a reader knows for whom to wait; a partition reader is told how many partitions
    there are in the same way.
    """

    kind: str = "none"
    source: str = ""
    watermark: int = NO_WATERMARK
    ended: bool = False
    peers: tuple[str, ...] = ()
    absent: bool = False


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode


def pack(header: Header, rows: pa.RecordBatch | None = None) -> bytes:
    """The bytes of one envelope; `rows` must have exactly the schema that `header.kind` names."""
    if rows is not None and not rows.schema.equals(SCHEMAS.get(header.kind)):
        raise EnvelopeError(f"rows do not have the schema of {header.kind!r}")
    head = _encode_header(header)
    head += b"\0" * (-len(head) % 8)
    body = rows.serialize() if rows is not None else b""
    check = zlib.crc32(body, zlib.crc32(head, zlib.crc32(bytes((_VERSION,)))))
    return b"".join((_PREFIX.pack(_MAGIC, _VERSION, 0, len(head), check, 0), head, body))


def unpack(data: bytes | None, topic: str | None = None) -> tuple[Header, pa.RecordBatch | None]:
    """The header and rows of an envelope; a message without a value is none.

    Raises `EnvelopeError` for bytes that are not a whole, valid envelope, for rows that no program
    of ours writes, and, if the topic is given, for rows that do not belong there; `NewerVersion`
    for a whole envelope of a version to come: the prefix and its checksum stay as they are.
    """
    if data is None:
        raise EnvelopeError("the message has no value")
    try:
        magic, version, zero, length, check, zeros = _PREFIX.unpack_from(data)
        if (magic, zero, zeros) != (_MAGIC, 0, 0) or version < _VERSION:
            raise EnvelopeError(f"not a zerostock envelope of version {_VERSION}")
        start = _PREFIX.size + length
        if start > len(data):
            raise EnvelopeError("envelope is cut short")
        if zlib.crc32(memoryview(data)[_PREFIX.size :], zlib.crc32(bytes((version,)))) != check:
            raise EnvelopeError("envelope is damaged: its checksum is another")
        if version > _VERSION:
            raise NewerVersion(
                f"an envelope of version {version} was written by a newer zerostock; this one"
                f" reads version {_VERSION}: upgrade it"
            )
        header = _decode_header(data[_PREFIX.size : start].rstrip(b"\0") or b"\x90")
        if header.watermark > 2 * TIME_END:
            raise EnvelopeError("envelope has a watermark that no event can reach")
        if topic is not None and header.kind not in ("none", *KINDS[topic]):
            raise EnvelopeError(f"{header.kind[:30]!r} does not belong on {topic}")
        if start == len(data):
            return header, None
        rows = pa.ipc.read_record_batch(pa.py_buffer(data).slice(start), SCHEMAS[header.kind])
        rows.validate(full=True)  # a corrupt offset must be an error here, not a crash later
        if (why := violation(rows)) is not None:
            raise EnvelopeError(f"rows of {header.kind!r} that nobody can mean: {why}")
    except KeyError:
        raise EnvelopeError(f"unknown kind of envelope {header.kind[:30]!r}") from None
    except _DAMAGE as error:
        raise EnvelopeError(f"not a valid envelope: {error}") from None
    return header, rows


#: What decoding garbage may raise.
_DAMAGE: Final = (
    struct.error, msgspec.MsgspecError, pa.ArrowException, OSError, EOFError, ValueError
)  # fmt: skip
