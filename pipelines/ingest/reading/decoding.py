"""Bytes on disk into lines of UTF-8: packings, encodings, ends of lines, JSON over many lines."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa

from pipelines.ingest.reading.ber import Records

#: What some programs put before the text of a file.
BOM: Final = b"\xef\xbb\xbf"

#: What reading a damaged file may raise; of Parquet, anything that its garbage is taken for.
DAMAGE: Final = (OSError, EOFError, zlib.error, pa.ArrowException, ValueError, KeyError)

#: Bytes read at a time where what follows depends on what came before: little, so that what comes
#: before a damaged place is not lost with it.
_STEP: Final = 128 * 1024

#: A JSON value that is longer is not waited for.
_LONGEST_VALUE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TextForm:
    """How the bytes of a file, unpacked, become lines of UTF-8.

    With `bare_cr` lines end in a carriage return alone; with `values` the file is JSON values over
    several lines or in one list, and each value becomes a line. One is `packed` that does not say
    so by its name. Files of `records` are no text at all.
    """

    encoding: str = "utf-8"
    bare_cr: bool = False
    values: bool = False
    packed: bool = False
    records: Records | None = None

    @property
    def as_is(self) -> bool:
        """Whether the bytes are such lines already, so that reading can go on from a byte."""
        return self == AS_IS

    def pieces(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        """The text of these bytes, in pieces.

        Bytes that do not belong to the encoding become bytes that do not belong to UTF-8 either:
        their line is refused.
        """
        if self.records is not None:
            return self.records.lines(raw)
        if self.encoding != "utf-8":
            raw = _decoded(raw, codecs.getincrementaldecoder(self.encoding)(_MARK))
        if self.bare_cr:
            raw = (piece.replace(b"\r", b"\n") for piece in raw)
        return _values(raw) if self.values else raw

    def text(self, head: bytes) -> bytes:
        """As `pieces`, of the beginning of a file; it may end within a line."""
        return b"".join(self.pieces(iter([head])))


AS_IS: Final = TextForm()

_MARK: Final = "zerostock.mark"
codecs.register_error(_MARK, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]


def _decoded(raw: Iterator[bytes], decoder: codecs.IncrementalDecoder) -> Iterator[bytes]:
    for piece in raw:
        yield decoder.decode(piece).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def _values(raw: Iterator[bytes]) -> Iterator[bytes]:
    """Each JSON value on a line of its own; what is not JSON is passed on line by line."""
    decode = json.JSONDecoder().raw_decode
    utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    rest, more = "", True
    while more:
        piece = next(raw, None)
        more = piece is not None
        rest += utf8.decode(piece or b"", final=not more)
        found: list[str] = []
        at = 0
        while (start := _between(rest, at)) < len(rest):
            newline = "\n"
            try:
                end = decode(rest, start)[1]
                cut_off = more and end == len(rest)  # a number may go on
            except (ValueError, RecursionError) as error:
                end = rest.find("\n", start) + 1 or len(rest)
                cut_off = more and len(rest) - start < _LONGEST_VALUE
                if not more and _incomplete(rest, error):  # it is not ended, as a line is not
                    end, newline = len(rest), ""
            if cut_off:
                break
            value = rest[start:end].strip()
            found.append(value.replace("\r", " ").replace("\n", " ") + newline)
            at = end
        rest = rest[start:]
        yield "".join(found).encode("utf-8", "surrogateescape")


def _incomplete(text: str, error: Exception) -> bool:
    """Whether JSON is wrong only because it ends too early."""
    return isinstance(error, json.JSONDecodeError) and (
        error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
    )


def _between(text: str, at: int) -> int:
    """Where the next value begins, behind blanks, commas and the brackets of a list."""
    found = _SEPARATORS.match(text, at)
    return found.end() if found else at


_SEPARATORS: Final = re.compile(r"[\s,\[\]\ufeff]*")


# Finding out


def text_form(head: bytes, *, json: bool) -> TextForm:
    """The form of a file by its first bytes, unpacked; of `json` or else of lines of columns."""
    encoding = _encoding(head, json=json)
    text = TextForm(encoding).text(head)
    if json:
        return TextForm(encoding, values=_over_lines(text))
    return TextForm(encoding, bare_cr=b"\n" not in text and b"\r" in text[:-1])


def _encoding(head: bytes, *, json: bool) -> str:
    """The encoding that a byte order mark, zero bytes or the first line give away."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    even, odd = head[0:2000:2], head[1:2000:2]
    if len(odd) > 1 and odd.count(0) > 0.4 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    if len(odd) > 1 and even.count(0) > 0.4 * len(even) and odd.count(0) < 0.1 * len(odd):
        return "utf-16-be"
    # A heading in Chinese: rows alone do not tell, for one may be spoiled.
    first = head.lstrip().split(b"\n", 1)[0]
    return (
        "gb18030" if not json and not fits(first, "utf-8") and fits(first, "gb18030") else "utf-8"
    )


