"""Files as chunks of whole lines (or of Parquet rows), in constant memory, from any line on."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ingest.lines import count_lines

CHUNK_BYTES = 2 * 1024 * 1024
CHUNK_ROWS = 32_768

#: A longer line is no row of anything.
LONGEST_LINE = 64 * 1024

#: Bytes at the top of a file that tell it from others.
HEAD: Final = 4_096

#: What reading a damaged file may raise; of Parquet, anything that its garbage is taken for.
DAMAGE: Final = (OSError, EOFError, zlib.error, pa.ArrowException, ValueError, KeyError)

SUFFIXES = (".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive lines of a file.

    `first_line` counts from 1. `end` is the byte after the last line of a plain file, 0 for others;
    `read` is how many bytes on disk were read for it and all before. At most one of `data` (lines,
    each with its newline but perhaps the last), `rows` (Parquet) and `damage` (why the file cannot
    be read from here on) is set. Of a line much longer than `LONGEST_LINE` only the beginning is
    kept: enough to see that it is.
    """

    first_line: int
    lines: int
    end: int = 0
    read: int = 0
    data: bytes | None = None
    rows: pa.RecordBatch | None = None
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source; `name` is its path relative to the exchange directory."""

    name: str
    path: Path

    @property
    def plain(self) -> bool:
        """Whether reading can go on from a byte: neither compressed nor columnar."""
        return self.path.suffix != ".gz" and self.kind != "parquet"

    @property
    def kind(self) -> str:
        """csv, ndjson or parquet; what ends otherwise was named by a mapping and is CSV."""
        kind = Path(self.path.name.removesuffix(".gz")).suffix.removeprefix(".")
        return kind if kind in ("ndjson", "parquet") else "csv"

    def size(self) -> int:
        """Bytes on disk; 0 if it is gone."""
        return self.state()[0]

    def state(self) -> tuple[int, int]:
        """Bytes on disk and when they changed (ns); zeros if it is gone."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def head(self) -> bytes:
        """The first bytes as they are on disk. Raises `OSError`."""
        with self.path.open("rb") as file:
            return file.read(HEAD)

    def top(self, lines: int) -> list[bytes]:
        """The first lines with their ends, as far as there are. Raises one of `DAMAGE`."""
        with self._open() as file:
            return [line for _ in range(lines) if (line := file.readline(LONGEST_LINE))]

    def continued(self, lines: int, end: int) -> tuple[int, int]:
        """Where a plain file goes on that was read up to its `lines`-th, which ends at byte `end`.

        If that line had no newline it may have been written on since: then it is read again.
        """
        with self.path.open("rb") as file:
            start = max(0, end - LONGEST_LINE)
            file.seek(start)
            before = file.read(end - start)
            after = file.read(2)
        if before.endswith(b"\n") or not after:
            return lines + 1, end
        for ending in (b"\n", b"\r\n"):
            if after.startswith(ending):
                return lines + 1, end + len(ending)
        return lines, start + before.rfind(b"\n") + 1

    def parquet_columns(self) -> list[str]:
        """The columns of a Parquet file. Raises one of `DAMAGE`."""
        names: list[str] = pq.read_schema(self.path).names
        return names

    def _open(self) -> BinaryIO:
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return self.path.open("rb")

    def chunks(self, line: int, byte: int, *, growing: bool = False) -> Iterator[Chunk]:
        """The chunks from a line (1-based) on; `byte` is where it begins in a plain file.

        With `growing`, a last line without its newline is left for later. A file that cannot be
        read any further yields its damage and ends.
        """
        if self.kind == "parquet":
            yield from self._parquet(line)
        else:
            yield from self._lines(line, byte, growing)

    def _lines(self, line: int, byte: int, growing: bool) -> Iterator[Chunk]:
        end = read = byte
        rest, size = b"", 0  # The beginning of a line, and how much of it was read.
        try:
            for block, read in self._blocks(line, byte):
                cut = block.rfind(b"\n") + 1
                if not cut:
                    rest, size = (rest + block)[: LONGEST_LINE + 1], size + len(block)
                    continue
                data = rest + block[:cut]
                end += size + cut
                count = count_lines(data)
                yield Chunk(line, count, end if self.plain else 0, read, data)
                line += count
                rest, size = block[cut:], len(block) - cut
        except DAMAGE as error:
            yield Chunk(line, 0, end if self.plain else 0, read, damage=why(error))
            return
        if rest and not growing:
            yield Chunk(line, 1, end + size if self.plain else 0, read, rest)

    def _blocks(self, line: int, byte: int) -> Iterator[tuple[bytes, int]]:
        """Bytes from the beginning of a line on, and how many bytes on disk were read by then."""
        with self.path.open("rb") as file:
            if self.plain:
                file.seek(byte)
                while block := file.read(CHUNK_BYTES):
                    yield block, file.tell()
                return
            with gzip.open(file) as unpacked:
                for block in _pieces_from(line, unpacked):
                    yield block, file.tell()

    def _parquet(self, line: int) -> Iterator[Chunk]:
        at = 1
        try:
            with pq.ParquetFile(self.path) as file:
                size, total = self.size(), max(1, file.metadata.num_rows)
                for batch in file.iter_batches(CHUNK_ROWS):
                    rows = batch.slice(max(0, line - at))
                    at += batch.num_rows
                    if rows.num_rows:
                        read = size * (at - 1) // total
                        yield Chunk(at - rows.num_rows, rows.num_rows, 0, read, rows=rows)
        except DAMAGE as error:
            yield Chunk(max(line, at), 0, damage=why(error))


def _pieces_from(line: int, file: gzip.GzipFile) -> Iterator[bytes]:
    """What follows the first `line` - 1 lines, in pieces of about a chunk.

    Read in small steps, so that what comes before a damaged place is not lost with it.
    """
    passing = line - 1
    while passing and (piece := file.read1(_STEP)):
        count = piece.count(b"\n")
        if count < passing:
            passing -= count
            continue
        start = 0
        for _ in range(passing):
            start = piece.index(b"\n", start) + 1
        passing = 0
        yield piece[start:]
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := file.read1(_STEP):
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
    except DAMAGE:
        yield b"".join(pieces)
        raise
    yield b"".join(pieces)


_STEP: Final = 128 * 1024


def why(error: Exception) -> str:
    """What is wrong with a file, in one line."""
    text = str(getattr(error, "strerror", None) or str(error).split("\n", 1)[0])
    return text[:300].encode(errors="backslashreplace").decode()


def find_sources(
    directory: Path, named: Callable[[str], bool] | None = None
) -> dict[str, list[SourceFile]]:
    """Each folder below events/ and cdr/ that holds files is a source, in the order of names.

    A file is known by the end of its name, or by `named`, which is asked for `cdr/switch-a/1.DAT`.
    """
    sources: dict[str, list[SourceFile]] = {}
    for top in ("events", "cdr"):
        for path in sorted((directory / top).rglob("*")):
            below = path.relative_to(directory)
            if not path.is_file() or any(part.startswith(".") for part in below.parts):
                continue
            file = SourceFile(_text(below), path)
            if path.name.endswith(SUFFIXES) or (named is not None and named(file.name)):
                name = _text(path.parent.relative_to(directory))
                sources.setdefault(name, []).append(file)
    return dict(sorted(sources.items()))


def _text(path: Path) -> str:
    """A path as text that UTF-8 can carry, whatever bytes are in its name."""
    return path.as_posix().encode(errors="backslashreplace").decode()
