"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["viewer", "manager", "admin"]

_MAY: Final[dict[str, frozenset[str]]] = {
    "viewer": frozenset({"look"}),
    "manager": frozenset({"look", "see_numbers", "decide", "replay"}),
    "admin": frozenset({"look", "see_numbers", "decide", "replay", "administer"}),
}


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for pages; `csrf` is the word that their forms must carry."""

    name: str
    role: Role
    csrf: str

    def may(self, action: str) -> bool:
        """Whether the role allows it."""
        return action in _MAY[self.role]


#: Who asks while nobody has a login: this machine's own user, read-only.
ANONYMOUS: Final = Visitor("", "viewer", "")
