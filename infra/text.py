"""Text for people: counts with their noun, text that is safe to print on a terminal."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 shelf`, `1,200 shelves`; `many` is needed where an s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """The text with control characters, which a terminal might obey, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text
    )
