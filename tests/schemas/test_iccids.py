"""Cards of one series: digits that run on, behind letters and before a check digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.cards import iccid_in, luhn_digit, series_of
from schemas.reference import Reference, SimBatch

heads = st.sampled_from(["8986", "898604B7", "89860A", "8944FA"])


def batch(first: str, count: int, imsi: int = 460_000_000_000_000, **more: str) -> SimBatch:
    return SimBatch(
        batch_id=first, sku="S", first_iccid=first, first_imsi=str(imsi), count=count, **more
    )


def valid(number: str) -> bool:
    """Luhn's formula as textbooks have it, from the right."""
    digits = [int(d) for d in reversed(number)]
    odd = sum(digits[0::2])
    even = sum(sum(divmod(2 * d, 10)) for d in digits[1::2])
    return (odd + even) % 10 == 0


@given(st.integers(0, 10**19 - 1))
def test_a_check_digit_makes_a_number_valid(number: int) -> None:
    body = str(number)
    assert [d for d in "0123456789" if valid(body + d)] == [luhn_digit(body)]


@given(heads, st.integers(0, 10**9), st.integers(1, 500), st.data())
def test_cards_run_on_behind_letters(
    head: str, first: int, count: int, data: st.DataObject
) -> None:
    text = head + str(first).zfill(20 - len(head))
    reference = Reference(batches=[batch(text, count)])
    at = data.draw(st.integers(0, count - 1))
    card = head + str(first + at).zfill(20 - len(head))
    assert reference.imsi_ranges(card, count - at) == [(460_000_000_000_000 + at, count - at)]
    assert reference.imsi_ranges(card, count - at + 1) is None
    series, number = series_of(text)
    assert iccid_in(series, number + at) == card


@given(st.integers(10**17, 10**18 - 301), st.integers(1, 300), st.data())
def test_cards_with_a_check_digit_run_on_before_it(
    body: int, count: int, data: st.DataObject
) -> None:
    cards = [f"{body + i}{luhn_digit(str(body + i))}" for i in range(count)]
    reference = Reference(batches=[batch(cards[0], count, check_digit="luhn")])
    at = data.draw(st.integers(0, count - 1))
    assert reference.imsi_ranges(cards[at], count - at) == [(460_000_000_000_000 + at, count - at)]
    wrong = cards[at][:-1] + str((int(cards[at][-1]) + 1) % 10)
    assert reference.imsi_ranges(wrong, 1) is None
    series, number = series_of(cards[0], luhn=True)
    assert [iccid_in(series, number + i) for i in range(count)] == cards


@pytest.mark.parametrize(
    ("first", "count", "more", "why"),
    [
        ("898604B719227100009F", 2, {}, None),
        ("8986000000000000999B", 2, {}, "no 2 numbers"),
        ("89860000000000000ABC999", 2, {}, "not an ICCID"),
        ("898600000000000AB999", 2, {}, "no 2 numbers"),
        ("8986000000000000001", 1, {"check_digit": "luhn"}, "check digit should be"),
        ("898604B7192271000001", 1, {"check_digit": "luhn"}, "no letters"),
        ("8986000000000000001", 1, {"check_digit": "mod11"}, "luhn"),
    ],
)
def test_batches_that_cannot_be(first: str, count: int, more: dict[str, str], why: str) -> None:
    if why is None:
        batch(first, count, **more)
        return
    with pytest.raises(ValidationError, match=why):
        batch(first, count, **more)
