"""The input files: which there are, in what chunks they are read, and reading one chunk.

Every Beam file system will do (a local folder, gs://, s3://, hdfs://). What a value means is
`columns`' business.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.batch.engine.columns import (
    ORIGIN,
    REJECTS,
    ROW,
    SOURCE,
    Dataset,
    check_header,
    empty_rejects,
)
from pipelines.files import leads_out
from pipelines.ingest.accepted import AcceptedRows, parquet_rows_of, rows_of
from pipelines.ingest.mapping.mapping import Export, Mapping
from pipelines.ingest.reading.files import SourceFile, find_sources, kind_of, kind_of_content
from schemas.errors import InputError

log = logging.getLogger(__name__)

#: Rows read at a time: enough to be worth a vectorised step, little enough for a small worker.
CHUNK_ROWS = 1 << 20

#: Bytes of CSV parsed at a time.
_CSV_BLOCK = 32 << 20

_LONGEST_HEADER = 1 << 16
_PEEK_ROWS = 1000

_TABLES = re.compile(r"\.(csv|csv\.gz|parquet)$")
_EVENTS = re.compile(r"\.(ndjson|ndjson\.gz)$")


@dataclass(frozen=True, slots=True)
class File:
    """One input file; `source` is its path below the input folder."""

    path: str
    source: str
    size: int
    mapping: Mapping | None = None

    @property
    def parquet(self) -> bool:
        """Parquet, else CSV."""
        return self.path.lower().endswith(".parquet")

    @property
    def export(self) -> Export | None:
        """How the mapping describes it, if it does."""
        return self.mapping.export_of(self.source) if self.mapping is not None else None


@dataclass(frozen=True, slots=True)
class FilePart:
    """A piece of a file that one worker reads at a time; a CSV file is one piece.

    `number` counts the chunks of a data set: with it, names of what comes out are the same again.
    """

    number: int
    file: File
    groups: tuple[int, ...] = ()
    first_row: int = 0
    rows: int = 0


def is_local(path: str) -> bool:
    """Whether the path is on this machine's own file system."""
    return "://" not in path


def find(root: str, dataset: Dataset, mapping: Mapping | None = None) -> list[File]:
    """The files of a data set, in order: NAME.csv[.gz], NAME.parquet, or a folder NAME of parts.

    Looks in each of the data set's folders below the root until one has any. What the stream reads
    too, calls and events, is what it finds in an exchange directory, by the same names.
    """
    root = root.rstrip("/")
    if (dataset.calls or dataset.events) and (shared := _exchange_files(root, dataset, mapping)):
        return shared
    kinds = _EVENTS if dataset.events else _TABLES
    for folder in dataset.folders:
        base = "/".join(part for part in (root, folder, dataset.name) if part)
        found = {
            entry.path: File(entry.path, _below(root, entry.path), entry.size_in_bytes)
            for result in FileSystems.match([f"{base}.*", f"{base}/**"])
            for entry in result.metadata_list
            if kinds.search(entry.path)
            and not _led_out(root, entry.path)
            and not _hidden(_below(root, entry.path))
            and (entry.path.startswith(base + "/") or kinds.sub("", entry.path) == base)
        }
        if found:
            return [found[path] for path in sorted(found)]
    return []


def _exchange_files(root: str, dataset: Dataset, mapping: Mapping | None) -> list[File]:
    if is_local(root):
        listing = find_sources(Path(root), mapping.names if mapping is not None else None)
        return [
            File(str(file.path), file.name, file.size(), mapping)
            for files in listing.sources.values()
            for file in files
            if (kind_of_content(file) == "ndjson") == dataset.events
        ]
    found = []
    for result in FileSystems.match([f"{root}/events/**", f"{root}/cdr/**"]):
        for entry in result.metadata_list:
            source = _below(root, entry.path)
            kind = kind_of(source) or ("csv" if mapping and mapping.names(source) else None)
            if kind and not _hidden(source) and (kind == "ndjson") == dataset.events:
                found.append(File(entry.path, source, entry.size_in_bytes, mapping))
    return sorted(found, key=lambda file: file.source)


