"""Mapping files: what an operator's own exports look like. Applying them is in `convert`.

A file holds one `[[export]]` a kind of export, the first whose `files` fit a file is used::

    [[export]]
    files = "cdr/switch-a/*"
    delimiter = "|"
    columns = ["seq", "date", "time", "imsi", "secs"]       # the file has no header line
    skip_starting = ["HDR", "TRL"]

    [export.fields]
    call_id = { hash = ["seq", "date", "time", "imsi"] }
    start_time = { date = "date", time = "time", format = "%Y%m%d %H%M%S", zone = "Asia/Shanghai" }
    imsi = { column = "imsi", strip_prefix = "I-" }
    duration_s = { column = "secs", unit = "tenths" }

    [[source]]                  # where rows come later than elsewhere
    name = "cdr/switch-a"
    disorder = "2h"
    idle_after = "90m"
    ordered_by = "end"
"""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from pipelines.ingest.reading.ber import Records
from pipelines.ingest.reading.files import kind_of
from schemas.errors import MappingError
from schemas.fields import parse_duration

_OFFSET = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)


def parse_offset(text: str) -> int:
    """An offset from UTC like +08:00, +0800, +08 or Z, in minutes. Raises `ValueError`."""
    if not _OFFSET.fullmatch(text):
        raise ValueError(f"{text!r} is not an offset like +08:00")
    if text == "Z":
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"{text!r} is not an offset like +08:00")
    return (hours * 60 + minutes) * (-1 if text[0] == "-" else 1)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"no time zone has the name {name!r}; one is Asia/Shanghai") from None
    return name


def _known_offset(text: str) -> str:
    parse_offset(text)
    return text


#: The format of days since the end of 1899, as spreadsheets count local time.
EXCEL: Final = "excel"

#: Formats of numbers since 1970 in UTC, and their unit; None where the size tells it.
EPOCHS: Final = {
    "epoch": None,
    "%s": None,
    "%Q": None,
    "epoch_s": "s",
    "epoch_ms": "ms",
    "epoch_us": "us",
    "epoch_ns": "ns",
}


def _usable_format(text: str) -> str:
    if text in EPOCHS or text == EXCEL:
        return text
    moment = datetime(2026, 11, 28, 13, 45, 59)  # noqa: DTZ001
    try:
        parsed = datetime.strptime(moment.replace(tzinfo=UTC).strftime(text), text)  # noqa: DTZ007
    except (ValueError, re.error):
        raise ValueError(f"{text!r} is not a time format like %Y%m%d %H%M%S") from None
    same = parsed.replace(tzinfo=None) in (moment, moment.replace(second=0))
    if not same or (parsed.tzinfo is None) == ("%z" in text):
        raise ValueError(f"{text!r} must give a date and a time to the minute, like %Y%m%d %H%M%S")
    return text


def _known_encoding(text: str) -> str:
    try:
        name = codecs.lookup(text).name
        "1".encode(name)
    except (LookupError, ValueError):
        raise ValueError(f"no encoding has the name {text!r}; one is gb18030") from None
    return name


