"""The table of routes, as a checked TOML file. See docs/alerts.md. Plain data.

Secrets are never in it, only where they are: `{ env = "NAME" }` or `{ file = "PATH" }`. Durations
are ms once read. What a route does with its entry is the senders'.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    field_validator,
    model_validator,
)

from alerts.answers.statuses import STATUSES
from alerts.policy.checked_toml import parse_checked, read_toml
from alerts.senders.templates import checked_template
from schemas.fields import parse_duration

#: Where packages say that they bring a way to send; see docs/alerts.md.
OWN_SENDERS: Final = "zerostock.senders"

#: What a gateway's answer can say.
Meaning = Literal["accepted", "refused", "bad_number", "unreachable", "later", "settings", "absent"]


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError('not a duration; write it like "15s" or "4h"')  # noqa: TRY004
    return parse_duration(value)


def _secret(value: Any) -> str:
    where = value if isinstance(value, dict) else {}
    if len(where) != 1 or not {"env", "file"}.issuperset(where):
        raise ValueError('say where the secret is: { env = "NAME" } or { file = "PATH" }')
    if "env" in where:
        found = os.environ.get(str(where["env"]), "")
        if not found:
            raise ValueError(f"{where['env']} is not set in the environment")
        return found
    try:
        return Path(str(where["file"])).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{where['file']} cannot be read: {why}") from None


def _address(value: str) -> str:
    parts = urlsplit(re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "x", value))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an address like https://host/path")
    return checked_template(value)


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _words(value: Any) -> Any:
    """Codes may be written as numbers, and truths as TOML has them."""
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in _several(value)]


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=100, le=7 * 86_400_000)]
Secret = Annotated[SecretStr, BeforeValidator(_secret)]
Address = Annotated[str, AfterValidator(_address)]
Template = Annotated[str, AfterValidator(checked_template)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Prefixes = Annotated[
    tuple[Annotated[str, Field(pattern=r"^\+\d{1,15}$")], ...], BeforeValidator(_several)
]
Languages = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...], BeforeValidator(_several)
]
Words = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]
StatusCodes = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[1-5](\d\d|xx)$")], ...], BeforeValidator(_words)
]


class _TablePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class RouteEntry(_TablePart):
    """What every route has: who is notified by it, and how fast it may be; see `Route`."""

    name: Annotated[str, Field(pattern=r"^[\w-]{1,40}$")]
    kind: str
    prefixes: Prefixes = ()
    languages: Languages = ()
    rate: Annotated[float, Field(gt=0, le=100_000)] | None = None
    signature: Annotated[str, Field(max_length=20, pattern=r"^[^【】]+$")] | None = None


class ConsoleEntry(RouteEntry):
    """Messages on a screen."""


class FileEntry(RouteEntry):
    """Messages as lines of a file; a relative path is relative to the table."""

    path: Path


class ChannelEntry(RouteEntry):
    """Wholesalers who chose a channel of ZEROSTOCK_CHANNELS, by id."""

    wholesalers: Annotated[dict[str, str], Field(min_length=1)]


class TwilioEntry(RouteEntry):
    """A Twilio account; what is left out is as in the settings."""

    account_sid: str | None = None
    auth_token: Secret | None = None
    from_: str | None = Field(None, alias="from")
    messaging_service_sid: str | None = None
    base_url: Address | None = None
    validity: Duration | None = None


class SmppEntry(RouteEntry):
    """An account at an SMSC, by SMPP 3.4.

    `source` is our number or name there; `gsm7` says that its default alphabet is GSM 03.38, and
    that such texts need not go as UCS-2. At most `window` requests wait for an answer.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65_535)] = 2775
    tls: bool = False
    system_id: Annotated[str, Field(max_length=15)]
    password: Secret
    system_type: Annotated[str, Field(max_length=12)] = ""
    source: Annotated[str, Field(max_length=20)]
    window: Annotated[int, Field(ge=1, le=1_000)] = 10
    enquire_every: Duration = 30_000
    timeout: Duration = 15_000
    validity: Duration = 14_400_000
    gsm7: bool = True
    receive: bool = True


class Request(_TablePart):
    """One HTTP request, of templates."""

    method: Literal["GET", "POST", "PUT"] = "POST"
    url: Address
    headers: dict[str, Template] = {}
    body: Template = ""


class AnswerRule(_TablePart):
    """What an answer means to which all that is given applies: of several rules the first holds.

    `json` has values by place, such as "data.0.state"; `matches` is searched in the whole body.
    """

    means: Meaning
    status: StatusCodes = ()
    values: dict[str, Words] = Field({}, alias="json")
    matches: Pattern = ""


class IdPlace(_TablePart):
    """Where the gateway's id of a message stands in an answer: a place of JSON, or a pattern."""

    place: str = Field("", alias="json")
    matches: Pattern = ""


