"""What dispatch may be given besides a sender, each optional; who makes them is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Channels(Protocol):
    """Notification channels of managers, by the names that the settings give them."""

    async def tell(self, name: str, title: str, body: str) -> None:
        """Return once the channel has taken it.

        Raises `SendError`, also when there is no channel of this name.
        """


#: How many cards to fill an empty shelf (outlet id, SKU) up to; None when nobody knows.
FillLevels = Callable[[str, str], int | None]

#: The signed link for a message: message id, wholesaler id, when it fell due (ms).
Link = Callable[[str, str, int], str]

#: The name of the channel that hears of what reached nobody.
FALLBACK = "fallback"
