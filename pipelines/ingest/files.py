"""Files as chunks of whole lines (or of Parquet rows), in constant memory, from any line on."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

CHUNK_BYTES = 2 * 1024 * 1024
CHUNK_ROWS = 32_768

#: A longer line is no row of anything.
_LONGEST_LINE = 16 * 1024 * 1024

SUFFIXES = (".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive lines of a file.

    `first_line` counts from 1. `end` is the byte after the last line of a plain file, 0 for others.
    Exactly one of `data` (lines, each with its newline but perhaps the last), `rows` (Parquet) and
    `damage` (why the rest of the file cannot be read) is set.
    """

    first_line: int
    lines: int
    end: int = 0
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
        return self.path.suffix in (".csv", ".ndjson")

    @property
    def kind(self) -> str:
        """csv, ndjson or parquet."""
        return Path(self.path.name.removesuffix(".gz")).suffix.removeprefix(".")

    def size(self) -> int:
        """Bytes on disk; 0 if it is gone."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def fingerprint(self) -> str:
        """A hash of the first 4 KiB: tells a file that grew from one that was replaced."""
        with self.path.open("rb") as file:
            return hashlib.blake2b(file.read(4_096), digest_size=8).hexdigest()

    def header(self) -> bytes:
        """The first line of a file of lines."""
        try:
            with self._open() as file:
                return file.readline(_LONGEST_LINE)
        except (OSError, EOFError, zlib.error):
            return b""

    def _open(self) -> BinaryIO:
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return self.path.open("rb")

    def chunks(self, line: int, byte: int, *, growing: bool = False) -> Iterator[Chunk]:
        """The chunks from a line (1-based) on; `byte` is where it begins in a plain file.

        With `growing`, a last line without its newline is left for later. A file that cannot be
        read any further yields its damage and ends.
        """
        try:
            if self.kind == "parquet":
                yield from self._parquet(line)
            else:
                yield from self._lines(line, byte, growing)
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            yield Chunk(0, 0, damage=str(reason))

    def _lines(self, line: int, byte: int, growing: bool) -> Iterator[Chunk]:
        with self._open() as file:
            if self.plain:
                file.seek(byte)
            else:
                for _ in range(line - 1):
                    file.readline()
            while data := file.read(CHUNK_BYTES):
                if not data.endswith(b"\n"):
                    data += file.readline(_LONGEST_LINE)
                if growing and not data.endswith(b"\n"):
                    data = data[: data.rfind(b"\n") + 1]
                    if not data:
                        return
                byte += len(data)
                count = data.count(b"\n") + (not data.endswith(b"\n"))
                yield Chunk(line, count, byte if self.plain else 0, data=data)
                line += count

    def _parquet(self, line: int) -> Iterator[Chunk]:
        with pq.ParquetFile(self.path) as file:
            at = 1
            for batch in file.iter_batches(CHUNK_ROWS):
                rows = batch.slice(max(0, line - at))
                if rows.num_rows:
                    yield Chunk(at + batch.num_rows - rows.num_rows, rows.num_rows, rows=rows)
                at += batch.num_rows


def find_sources(directory: Path) -> dict[str, list[SourceFile]]:
    """Each folder below events/ and cdr/ that holds files is a source, in the order of names."""
    sources: dict[str, list[SourceFile]] = {}
    for top in ("events", "cdr"):
        for path in sorted((directory / top).rglob("*")):
            if path.is_file() and path.name.endswith(SUFFIXES) and not path.name.startswith("."):
                name = path.parent.relative_to(directory).as_posix()
                file = SourceFile(path.relative_to(directory).as_posix(), path)
                sources.setdefault(name, []).append(file)
    return dict(sorted(sources.items()))