class LookUp(Request):
    """How to ask what became of a message in doubt: `accepted` or `absent`."""

    method: Literal["GET", "POST", "PUT"] = "GET"
    answers: tuple[AnswerRule, ...]
    id: IdPlace = IdPlace()


class StatusCallback(_TablePart):
    """Where a call of the gateway's says what became of a message; `states` are ours by theirs."""

    id: str = ""
    message_id: str = ""
    state: str
    states: dict[str, str]

    @field_validator("states")
    @classmethod
    def _known(cls, states: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(states.values()) - STATUSES):
            known = ", ".join(sorted(STATUSES))
            raise ValueError(f"{unknown[0]!r} is no status; there are {known}")
        return states

    @model_validator(mode="after")
    def _of_something(self) -> StatusCallback:
        if not (self.id or self.message_id):
            raise ValueError("name the place of id or message_id")
        return self


class ReplyCallback(_TablePart):
    """Where a call of the gateway's has a reply: its id, the number, the text."""

    id: str
    from_: str = Field(alias="from")
    text: str


class Callback(_TablePart):
    """What the gateway calls, as JSON or a form: POST /gateway/NAME under the public address.

    Signed by an HMAC of the body in a header, or with a token as ?token=…; or `unsigned`, where
    something else keeps strangers out.
    """

    hmac: Secret | None = None
    header: str = "X-Signature"
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    token: Secret | None = None
    unsigned: bool = False
    answer: str = "ok"
    status: StatusCallback | None = None
    reply: ReplyCallback | None = None

    @model_validator(mode="after")
    def _by_one(self) -> Callback:
        if sum((self.hmac is not None, self.token is not None, self.unsigned)) != 1:
            raise ValueError("give one of hmac, token and unsigned = true")
        if self.status is None and self.reply is None:
            raise ValueError("say what is called: a table status, reply, or both")
        return self


class HttpEntry(RouteEntry):
    """Any gateway that takes one request a message, described by templates."""

    sender: str = ""
    secrets: dict[str, Secret] = {}
    request: Request
    answers: tuple[AnswerRule, ...]
    id: IdPlace = IdPlace()
    lookup: LookUp | None = None
    callback: Callback | None = None
    timeout: Duration = 15_000

    @field_validator("answers")
    @classmethod
    def _accepts(cls, rules: tuple[AnswerRule, ...]) -> tuple[AnswerRule, ...]:
        if all(rule.means != "accepted" for rule in rules):
            raise ValueError('no rule means "accepted": no message could ever be sent')
        return rules


class OwnEntry(RouteEntry):
    """A way to send of another package; what else is in its table is the package's."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @field_validator("kind")
    @classmethod
    def _is_there(cls, kind: str) -> str:
        own = sorted(entry_points(group=OWN_SENDERS).names)
        if kind not in own:
            known = ", ".join([*_KINDS, *own])
            raise ValueError(f"{kind!r} is no kind of route; there are {known}")
        return kind

    @model_validator(mode="before")
    @classmethod
    def _secrets(cls, entry: Any) -> Any:
        if (
            not isinstance(entry, dict)
            or entry.get("kind") not in entry_points(group=OWN_SENDERS).names
        ):
            return entry
        found = dict(entry)
        for key, value in entry.items():
            if isinstance(value, dict) and len(value) == 1 and {"env", "file"}.issuperset(value):
                try:
                    found[key] = SecretStr(_secret(value))
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
        return found


_KINDS: Final = ("smpp", "http", "twilio", "channel", "file", "console")


def _kind(entry: Any) -> str:
    kind = entry.get("kind", "") if isinstance(entry, dict) else getattr(entry, "kind", "")
    return kind if kind in _KINDS else "own"


AnyEntry = Annotated[
    Annotated[SmppEntry, Tag("smpp")]
    | Annotated[HttpEntry, Tag("http")]
    | Annotated[TwilioEntry, Tag("twilio")]
    | Annotated[ChannelEntry, Tag("channel")]
    | Annotated[FileEntry, Tag("file")]
    | Annotated[ConsoleEntry, Tag("console")]
    | Annotated[OwnEntry, Tag("own")],
    Discriminator(_kind),
]


class RouteTable(_TablePart):
    """All routes, in the order in which they are tried."""

    routes: tuple[AnyEntry, ...]

    @field_validator("routes")
    @classmethod
    def _names_differ(cls, routes: tuple[RouteEntry, ...]) -> tuple[RouteEntry, ...]:
        if not routes:
            raise ValueError("there is none")
        names = [route.name for route in routes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two routes are named {twice[0]}")
        return routes


def load_table(path: Path) -> RouteTable:
    """The table in a file. Raises `SettingsError` with the line and key of all that is wrong."""
    tags = {*_KINDS, "own"}
    return parse_checked(read_toml(path, "table of routes"), str(path), RouteTable, tags=tags)
