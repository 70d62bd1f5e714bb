"""News of messages: what providers and phones say, and later who else has something to say.

News travels on the topic stock-incidents, in the partition of its wholesaler, so that whoever
alerts reads it in one stream with the incidents it is about. It promises nothing: its envelopes
bear no source and no watermark. Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from schemas.envelope import ANSWERS, Header, pack


class Answer(msgspec.Struct, frozen=True):
    """A row of `schemas.envelope.ANSWERS`, field by field.

    `answer_id` names it for ever: what is told twice counts once. `kind` is status (of a message, as
    the provider tells it), acknowledged, delivering, cannot, stop or start; others may follow.
    `incident_id` is '' where the whole message is meant, `message_id` is '' where none is.
    `detail` is a JSON object; `by` is who said it: provider, sms or page.
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
    """The rows of an envelope of kind `news`."""
    return [Answer(**row) for row in rows.to_pylist()]
