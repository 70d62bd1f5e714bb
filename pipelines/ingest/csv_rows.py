"""Lines of a CSV file as columns of text. What the columns mean is not known here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from pipelines.ingest.files import LONGEST_LINE
from pipelines.ingest.lines import Lines
from pipelines.ingest.times import Int64s

#: Why a line is refused that has more bytes than `LONGEST_LINE`.
TOO_LONG: Final = f"malformed: longer than {LONGEST_LINE:,} bytes"

#: What some programs put before the text of a file.
BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are laid out: its columns, and lines that are no rows."""

    names: list[str]
    delimiter: str = ","
    skip_starting: tuple[bytes, ...] = ()


@dataclass
class CsvRows:
    """Columns of text, the line (0-based in the chunk) of each row, and lines that are no rows."""

    columns: dict[str, pa.Array]
    lines: Int64s
    malformed: list[tuple[int, str]]


def fields_of(line: bytes, delimiter: str = ",") -> list[str] | None:
    """The fields of one line; None if it is not CSV in UTF-8."""
    try:
        text = line.decode()
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None


def header_of(line: bytes, delimiter: str = ",") -> list[str]:
    """The column names in the first line of a file; none if it cannot be one."""
    fields = fields_of(line.removeprefix(BOM).rstrip(b"\r\n"), delimiter)
    return [name.strip() for name in fields or []]


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
    if b"\0" in data or data.startswith(BOM):
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
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before, after = text[opening - 1], text[closing + 1]
    if not np.isin(before, [ord(delimiter), ord("\n")]).all():
        return False
    if not np.isin(after, [ord(delimiter), ord("\n"), ord("\r")]).all():
        return False
    ends = np.flatnonzero(text == ord("\n"))
    return bool((ends.searchsorted(opening) == ends.searchsorted(closing)).all())


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

    def skip(row: pacsv.InvalidRow) -> str:
        bad.append(row.number - 1)
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
    kept = np.delete(np.arange(lines.count), bad) if bad else np.arange(lines.count)
    columns = {
        name: _one_array(table.column(number))
        for name, number in zip(wanted, included, strict=True)
    }
    malformed = [(line, _expected(dialect)) for line in bad if not _blank(lines[line], dialect)]
    return CsvRows(columns, kept, malformed)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], pa.string())])
    )


def _by_python(lines: Lines, dialect: Dialect, wanted: list[str]) -> CsvRows:
    rows: list[tuple[int, list[str]]] = []
    malformed: list[tuple[int, str]] = []
    for index, fields in _fields(lines, dialect):
        if len(lines[index]) > LONGEST_LINE:
            malformed.append((index, TOO_LONG))
        elif fields is None:
            malformed.append((index, "malformed: not CSV in UTF-8"))
        elif len(fields) != len(dialect.names):
            malformed.append((index, _expected(dialect)))
        else:
            rows.append((index, fields))
    columns = {}
    for name in wanted:
        number = dialect.names.index(name)
        columns[name] = pa.array([fields[number] for _, fields in rows], pa.string())
    return CsvRows(columns, np.array([index for index, _ in rows], np.int64), malformed)


def _fields(lines: Lines, dialect: Dialect) -> list[tuple[int, list[str] | None]]:
    """The fields of each line that may be a row, None where it is not CSV."""
    some = [
        (index, line)
        for index, line in enumerate(lines.all)
        if not _blank(line, dialect) and not line.startswith(dialect.skip_starting)
    ]
    try:
        texts = [line.decode() for _, line in some]
        together = list(csv.reader(texts, delimiter=dialect.delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error):
        together = []
    # Fewer rows than lines: a quote was left open, and took in lines that are not its own.
    if len(together) == len(some):
        return [(index, fields) for (index, _), fields in zip(some, together, strict=True)]
    return [(index, fields_of(line, dialect.delimiter)) for index, line in some]


def _blank(line: bytes, dialect: Dialect) -> bool:
    return not line.strip(b" " if dialect.delimiter == "\t" else None)


def _expected(dialect: Dialect) -> str:
    return f"malformed: {len(dialect.names)} fields expected"
