"""Messages to wholesalers who would rather be notified by a channel than by SMS.

A channel takes a message or not, and cannot be asked afterwards. One that does not take it gives
way to the wholesaler's numbers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from alerts.delivery.routes import CHOSEN
from schemas.errors import SendError, SendRefused, SendUncertain
from schemas.messages import Message, Receipt

if TYPE_CHECKING:
    from alerts.delivery.ports import Channels


class ChannelSender:
    """Sends by the channel that an address names."""

    remote = True
    finds = False

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def send(self, message: Message) -> Receipt:
        """See `Sender`."""
        title, _, _ = message.body.partition("\n")
        try:
            await self._channels.tell(message.to.removeprefix(CHOSEN), title[:60], message.body)
        except SendError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise SendUncertain(str(error)) from None
            raise SendRefused(f"the channel did not take it: {error}") from None
        return Receipt("", 0)

    async def find(self, message: Message, since: int) -> Receipt | None:
        """A channel cannot be asked."""
        await asyncio.sleep(0)
        return None

    async def close(self) -> None:
        """Nothing to give back."""