def require(root: str, dataset: Dataset, mapping: Mapping | None = None) -> list[File]:
    """`find`, raising `InputError` where a data set that a job cannot do without has no file."""
    files = find(root, dataset, mapping)
    if not files and not dataset.optional:
        kinds = ".ndjson, .ndjson.gz" if dataset.events else ".csv, .csv.gz or .parquet"
        places = " or ".join(f"{root}/{folder}".rstrip("/") for folder in dataset.folders)
        raise InputError(
            f"no {dataset.name} ({kinds}, or a folder {dataset.name} of such) in {places}"
        )
    return files


def _led_out(root: str, path: str) -> bool:
    if not is_local(root) or not leads_out(Path(path), Path(root)):
        return False
    log.warning("%s is not read: it is a link that leads out of %s", path, root)
    return True


def _below(root: str, path: str) -> str:
    return path[len(root) :].lstrip("/") if path.startswith(root) else path


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def checksum(file: File) -> str:
    """What tells this content from another: SHA-256 here, the store's own checksum elsewhere."""
    if is_local(file.path):
        with Path(file.path).open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    return str(FileSystems.checksum(file.path))


def plan(files: Sequence[File], dataset: Dataset, chunk_rows: int = CHUNK_ROWS) -> list[FilePart]:
    """Chunks of about `chunk_rows` rows, from the Parquet footers alone.

    A CSV file of nothing at all, such as an exchange leaves of a quiet hour, has no rows; a data
    set that a job cannot do without has at least one other.
    Raises `InputError` for a file that is not Parquet or lacks a column, before anything is read.
    """
    chunks: list[FilePart] = []
    empty: list[File] = []
    for file in files:
        if dataset.events or (dataset.calls and not file.parquet):
            chunks.append(FilePart(len(chunks), file))
            continue
        if not file.parquet:
            header, more = _csv_header(file)
            if not header and not more:
                empty.append(file)
                continue
            check_header(dataset, header, file.source)
            if not more:
                continue
            chunks.append(FilePart(len(chunks), file))
            continue
        with FileSystems.open(file.path) as stream:
            footer = _parquet(stream, file).metadata
        if not dataset.calls:
            check_header(dataset, footer.schema.to_arrow_schema().names, file.source)
        groups: list[int] = []
        first = rows = 0
        for group in range(footer.num_row_groups):
            groups.append(group)
            rows += footer.row_group(group).num_rows
            if rows >= chunk_rows or group == footer.num_row_groups - 1:
                chunks.append(FilePart(len(chunks), file, tuple(groups), first, rows))
                first, rows, groups = first + rows, 0, []
    if empty and not chunks and not dataset.optional:
        check_header(dataset, [], empty[0].source)
    return chunks


def read_accepted(chunk: FilePart) -> Iterator[AcceptedRows]:
    """The rows of a chunk of calls or events, as the stream accepts them.

    Raises `InputError` for a file that cannot be read at all.
    """
    file = chunk.file
    with _on_this_machine(file) as path:
        if chunk.groups:
            parts = chunk.groups, chunk.first_row, file.export
            yield from parquet_rows_of(file.source, path, *parts)
        else:
            yield from rows_of(SourceFile(file.source, path), file.mapping)


def offsets_at_start(chunk: FilePart) -> list[str]:
    """The offsets from UTC, like +08:00 or Z, of the times at the start of a file of text."""
    if chunk.file.parquet:
        return []
    try:
        with FileSystems.open(chunk.file.path) as stream:
            start = stream.read(_LONGEST_HEADER)
    except (OSError, EOFError, ValueError):
        return []  # who reads it says what is wrong
    return sorted({found.decode() for found in _OFFSET.findall(start)})


