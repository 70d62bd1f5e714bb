"""What happens on the service side: models of the events about cases, halls and call centres."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from schemas.fields import EmptyIsNone, EventTime, Identifier, Seconds

_Id = Annotated[Identifier | None, EmptyIsNone]
_Text = Annotated[str | None, Field(max_length=2_000), EmptyIsNone]


class ServiceEvent(BaseModel):
    """Something that happened to a case, or in a hall."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event_id: Identifier
    at: EventTime


class CaseEvent(ServiceEvent):
    """Something that happened to a case."""

    case_id: Identifier


class CaseOpened(CaseEvent):
    """Somebody wants something of a unit; without a severity it is the kind's middle one."""

    type: Literal["case_opened"]
    kind: Identifier
    unit_id: Identifier
    customer_id: _Id = None
    about: _Id = None
    severity: _Id = None
    green: StrictBool = False


class CaseStep(CaseEvent):
    """A step is done, by the unit named or by the one that has the case."""

    type: Literal["case_step"]
    step: Identifier
    unit_id: _Id = None


class CaseAssigned(CaseEvent):
    """The case is another unit's from now on."""

    type: Literal["case_assigned"]
    unit_id: Identifier


class CasePaused(CaseEvent):
    """The clock stands: the customer has to do something."""

    type: Literal["case_paused"]
    reason: _Text = None


class CaseResumed(CaseEvent):
    """The clock goes on."""

    type: Literal["case_resumed"]
    reason: _Text = None


class CaseAnswered(CaseEvent):
    """The customer has an answer."""

    type: Literal["case_answered"]


class CaseFollowedUp(CaseEvent):
    """The customer was called back."""

    type: Literal["case_followed_up"]
    satisfied: StrictBool


class CaseClosed(CaseEvent):
    """The case is over, and its current step done."""

    type: Literal["case_closed"]
    outcome: _Text = None


class CaseReopened(CaseEvent):
    """The case is not over after all: its last step starts anew."""

    type: Literal["case_reopened"]
    reason: _Text = None


class CustomerContact(ServiceEvent):
    """A call or visit at a call centre or hall; one that nobody took has no `answered_after_s`."""

    type: Literal["contact"]
    unit_id: Identifier
    agent_id: _Id = None
    direction: Literal["in", "out"]
    answered_after_s: Annotated[Seconds | None, EmptyIsNone] = None
    duration_s: Annotated[Seconds | None, EmptyIsNone] = None
    second: StrictBool = False


class Inspection(ServiceEvent):
    """An item of an inspection form: points given of points possible."""

    type: Literal["inspection"]
    unit_id: Identifier
    form: Identifier
    item: Identifier
    points: Seconds
    of: Annotated[Seconds, Field(gt=0)]
    inspector_id: _Id = None
    note: _Text = None

    @model_validator(mode="after")
    def _possible(self) -> Any:
        if self.points > self.of:
            raise ValueError("points: more than there are to have")
        return self


class Rating(ServiceEvent):
    """A customer says whether they were satisfied."""

    type: Literal["rating"]
    unit_id: Identifier
    satisfied: StrictBool
    agent_id: _Id = None


class Exam(ServiceEvent):
    """The mark of an agent; of one who did not attend there is none."""

    type: Literal["exam"]
    unit_id: Identifier
    agent_id: Identifier
    kind: Literal["test", "training", "monitoring", "test_call"]
    score: Annotated[Seconds | None, EmptyIsNone] = None
    attended: StrictBool = True

    @model_validator(mode="after")
    def _marked(self) -> Any:
        if self.attended and self.score is None:
            raise ValueError("score: missing")
        return self


AnyServiceEvent = (
    CaseOpened
    | CaseStep
    | CaseAssigned
    | CasePaused
    | CaseResumed
    | CaseAnswered
    | CaseFollowedUp
    | CaseClosed
    | CaseReopened
    | CustomerContact
    | Inspection
    | Rating
    | Exam
)
