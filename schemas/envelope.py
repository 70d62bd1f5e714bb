"""The columnar envelope: one Kafka message that carries many rows.

Layout of the bytes::

    b"ZS" | version u8 | pad u8 | header length u32 | header, msgpack, padded | Arrow record batch

The record batch is an Arrow IPC message *without* its schema: the kind in the header names one of
`SCHEMAS`, so a one-row envelope stays small and a 16,384-row one decodes without a copy. Anything
that does not fit raises `EnvelopeError`; no other error leaves this module.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
import pyarrow as pa

from schemas.errors import EnvelopeError

_PREFIX: Final = struct.Struct("<2sBxI")
_MAGIC: Final = b"ZS"
_VERSION: Final = 1

#: A watermark lower than any event's time: the input has promised nothing yet.
NO_WATERMARK: Final = -(2**63)

_ms = pa.timestamp("ms", tz="UTC")

#: Rows that may be a SIM's first use: calls and activations alike.
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
    ]
)

INCIDENTS = pa.schema(
    [
        ("incident_id", pa.string()),
        ("outlet_id", pa.string()),
        ("sku", pa.string()),
        ("wholesaler_id", pa.string()),
        ("opened_at", pa.int64()),
        ("closed_at", pa.int64()),
        ("at", pa.int64()),
    ]
)

LEVELS = pa.schema(
    [
        ("outlet_id", pa.string()),
        ("sku", pa.string()),
        ("on_hand", pa.int32()),
        ("wholesaler_id", pa.string()),
        ("as_of", pa.int64()),
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

ANOMALIES = pa.schema(
    [
        ("event_id", pa.string()),
        ("iccid", pa.string()),
        ("kind", pa.string()),
        ("at", pa.int64()),
        ("detail", pa.string()),
    ]
)

REGISTRATIONS = pa.schema(
    [("event_id", pa.string()), ("imsi", pa.int64()), ("at", pa.int64()), ("complete", pa.bool_())]
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

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "uses": USES,
    "late_uses": LATE_USES,
    "placements": PLACEMENTS,
    "movements": MOVEMENTS,
    "incidents": INCIDENTS,
    "levels": LEVELS,
    "messages": MESSAGES,
    "anomalies": ANOMALIES,
    "registrations": REGISTRATIONS,
    "dead_letters": DEAD_LETTERS,
}


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What an envelope says about itself besides its rows.

    `source` names the input whose promise `watermark` is: an exchange folder on sim-events, a
    partition of the topic before on the others. The watermark holds *after* the rows: none that
    follows from this source is known before it. `ended` says that the source has no more for now.
    `peers` lists all sources there are, so that a reader knows for whom to wait; a partition
    reader is told how many partitions there are in the same way.
    """

    kind: str = "none"
    source: str = ""
    watermark: int = NO_WATERMARK
    ended: bool = False
    peers: tuple[str, ...] = ()


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode


def pack(header: Header, rows: pa.RecordBatch | None = None) -> bytes:
    """The bytes of one envelope; `rows` must have exactly the schema that `header.kind` names."""
    if rows is not None and not rows.schema.equals(SCHEMAS.get(header.kind)):
        raise EnvelopeError(f"rows do not have the schema of {header.kind!r}")
    head = _encode_header(header)
    head += b"\0" * (-len(head) % 8)
    body = rows.serialize() if rows is not None else b""
    return b"".join((_PREFIX.pack(_MAGIC, _VERSION, len(head)), head, body))


def unpack(data: bytes) -> tuple[Header, pa.RecordBatch | None]:
    """The header and rows of an envelope.

    Raises `EnvelopeError` for bytes that are not a whole, valid envelope.
    """
    try:
        magic, version, length = _PREFIX.unpack_from(data)
        if magic != _MAGIC or version != _VERSION:
            raise EnvelopeError("not a zerostock envelope of version 1")
        start = _PREFIX.size + length
        if start > len(data):
            raise EnvelopeError("envelope is cut short")
        header = _decode_header(data[_PREFIX.size : start].rstrip(b"\0") or b"\x90")
        if start == len(data):
            return header, None
        rows = pa.ipc.read_record_batch(pa.py_buffer(data).slice(start), SCHEMAS[header.kind])
        rows.validate(full=True)  # a corrupt offset must be an error here, not a crash later
    except KeyError as error:
        raise EnvelopeError(f"unknown kind of envelope {error}") from None
    except (struct.error, msgspec.MsgspecError, pa.ArrowException, OSError, ValueError) as error:
        raise EnvelopeError(f"not a valid envelope: {error}") from None
    return header, rows
