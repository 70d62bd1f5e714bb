"""What an operator may decide about alerts, as a checked TOML file. See docs/alerts.md.

Plain data: what follows from it for one stock-out at one moment is `alerts.policy.rules`'; where in
the file something stands is `pipelines.core.toml_lines`'. Durations are ms once read, times ms
since the epoch, UTC.
"""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from alerts.policy.checked_toml import parse_checked, read_toml
from schemas.fields import TIME_END, Identifier, parse_duration, parse_time

#: Of a table of channels by territory: for all territories that have none.
EVERYWHERE: Final = "*"


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError('not a duration; write it like "30m", "2h" or "1d"')  # noqa: TRY004
    return parse_duration(value)


def _time(value: Any) -> int:
    if isinstance(value, datetime) and value.tzinfo is not None:
        at = round(value.timestamp() * 1_000)
        if 0 <= at < TIME_END:
            return at
    if isinstance(value, str):
        return parse_time(value)
    raise ValueError("not a time like 2026-03-01T08:00:00+08:00 (the offset is needed)")


def _clock(value: Any) -> int:
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('not a time of day like "21:00"')
    return int(found[1]) * 60 + int(found[2])


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone; use a name like Asia/Shanghai") from None
    return value


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: At least a second: what falls due again and again must get on.
Duration = Annotated[int, BeforeValidator(_duration), Field(ge=1_000, le=366 * 86_400_000)]
Wait = Annotated[int, BeforeValidator(_duration), Field(ge=0, le=366 * 86_400_000)]
Time = Annotated[int, BeforeValidator(_time)]
ClockTime = Annotated[int, BeforeValidator(_clock)]
Zone = Annotated[str, AfterValidator(_zone)]
Ids = Annotated[tuple[Identifier, ...], BeforeValidator(_several), Field(min_length=1)]
#: Shops that a van can visit in a day.
Stops = Annotated[int, Field(ge=1, le=1_000)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

#: Whom a step of the escalation tells.
Target = Literal["backup_phone", "territory_manager"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Matcher(_Table):
    """Which stock-outs are meant: those to which all that is given applies.

    A territory means the territories in it as well.
    """

    outlet: Ids | None = None
    territory: Ids | None = None
    wholesaler: Ids | None = None
    sku: Ids | None = None

    @model_validator(mode="after")
    def _not_everything(self) -> Matcher:
        if self.outlet is self.territory is self.wholesaler is self.sku is None:
            raise ValueError("name an outlet, a territory, a wholesaler or an sku")
        return self


class _Span(_Table):
    """From a moment up to another, open where none is given."""

    from_: Time = Field(0, alias="from")
    until: Time | None = None
    why: str = ""
    by: str = ""

    @field_validator("until")
    @classmethod
    def _forward(cls, until: int | None, others: ValidationInfo) -> int | None:
        if until is not None and until <= others.data.get("from_", 0):
            raise ValueError("ends before it begins")
        return until


class Silence(_Span, Matcher):
    """Nobody is notified of these stock-outs for a time."""


class Maintenance(_Span):
    """Nobody can deliver in a territory for a time."""

    territory: Ids


class Leave(_Span):
    """A wholesaler is away; `instead` is notified meanwhile."""

    wholesaler: Ids
    instead: Target | None = None


class QuietHours(_Table):
    """From `start` to `end` (minutes of the day) nobody is written to.

    They may span midnight; `days` are those on which they start. What matches one of `except` is
    notified all the same. `zone` None means the readers'.
    """

    start: ClockTime
    end: ClockTime
    zone: Zone | None = None
    days: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    except_: tuple[Matcher, ...] = Field((), alias="except")

    @field_validator("end")
    @classmethod
    def _not_always(cls, end: int, others: ValidationInfo) -> int:
        if end == others.data.get("start"):
            raise ValueError("is the same as start: quiet hours must end some time")
        return end


class EscalationStep(_Table):
    """Who is notified when nobody has answered for `after` since the first message."""

    after: Duration
    to: Target


class Flapping(_Table):
    """A shelf that was emptied `incidents` times `within` a time is notified of less often."""

    incidents: Annotated[int, Field(ge=2, le=1_000)]
    within: Duration


class ForWholesaler(_Table):
    """What is different for one wholesaler; `quiet_hours = false`: none."""

    group_wait: Wait | None = None
    quiet_hours: QuietHours | Literal[False] | None = None
    resolved_notes: bool | None = None
    round_stops: Stops | None = None


class Policy(_Table):
    """All of it. What is not given is not done: without any, each stock-out has one message."""

    group_wait: Wait | None = None
    group_interval: Annotated[Duration, Field(le=86_400_000)] = 300_000
    repeat_interval: Annotated[Duration, Field(ge=60_000)] | None = None
    repeat_limit: Annotated[int, Field(ge=1, le=1_000)] = 6
    acknowledged_for: Duration = 14_400_000
    fallback_after: Annotated[Duration, Field(ge=60_000)] = 900_000
    on_the_way: Duration = 7_200_000
    grace: Wait = 900_000
    resolved_notes: bool = False
    round_stops: Stops = 30
    escalation: tuple[EscalationStep, ...] = ()
    managers: dict[str, Identifier] = {}
    quiet_hours: QuietHours | None = None
    flapping: Flapping | None = None
    silences: tuple[Silence, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    leave: tuple[Leave, ...] = ()
    wholesalers: dict[str, ForWholesaler] = {}

    @field_validator("escalation")
    @classmethod
    def _one_after_the_other(cls, steps: tuple[EscalationStep, ...]) -> tuple[EscalationStep, ...]:
        if any(b.after <= a.after for a, b in pairwise(steps)):
            raise ValueError("each step must come later than the one before")
        return steps

    @field_validator("managers")
    @classmethod
    def _somebody(cls, managers: dict[str, str], others: ValidationInfo) -> dict[str, str]:
        if not managers:
            raise ValueError('name channels by territory, or one for all as "*"')
        return managers

    @model_validator(mode="after")
    def _managers_are_known(self) -> Policy:
        notified = [*(s.to for s in self.escalation), *(entry.instead for entry in self.leave)]
        if "territory_manager" in notified and not self.managers:
            raise ValueError(
                "territory_manager is notified, but nobody is named: add a table [managers] with "
                'channels by territory, or one for all as "*"'
            )
        return self


def parse_policy(text: str, name: str = "policy") -> Policy:
    """The policy that a text describes.

    Raises `SettingsError` with the line and key of what is wrong; `name` is how to call the file.
    """
    # Of quiet hours that are a table, nobody needs to hear that they are not `false`, and what
    # pydantic adds to tell the members of a union apart is in no file.
    return parse_checked(text, name, Policy, tags={"QuietHours"}, unsaid={"literal[False]"})


def load_policy(path: Path) -> Policy:
    """The policy in a file. Raises `SettingsError`."""
    return parse_policy(read_policy(path), str(path))


def read_policy(path: Path) -> str:
    """The text of a policy file. Raises `SettingsError`."""
    return read_toml(path, "policy")
