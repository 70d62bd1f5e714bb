"""Opens files where reading goes on, and finds out what they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from pipelines.ingest.check import Checked, Format, check, nothing
from pipelines.ingest.mapping.mapping import Export, Mapping
from pipelines.ingest.positions import Position, fingerprint, is_same
from pipelines.ingest.reading.ber import REFUSED
from pipelines.ingest.reading.csv_rows import Dialect, unfinished_bytes
from pipelines.ingest.reading.decoding import (
    AS_IS,
    BOM,
    DAMAGE,
    TextForm,
    is_packed,
    text_form,
)
from pipelines.ingest.reading.files import TOP, Chunk, SourceFile, why
from pipelines.ingest.reading.headers import (
    FileHeader,
    Incomplete,
    Unfit,
    check_columns,
    plain_names,
    read_header,
)

log = logging.getLogger(__name__)

#: The reason that withdraws a dead letter: the line was only half written.
TAKEN_BACK = ""


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
    `half` is a line as it was read when only its beginning was there, with its number.
    """

    source: str
    file: SourceFile
    chunks: Iterator[Chunk]
    how: Format
    line: int
    byte: int
    head: bytes
    state: tuple[int, int]
    form: TextForm = AS_IS
    half: tuple[int, bytes] | None = None

    def read(self) -> Chunk | None:
        """The next chunk; None after the last."""
        return next(self.chunks, None)

    def check(self, chunk: Chunk, before: int, *, detail: bool = False) -> tuple[Chunk, Checked]:
        """What a chunk comes to, and the chunk without its bytes, which are needed no more.

        Rows from `before` (ms) on are refused; `detail` keeps all columns of calls.

        It is damage if its rows turn out to be none.
        """
        bare = replace(chunk, data=None, rows=None)
        if chunk.rows is None:
            checked = check(chunk, self.how, before, detail=detail)
            if self.half is not None and chunk.first_line == self.half[0]:
                checked.refused.insert(0, (self.half[0], TAKEN_BACK, self.half[1]))
            return bare, checked
        try:
            return bare, check(chunk, self.how, before, detail=detail)
        except DAMAGE as error:
            return replace(bare, lines=0, damage=why(error)), nothing()

    def position_after(self, chunk: Chunk, newest: int, last: bool) -> Position:
        """What to remember once everything up to the end of a chunk is sent."""
        # A plain file may have grown meanwhile; another that changed is another file.
        by_byte = self.file.plain and self.form.as_is
        size, modified = self.file.state() if by_byte else self.state
        rest = by_byte and chunk.damage is None and chunk.end < size
        head = self.head[: chunk.end] if self.file.plain and chunk.end else self.head
        # Where reading cannot go on within a line, one that was cut off is read again from its
        # beginning, if ever there is more.
        cut_off = self.file.plain and not by_byte and not chunk.ended
        return Position(
            self.source,
            size,
            fingerprint(head),
            chunk.first_line + chunk.lines - 1 - cut_off,
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
    line, byte, how, form = 1, 0, Format(file.kind), AS_IS
    head, state = b"", file.state()
    unfinished = half = None
    try:
        head = file.head()
        line, byte = _where(file, known)
        if known is not None and line == known.lines and byte < known.end:
            half = line, file.between(byte, known.end)
        export = mapping.export_of(file.name) if mapping is not None else None
        if file.kind == "parquet":
            check_columns(plain_names(file.parquet_columns(), export), export)
            how = Format("parquet", export=export)
        else:
            top = file.top()
            form, how, header = _text_format(file, top, export, growing)
            form = replace(form, packed=file.plain and is_packed(head))
            if header is not None and line <= header.lines:
                line, byte = header.lines + 1, header.bytes if file.plain and form.as_is else 0
            if header is not None:
                unfinished = partial(unfinished_bytes, dialect=header.dialect)
    except FileNotFoundError:
        raise Vanished from None
    except (*DAMAGE, Unfit) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreadable(why(error)) from None
        damage = Chunk(line, 0, byte, damage=why(error))
        return Opened(source, file, iter([damage]), how, line, byte, head, state, form)
    chunks = file.chunks(
        line, byte, growing=growing and file.plain, form=form, unfinished=unfinished
    )
    return Opened(source, file, chunks, how, line, byte, head, state, form, half)


def _text_format(
    file: SourceFile, top: bytes, export: Export | None, growing: bool
) -> tuple[TextForm, Format, FileHeader | None]:
    """How a file of text is laid out, and for columns its header."""
    if export is not None and export.asn1 is not None:
        dialect = Dialect(export.reads, refused=REFUSED)
        return TextForm(records=export.records), Format("csv", dialect, export), None
    given = export.encoding if export is not None else None
    if file.kind == "ndjson":
        return text_form(top, json=True), Format("ndjson"), None
    form = TextForm(given) if given is not None else text_form(top, json=False)
    text = form.text(top)
    if export is None and text.removeprefix(BOM).lstrip().startswith((b"{", b"[")):
        return text_form(top, json=True), Format("ndjson"), None
    try:
        header = read_header(text, export, form, whole=len(top) < TOP and not growing)
    except Incomplete:
        raise NotYet from None
    return form, Format("csv", header.dialect, export), header


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