_OFFSET = re.compile(rb"T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)\b")


@contextmanager
def _on_this_machine(file: File) -> Iterator[Path]:
    """The file, or a copy of one that is kept elsewhere."""
    if is_local(file.path):
        yield Path(file.path)
        return
    with tempfile.TemporaryDirectory(prefix="zerostock-") as folder:
        copy = Path(folder) / file.path.rsplit("/", 1)[-1]
        plain = CompressionTypes.UNCOMPRESSED
        with FileSystems.open(file.path, compression_type=plain) as there, copy.open("wb") as here:
            shutil.copyfileobj(there, here)
        yield copy


#: Raw rows with SOURCE and ROW; rejects: lines that do not fit the header; how many were skipped.
_RawRows = tuple[pl.DataFrame, pl.DataFrame, int]


def _read_calls(chunk: FilePart, dataset: Dataset) -> Iterator[_RawRows]:
    for some in read_accepted(chunk):
        frame = pl.from_arrow(some.uses.filter(pc.field("call")))
        assert isinstance(frame, pl.DataFrame)
        texts = pl.col("msisdn", "cell_id")
        rows = frame.with_columns(
            pl.when(texts != "").then(texts),
            pl.col("duration_s").clip(upper_bound=_LONGEST_CALL),
            pl.lit(chunk.file.source, pl.Categorical()).alias(SOURCE),
            pl.col("row").cast(pl.UInt64).alias(ROW),
            pl.col("event_id").alias("call_id"),
            pl.col("at").alias("start_time"),
        ).select(*dataset.names, SOURCE, ROW)
        yield rows, _misfit_rejects(chunk.file, some.refused), some.skipped


#: Seconds that a call is taken for at most.
_LONGEST_CALL = 1e9


def read(chunk: FilePart, dataset: Dataset) -> Iterator[_RawRows]:
    """(raw rows with SOURCE and ROW; rejects: lines that do not fit the header; how many rows a
    mapping skips) of one chunk.

    Raises `InputError` for a file that cannot be read at all.
    """
    if dataset.calls:
        yield from _read_calls(chunk, dataset)
    elif chunk.file.parquet:
        yield _with_origin(_read_parquet(chunk, dataset), chunk), empty_rejects(), 0
    else:
        yield from ((*found, 0) for found in _read_csv(chunk.file, dataset))


def peek(chunk: FilePart, dataset: Dataset) -> pl.DataFrame:
    """The first few raw rows of a chunk, with SOURCE and ROW."""
    start = replace(chunk, groups=chunk.groups[:1], rows=min(chunk.rows, _PEEK_ROWS))
    return next(read(start, dataset))[0].head(_PEEK_ROWS)


def _with_origin(frame: pl.DataFrame, chunk: FilePart) -> pl.DataFrame:
    first = chunk.first_row + 1
    return frame.with_columns(
        pl.lit(chunk.file.source, pl.Categorical()).alias(SOURCE),
        pl.int_range(first, first + frame.height, dtype=pl.UInt64, eager=True).alias(ROW),
    )


def _parquet(stream: IO[bytes], file: File) -> Any:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise InputError(f"{file.source} is not a Parquet file: {error}") from error


def _read_parquet(chunk: FilePart, dataset: Dataset) -> pl.DataFrame:
    path = chunk.file.path
    if is_local(path):  # three times faster than through a file object
        whole = pl.scan_parquet(path, glob=False)
        names = check_header(dataset, whole.collect_schema().names(), chunk.file.source)
        return whole.slice(chunk.first_row, chunk.rows).select(names).collect()
    with FileSystems.open(path) as stream:
        file = _parquet(stream, chunk.file)
        names = check_header(dataset, file.schema_arrow.names, chunk.file.source)
        frame = pl.from_arrow(file.read_row_groups(list(chunk.groups), columns=names))
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _csv_bytes(file: File) -> Iterator[Any]:
    """The file's bytes, unpacked, as an Arrow stream (Beam's own gzip file is not one)."""
    with FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        packed = pa.PythonFile(stream, mode="r")
        yield pa.CompressedInputStream(packed, "gzip") if file.path.endswith(".gz") else packed


