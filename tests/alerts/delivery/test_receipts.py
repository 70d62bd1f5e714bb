"""The memory of what was sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from alert_harness import BACKUP, NOW, PHONE, message

from alerts.delivery.receipts import Attempt, FileReceipts
from alerts.delivery.refused_numbers import RefusedNumber, RefusedNumbers
from schemas.errors import InputError
from schemas.messages import MessageRecord


def record(name: str = "m1", provider_id: str = "P1") -> MessageRecord:
    return MessageRecord(name, "w", ["i"], "body 店", 1, NOW, "sent", 1, provider_id, "", NOW)


def test_success_outlives_the_process(tmp_path: Path) -> None:
    receipts = FileReceipts(tmp_path / "r")
    assert receipts.get("m1") is None
    receipts.put(record())
    assert receipts.get("m1") == record()
    receipts.close()
    again = FileReceipts(tmp_path / "r")
    assert again.get("m1") == record()
    assert again.claimed("P1")
    assert not again.claimed("P2")
    assert not again.claimed("")


def test_attempts_are_kept_once_each_until_success(tmp_path: Path) -> None:
    receipts = FileReceipts(tmp_path / "r")
    one, other = message(), message(to=BACKUP)
    for at, tried in [(1, one), (2, one), (3, other)]:
        receipts.attempt(tried, at)
    expected = [Attempt(one, 1), Attempt(other, 3)]
    assert receipts.attempts("m1") == expected
    again = FileReceipts(tmp_path / "r")
    assert again.attempts("m1") == expected
    again.put(record())
    assert again.attempts("m1") == receipts.attempts("m1") == []


def test_a_damaged_line_is_not_skipped(tmp_path: Path) -> None:
    FileReceipts(tmp_path / "r").put(record())
    with (tmp_path / "r").open("ab") as file:
        file.write(b"\0\0\0\n")
    with pytest.raises(InputError, match="line 2 is damaged"):
        FileReceipts(tmp_path / "r")


@pytest.mark.parametrize("on_disk", [True, False])
def test_refused_numbers(tmp_path: Path, on_disk: bool) -> None:
    path = tmp_path / "n" if on_disk else None
    numbers = RefusedNumbers(path)
    refused = RefusedNumber(PHONE, "21610", "opted out", NOW)
    other = RefusedNumber(BACKUP, "21614", "not a mobile", NOW)
    numbers.remember(other)
    numbers.remember(refused)
    assert numbers.get(PHONE) == refused
    assert numbers.all() == [refused, other]
    numbers.remember(RefusedNumber("+8613700137000", "30003", "away", NOW, blocked=False))
    assert (numbers.count(blocked=True), numbers.count(blocked=False)) == (2, 1)
    numbers.reached("+8613700137000", NOW)
    numbers.forget(PHONE, NOW)
    assert numbers.get(PHONE) is None
    assert (numbers.count(blocked=True), numbers.count(blocked=False)) == (1, 0)
    if path is not None:
        assert RefusedNumbers(path).all() == [other]
