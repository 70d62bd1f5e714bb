"""Opens files where reading goes on, and finds out what they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec

from pipelines.ingest.check import Checked, Format, RefusedLine, check, nothing
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
from pipelines.ingest.reading.files import LONGEST_LINE, TOP, Chunk, SourceFile, why
from pipelines.ingest.reading.headers import (
    FileHeader,
    Incomplete,
    Unfit,
    check_columns,
    plain_names,
    read_header,
)
from pipelines.ingest.reading.lines import count_lines

log = logging.getLogger(__name__)

#: The reason that withdraws a dead letter: the line was only half written.
TAKEN_BACK = ""

#: Bytes of a record, and of a last line behind it, that was looked at before it was whole.
_MOST_HALF: Final = 4 * LONGEST_LINE


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
    `half` are the lines from `line` on as they were read when there was no more, and `known`
    is the position then.
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
    half: bytes = b""
    known: Position | None = None

    @property
    def begun(self) -> Checked:
        """What is to be said before its rows: that it could not be read is no longer so."""
        checked, known = nothing(), self.known
        partly = known is not None and (not self.file.plain or (known.lines, known.end) == (0, 0))
        if known is not None and partly and known.done and is_same(self.file, known):
            checked.refused = [(known.lines + 1, TAKEN_BACK, b"")]
        return checked

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
            if self.half and chunk.first_line == self.line:
                checked.refused = self._taken_back(checked, before) + checked.refused
            return bare, checked
        try:
            return bare, check(chunk, self.how, before, detail=detail)
        except DAMAGE as error:
            return replace(bare, lines=0, damage=why(error)), nothing()

    def _taken_back(self, checked: Checked, before: int) -> list[RefusedLine]:
        """What was refused of lines that were not all there, and is not refused in the same way."""
        lines = count_lines(self.half) + (not self.half.endswith(b"\n"))
        then = check(Chunk(self.line, lines, data=self.half), self.how, before)
        still = {(line, raw) for line, _, raw in checked.refused}
        return [
            (line, TAKEN_BACK, raw) for line, _, raw in then.refused if (line, raw) not in still
        ]

    def position_after(self, chunk: Chunk, newest: int, last: bool) -> Position:
        """What to remember once everything up to the end of a chunk is sent."""
        if self.half and self.known is not None and not chunk.lines and chunk.damage is None:
            return msgspec.structs.replace(self.known, newest=newest)  # it is still not all there
        # A plain file may have grown meanwhile; another that changed is another file.
        by_byte = self.file.plain and self.form.as_is
        size, modified = self.file.state() if by_byte else self.state
        rest = by_byte and chunk.damage is None and chunk.end < size
        head = self.head[: chunk.end] if self.file.plain and chunk.end else self.head
        # Where reading cannot go on within a line, one that was cut off is read again from its
        # beginning, if ever there is more.
        cut_off = self.file.plain and not by_byte and not chunk.ended
        lines, end = chunk.first_line + chunk.lines - 1 - cut_off, chunk.end
        if chunk.resume is not None and self.file.plain:
            lines, end = chunk.resume
        return Position(
            self.source,
            size,
            fingerprint(head),
            lines,
            end,
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
    unfinished, half = None, b""
    try:
        head = file.head()
        line, byte, read = _where(file, known)
        export = mapping.export_of(file.name) if mapping is not None else None
        if file.kind == "parquet":
            check_columns(plain_names(file.parquet_columns(), export), export)
            how = Format("parquet", export=export)
        else:
            top = file.top()
            form, how, header = _text_format(file, top, export, growing)
            form = was = replace(form, packed=file.plain and is_packed(head))
            if known is not None and known.lines and bool(known.end) != form.as_is and file.plain:
                line, byte = 1, 0  # of so little of it nobody could tell what it is
                was = AS_IS if known.end else form
            if header is not None and line <= header.lines:
                line, byte = header.lines + 1, header.bytes if file.plain and form.as_is else 0
            if header is not None:
                unfinished = partial(unfinished_bytes, dialect=header.dialect)
            if read and not form.packed and form.records is None:
                half = file.until(read, line, byte, was, _MOST_HALF)
    except FileNotFoundError:
        raise Vanished from None
    except (*DAMAGE, Unfit) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreadable(why(error)) from None
        if isinstance(error, Unfit):  # which is said of all of it
            line, byte = 1, 0
        damage = iter([Chunk(line, 0, byte, damage=why(error))])
        return Opened(source, file, damage, how, line, byte, head, state, form, known=known)
    chunks = file.chunks(
        line, byte, growing=growing and file.plain, form=form, unfinished=unfinished
    )
    return Opened(source, file, chunks, how, line, byte, head, state, form, half, known)


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


def _where(file: SourceFile, known: Position | None) -> tuple[int, int, int]:
    """The line and byte to read on from: the end so far, or the top if the file was replaced.

    With it how many bytes were looked at before, 0 for a file that was replaced.
    """
    if known is None:
        return 1, 0, 0
    size = file.size()
    if not is_same(file, known) or size < known.end or (not file.plain and size != known.size):
        log.warning("%s was replaced and is read again", file.name)
        return 1, 0, 0
    read = known.size if file.plain and known.done else known.end
    if not file.plain or known.end == 0:
        return known.lines + 1, known.end, read if file.plain else 0
    return *file.continued(known.lines, known.end), read
