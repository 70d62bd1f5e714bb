"""Which of the statuses that a provider tells of a message holds. Pure.

They come late, twice and out of order. A message only moves forward, and once it has come to its
end nothing moves it again: https://www.twilio.com/docs/messaging/api/message-resource.
"""

from __future__ import annotations

from typing import Final

#: How far a message is. `read` is known of few channels, and only of what was delivered.
_RANK: Final = {
    "accepted": 1,
    "scheduled": 1,
    "queued": 2,
    "sending": 3,
    "sent": 4,
    "delivered": 5,
    "undelivered": 5,
    "failed": 5,
    "canceled": 5,
    "read": 6,
}

#: Nothing more will happen to a message.
FINAL: Final = frozenset({"delivered", "undelivered", "failed", "canceled", "read"})

#: It did not arrive, and will not.
LOST: Final = frozenset({"undelivered", "failed", "canceled"})

STATUSES: Final = frozenset(_RANK)


def settle(known: str, told: str) -> str:
    """The status that holds when `told` comes after `known` ('' when nothing was known).

    Any order and any repetition of the same statuses leads to the same end, as long as at most one
    of them is final; of two ends that contradict each other the first one told holds. Words that
    are no status of a message change nothing.
    """
    if told not in _RANK or known in LOST:
        return known
    return told if _RANK[told] > _RANK.get(known, 0) else known
