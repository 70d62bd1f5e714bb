"""Segment arithmetic at its borders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.message.segments import segments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("é" * 160, 1),  # in the alphabet
        ("ê" * 71, 2),  # not in it
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" * 2 + "a" * 10, 2),
        # The escape and its character stay together: 152 + 1 left over, twice.
        (("a" * 152 + "€") * 2 + "a" * 2, 3),
        ("店" * 70, 1),
        ("店" * 71, 2),
        ("店" * 134, 2),
        ("店" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        # 67 is odd: 33 pairs a segment.
        ("😀" * 66, 2),
        ("😀" * 67, 3),
        ("a" * 69 + "店", 1),
        ("a" * 70 + "店", 2),
    ],
)
def test_borders(text: str, expected: int) -> None:
    assert segments(text) == expected


@given(st.text(), st.text())
def test_more_text_never_takes_fewer_segments(text: str, more: str) -> None:
    assert segments(text + more) >= segments(text)
