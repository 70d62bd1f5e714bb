"""Numbers: what is usable, and that a masked one gives nothing away."""

from __future__ import annotations

import pytest

from alerts.message.phones import contacts, usable
from schemas.masking import masked


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+8613800138000", "+8613800138000"),
        ("+86 138 0013 8000", "+8613800138000"),
        ("+15005550006", "+15005550006"),
        ("", ""),
        ("13800138000", ""),  # no country
        ("+86138", ""),
        ("+861380013800012345", ""),
        ("nobody", ""),
    ],
)
def test_usable(number: str, expected: str) -> None:
    assert usable(number) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [("+8613800138000", "+861*******000"), ("+86138", "+**138"), ("123", "123"), ("", "")],
)
def test_masked(number: str, expected: str) -> None:
    assert masked(number) == expected


def test_contacts_are_the_usable_numbers_once_each_the_best_first() -> None:
    first, second = "+86 138 0013 8000", "+8613900139000"
    assert contacts(first, second) == ["+8613800138000", second]
    assert contacts(None, "", "nobody", second, second) == [second]
