"""Answers to messages: what providers and phones say.

They travel on the topic stock-incidents, in the partition of their wholesaler, so that the alerts
worker reads them in one stream with the incidents they are about. Their envelopes bear no source
and no watermark. Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from schemas.envelope import ANSWERS, Header, pack


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
