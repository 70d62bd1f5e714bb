"""A policy file that changes under a worker, and one that is broken when a worker starts again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alerts.policy.policy import load_policy, read_policy
from infra.policy_watch import LivePolicy
from schemas.errors import SettingsError

GOOD, OTHER, BAD = "grace = '1m'\n", "grace = '2m'\n", "grace = 'soon'\n"


def put(path: Path, text: str) -> None:
    """Write a file, at another time of the file's clock."""
    then = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(then + 1, then + 1))


def start(path: Path) -> LivePolicy:
    def read() -> str:
        load_policy(path)
        return read_policy(path)

    return LivePolicy(path, read, path.with_name("kept"))


def test_a_change_is_taken_up_once_it_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    put(path, GOOD)
    live = start(path)
    first = live.record
    assert (first.text, first.error) == (GOOD, "")
    assert not live.look()
    put(path, OTHER)
    assert not live.look()  # it may still be being written
    assert live.look()
    assert not live.look()
    assert live.record.text == OTHER
    assert live.record.record_id != first.record_id


@pytest.mark.parametrize("broken", [BAD, "[", None])
def test_a_file_that_cannot_be_used_is_said_once_and_changes_nothing_even_over_a_restart(
    tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policy.toml"
    put(path, GOOD)
    live = start(path)
    if broken is None:
        path.unlink()
    else:
        put(path, broken)
    assert [live.look() for _ in range(4)] == [False, True, False, False]
    assert "policy" in live.record.error
    assert live.text == GOOD
    assert len(caplog.messages) == 1
    again = start(path)
    assert (again.text, again.record.text) == (GOOD, GOOD)
    assert again.record.error
    put(path, OTHER)
    assert [again.look() for _ in range(2)] == [False, True]
    assert (again.record.text, again.record.error) == (OTHER, "")


def test_a_worker_that_never_had_a_policy_does_not_start_with_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    put(path, BAD)
    with pytest.raises(SettingsError, match="line 1: grace"):
        start(path)
