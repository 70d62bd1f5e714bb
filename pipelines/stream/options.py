"""What a worker has to be told: plain data, filled in by whoever starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.core.stage import RESTATE_WITHIN


@dataclass(frozen=True)
class StreamOptions:
    """Settings common to the three workers; durations in ms.

    `clock` is "event" (times mean what the events say) or "wall" (sources that fall silent hold
    nothing back, stale incidents are recorded but not sent). `security` goes to the Kafka client
    as it is.
    """

    broker: str
    partitions: int = 4
    clock: str = "event"
    restate_within: int = RESTATE_WITHIN
    commit_interval: int = 1_000
    session_timeout: int = 10_000
    stall_after: int = 60_000
    security: Mapping[str, Any] = field(default_factory=dict)

    @property
    def give_up_after(self) -> int:
        """How long (ms) messages may wait with nothing moving before a worker ends itself.

        Twice as long as it takes to be told unhealthy.
        """
        return 2 * self.stall_after

    @property
    def longest_suspension(self) -> int:
        """How long (ms) a worker may be suspended before it counts as replaced.

        The embedded broker's short sessions are for quick starts: there one worker a group runs,
        and nobody takes its place.
        """
        return self.session_timeout if self.session_timeout >= 5_000 else 60_000
