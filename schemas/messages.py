"""SMS messages: what a sender is given, what it answers, and the row that tells what became of it.

Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from typing import Literal

import msgspec

#: sent: the provider (or file, or screen) took it · refused: it never will · undeliverable: there
#: is nobody to send it to · stale: too old to be of use · failed: all tries were used up.
Status = Literal["sent", "refused", "undeliverable", "stale", "failed"]


class ListedIncident(msgspec.Struct, frozen=True):
    """A stock-out as a message lists it."""

    incident_id: str
    outlet_id: str
    sku: str
    opened_at: int


class Message(msgspec.Struct, frozen=True):
    """One SMS, ready to go. `to` is a number in E.164; `at` is when it fell due.

    `message_id` identifies it for ever: the same stock-outs give the same id after any crash.
    `fresh_since` is when what it says became so, if that is not when its stock-outs began. One that
    `asks` for nothing is not what an answer is about.
    """

    message_id: str
    wholesaler_id: str
    to: str
    body: str
    language: str
    at: int
    incidents: tuple[ListedIncident, ...]
    segments: int
    fresh_since: int = 0
    asks: bool = True


class Receipt(msgspec.Struct, frozen=True):
    """Proof that a message was accepted; `provider_id` is the provider's name for it."""

    provider_id: str
    segments: int


class MessageRecord(msgspec.Struct, frozen=True):
    """What became of a message: a row of `schemas.envelope.MESSAGES`, field by field.

    Of several records with one `message_id` the one with the highest `version` holds.
    """

    message_id: str
    wholesaler_id: str
    incident_ids: list[str]
    body: str
    segments: int
    created_at: int
    status: Status
    attempts: int
    provider_id: str
    error: str
    version: int
