"""Lines of a CSV file as columns of text. What the columns mean is not known here."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from pipelines.ingest.reading.decoding import BOM
from pipelines.ingest.reading.files import LONGEST_LINE
from pipelines.ingest.reading.lines import Lines
from pipelines.ingest.times import Int64s

#: Why a line is refused that has more bytes than `LONGEST_LINE`.
TOO_LONG: Final = f"malformed: longer than {LONGEST_LINE:,} bytes"

#: A line of types, as some exporters put it below the header.
_TYPE: Final = re.compile(
    r"(big|small|tiny)?int(eger)?|n?(var)?char(acter)?2?|text|string|number|numeric|decimal|float"
    r"|double|real|date|time|datetime|timestamp|bool(ean)?|bit|uniqueidentifier|uuid|u?long",
    re.IGNORECASE,
)
_PRECISION: Final = re.compile(r"\s*\([\d, ]*\)$")


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are laid out: its columns, and lines that are no rows.

    The `header` may come again, where files were put together. A line that begins with `refused`
    says why something is no row, up to a bar.
    """

    names: list[str]
    delimiter: str = ","
    skip_starting: tuple[bytes, ...] = ()
    header: bytes = b""
    refused: bytes = b""


@dataclass
class CsvRows:
    """Columns of text, the first line (0-based in the chunk) of each row, and what is no row.

    `spans` has how many lines a row takes, where that is more than one.
    """

    columns: dict[str, pa.Array]
    lines: Int64s
    malformed: list[tuple[int, str]]
    spans: dict[int, int] = field(default_factory=dict)


def fields_of(line: bytes, delimiter: str = ",") -> list[str] | None:
    """The fields of one line; None if it is not CSV in UTF-8."""
    try:
        text = line.decode()
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None


def csv_rows(lines: Lines, dialect: Dialect, wanted: list[str]) -> CsvRows:
    """The wanted columns of the rows; blank lines are none.

    Two ways that give the same: Arrow's reader for chunks of plain lines, else Python's, which is
    also the judge of what is well-formed.
    """
    found = _by_arrow(lines, dialect, wanted) if _plain(lines, dialect) else None
    return found if found is not None else _by_python(lines, dialect, wanted)


def _plain(lines: Lines, dialect: Dialect) -> bool:
    """Whether Arrow and Python cannot but agree: no field spans lines, and all is UTF-8."""
    data, lengths = lines.data, lines.lengths
    if not len(lengths) or lengths.max() > LONGEST_LINE:
        return False
    # To Arrow an empty line is a row of empty values.
    if lengths.min() == 1 or (b"\r" in data and not _plain_ends(data)):
        return False
    if b"\0" in data or (not data.isascii() and BOM in data):
        return False
    if dialect.header and (data.startswith(dialect.header) or b"\n" + dialect.header in data):
        return False
    if dialect.refused and dialect.refused in data:
        return False
    if _is_types(data[: lengths[0]].rstrip(b"\r\n"), dialect):
        return False
    if b'"' in data and not _plain_quotes(data, dialect.delimiter):
        return False
    for start in dialect.skip_starting:
        if data.startswith(start) or b"\n" + start in data:
            return False
    return is_utf8(data)


def _plain_quotes(data: bytes, delimiter: str) -> bool:
    """Whether quotes come in pairs, each around one whole field on one line, and nowhere else."""
    if len(delimiter) != 1 or delimiter == '"':
        return False
    text = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    ends, separator = ord("\n"), ord(delimiter)
    marks = np.flatnonzero((text == ord('"')) | (text == ends))
    quotes = np.flatnonzero(text[marks] == ord('"'))
    # No end of a line stands between two of a pair.
    if len(quotes) % 2 or not (quotes[1::2] - quotes[::2] == 1).all():
        return False
    before, after = text[marks[quotes[::2]] - 1], text[marks[quotes[1::2]] + 1]
    if not ((before == separator) | (before == ends)).all():
        return False
    return bool(((after == separator) | (after == ends) | (after == ord("\r"))).all())


