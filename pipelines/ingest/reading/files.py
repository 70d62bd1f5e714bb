"""Files as chunks of whole lines (or of Parquet rows), in constant memory, from any line on."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.files import leads_out
from pipelines.ingest.reading.archive import archives_of
from pipelines.ingest.reading.decoding import (
    AS_IS,
    DAMAGE,
    NUMBERED,
    PACKINGS,
    TextForm,
    is_packed,
    packing_of,
    pieces_from,
    raw_pieces,
    unpacked,
)
from pipelines.ingest.reading.lines import count_lines

CHUNK_BYTES = 2 * 1024 * 1024
CHUNK_ROWS = 32_768

#: A longer line is no row of anything.
LONGEST_LINE = 64 * 1024

#: Bytes at the top of a file that tell it from others.
HEAD: Final = 4_096

#: Bytes at the top of a file, unpacked, that tell how it is laid out.
TOP: Final = 256 * 1024

#: Endings of names that say what is in a file, in capitals too. Text may be either.
KINDS: Final = {
    ".csv": "csv",
    ".txt": "text",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
}

#: How writers number the files that they have turned over: calls.csv.1, calls.csv-20260302.
_ROTATED: Final = re.compile(NUMBERED)
_DRAFTS: Final = (".tmp", ".part", ".partial", ".filepart", ".swp", ".new", "~")


def kind_of(name: str) -> str | None:
    """csv, text (either of csv and ndjson), ndjson or parquet, by the end of a name; else None."""
    return KINDS.get(Path(_unnumbered(name)).suffix)


def kind_of_content(file: SourceFile) -> str:
    """csv, ndjson or parquet: by the name, or where that leaves it open, by the first bytes."""
    if file.kind != "text":
        return file.kind
    try:
        first = file.top()[:HEAD]
    except DAMAGE:
        return "csv"
    return "ndjson" if _looks_like_json(first) else "csv"


def _looks_like_json(head: bytes) -> bool:
    return head.replace(b"\0", b"").lstrip(_MARKS).startswith((b"{", b"["))


_MARKS: Final = b"\xef\xbb\xbf\xff\xfe \r\n\t"


def _unnumbered(name: str) -> str:
    """A name without packings and numbers at its end; a number may stand before a packing."""
    plain = name.lower()
    for _ in range(2):
        plain = _ROTATED.sub("", plain)
        plain = next((plain.removesuffix(end) for end in PACKINGS if plain.endswith(end)), plain)
    return plain


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive lines of a file.

    `first_line` counts from 1. `end` is the byte after the last line of a plain file, 0 for others;
    `read` is how many bytes on disk were read for it and all before. At most one of `data` (lines,
    each with its newline but perhaps the last), `rows` (Parquet) and `damage` (why the file cannot
    be read from here on) is set. Of a line much longer than `LONGEST_LINE` only the beginning is
    kept: enough to see that it is. The last line is `ended` if it has its newline. Where all of it
    is one record at the end of a file that seems to go on, `resume` is the line before it, and the
    byte at which it begins (0 where `end` is).
    """

    first_line: int
    lines: int
    end: int = 0
    read: int = 0
    data: bytes | None = None
    rows: pa.RecordBatch | None = None
    damage: str | None = None
    ended: bool = True
    resume: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source; `name` is its path relative to the exchange directory."""

    name: str
    path: Path

    @property
    def plain(self) -> bool:
        """Whether more may be written at its end: neither packed nor columnar."""
        return packing_of(self.path.name) is None and self.kind != "parquet"

    @property
    def kind(self) -> str:
        """csv, text, ndjson or parquet; what is named otherwise is text."""
        return kind_of(self.path.name) or "text"

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

    def top(self) -> bytes:
        """The first bytes, unpacked; less of them if the file is damaged behind.

        Raises one of `DAMAGE` if there are none, or the disk fails.
        """
        found = b""
        try:
            for piece in self._pieces():
                found += piece
                if len(found) >= TOP:
                    break
        except DAMAGE as error:
            if not found or (isinstance(error, OSError) and error.errno is not None):
                raise
        return found[:TOP]

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

    def until(self, read: int, line: int, byte: int, form: TextForm, most: int) -> bytes:
        """The lines from one on (`byte`, if the form is as it is), of the first `read` bytes.

        Of a plain file; nothing if they are more than `most` bytes. Raises one of `DAMAGE`.
        """
        with self.path.open("rb") as file:
            if form.as_is:
                file.seek(byte)
                return file.read(read - byte) if 0 < read - byte <= most else b""
            found = b""
            pieces = form.pieces(iter(partial(_some_of, file, read), b""))
            for piece in pieces_from(line, pieces, CHUNK_BYTES):
                found += piece
                if len(found) > most:
                    return b""
            return found

    def parquet_columns(self) -> list[str]:
        """The columns of a Parquet file. Raises one of `DAMAGE`."""
        names: list[str] = pq.read_schema(self.path).names
        return names

    def _pieces(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from raw_pieces(unpacked(file, self.path.name))

    def chunks(
        self,
        line: int,
        byte: int,
        *,
        growing: bool = False,
        form: TextForm = AS_IS,
        unfinished: Callable[[bytes], int] | None = None,
    ) -> Iterator[Chunk]:
        """The chunks from a line (1-based) on; `byte` is where it begins in a plain file.

        With `growing`, a last line without its newline is left for later. `unfinished` says how
        many bytes at the end of some lines begin a record that goes on in the next line. A file
        that cannot be read any further yields its damage and ends.
        """
        if self.kind == "parquet":
            yield from self._parquet(line)
        else:
            yield from self._lines(line, byte, growing, form, unfinished or (lambda _: 0))

    def _lines(
        self,
        line: int,
        byte: int,
        growing: bool,
        form: TextForm,
        unfinished: Callable[[bytes], int],
    ) -> Iterator[Chunk]:
        by_byte = self.plain and form.as_is
        end = read = byte
        rest, size = b"", 0  # Lines left over and the beginning of one, and how much was read.

        def chunk(data: bytes, length: int) -> Chunk:
            nonlocal line, end
            end += length
            ended = data.endswith(b"\n")
            count = count_lines(data) + (not ended)
            line += count
            return Chunk(line - count, count, end if by_byte else 0, read, data, ended=ended)

        try:
            for block, read in self._blocks(line, byte, form):  # noqa: B007
                cut = block.rfind(b"\n") + 1
                whole = rest.rfind(b"\n") + 1
                if not cut and whole and len(rest) + len(block) > LONGEST_LINE:
                    yield chunk(rest[:whole], whole)  # The next line is too long to belong to it.
                    rest, size = rest[whole:], size - whole
                if not cut:
                    rest, size = (rest + block)[: LONGEST_LINE + 1], size + len(block)
                    continue
                data = rest + block[:cut]
                left = unfinished(data)
                if left < len(data):
                    yield chunk(data[: len(data) - left], size + cut - left)
                rest, size = data[len(data) - left :] + block[cut:], left + len(block) - cut
        except DAMAGE as error:
            if whole := rest.rfind(b"\n") + 1:
                yield chunk(rest[:whole], whole)
            yield Chunk(line, 0, end if by_byte else 0, read, damage=why(error))
            return
        if rest and not growing:
            open_ended = b"\n" in rest or unfinished(rest + b"\n")
            resume = (line - 1, end if by_byte else 0) if open_ended else None
            yield replace(chunk(rest, size), resume=resume)

    def _blocks(self, line: int, byte: int, form: TextForm) -> Iterator[tuple[bytes, int]]:
        """Bytes from the beginning of a line on, and how many bytes on disk were read by then."""
        with self.path.open("rb") as file:
            if self.plain and form.as_is:
                file.seek(byte)
                while block := file.read(CHUNK_BYTES):
                    yield block, file.tell()
                return
            pieces = form.pieces(raw_pieces(unpacked(file, self.path.name)))
            for block in pieces_from(line, pieces, CHUNK_BYTES):
                yield block, self.size() if file.closed else file.tell()

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


def _some_of(file: BinaryIO, end: int) -> bytes:
    """The next bytes of a file, none from `end` on."""
    return file.read(min(CHUNK_BYTES, max(0, end - file.tell())))


def why(error: Exception) -> str:
    """What is wrong with a file, in one line."""
    text = str(getattr(error, "strerror", None) or str(error).split("\n", 1)[0])
    return text[:300].encode(errors="backslashreplace").decode()


@dataclass
class Listing:
    """What an exchange directory holds: the files of each source, and files that are not read.

    `own` are those that do not lie in an archive.
    """

    sources: dict[str, list[SourceFile]] = field(default_factory=dict)
    own: dict[str, list[SourceFile]] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)


def find_sources(directory: Path, named: Callable[[str], bool] | None = None) -> Listing:
    """Each folder below events/ and cdr/ that holds files is a source, in the order of names.

    A file is known by the end of its name, or by `named`, which is asked for `cdr/switch-a/1.DAT`;
    one without an ending, if it begins as its folder's files do. Others are `unread`, with why.
    What lies in the directory's archives is found as if it lay in the directory.
    """
    return DirectoryWatch(directory, named).look()


@dataclass
class _Entry:
    """A file, and why it is not read; `open` if that may turn out once more of it is written."""

    file: SourceFile
    why_not: str | None = None
    open: bool = False


class _Folder:
    """What one folder held when it last changed (ns): files by name, folders, and what is neither.

    `files` are those that are read, by name; `questions` those that may be once more is written.
    """

    def __init__(self, changed: int) -> None:
        self.changed = changed
        self.entries: dict[str, _Entry] = {}
        self.others: dict[str, Path | None] = {}
        self.sort()

    @property
    def below(self) -> list[Path]:
        """The folders within."""
        return [path for path in self.others.values() if path is not None]

    def sort(self) -> None:
        """Say anew which files are read, which may be, and which are not."""
        self.files: list[SourceFile] = []
        self.questions: list[_Entry] = []
        self.unread: list[tuple[str, str]] = []
        self._tell(self.entries.values())

    def add(self, entries: dict[str, _Entry]) -> None:
        """Add files that were not there."""
        self.entries |= entries
        self._tell(entries.values())

    def _tell(self, entries: Iterable[_Entry]) -> None:
        more = [e.file for e in entries if not e.open and e.why_not is None]
        if more:
            self.files = sorted([*self.files, *more], key=_name)
        self.questions += [e for e in entries if e.open]
        self.unread += [(e.file.name, e.why_not) for e in entries if e.why_not is not None]


class DirectoryWatch:
    """Looks at an exchange directory again and again: what did not change costs next to nothing.

    A folder is listed again when it changed. Of many files that were read to their end, the newest
    by name are looked at each time, the others in turns.
    """

    def __init__(self, directory: Path, named: Callable[[str], bool] | None = None) -> None:
        self._directory = directory
        self._archives = archives_of(directory)
        self._named = named
        self._together: dict[str, tuple[list[list[SourceFile]], list[SourceFile]]] = {}
        self._folders: dict[Path, _Folder] = {}
        self._looks = 0

    def look(self) -> Listing:
        """What there is now; see `find_sources`. The lists are not to be changed."""
        self._looks += 1
        found = Listing()
        seen: dict[Path, _Folder] = {}
        found.own = self._walk(self._directory, seen, found.unread)
        parts = {name: [files] for name, files in found.own.items()}
        for archive in self._archives:
            for name, files in self._walk(archive, seen, []).items():
                parts.setdefault(name, []).append(files)
        self._folders = seen  # what is gone and comes again is another
        found.sources = {name: self._one(name, parts[name]) for name in sorted(parts)}
        found.unread = sorted([*found.unread, *self._beside()])
        return found

    def _one(self, name: str, parts: list[list[SourceFile]]) -> list[SourceFile]:
        """The files of a source from several places, each name once: the first place has it."""
        if len(parts) == 1:
            return parts[0]
        known = self._together.get(name)
        if known is None or [*map(id, known[0])] != [*map(id, parts)]:
            files = {file.name: file for part in reversed(parts) for file in part}
            known = self._together[name] = parts, [files[name] for name in sorted(files)]
        return known[1]

    def _walk(
        self, root: Path, seen: dict[Path, _Folder], unread: list[tuple[str, str]]
    ) -> dict[str, list[SourceFile]]:
        """The files of each source below a root; adds to the folders seen and what is not read."""
        found: dict[str, list[SourceFile]] = {}
        below = [root / top for top in _TOPS]
        while below:
            path = below.pop()
            folder = self._folder(root, path)
            if folder is None:
                continue
            seen[path] = folder
            for entry in folder.questions:
                why_not = _passed_over(entry.file, self._named)
                entry.open = why_not is not None
                if why_not is not None:
                    unread.append((entry.file.name, why_not))
            if not all(entry.open for entry in folder.questions):
                folder.sort()
            if folder.files:
                found[_text(path.relative_to(root))] = folder.files
            unread += folder.unread
            below += folder.below
        return found

    def _beside(self) -> Iterator[tuple[str, str]]:
        """What lies beside events/ and cdr/ and seems to belong there."""
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.is_dir() and entry.name.lower() in _SIMILAR and entry.name not in _TOPS:
                    yield (
                        f"{_text(Path(entry.name))}/",
                        "the folders that are read are events/, cdr/",
                    )
                elif entry.is_file() and kind_of(entry.name) not in (None, "text"):
                    yield _text(Path(entry.name)), "it lies neither below events/ nor below cdr/"

    def _folder(self, root: Path, path: Path) -> _Folder | None:
        try:
            changed = path.stat().st_mtime_ns
            known = self._folders.get(path)
            # One that changed a moment ago may do so again at the same tick of its clock.
            if known is not None and known.changed == changed:
                return known
            names = os.listdir(path)
        except OSError:
            return None
        settled = changed < time.time_ns() - _TICK
        folder = _Folder(changed)
        new = names
        if known is not None:
            new = [n for n in names if n not in known.entries and n not in known.others]
            if len(names) - len(new) == len(known.entries) + len(known.others):
                folder = known
            else:  # something is gone
                left = set(names)
                folder.others = {n: p for n, p in known.others.items() if n in left}
                folder.add({n: e for n, e in known.entries.items() if n in left})
        added: dict[str, _Entry] = {}
        for name in new:
            if os.path.isdir(path / name) and not os.path.islink(path / name):
                folder.others[name] = None if name.startswith(".") else path / name
            elif os.path.isfile(path / name):
                added[name] = self._entry(root, path / name)
            elif not os.path.islink(path / name):  # what a link names may come yet
                folder.others[name] = None
        folder.add(added)
        folder.changed = changed if settled else -1
        return folder

    def _entry(self, root: Path, path: Path) -> _Entry:
        file = SourceFile(_text(path.relative_to(root)), path)
        if leads_out(path, root / file.name.partition("/")[0]):
            return _Entry(file, "it is a link that leads out of its folder")
        kind = kind_of(path.name)
        if kind == "text" or (kind is None and "." not in _unnumbered(path.name)):
            return _Entry(file, open=True)
        return _Entry(file, _passed_over(file, self._named))

    def due(self, files: list[SourceFile], done: Callable[[SourceFile], bool]) -> list[SourceFile]:
        """The files of a source to be looked at this time: all but old ones whose turn it is not.

        `done` says which were read to their end.
        """
        newest, turn = len(files) - _ALWAYS, self._looks % _TURNS
        return [
            file
            for number, file in enumerate(files)
            if self._looks == 1 or number >= newest or number % _TURNS == turn or not done(file)
        ]


_TOPS: Final = ("cdr", "events")
_SIMILAR: Final = ("cdr", "cdrs", "calls", "event", "events")

#: Files of a source that are looked at each time, and in how many looks all others are.
_ALWAYS: Final = 2_000
_TURNS: Final = 60
#: ns within which a file system may not tell two changes apart.
_TICK: Final = 2_000_000_000


_name: Final = attrgetter("name")


def _passed_over(file: SourceFile, named: Callable[[str], bool] | None) -> str | None:
    """Why a file is not read, None if it is."""
    name = file.path.name.lower()
    if name.startswith("."):
        return "its name begins with a dot"
    if name.endswith(_DRAFTS):
        return "its name is that of a draft"
    kind = kind_of(name)
    if kind == "parquet" and packing_of(name) is not None:
        return "Parquet files are read only as they are, not packed"
    if kind not in (None, "text") or (named is not None and named(file.name)):
        return None
    if kind is None and "." in _unnumbered(name):
        return "its name ends in none of " + " ".join(KINDS) + ", and no mapping names it"
    try:
        head = file.head()
        first = head.replace(b"\0", b"").lstrip(_MARKS)
    except OSError as error:
        return why(error)
    if is_packed(head) or _looks_like_json(head) or b"call_id" in first.lower():
        return None
    shown = first.splitlines()[0][:60].decode(errors="replace") if first else ""
    return f"it begins neither with a header of calls nor with JSON, but with {shown!r}"


def _text(path: Path) -> str:
    """A path as text that UTF-8 can carry, whatever bytes are in its name."""
    return path.as_posix().encode(errors="backslashreplace").decode()