def _csv_header(file: File) -> tuple[list[str], bool]:
    """The names of the columns, and whether that line has an end: else nothing follows it."""
    try:
        with _csv_bytes(file) as stream:
            start = stream.read(_LONGEST_HEADER)
        first, end, _ = start.partition(b"\n")
        line = first.decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise InputError(f"{file.source} is not a CSV file: {error}") from error
    return next(csv.reader([line.rstrip("\r")]), []), bool(end)


def _read_csv(file: File, dataset: Dataset) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    names = check_header(dataset, _csv_header(file)[0], file.source)
    misfits: list[tuple[int, str]] = []

    def refuse(row: Any) -> str:
        reason = (
            f"malformed: {row.actual_columns} values where the header has {row.expected_columns}"
        )
        misfits.append((row.number - 1, reason))  # its number counts the header
        return "skip"

    rows_before, reported = 0, 0
    try:
        for batch in _csv_batches(file, names, refuse):
            numbers = _row_numbers(rows_before, batch.num_rows, [row for row, _ in misfits])
            rows_before += batch.num_rows
            rows = _decode(batch, names).with_columns(
                pl.lit(file.source, pl.Categorical()).alias(SOURCE), numbers.alias(ROW)
            )
            yield rows, _misfit_rejects(file, misfits[reported:])
            reported = len(misfits)
    except (pa.ArrowException, EOFError, OSError) as error:
        raise InputError(f"{file.source} cannot be read as CSV: {error}") from error
    yield _no_rows(names), _misfit_rejects(file, misfits[reported:])


def _csv_batches(
    file: File, names: Sequence[str], refuse: Callable[[Any], str]
) -> Iterator[pa.RecordBatch]:
    with _csv_bytes(file) as stream:
        yield from pa_csv.open_csv(
            stream,
            # Rows are numbered only by the reader that goes through them in order.
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
            parse_options=pa_csv.ParseOptions(invalid_row_handler=refuse, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=names, column_types=dict.fromkeys(names, pa.large_binary())
            ),
        )


def _row_numbers(before: int, count: int, misfits: Sequence[int]) -> pl.Series:
    """Numbers of the next `count` good rows after `before` good ones; misfits keep theirs."""
    numbers = pl.int_range(before + 1, before + count + 1, dtype=pl.UInt64, eager=True)
    if not misfits:
        return numbers
    # The i-th misfit stands after (its number - 1 - i) good rows.
    good_before = [row - 1 - i for i, row in enumerate(misfits)]
    passed = np.searchsorted(np.array(good_before), numbers.to_numpy() - 1, side="right")
    return numbers + pl.Series(passed, dtype=pl.UInt64)


def _misfit_rejects(file: File, misfits: Sequence[tuple[int, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            SOURCE: [file.source] * len(misfits),
            ROW: [row for row, _ in misfits],
            "reason": [reason for _, reason in misfits],
        },
        schema=REJECTS,
    )


def _no_rows(names: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(names, pl.String) | ORIGIN)


def _decode(batch: Any, names: Sequence[str]) -> pl.DataFrame:
    """Text without blanks around it; bytes that are not UTF-8 become U+FFFD, not a failed file."""
    columns = {}
    for name in names:
        raw = batch.column(name)
        try:
            texts = raw.cast(pa.large_string())
        except pa.ArrowInvalid:
            decoded = [value.as_py().decode("utf-8", "replace") for value in raw]
            texts = pa.array(decoded, pa.large_string())
        columns[name] = pc.utf8_trim_whitespace(texts)
    frame = pl.from_arrow(pa.table(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame
