"""The ways to send there are, and which of them a message may take, in what order. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from alerts.message.segments import segments
from alerts.senders.port import Sender
from schemas.messages import Message

#: Begins the address of somebody who is notified through a channel, where others have a number.
CHOSEN: Final = "channel:"


@dataclass(frozen=True)
class Route:
    """A way to send, and what may go by it.

    It takes numbers (E.164) that begin with one of `prefixes`, in one of `languages`; () means all.
    At most `rate` tries a second. `signature` is the sender's registered name where its carriers
    demand one. `name` is '' where there is no table of routes.
    """

    sender: Sender
    name: str = ""
    prefixes: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    signature: str = ""
    rate: float | None = None

    def takes(self, to: str, language: str) -> bool:
        """Whether a message may go this way."""
        if to.startswith(CHOSEN) and not self.prefixes:
            return False
        return (not self.prefixes or to.startswith(self.prefixes)) and (
            not self.languages or language in self.languages
        )

    def signed(self, message: Message) -> Message:
        """The message as it leaves by this route."""
        if not self.signature:
            return message
        body = f"【{self.signature}】{message.body}"
        return msgspec.structs.replace(message, body=body, segments=segments(body))

    def qualified(self, provider_id: str) -> str:
        """A provider's id of a message, which two providers might give."""
        return f"{self.name}/{provider_id}" if self.name and provider_id else provider_id


class Routes:
    """All routes, in the order in which they are tried.

    `chosen` has the channel that a wholesaler would rather be notified by, by wholesaler.
    """

    def __init__(self, routes: Sequence[Route], chosen: Mapping[str, str] | None = None) -> None:
        self.all = list(routes)
        self._chosen = chosen or {}

    def of(self, to: str, language: str) -> list[Route]:
        """The routes that a message to a number may take, the first choice first."""
        return [route for route in self.all if route.takes(to, language)]

    def named(self, name: str) -> Route | None:
        """The route of this name; what was sent before there were names went by the first."""
        return next((r for r in self.all if r.name == name or not name), None)

    def chosen(self, wholesaler_id: str) -> list[str]:
        """What to try before a wholesaler's numbers."""
        name = self._chosen.get(wholesaler_id)
        return [CHOSEN + name] if name is not None else []

    @property
    def signature(self) -> str:
        """The longest signature: texts leave room for it."""
        return max((route.signature for route in self.all), key=len, default="")

    async def close(self) -> None:
        """Give back what the senders hold."""
        for route in self.all:
            await route.sender.close()
