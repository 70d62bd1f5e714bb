"""Messages on a screen, for trying things out."""

from __future__ import annotations

import sys
from typing import TextIO

from schemas.masking import masked
from schemas.messages import Message, Receipt


class ConsoleSender:
    """Prints one line a message. After a crash the last lines may be printed again."""

    remote = False
    finds = True

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    async def send(self, message: Message) -> Receipt:
        """See `Sender`; never fails but for a screen that is gone."""
        parts = "" if message.segments == 1 else f" [{message.segments} segments]"
        print(
            f"SMS to {masked(message.to)}{parts}: {message.body}",
            file=self._stream or sys.stdout,
            flush=True,
        )
        return Receipt("", message.segments)

    async def find(self, message: Message, since: int) -> Receipt | None:
        """A screen remembers nothing."""
        return None

    async def close(self) -> None:
        """Nothing to give back."""