def _avro_schema(name: Any, info: ValidationInfo) -> Any:
    """The schema in a file beside the mapping."""
    import fastavro
    from fastavro.schema import SchemaParseException

    path = Path((info.context or {}).get("folder", "."), str(name))
    try:
        return fastavro.parse_schema(json.loads(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, SchemaParseException) as error:
        raise ValueError(f"{path} is not an Avro schema: {error}") from None


def _asn1_module(name: Any, info: ValidationInfo) -> str:
    """The text of the file beside the mapping."""
    path = Path((info.context or {}).get("folder", "."), str(name))
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _usable_delimiter(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in '"\r\n \0':
        raise ValueError("must be one ASCII character and neither a space nor a quote")
    return text


def _column(value: Any) -> Any:
    """A field may be given as the bare name of its column."""
    return {"column": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Sourced(_Strict):
    """Taken from a column of the file, or the same for all rows."""

    column: str | None = None
    constant: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> _Sourced:
        if (self.column is None) == (self.constant is None):
            raise ValueError("give either a column or a constant")
        return self

    @property
    def reads(self) -> list[str]:
        """The columns of the file that are needed."""
        return [self.column] if self.column is not None else []


_Strips = Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]


class TextField(_Sourced):
    """Text, without what the export puts before or behind it; each that is there goes, in turn."""

    strip_prefix: _Strips = []
    strip_suffix: _Strips = []


class DurationField(_Sourced):
    """A length of time, in its unit."""

    unit: Literal["seconds", "tenths", "milliseconds", "minutes"] = "seconds"


class MoneyField(_Sourced):
    """An amount, in its unit."""

    unit: Literal["fen", "jiao", "yuan"] = "fen"


class HashField(_Strict):
    """A stable id made of other columns of the file, for exports that have none."""

    hash: Annotated[list[str], Field(min_length=1)]

    @property
    def reads(self) -> list[str]:
        """The columns of the file that are needed."""
        return self.hash


class TimeField(_Strict):
    """When: one column or a date and a time, which are put together with a space between.

    Without `format` the text is ISO 8601: with an offset, or if one is said here without. With a
    format (as in Python's `strptime`) it is local time of a `zone`, at a fixed `offset`, or at the
    offset that `offset_column` gives. A format with `%z` has the offset itself; one of `EPOCHS` is
    a number since 1970, of UTC if nothing else is said; `EXCEL` is a spreadsheet's number of days.
    """

    column: str | None = None
    date: str | None = None
    time: str | None = None
    format: Annotated[str, AfterValidator(_usable_format)] | None = None
    zone: Annotated[str, AfterValidator(_known_zone)] | None = None
    offset: Annotated[str, AfterValidator(_known_offset)] | None = None
    offset_column: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> TimeField:
        if (self.column is None) == (self.date is None) or (self.date is None) != (
            self.time is None
        ):
            raise ValueError("give either a column, or a date and a time column")
        places = [self.zone, self.offset, self.offset_column]
        given = sum(place is not None for place in places)
        if self.format is None and self.date is not None:
            raise ValueError("give a format, like %Y%m%d %H%M%S")
        if given > 1:
            raise ValueError("give one of zone, offset and offset_column")
        zoned = self.format is not None and "%z" in self.format
        if zoned and given:
            raise ValueError("the format has the offset: leave out zone, offset and offset_column")
        if not given and not zoned and self.format not in (None, *EPOCHS):
            raise ValueError("give one of zone, offset and offset_column: the format has none")
        return self

    @property
    def reads(self) -> list[str]:
        """The columns of the file that are needed."""
        columns = [self.column, self.date, self.time, self.offset_column]
        return [name for name in columns if name is not None]


_Text = Annotated[TextField, BeforeValidator(_column)]


def _text_or_hash(value: Any) -> Any:
    if isinstance(value, dict) and "hash" in value:
        return HashField.model_validate(value)
    return TextField.model_validate(_column(value))


class Fields(_Strict):
    """Where each column of a call record comes from; those not named keep their own names."""

    call_id: Annotated[TextField | HashField, BeforeValidator(_text_or_hash)] = TextField(
        column="call_id"
    )
    start_time: Annotated[TimeField, BeforeValidator(_column)] = TimeField(column="start_time")
    imsi: _Text = TextField(column="imsi")
    msisdn: _Text | None = None
    duration_s: Annotated[DurationField, BeforeValidator(_column)] | None = None
    cell_id: _Text | None = None
    charge_fen: Annotated[MoneyField, BeforeValidator(_column)] | None = None


class RowsToSkip(_Strict):
    """Rows that are no calls, by the text of a column: one of some, none of some, or a number."""

    column: str
    is_: Annotated[_Strips | None, Field(alias="is")] = None
    is_not: _Strips | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> RowsToSkip:
        if sum(value is not None for value in (self.is_, self.is_not, self.at_most)) != 1:
            raise ValueError("give one of is, is_not and at_most")
        return self


class Asn1(_Strict):
    """What records of ASN.1 are: the text of the `module` and the type of `record`.

    A mapping file names the file of the module, from the folder it lies in itself.
    """

    module: Annotated[str, BeforeValidator(_asn1_module)]
    record: str


class Export(_Strict):
    """A kind of export: which files it comes in, how they are laid out, what is in them.

    `columns` names the columns of files that have no header line. `skip_lines` are passed over at
    the top of a file, lines that begin with one of `skip_starting` anywhere, and so are rows that
    one of `skip_rows` describes. Without `delimiter` and `encoding` both are found out. With `asn1`
    the files are records in BER, whose fields are the columns.

    The messages of a topic (`files = "kafka://*/calls"`) are JSON, CSV with `columns`, or Avro:
    `format` says which, `avro_schema` names the file of a schema that is not in the messages.
    """

    files: str = "cdr/*"
    format: Literal["json", "csv", "avro"] | None = None
    avro_schema: Annotated[Any, BeforeValidator(_avro_schema)] = None
    delimiter: Annotated[str, AfterValidator(_usable_delimiter)] | None = None
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None = None
    asn1: Asn1 | None = None
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    skip_lines: Annotated[int, Field(ge=0, le=1_000)] = 0
    skip_starting: list[Annotated[str, Field(min_length=1)]] = []
    skip_rows: list[RowsToSkip] = []
    decimal: Literal[".", ","] = "."
    fields: Fields = Fields()

    @model_validator(mode="after")
    def _columns_exist(self) -> Export:
        if self.asn1 is not None:
            if self.columns or self.delimiter or self.encoding or self.skip_lines:
                raise ValueError("asn1 leaves columns, delimiter, encoding and skip_lines out")
            self.records.check()
        if self.columns is None:
            return self
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: two have the same name")
        if missing := self.missing(self.columns):
            raise ValueError(f"fields use {', '.join(missing)}, which columns does not name")
        return self

    @property
    def records(self) -> Records:
        """How the records of ASN.1 become rows."""
        assert self.asn1 is not None
        return Records(self.asn1.module, self.asn1.record, tuple(self.reads))

    def missing(self, names: list[str]) -> list[str]:
        """The columns that a file with these columns would need besides."""
        return [name for name in self.reads if name not in names]

    @property
    def reads(self) -> list[str]:
        """The columns of the file that are needed, each once."""
        found: dict[str, None] = {}
        for name in Fields.model_fields:
            if (part := getattr(self.fields, name)) is not None:
                found.update(dict.fromkeys(part.reads))
        found.update(dict.fromkeys(rule.column for rule in self.skip_rows))
        return list(found)


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=0)]


