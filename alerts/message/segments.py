"""How many SMS segments a text takes on the air (3GPP TS 23.038 and 23.040).

A text in the GSM alphabet has 160 septets in one segment and 153 in each of several; any other has
70 or 67 UTF-16 units. Characters of the extension table ({ } [ ] ^ ~ \\ | €) take two septets,
those outside the basic plane two units, and neither may be cut in two.
"""

from __future__ import annotations

from collections.abc import Iterable

import gsm0338  # type: ignore[import-untyped]

_GSM = gsm0338.Codec()


def segments(text: str) -> int:
    """The number of segments; an empty text still takes one."""
    try:
        widths = [len(_GSM.encode(char)[0]) for char in text]
    except UnicodeEncodeError:
        return _parts([len(char.encode("utf-16-le")) // 2 for char in text], 70, 67)
    return _parts(widths, 160, 153)


def _parts(widths: Iterable[int], alone: int, each: int) -> int:
    widths = list(widths)
    if sum(widths) <= alone:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > each:
            parts, used = parts + 1, 0
        used += width
    return parts
