"""Who asks for a page, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Role = Literal["viewer", "manager", "admin"]
ROLES: Final[tuple[str, ...]] = get_args(Role)

#: What each role may do. `look`: see pages, numbers of persons masked. `see_numbers`: see those.
#: `decide`: about cases. `replay`: dead letters. `administer`: users and the trail.
_MAY: Final = {
    "": frozenset[str](),
    "viewer": frozenset({"look"}),
    "manager": frozenset({"look", "see_numbers", "decide", "replay"}),
    "admin": frozenset({"look", "see_numbers", "decide", "replay", "administer"}),
}


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks for pages; `csrf` is the token that their forms must carry."""

    name: str
    role: Literal["", "viewer", "manager", "admin"]
    csrf: str = ""

    def may(self, action: str) -> bool:
        """Whether the role allows it."""
        return action in _MAY[self.role]


#: Who asks while nobody has a login: whoever sits at this machine, read-only.
ANONYMOUS: Final = Visitor("", "viewer")
#: Who has not logged in where that is needed.
STRANGER: Final = Visitor("", "")
