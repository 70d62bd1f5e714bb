"""Files of ASN.1 records in BER as lines of CSV, a record a line, by the module that names their
fields: 3GPP TS 32.298 and its like. What the fields mean, a mapping says.

A module need not name all that a record holds, nor in which order: what it does not name is passed
over. Octets become text by the name of their type.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import asn1tools
from asn1tools.codecs.ber import (
    OutOfByteDataError,
    decode_length,
    detect_end_of_contents_tag,
    skip_tag,
)

log = logging.getLogger(__name__)

#: Begins the line of a record that cannot be read; the reason follows, then its octets.
REFUSED: Final = b"\x15"

#: The column that says which of a choice of records one is.
RECORD: Final = "record"

#: Of the first octet: the class of a tag, and that there are values within.
_CLASS: Final = 0xE0
_CLASSES: Final = {"UNIVERSAL": 0x20, "APPLICATION": 0x60, "PRIVATE": 0xE0}

#: A longer record is none.
_LONGEST: Final = 64 * 1024
_TOO_LONG: Final = f"a record of more than {_LONGEST:,} bytes"
#: Fills the end of blocks; no record begins so.
_FILLERS: Final = b"\x00\xff"
_DEEPEST: Final = 4


@dataclass(frozen=True)
class Records:
    """Records of one type of an ASN.1 module, given as text, and the columns that are wanted.

    A column is the name of a field, or names with dots between; `RECORD` is the alternative.
    """

    module: str
    type: str
    columns: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises `ValueError` if the module cannot be, or does not name a column."""
        _, known, _ = _compiled(self.module, self.type)
        if unknown := [name for name in self.columns if name != RECORD and name not in known]:
            raise ValueError(f"{self.type} of the module has no field {', '.join(unknown)}")

    def lines(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        """The records of a file's bytes as lines; one that is cut off at the end is left out.

        Raises `ValueError` where no record can be.
        """
        rest = b""
        for piece in raw:
            rest += piece
            rows = io.StringIO()
            try:
                rest = rest[self._write(rest, rows) :]
            finally:
                yield rows.getvalue().encode()
            if len(rest) > _LONGEST:
                raise ValueError(_TOO_LONG)
        if rest:
            log.warning(
                "the last record is cut off after %d bytes: it waits for the rest", len(rest)
            )

    def _write(self, data: bytes, rows: io.StringIO) -> int:
        """Write the records that are whole; where the next one begins."""
        record, kinds, classes = _compiled(self.module, self.type)
        write = csv.writer(rows, lineterminator="\n").writerow
        at = 0
        while (at := _passed(data, at)) < len(data):
            try:
                if data[at] & _CLASS not in classes:
                    raise ValueError(f"no record of ASN.1 begins with {data[at : at + 8]!r}")
                end = _end(data, at)
            except OutOfByteDataError as error:
                if getattr(error, "expected_length", 0) > _LONGEST:
                    raise ValueError(_TOO_LONG) from None
                break
            except (asn1tools.DecodeError, RecursionError) as error:
                raise ValueError(f"no record in BER: {error}") from None
            try:
                row = _row(record.decode(data[at:end]), kinds)
                write([row.get(name, "") for name in self.columns])
            except (asn1tools.DecodeError, ValueError, IndexError) as error:
                why = str(error).replace('"', "'").replace("|", "/")
                rows.write(f"{REFUSED.decode()}{why}|{data[at:end].hex()}\n")
            at = end
        return at


def _passed(data: bytes, at: int) -> int:
    """Where the next record begins, behind fillers."""
    while at < len(data) and data[at] in _FILLERS:
        at += 1
    return at


def _end(data: bytes, at: int) -> int:
    """Where a value ends. Raises `OutOfByteDataError` if that is beyond the data."""
    length, start = decode_length(data, skip_tag(data, at), enforce_definite=False)
    if length is not None:
        return int(start + length)
    while not detect_end_of_contents_tag(data, start):
        start = _end(data, start)
    return int(start + 2)


def _row(value: Any, kinds: dict[str, str], above: str = "") -> dict[str, str]:
    """A decoded record by the names of its columns."""
    if isinstance(value, tuple):  # a choice: which, and what
        name, value = value
        if not above:
            return {RECORD: name or "", **_row(value, kinds)}
        return _row({name: value}, kinds, above) if name else {}
    if isinstance(value, list):
        value = dict(item for item in value if isinstance(item, tuple))
    found: dict[str, str] = {}
    for name, part in (value or {}).items() if isinstance(value, dict) else ():
        path = f"{above}{name}"
        if isinstance(part, bytes | bytearray):
            found[path] = _OCTETS.get(kinds.get(path, ""), bytes.hex)(bytes(part))
        elif isinstance(part, dict | list | tuple):
            found |= _row(part, kinds, f"{path}.")
        elif name is not None and part is not None:
            found[path] = " ".join(str(part).split())
    return found


# Octets as text


def _digits(data: bytes) -> str:
    """Digits, the lower half of each octet first; an F is a filler (3GPP TS 29.002, TBCD)."""
    text = data.hex()
    swapped = "".join(text[n + 1] + text[n] for n in range(0, len(text), 2))
    return swapped.rstrip("f").translate(_TBCD)


_TBCD: Final = str.maketrans("abcde", "*#abc")


def _address(data: bytes) -> str:
    """Digits behind an octet that says what kind of number it is."""
    return _digits(data[1:])


def _time_stamp(data: bytes) -> str:
    """YYMMDDhhmmss, the sign, hhmm (3GPP TS 32.298): as %y%m%d%H%M%S%z reads it."""
    return data[:6].hex() + data[6:7].decode("ascii", "replace") + data[7:].hex()


_OCTETS: Final[dict[str, Callable[[bytes], str]]] = {
    "TBCD-STRING": _digits,
    "AddressString": _address,
    "ISDN-AddressString": _address,
    "BCDDirectoryNumber": _address,
    "TimeStamp": _time_stamp,
}

# The module


@cache
def _compiled(module: str, type: str) -> tuple[Any, dict[str, str], set[int]]:
    """The type of records, the name of each field's type, and the classes that records have.

    Raises `ValueError`.
    """
    try:
        parsed = asn1tools.parse_string(module)
        types = {name: kind for part in parsed.values() for name, kind in part["types"].items()}
        if type not in types:
            raise ValueError(f"the module has no type {type}; it has {', '.join(types)}")
        kinds = dict(_kinds(types[type], types, "", 0))
        one = types[type]
        some = one.get("members", ()) if one["type"] == "CHOICE" else [one]
        tags = [member.get("tag", {"class": "UNIVERSAL"}) for member in some if member]
        classes = {_CLASSES.get(tag.get("class", ""), 0xA0) for tag in tags}
        for part in parsed.values():
            if part["tags"] != "AUTOMATIC":
                for kind in part["types"].values():
                    _loosen(kind)
        return asn1tools.compile_dict(parsed, "ber").types[type], kinds, classes
    except asn1tools.Error as error:
        raise ValueError(f"the module is not ASN.1: {' '.join(str(error).split())}") from None


def _loosen(kind: dict[str, Any]) -> None:
    """Let a set or sequence of tagged fields hold any of them and others, in any order."""
    members = [member for member in kind.get("members", ()) if isinstance(member, dict)]
    for member in members:
        _loosen(member)
    tags = [str(member.get("tag")) for member in members]
    if kind["type"] in ("SET", "SEQUENCE") and "None" not in tags and len(set(tags)) == len(tags):
        fields = [
            {key: value for key, value in member.items() if key not in ("optional", "default")}
            for member in members
        ]
        del kind["members"]
        kind["type"] += " OF"
        kind["element"] = {"type": "CHOICE", "members": [*fields, None]}
    elif kind["type"] == "CHOICE" and None not in kind["members"]:
        kind["members"].append(None)


def _kinds(
    kind: dict[str, Any], types: dict[str, Any], path: str, depth: int
) -> Iterator[tuple[str, str]]:
    """(column, name of its type) of all fields of a type, and of the fields of those."""
    name = kind["type"]
    while "members" not in kind and name not in _OCTETS and name in types:
        kind = types[name]
        name = kind["type"]
    if depth and path:
        yield path, name
    for member in kind.get("members", ()) if depth < _DEEPEST else ():
        if isinstance(member, dict):
            # Which of the alternatives a record is, is a column of its own.
            below = "" if kind["type"] == "CHOICE" and not depth else member["name"]
            yield from _kinds(member, types, f"{path}.{below}".strip("."), depth + 1)
