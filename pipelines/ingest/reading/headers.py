"""What stands above the rows of a CSV file: its columns, how they are separated, what is odd."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipelines.ingest.mapping.mapping import Export
from pipelines.ingest.reading.csv_rows import Dialect, fields_of
from pipelines.ingest.reading.decoding import BOM, TextForm, fits

REQUIRED: Final = ("call_id", "start_time", "imsi")
OPTIONAL: Final = ("msisdn", "duration_s", "cell_id", "charge_fen")

#: What may separate columns where nobody says it.
DELIMITERS: Final = (",", ";", "\t", "|")

_LONGEST_SHOWN: Final = 200

#: Excel's own line above the header: sep=;
_EXCEL: Final = re.compile(r'"?sep=(.)"?')


class Unfit(Exception):
    """A file whose columns are not those of calls."""


class Incomplete(Exception):
    """The header is not there yet."""


@dataclass(frozen=True)
class FileHeader:
    """The dialect of a file, and how many lines and bytes stand above its first row."""

    dialect: Dialect
    lines: int
    bytes: int


def needed_columns(names: list[str], export: Export | None) -> list[str]:
    """The columns of a file of calls that are looked at."""
    if export is not None:
        return export.reads
    return [*REQUIRED, *(name for name in OPTIONAL if name in names)]


def plain_names(names: list[str], export: Export | None) -> list[str]:
    """The names of columns; where no export says them, those of calls in small letters."""
    if export is not None:
        return names
    small = {name: name.lower() for name in names}
    ours = {*REQUIRED, *OPTIONAL} - set(names)
    return [small[name] if small[name] in ours else name for name in names]


def check_columns(names: list[str], export: Export | None, shown: str = "") -> None:
    """Raises `Unfit` unless each column that is needed is there, once; `shown` is the header."""
    needed = needed_columns(names, export)
    missing = [name for name in needed if name not in names]
    if missing:
        whose = ", which the mapping names" if export is not None else ""
        shown = shown or ", ".join(names)
        raise Unfit(f"no column {', '.join(missing)}{whose}; the header is {_quoted(shown)}")
    twice = sorted({name for name in needed if names.count(name) > 1})
    if twice:
        raise Unfit(f"two columns have the name {', '.join(twice)}")


def read_header(text: bytes, export: Export | None, form: TextForm, *, whole: bool) -> FileHeader:
    """The header of a file that begins with `text`, which is all of it if it is `whole`.

    Blank lines above it do not count. Without an export the separator is found out by trying.
    Raises `Unfit`, and `Incomplete` if the line of the header has no end yet.
    """
    lines = _split(text)
    skip = tuple(s.encode() for s in export.skip_starting) if export is not None else ()
    at = export.skip_lines if export is not None else 0
    delimiter = export.delimiter if export is not None else None
    headed = export is None or export.columns is None
    if not headed:
        assert export is not None
        assert export.columns is not None
        check_columns(export.columns, export)
        if len(lines) < at or (at and not lines[at - 1].endswith(b"\n")):
            if not whole:
                raise Incomplete
            at = len(lines)
        dialect = Dialect(export.columns, delimiter or ",", skip)
        return FileHeader(dialect, at, sum(map(len, lines[:at])))
    while at < len(lines):
        bare = _bare(lines[at])
        if hint := _EXCEL.fullmatch(bare.decode(errors="replace")):
            delimiter = delimiter or hint[1]
        elif bare.strip() and not bare.startswith(skip):
            break
        at += 1
    if at >= len(lines) or not (whole or lines[at].endswith(b"\n")):
        if not whole:
            raise Incomplete
        return FileHeader(Dialect([], delimiter or ",", skip), at, sum(map(len, lines[:at])))
    dialect = _dialect(lines[at:], export, form, delimiter, skip)
    return FileHeader(dialect, at + 1, sum(map(len, lines[: at + 1])))


def _split(text: bytes) -> list[bytes]:
    """The lines with their ends, which are newlines."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _bare(line: bytes) -> bytes:
    return line.removeprefix(BOM).rstrip(b"\r\n")


def _dialect(
    lines: list[bytes],
    export: Export | None,
    form: TextForm,
    delimiter: str | None,
    skip: tuple[bytes, ...],
) -> Dialect:
    line = _bare(lines[0])
    tried = [delimiter] if delimiter is not None else list(DELIMITERS)
    found: list[Dialect] = []
    for separator in tried:
        names = plain_names([n.strip() for n in fields_of(line, separator) or []], export)
        found.append(Dialect(names, separator, skip, line))
        try:
            check_columns(names, export)
        except Unfit:
            continue
        return found[-1]
    best = max(found, key=lambda dialect: len(dialect.names))
    shown = line.decode(errors="backslashreplace")
    try:
        check_columns(best.names, export, shown)
    except Unfit as error:
        raise Unfit(f"{error}{_cause(line, best, tried, form)}{_below(lines, export)}") from None
    return best


def _below(lines: list[bytes], export: Export | None) -> str:
    """Where else the header seems to be."""
    needed = needed_columns([], export)
    for number, line in enumerate(lines[1:20], start=2):
        if all(name.encode() in line for name in needed):
            return f"; it seems to stand in line {number}: a mapping can skip_lines"
    return ""


def _cause(line: bytes, best: Dialect, tried: list[str], form: TextForm) -> str:
    """What else may be wrong with a header that lacks columns."""
    causes = []
    if not fits(line, "utf-8"):
        causes.append("it is not UTF-8: give the encoding in a mapping")
    elif form.encoding != "utf-8":
        causes.append(f"read as {form.encoding}")
    text = line.decode(errors="replace")
    other = max((*DELIMITERS, ":", "^", "~"), key=text.count)
    if other not in tried and text.count(other) > max(1, text.count(best.delimiter)):
        causes.append(f"separated by {other!r}: give the delimiter in a mapping")
    elif len(best.names) > 1:
        causes.append(f"separated by {best.delimiter!r}")
    return "".join(f"; {cause}" for cause in causes)


def _quoted(text: str) -> str:
    more = len(text) > _LONGEST_SHOWN
    return repr(text[:_LONGEST_SHOWN] + ("…" if more else ""))
