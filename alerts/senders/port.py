"""What every way to send an SMS has in common. No sender lives here.

SendError              not accepted; a later try is safe
├── SendThrottled      … but not before `retry_after` seconds
├── SendLater          … but only a few times: the phone may stay out of reach
├── SendRefused        never will be accepted
│   └── NumberRefused  whatever is sent to this number: remember it and use another
└── SendUncertain      may have been accepted: look it up first
"""

from __future__ import annotations

from typing import Protocol

from schemas.errors import SendError, SendRefused
from schemas.messages import Message, Receipt


class Sender(Protocol):
    """A way to send.

    `finds` says that `find` finds whatever was accepted, so that what it does not find was not.
    `remote` says that a message can be accepted without our hearing of it, and that to look one up
    costs a request: such attempts are recorded beforehand and looked up only when in doubt.
    Otherwise `find` is free and asked each time.
    """

    remote: bool
    finds: bool

    async def send(self, message: Message) -> Receipt:
        """Hand a message over; the receipt once it is accepted.

        Raises the errors of this module, and `SettingsError` when no message can ever pass because
        the account or the sender's number is wrong.
        """

    async def find(self, message: Message, since: int) -> Receipt | None:
        """The receipt of a message that was accepted after `since` (wall ms), or None.

        Raises `SendError` when that cannot be said now.
        """

    async def close(self) -> None:
        """Give back connections and files."""


class SendThrottled(SendError):
    """Too many messages at a time."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class SendLater(SendError):
    """A phone that is out of reach now."""


class NumberRefused(SendRefused):
    """A number that does not take messages: wrong, not a mobile, or opted out."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code