def _plain_ends(data: bytes) -> bool:
    """Whether each carriage return ends a line that has more."""
    if data.count(b"\r") != data.count(b"\r\n"):
        return False
    return not data.startswith(b"\r") and b"\n\r" not in data


def is_utf8(data: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _by_arrow(lines: Lines, dialect: Dialect, wanted: list[str]) -> CsvRows | None:
    bad: list[int] = []
    trailing = 0  # How many rows have one field more than there are columns, and it is empty.

    def skip(row: pacsv.InvalidRow) -> str:
        nonlocal trailing
        bad.append(row.number - 1)
        one_more = row.actual_columns == row.expected_columns + 1
        text = row.text.rstrip("\r\n").removesuffix('""')
        trailing += one_more and text.endswith(dialect.delimiter)
        return "skip"

    # By number, for a file may name its other columns as it likes, or two of them alike.
    numbers = [str(number) for number in range(len(dialect.names))]
    included = [str(dialect.names.index(name)) for name in wanted]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(lines.data),
            pacsv.ReadOptions(
                column_names=numbers, use_threads=False, block_size=len(lines.data) + 1
            ),
            pacsv.ParseOptions(
                delimiter=dialect.delimiter, invalid_row_handler=skip, ignore_empty_lines=False
            ),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(included, pa.string()),
                include_columns=included,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException:
        return None
    if table.num_rows + len(bad) != lines.count:
        return None
    if trailing == lines.count:
        return _by_arrow(lines, replace(dialect, names=[*dialect.names, ""]), wanted)
    if trailing:
        return None
    kept = np.delete(np.arange(lines.count), bad) if bad else np.arange(lines.count)
    columns = {
        name: _one_array(table.column(number))
        for name, number in zip(wanted, included, strict=True)
    }
    malformed = [(line, _expected(dialect)) for line in bad if not _blank(lines[line], dialect)]
    return CsvRows(columns, kept, malformed)


def _fits(fields: list[str], dialect: Dialect) -> bool:
    """Whether a row has a field for each column; a separator at its end does not count."""
    more = len(fields) - len(dialect.names)
    return more == 0 or (more == 1 and not fields[-1])


def _why_none(line: bytes) -> str:
    """Why a line is refused that is not CSV."""
    if not is_utf8(line):
        return "malformed: not UTF-8; a mapping can give the encoding"
    if b"\r" in line:
        return "malformed: not CSV: a carriage return stands within the line"
    return "malformed: not CSV: its quotes do not come in pairs around whole fields"


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], pa.string())])
    )


def _by_python(lines: Lines, dialect: Dialect, wanted: list[str]) -> CsvRows:
    rows: list[tuple[int, list[str]]] = []
    malformed: list[tuple[int, str]] = []
    spans: dict[int, int] = {}
    for index, count, fields in _records(lines, dialect):
        if len(lines[index]) > LONGEST_LINE:
            malformed.append((index, TOO_LONG))
        elif dialect.refused and lines[index].startswith(dialect.refused):
            why = lines[index].removeprefix(dialect.refused).split(b"|")[0].decode()
            malformed.append((index, f"malformed: {why}"))
        elif fields is None:
            malformed.append((index, _why_none(lines[index])))
        elif not _fits(fields, dialect):
            malformed.append((index, _expected(dialect)))
        else:
            rows.append((index, fields))
            if count > 1:
                spans[index] = count
    columns = {}
    for name in wanted:
        number = dialect.names.index(name)
        columns[name] = pa.array([fields[number] for _, fields in rows], pa.string())
    return CsvRows(columns, np.array([index for index, _ in rows], np.int64), malformed, spans)


#: The first line, how many lines there are, and the fields of a record; None where it is not CSV.
_Record = tuple[int, int, list[str] | None]