class SourceBounds(_Strict):
    """How late events of some sources may come, where it is not as everywhere; durations in ms.

    `name` is a source like `cdr/switch-a`, or a pattern like `cdr/*`. Rows `ordered_by` "end" are
    written when calls end, hours after their time perhaps.
    """

    name: str
    disorder: Duration | None = None
    idle_after: Duration | None = None
    ordered_by: Literal["start", "end"] = "start"


class Mapping(_Strict):
    """The exports that a mapping file describes, and what is particular to sources."""

    export: list[Export] = []
    source: list[SourceBounds] = []

    @model_validator(mode="after")
    def _says_something(self) -> Mapping:
        if not self.export and not self.source:
            raise ValueError("give an [[export]], or a [[source]]")
        for bounds in self.source:
            name = f"{bounds.name}/x".replace("*", "x")
            fits = next((e for e in self.export if fnmatchcase(name, e.files)), None)
            if bounds.ordered_by == "end" and fits and fits.fields.duration_s is None:
                raise ValueError(
                    f'{bounds.name} is ordered by "end": its export {fits.files} must name'
                    " duration_s"
                )
        return self

    def bounds_of(self, source: str) -> SourceBounds:
        """The first bounds whose name fits a source."""
        found = (bounds for bounds in self.source if fnmatchcase(source, bounds.name))
        return next(found, SourceBounds(name=source))

    def export_of(self, name: str) -> Export | None:
        """The first export that a file or topic belongs to; as in `cdr/switch-a/1.csv`."""
        if not name.startswith(("cdr/", "kafka://")):
            return None
        return next((e for e in self.export if fnmatchcase(name, e.files)), None)

    def names(self, name: str) -> bool:
        """Whether an export comes in this file and says how such files are called.

        `cdr/switch-a/*` does so for text files; else drafts and checksums may lie beside exports.
        """
        export = self.export_of(name)
        if export is None or "files" not in export.model_fields_set:
            return False
        return export.files.rsplit("/", 1)[-1] != "*" or kind_of(name) == "text"


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file. Raises `MappingError` naming the file, the key and what is wrong."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path} is not TOML: {error}") from None
    try:
        return Mapping.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        raise MappingError(f"{path}: {_in_words(error)}") from None


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, with its key as it stands in the file."""
    first = error.errors(include_url=False)[0]
    key = ""
    for part in first["loc"]:
        key += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    what = {
        "missing": "is missing",
        "extra_forbidden": "is not a key of mapping files",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{key.removeprefix('.')}: {what}" if key else what
