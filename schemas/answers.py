"""What people say to the alerts stage: answers to messages, and policies.

They travel on the topic stock-incidents, answers in the partition of their wholesaler and policies
in all of them, so that the alerts worker reads them in one stream with the incidents they are
about, and whoever reads that again decides alike. Their envelopes bear no source and no watermark.
Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from schemas.envelope import ANSWERS, POLICIES, Header, pack


class Answer(msgspec.Struct, frozen=True):
    """A row of `schemas.envelope.ANSWERS`, field by field.

    `answer_id` is its id for ever: one that comes twice counts once. `kind` is status (of a
    message, as the provider reports it), acknowledged, delivering, cannot, stop or start; others
    may follow. `incident_id` is '' where the whole message is meant, `message_id` is '' where none
    is. `detail` is a JSON object; `by` is who said it: provider, sms or page.
    """

    answer_id: str
    at: int
    wholesaler_id: str
    kind: str
    message_id: str
    incident_id: str
    detail: str
    by: str


def pack_answers(rows: Sequence[Answer]) -> bytes:
    """The envelope of some rows, all for one partition."""
    batch = pa.RecordBatch.from_pylist(
        [msgspec.structs.asdict(row) for row in rows], schema=ANSWERS
    )
    return pack(Header(kind="answers"), batch)


def answers_of(rows: pa.RecordBatch) -> list[Answer]:
    """The rows of an envelope of kind `answers`."""
    return [Answer(**row) for row in rows.to_pylist()]


class PolicyRecord(msgspec.Struct, frozen=True):
    """A row of `schemas.envelope.POLICIES`, field by field.

    `record_id` is its id for ever: one that comes twice counts once. `at` is when the file was
    read (wall ms), `name` the file's, '' where alerts go by none; `text` is all of it. With an
    `error` the file could not be used: what was in force stays so, which for a worker that just
    started is `text`.
    """

    record_id: str
    at: int
    name: str
    text: str
    error: str = ""


def pack_policy(record: PolicyRecord) -> bytes:
    """The envelope of a record, the same for each partition."""
    batch = pa.RecordBatch.from_pylist([msgspec.structs.asdict(record)], schema=POLICIES)
    return pack(Header(kind="policies"), batch)


def policies_of(rows: pa.RecordBatch) -> list[PolicyRecord]:
    """The rows of an envelope of kind `policies`."""
    return [PolicyRecord(**row) for row in rows.to_pylist()]
