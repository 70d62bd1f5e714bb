"""Opens files where reading goes on, and finds out what they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.ingest.check import Checked, Format, check, missing_columns, needed_columns, nothing
from pipelines.ingest.csv_rows import Dialect, header_of
from pipelines.ingest.files import DAMAGE, Chunk, SourceFile, why
from pipelines.ingest.mapping import Export, Mapping
from pipelines.ingest.positions import Position, fingerprint, is_same

log = logging.getLogger(__name__)


class Vanished(Exception):
    """The file is gone since it was listed."""


class Unreadable(Exception):
    """The file system refuses to give it, today at least."""


class NotYet(Exception):
    """The file is still too short to tell what it is; its writer will go on."""


@dataclass(frozen=True)
class Opened:
    """A file of a source being read from a line (1-based) and byte on.

    `head` is how it begins, `state` its size and time of change, as they were when it was opened.
    """

    source: str
    file: SourceFile
    chunks: Iterator[Chunk]
    how: Format
    line: int
    byte: int
    head: bytes
    state: tuple[int, int]

    def read(self) -> Chunk | None:
        """The next chunk; None after the last."""
        return next(self.chunks, None)

    def check(self, chunk: Chunk, before: int) -> tuple[Chunk, Checked]:
        """What a chunk comes to, and the chunk without its bytes, which are needed no more.

        Rows from `before` (ms) on are refused.

        It is damage if its rows turn out to be none.
        """
        bare = replace(chunk, data=None, rows=None)
        if chunk.rows is None:
            return bare, check(chunk, self.how, before)
        try:
            return bare, check(chunk, self.how, before)
        except DAMAGE as error:
            return replace(bare, lines=0, damage=why(error)), nothing()

    def position_after(self, chunk: Chunk, newest: int, last: bool) -> Position:
        """What to remember once everything up to the end of a chunk is sent."""
        # A plain file may have grown meanwhile; another that changed is another file.
        size, modified = self.file.state() if self.file.plain else self.state
        rest = self.file.plain and chunk.damage is None and chunk.end < size
        head = self.head[: chunk.end] if self.file.plain and chunk.end else self.head
        return Position(
            self.source,
            size,
            fingerprint(head),
            chunk.first_line + chunk.lines - 1,
            chunk.end,
            newest,
            last and not rest,
            modified,
            len(head),
        )


def open_file(
    source: str, file: SourceFile, known: Position | None, mapping: Mapping | None, growing: bool
) -> Opened:
    """A file, opened where reading goes on.

    With `growing` a last line without its end is left for later. What cannot be read at all comes
    as a chunk of damage. Raises `Vanished`, `Unreadable`, or `NotYet` for a growing file whose
    header is not there yet.
    """
    line, byte, how = 1, 0, Format(file.kind)
    head, state = b"", file.state()
    try:
        head = file.head()
        line, byte = _where(file, known)
        export = mapping.export_of(file.name) if mapping is not None else None
        if file.kind == "parquet":
            how = _parquet_format(file, export)
        elif file.kind == "csv":
            how, top = _csv_format(file, export, growing)
            if line <= len(top):
                line, byte = len(top) + 1, sum(map(len, top)) if file.plain else 0
    except FileNotFoundError:
        raise Vanished from None
    except (*DAMAGE, _Unfit) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreadable(why(error)) from None
        damage = Chunk(line, 0, byte, damage=why(error))
        return Opened(source, file, iter([damage]), how, line, byte, head, state)
    chunks = file.chunks(line, byte, growing=growing and file.plain)
    return Opened(source, file, chunks, how, line, byte, head, state)


class _Unfit(Exception):
    """A file whose columns are not those of calls."""


def _where(file: SourceFile, known: Position | None) -> tuple[int, int]:
    """The line and byte to read on from: the end so far, or the top if the file was replaced."""
    if known is None:
        return 1, 0
    size = file.size()
    if not is_same(file, known) or size < known.end or (not file.plain and size != known.size):
        log.warning("%s was replaced and is read again", file.name)
        return 1, 0
    if not file.plain or known.end == 0:
        return known.lines + 1, known.end
    return file.continued(known.lines, known.end)


def _csv_format(
    file: SourceFile, export: Export | None, growing: bool
) -> tuple[Format, list[bytes]]:
    """The columns of a CSV file, and the lines above its first row."""
    delimiter = export.delimiter if export is not None else ","
    skipped = export.skip_lines if export is not None else 0
    headed = export is None or export.columns is None
    top = file.top(skipped + headed)
    if growing and (len(top) < skipped + headed or (top and not top[-1].endswith(b"\n"))):
        raise NotYet
    names = export.columns if export is not None else None
    if names is None and len(top) > skipped:
        names = header_of(top[-1], delimiter)
    if names is not None:
        _require(names, export)
    skip = tuple(s.encode() for s in export.skip_starting) if export is not None else ()
    return Format("csv", Dialect(names or [], delimiter, skip), export), top


def _parquet_format(file: SourceFile, export: Export | None) -> Format:
    _require(file.parquet_columns(), export)
    return Format("parquet", export=export)


def _require(names: list[str], export: Export | None) -> None:
    missing = missing_columns(names, export)
    if missing and export is not None:
        raise _Unfit(f"no column {', '.join(missing)}, which the mapping names")
    if missing:
        raise _Unfit(f"the header has no column {', '.join(missing)}")
    twice = sorted({name for name in needed_columns(names, export) if names.count(name) > 1})
    if twice:
        raise _Unfit(f"two columns have the name {', '.join(twice)}")