_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def fits(data: bytes, encoding: str) -> bool:
    """Whether bytes, perhaps cut off within a character, are text in an encoding."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def _over_lines(text: bytes) -> bool:
    """Whether JSON is a list, or its first line ends within an object."""
    text = text.removeprefix(BOM).lstrip()
    first, end, _ = text.partition(b"\n")
    if text.startswith(b"["):
        return True
    if not text.startswith(b"{"):
        return False
    try:
        json.loads(first)
    except ValueError as error:
        # One value behind the other, or one over several lines.
        several = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        return several or (bool(end) and first.rstrip().endswith((b",", b"{", b"[")))
    except RecursionError:
        return False
    return False


# Packings


def packing_of(name: str) -> str | None:
    """The ending of `PACKINGS` that a name has, perhaps with a number behind it; else None."""
    found = _PACKED.search(name.lower())
    return found[1] if found else None


def unpacked(file: BinaryIO, name: str) -> Any:
    """An open file as it is unpacked, by how it begins, else by its name; as it is if neither."""
    head = file.read(4)
    file.seek(0)
    by_content = (end for end, (magic, _) in PACKINGS.items() if magic.match(head))
    packing = next(by_content, packing_of(name))
    return PACKINGS[packing][1](file) if packing else file


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is packed, whatever its name."""
    return any(magic.match(head) for magic, _ in PACKINGS.values())


#: How packed files begin (RFC 1952, RFC 8878; a skippable frame may come first), and what opens
#: them.
PACKINGS: Final[dict[str, tuple[re.Pattern[bytes], Callable[[BinaryIO], Any]]]] = {
    ".gz": (re.compile(rb"\x1f\x8b"), gzip.open),
    ".bz2": (re.compile(rb"BZh[1-9]"), bz2.open),
    ".zst": (
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
        lambda file: pa.CompressedInputStream(file, "zstd"),
    ),
}
#: A number as writers put it behind the names of files that they have turned over.
NUMBERED: Final = r"[.\-_]\d[\dt_\-]{0,18}$"
_PACKED: Final = re.compile(rf"(\.gz|\.bz2|\.zst)({NUMBERED[:-1]})?$")


def raw_pieces(file: Any) -> Iterator[bytes]:
    """The bytes of an open file in small steps."""
    read = getattr(file, "read1", file.read)
    while piece := read(_STEP):
        yield piece


def pieces_from(line: int, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """What follows the first `line` - 1 lines, in pieces of about `size` bytes.

    If what is read is damaged, what came before is not lost with it.
    """
    passing = line - 1
    while passing and (piece := next(pieces, None)) is not None:
        count = piece.count(b"\n")
        if count < passing:
            passing -= count
            continue
        start = 0
        for _ in range(passing):
            start = piece.index(b"\n", start) + 1
        passing = 0
        yield piece[start:]
    ready: list[bytes] = []
    held = 0
    try:
        for piece in pieces:
            ready.append(piece)
            held += len(piece)
            if held >= size:
                yield b"".join(ready)
                ready, held = [], 0
    except DAMAGE:
        yield b"".join(ready)
        raise
    yield b"".join(ready)
