"""What can happen: the models that decide which lines of events and call records are accepted."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from schemas.fields import Count, EmptyIsNone, EventTime, Fen, Iccid, Identifier, Imsi, Seconds
from schemas.service.events import AnyServiceEvent


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Call(_Record):
    """A call detail record, a CDR; the SIM was on a phone and in use at `start_time`."""

    type: Literal["call"] = "call"
    call_id: Identifier
    start_time: EventTime
    imsi: Imsi
    msisdn: str | None = None
    duration_s: Annotated[Seconds | None, EmptyIsNone] = None
    cell_id: str | None = None
    charge_fen: Annotated[Fen | None, EmptyIsNone] = None

    @property
    def event_id(self) -> str:
        """The call's id, as events have one."""
        return self.call_id

    @property
    def at(self) -> int:
        """When it began, ms."""
        return self.start_time


class _Event(_Record):
    event_id: Identifier
    at: EventTime


class _Cards(_Event):
    """About cards: `count` of them from `first_iccid` on, or those of a list."""

    first_iccid: Iccid
    count: Annotated[Count, Field(strict=True)]
    iccids: Annotated[list[Iccid], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, row: Any) -> Any:
        listed = row.get("iccids") if isinstance(row, dict) else None
        if not isinstance(listed, list) or not listed:
            return row
        if row.get("first_iccid") is not None or row.get("count") is not None:
            raise ValueError("give either iccids, or first_iccid and count")
        return row | {"first_iccid": listed[0], "count": len(listed)}


class Delivery(_Cards):
    """SIMs are now at an outlet."""

    type: Literal["delivery"]
    outlet_id: Identifier
    wholesaler_id: Identifier


class Return(_Cards):
    """SIMs go from an outlet back to its wholesaler."""

    type: Literal["return"]
    outlet_id: Identifier
    reason: str | None = None


class Transfer(_Cards):
    """SIMs go from one outlet to another."""

    type: Literal["transfer"]
    from_outlet_id: Identifier
    to_outlet_id: Identifier


class WriteOff(_Cards):
    """SIMs are damaged, lost or stolen."""

    type: Literal["write_off"]
    outlet_id: Identifier
    reason: str | None = None


class Activation(_Event):
    """The network switched a SIM on."""

    type: Literal["activation"]
    imsi: Imsi


class Registration(_Event):
    """A subscriber's papers came back."""

    type: Literal["registration"]
    imsi: Imsi
    complete: StrictBool


Event = Delivery | Return | Transfer | WriteOff | Activation | Registration | Call | AnyServiceEvent

MODELS: Final[dict[str, type[Event]]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(Event)
}


class Refused(ValueError):
    """A line that cannot be accepted; the text is the dead letter's reason.

    `field` is the one that is wrong, "" when it is not a matter of one.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.json.Decoder().decode


def accept_line(line: bytes) -> Event:
    """The event that a line of JSON is; fields that no model has are not looked into.

    Raises `Refused` with a reason to act on.
    """
    try:
        line.decode()
        raw = _object(line)
        kind = _value(raw["type"]) if "type" in raw else None
        model = MODELS.get(kind) if isinstance(kind, str) else None
        names = model.model_fields if model is not None else ("type",)
        row = {name: _value(raw[name]) for name in names if name in raw}
    except UnicodeDecodeError:
        raise Refused("malformed: not UTF-8") from None
    except msgspec.ValidationError as error:
        if "Expected `object`" in str(error):
            raise Refused("malformed: not a JSON object") from None
        raise Refused(f"malformed: {error}") from None
    except msgspec.DecodeError as error:
        raise Refused(f"malformed: {error}") from None
    except RecursionError:
        raise Refused("malformed: JSON nested too deeply") from None
    return accept(row)


def accept(row: Any) -> Event:
    """The event that a decoded JSON object is. Raises `Refused` with a reason to act on."""
    if not isinstance(row, dict):
        raise Refused("malformed: not a JSON object")
    kind = row.get("type")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        given = repr(kind)[:60] if kind is not None else "none given"
        raise Refused(f"unknown_type: {given}")
    event: Event = validate(model, row)
    return event


def accept_call(row: dict[str, Any]) -> Call:
    """The call that a row of a CDR file is. Raises `Refused`."""
    call: Call = validate(Call, {**row, "type": "call"})
    return call


def validate(model: type[Any], row: dict[str, Any]) -> Any:
    """The row as a model. Raises `Refused` naming the first field that is wrong."""
    try:
        return model.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "iccids" if "iccids" in row else "row"
        what = "missing" if first["type"] == "missing" else first["msg"]
        what = what.removeprefix("Value error, ")
        raise Refused(f"invalid_field: {name}: {what}", name) from None