def _records(lines: Lines, dialect: Dialect) -> list[_Record]:
    some = list(_candidates(lines, dialect))
    try:
        texts = [line.decode() for _, line in some]
        together = list(csv.reader(texts, delimiter=dialect.delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error):
        together = []
    # Fewer rows than lines: a quote was left open at the end of a line.
    if len(together) == len(some):
        return [(index, 1, fields) for (index, _), fields in zip(some, together, strict=True)]
    found: list[_Record] = []
    at = 0
    while at < len(some):
        index, line = some[at]
        fields, count = fields_of(line, dialect.delimiter), 1
        if fields is None and (joined := _joined(lines.all, index, dialect)):
            fields, count = joined
        found.append((index, count, fields))
        while at < len(some) and some[at][0] < index + count:
            at += 1
    return found


def _candidates(lines: Lines, dialect: Dialect) -> Iterator[tuple[int, bytes]]:
    """The lines that may begin a record: not blank, no trailer, no header that comes again."""
    below_header = True
    for index, raw in enumerate(lines.all):
        line = raw.removeprefix(BOM)
        if _blank(line, dialect) or line.startswith(dialect.skip_starting):
            continue
        again = bool(dialect.header) and line == dialect.header
        if not again and not (below_header and _is_types(line, dialect)):
            yield index, line
        below_header = again


def _joined(lines: list[bytes], first: int, dialect: Dialect) -> tuple[list[str], int] | None:
    """The fields of a record whose quotes close only some lines on, and how many lines it takes.

    None unless that gives as many fields as there are columns: a quote may have been left open.
    """
    found = _closing(lines, first, dialect)
    if found is None:
        return None
    text = b"\n".join(lines[first : first + found]).removeprefix(BOM)
    try:
        record = text.decode().splitlines(keepends=True)
        rows = list(csv.reader(record, delimiter=dialect.delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return (rows[0], found) if len(rows) == 1 and _fits(rows[0], dialect) else None


def _closing(lines: list[bytes], first: int, dialect: Dialect) -> int | None:
    """How many lines there are from the first to the one in which an open quote is closed.

    0 if they end before; None if none is open, or it is not closed within the longest line.
    """
    quote, size, quotes = b'"', 0, 0
    if not _opens(lines[first].removeprefix(BOM), dialect):
        return None
    for index in range(first, len(lines)):
        size += len(lines[index]) + 1
        if size > LONGEST_LINE:
            return None
        quotes += lines[index].count(quote)
        if index > first and quotes % 2 == 0:
            return index - first + 1
    return 0


def _opens(line: bytes, dialect: Dialect) -> bool:
    """Whether a line ends within quotes that began with a field."""
    if line.count(b'"') % 2 == 0:
        return False
    try:
        list(csv.reader([line.decode()], delimiter=dialect.delimiter, strict=True))
    except UnicodeDecodeError:
        return False
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def unfinished_bytes(data: bytes, dialect: Dialect) -> int:
    """Bytes at the end of some lines that begin a record which goes on behind them."""
    if b'"' not in data:
        return 0
    # A record that begins further up is not waited for, and one begins in a line with a quote open.
    tail = data[-LONGEST_LINE - 1 :]
    tail = tail[tail.find(b"\n") + 1 :] if len(tail) < len(data) else tail
    if not any(line.count(b'"') % 2 for line in tail.split(b"\n")):
        return 0
    lines = data.split(b"\n")
    lines.pop()
    at = 0
    while at < len(lines):
        if lines[at].count(b'"') % 2 == 0:
            at += 1
            continue
        bare = [line.removesuffix(b"\r") for line in lines[at : at + _MOST_LINES]]
        count = _closing(bare, 0, dialect)
        if count == 0 and at + len(bare) == len(lines):
            return sum(len(line) + 1 for line in lines[at:])
        joined = _joined(bare, 0, dialect) if count else None
        at += joined[1] if joined is not None else 1
    return 0


#: Lines that a record may take.
_MOST_LINES: Final = 1_000


def _is_types(line: bytes, dialect: Dialect) -> bool:
    fields = fields_of(line, dialect.delimiter) if line[:1].isalpha() or line[:1] == b'"' else None
    return (
        fields is not None
        and len(fields) == len(dialect.names)
        and all(_TYPE.fullmatch(_PRECISION.sub("", field.strip())) for field in fields)
    )


def _blank(line: bytes, dialect: Dialect) -> bool:
    return not line.strip(b" " if dialect.delimiter == "\t" else None)


def _expected(dialect: Dialect) -> str:
    return f"malformed: {len(dialect.names)} fields expected"
