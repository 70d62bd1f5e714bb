"""A journal loses nothing it promised and hides nothing it lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.delivery import journal as journal_module
from alerts.delivery.journal import Journal
from schemas.errors import SettingsError

LINES = st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=6)


def unread(journal: Journal) -> list[bytes]:
    """The new lines; each must be found again at its place."""
    lines = []
    for place, line in journal.unread():
        assert journal.line(place) == line
        lines.append(line)
    return lines


@given(LINES, st.integers(0, 200), LINES)
def test_a_file_cut_anywhere_goes_on(
    tmp_path_factory: pytest.TempPathFactory, before: list[bytes], cut: int, after: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    one = Journal(path)
    for line in before:
        one.append(line)
    one.close()
    whole = path.read_bytes()[:cut]
    path.write_bytes(whole)
    other = Journal(path)
    kept = unread(other)
    assert kept == before[: whole.count(b"\n")]
    for line in after:
        other.append(line)
    assert unread(other) == after
    assert other.lines_read == len(kept) + len(after)
    other.close()
    assert path.read_bytes() == b"".join(line + b"\n" for line in kept + after)


def test_two_writers_see_each_other(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    one.append(b"a")
    other.append(b"b")
    one.append(b"c")
    assert unread(one) == unread(other) == [b"a", b"b", b"c"]
    assert not one.append(b"d", unless=lambda: True)
    assert unread(other) == []


def test_a_line_in_the_making_is_not_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with (tmp_path / "j").open("ab") as other:
        other.write(b"half")
        other.flush()
        assert unread(journal) == []
        other.write(b" and half\n")
    assert unread(journal) == [b"half and half"]


def test_the_leftover_of_a_dead_writer_is_cut_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with (tmp_path / "j").open("ab") as other:
        other.write(b"x" * 10_000)
    journal.append(b"a")
    assert (tmp_path / "j").read_bytes() == b"a\n"


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(b"a")

    real = os.write
    parts = iter([3])

    def write(file: int, data: bytes) -> int:
        for part in parts:
            return real(file, data[:part])
        raise OSError(28, "No space left on device")

    def fsync(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal_module.os, failing, {"write": write, "fsync": fsync}[failing])
    with pytest.raises(OSError, match=r"No space|Input/output"):
        journal.append(b"bcdef")
    monkeypatch.undo()
    assert (tmp_path / "j").read_bytes() == b"a\n"
    journal.append(b"g")
    assert unread(journal) == [b"a", b"g"]


def test_lines_longer_than_what_is_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_CHUNK", 5)
    journal = Journal(tmp_path / "j")
    lines = [b"", b"a" * 4, b"b" * 5, b"c" * 10_000, b"d"]
    for line in lines:
        journal.append(line)
    assert unread(journal) == lines
    assert unread(journal) == []


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["missing/j", ".", "fifo"])
def test_an_unfit_path_is_one_clear_line(tmp_path: Path, name: str) -> None:
    if name == "fifo":
        os.mkfifo(tmp_path / name)
    with pytest.raises(SettingsError, match="cannot write to"):
        Journal(tmp_path / name)
