"""What an unknown export is like: its text, columns, times and their order; and a mapping."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from pipelines.ingest.mapping.mapping import EPOCHS
from pipelines.ingest.reading.csv_rows import Dialect, csv_rows, fields_of
from pipelines.ingest.reading.decoding import BOM, DAMAGE, TextForm, text_form
from pipelines.ingest.reading.files import SourceFile, kind_of_content, why
from pipelines.ingest.reading.headers import DELIMITERS
from pipelines.ingest.reading.lines import Lines, count_lines
from schemas.errors import InputError
from schemas.fields import EVENTS_START, TIME_END, parse_time

#: Rows of a file that are looked at.
ROWS: Final = 1_000

_FORMATS: Final = tuple(
    f"{day}{between}{time}"
    for day in ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%y%m%d")
    for between in (" ", "T", "")
    for time in (
        *("%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f", "%H%M%S", "%H:%M:%S%z", "%H%M%S%z", "%H:%M"),
    )
)

#: Names under which exports have what a call needs, most telling first.
_KNOWN: Final = {
    "call_id": r"call_?id|pkid|uuid|uniqueid|record_?id|cdr_?id|^id$",
    "start_time": r"start|origination|answer|begin|call_?date|^time|timestamp|date",
    "imsi": r"imsi",
    "msisdn": r"msisdn|calling_?party_?number|caller|^src$|a_?number",
    "duration_s": r"billsec|duration|^secs?$|seconds",
    "cell_id": r"cell",
    "charge_fen": r"charge|amount|fee|cost|price",
}
_IMSI: Final = re.compile(r"(?<![0-9])[0-9]{14,15}(?![0-9])")


@dataclass
class Column:
    """A column: some of its values, how many differ, and the format of its times if it has any."""

    name: str
    values: list[str]
    time_format: str | None = None

    @property
    def distinct(self) -> int:
        """How many values differ."""
        return len(set(self.values))


@dataclass
class Look:
    """What was found in the first rows of a file; `disorder_ms` is how far its times run back.

    `by_end` says that the ends of calls run back by less than half of that.
    """

    kind: str
    form: TextForm = field(default_factory=TextForm)
    delimiter: str = ","
    header: bool = True
    rows: int = 0
    malformed: int = 0
    columns: list[Column] = field(default_factory=list)
    skip_lines: int = 0
    skip_starting: list[str] = field(default_factory=list)
    disorder_ms: int | None = None
    by_end: bool = False


def look(path: Path) -> Look:
    """Read the first rows of a file. Raises `InputError` if it cannot be read or is empty."""
    file = SourceFile(path.name, path)
    try:
        kind = kind_of_content(file)
        if kind == "parquet":
            names = file.parquet_columns()
            first = next(file.chunks(1, 0))
            if first.rows is None:
                raise InputError(f"{path} cannot be read: {first.damage}")
            rows = first.rows.slice(0, ROWS)
            found = Look("parquet", rows=rows.num_rows)
            found.columns = [
                Column(name, ["" if v is None else str(v) for v in rows.column(name).to_pylist()])
                for name in names
            ]
            return _with_times(found)
        top = file.top()
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read: {why(error)}") from None
    form = text_form(top, json=kind == "ndjson")
    text = form.text(top).removeprefix(BOM)
    if not text.strip():
        raise InputError(f"{path} is empty")
    if b"\0" in text:
        raise InputError(f"{path} is not text; for records of ASN.1 a mapping names their module")
    if kind == "ndjson" or text.lstrip().startswith((b"{", b"[")):
        return Look("ndjson", text_form(top, json=True), rows=count_lines(text))
    return _with_times(_table(text, form))


def _table(text: bytes, form: TextForm) -> Look:
    lines = [line.rstrip(b"\r") for line in text.split(b"\n")]
    whole = lines if text.endswith(b"\n") or len(lines) == 1 else lines[:-1]
    some = [line for line in islice(whole, ROWS + 1) if line.strip()]
    delimiter = max(DELIMITERS, key=lambda d: _evenness(some, d))
    counts = [len(fields_of(line, delimiter) or [""]) for line in some]
    common = max(set(counts), key=counts.count)
    above = counts.index(common)
    odd = [line for line, count in zip(some, counts, strict=True) if count != common]
    some = [line for line, count in zip(some, counts, strict=True) if count == common]
    first = fields_of(some[0], delimiter) or []
    header = len(first) > 1 and not any(re.search(r"[0-9]{4}", name) for name in first)
    names = [n.strip() for n in first] if header else [f"c{n}" for n in range(1, len(first) + 1)]
    if len(set(names)) < len(names):
        names = [f"{name}_{n}" for n, name in enumerate(names, start=1)]
    body = some[1:] if header else some
    data = b"".join(line + b"\n" for line in body)
    head = some[0] if header else b""
    found = csv_rows(Lines(data, len(body)), Dialect(names, delimiter, (), head), names)
    columns = [
        Column(name, [value.strip() for value in found.columns[name].to_pylist()]) for name in names
    ]
    looked = Look("csv", form, delimiter, header, len(found.lines), len(odd), columns)
    looked.skip_lines = above if header else 0
    marks = {line.split(delimiter.encode())[0].decode(errors="replace") for line in odd}
    behind = odd[above:] if header else odd
    if behind and len(marks) <= _MOST_MARKS and all(marks):
        looked.skip_starting = sorted(mark + delimiter for mark in marks)
    return looked


#: Kinds of lines that are no rows, as headers and trailers of an export are; more are just bad.
_MOST_MARKS: Final = 3


def _evenness(lines: list[bytes], delimiter: str) -> tuple[float, int]:
    """How many lines have as many fields as most, and how many fields those are."""
    counts = [len(fields_of(line, delimiter) or [""]) for line in lines]
    common = max(set(counts), key=counts.count)
    return (counts.count(common) if common > 1 else 0), common


def _with_times(found: Look) -> Look:
    for column in found.columns:
        column.time_format = next(_formats_of(column.values), None)
    start = _place(found, "start_time")
    if start is not None and start.time_format is not None:
        times = [_moment(value, start.time_format) for value in start.values if value]
        back = _runs_back(times)
        found.disorder_ms = round(back * 1_000)
        lasted = _place(found, "duration_s")
        if lasted is not None and len(times) == len(lasted.values):
            with contextlib.suppress(ValueError):
                pairs = zip(times, lasted.values, strict=True)
                found.by_end = (
                    2 * _runs_back([at + float(value or 0) for at, value in pairs]) < back
                )
    return found


def _runs_back(times: list[float]) -> float:
    """How far behind the newest before it a time comes at most, s."""
    newest, back = times[0], 0.0
    for at in times:
        newest = max(newest, at)
        back = max(back, newest - at)
    return back


def _formats_of(values: list[str]) -> Iterator[str]:
    """The formats that all times of a column have; "" is ISO 8601 with an offset."""
    given = [value for value in values if value]
    for name in ("", "epoch", *_FORMATS) if given else ():
        try:
            for value in given:
                _moment(value, name)
        except ValueError:
            continue
        yield name


def _moment(value: str, format: str) -> float:
    """A time in seconds. Raises `ValueError` if it is not of this format."""
    if format == "":
        return parse_time(value) / 1_000
    if format in EPOCHS:
        if not re.fullmatch(r"[0-9]{9,19}(\.[0-9]+)?", value):
            raise ValueError(value)
        for ticks in (1, 10**3, 10**6, 10**9):
            if EVENTS_START <= float(value) / ticks * 1_000 < TIME_END:
                return float(value) / ticks
        raise ValueError(value)
    if len(value) < _SHORTEST:  # strptime would take single digits
        raise ValueError(value)
    return datetime.strptime(value, format).timestamp()  # noqa: DTZ007


_SHORTEST: Final = 12


def _place(found: Look, field_name: str) -> Column | None:
    """The column that a field of a call most likely comes from."""
    columns = found.columns
    if field_name == "start_time":
        columns = [column for column in columns if column.time_format is not None]
    named = [c for c in columns if re.search(_KNOWN[field_name], c.name, re.IGNORECASE)]
    if field_name == "imsi":
        likely = [c for c in columns if c.time_format is None and _all_imsis(c.values)]
        named = [c for c in named if c in likely] or likely or named
    if field_name == "start_time":
        named = named or columns
    return named[0] if named else None


def _all_imsis(values: list[str]) -> bool:
    given = [value for value in values if value]
    return bool(given) and all(_IMSI.search(value) for value in given)


def starting_mapping(found: Look, files: str) -> str:
    """A mapping file to start from; what cannot be known is a comment that says so."""
    lines = ["[[export]]", f"files = {_toml(files)}"]
    if found.kind == "csv":
        if found.delimiter != ",":
            lines.append(f"delimiter = {_toml(found.delimiter)}")
        if found.form.encoding not in ("utf-8", "utf-16"):
            lines.append(f"encoding = {_toml(found.form.encoding)}")
        if not found.header:
            names = ", ".join(_toml(column.name) for column in found.columns)
            lines.append(f"columns = [{names}]  # no header line: give them names")
        if found.skip_lines:
            lines.append(f"skip_lines = {found.skip_lines}")
        if found.skip_starting:
            marks = ", ".join(map(_toml, found.skip_starting))
            lines.append(f"skip_starting = [{marks}]  # are they no rows?")
    lines += ["", "[export.fields]"]
    taken = {name: _place(found, name) for name in _KNOWN}
    start, imsi = taken["start_time"], taken["imsi"]
    if (call_id := taken["call_id"]) is not None and call_id.distinct == len(call_id.values):
        lines.append(f"call_id = {_toml(call_id.name)}")
    else:
        parts = [column.name for column in (start, imsi, taken["msisdn"]) if column is not None]
        lines.append(f"call_id = {{ hash = [{', '.join(map(_toml, parts))}] }}  # no column is one")
    lines.append(_start_time(start))
    lines.append(_imsi(imsi))
    for name in ("msisdn", "duration_s", "cell_id", "charge_fen"):
        column = taken[name]
        if column is not None and column not in (start, imsi, call_id):
            unit = {"duration_s": "seconds", "charge_fen": "fen"}.get(name)
            note = f"  # in {unit}? else give the unit" if unit else ""
            lines.append(f"{name} = {_toml(column.name)}{note}")
    return "\n".join(lines) + "\n"


def _start_time(column: Column | None) -> str:
    if column is None:
        return "# start_time: no column has times that are known here"
    name, layout = _toml(column.name), column.time_format
    if not layout:
        return f"start_time = {name}"
    zone = "" if layout in EPOCHS or "%z" in layout else ', zone = "Asia/Shanghai"'
    note = "  # of which place?" if zone else ""
    return f"start_time = {{ column = {name}, format = {_toml(layout)}{zone} }}{note}"


def _imsi(column: Column | None) -> str:
    if column is None:
        return "# imsi: no column has numbers of 14 or 15 digits"
    around = {
        (value[: m.start()], value[m.end() :])
        for value in column.values
        if value and (m := _IMSI.search(value))
    }
    keys = [
        f"{key} = [{', '.join(map(_toml, sorted(filter(None, texts))))}]"
        for key, texts in (
            ("strip_prefix", {before for before, _ in around}),
            ("strip_suffix", {behind for _, behind in around}),
        )
        if any(texts) and len(texts) <= 3
    ]
    if not keys:
        return f"imsi = {_toml(column.name)}"
    return f"imsi = {{ column = {_toml(column.name)}, {', '.join(keys)} }}"


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'
