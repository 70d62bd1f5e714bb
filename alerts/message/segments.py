"""How many SMS segments a text takes on the air (3GPP TS 23.038 and 23.040).

A text in the GSM alphabet has 160 septets in one segment and 153 in each of several; any other has
70 or 67 UTF-16 units. Characters of the extension table ({ } [ ] ^ ~ \\ | €) take two septets,
those outside the basic plane two units, and neither may be cut in two.
"""

from __future__ import annotations

from collections.abc import Sequence

import gsm0338  # type: ignore[import-untyped]

_GSM = gsm0338.Codec()


def segments(text: str) -> int:
    """The number of segments; an empty text still takes one."""
    return len(split(text, gsm7=is_gsm7(text)))


def is_gsm7(text: str) -> bool:
    """Whether a text is in the GSM alphabet."""
    try:
        to_gsm7(text)
    except UnicodeEncodeError:
        return False
    return True


def to_gsm7(text: str) -> bytes:
    """A text in the GSM alphabet, a septet a byte. Raises UnicodeEncodeError for any other."""
    return bytes(_GSM.encode(text)[0])


def from_gsm7(data: bytes) -> str:
    """What `to_gsm7` gave; bytes that it never gives become question marks."""
    return str(_GSM.decode(data, "replace")[0])


def split(text: str, *, gsm7: bool) -> list[str]:
    """The segments of a text, in the GSM alphabet or in UTF-16, none of whose characters is cut."""
    if gsm7:
        return _parts(text, [len(to_gsm7(char)) for char in text], 160, 153)
    return _parts(text, [len(char.encode("utf-16-le")) // 2 for char in text], 70, 67)


def _parts(text: str, widths: Sequence[int], alone: int, each: int) -> list[str]:
    if sum(widths) <= alone:
        return [text]
    parts, start, used = [], 0, 0
    for place, width in enumerate(widths):
        if used + width > each:
            parts.append(text[start:place])
            start, used = place, 0
        used += width
    return [*parts, text[start:]]
