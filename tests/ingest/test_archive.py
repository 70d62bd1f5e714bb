"""Files that were read to their end go to an archive, and count wherever the directory is read."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import INGEST, ListPost, call_json, call_row, csv_of, put, read

from infra.dead_letters.replay import DeadLetter, recheck
from pipelines.batch.engine.sources import find
from pipelines.batch.subscriber_loss.files import CALLS
from pipelines.ingest.reading import archive
from pipelines.ingest.reading.files import find_sources
from schemas.errors import InputError


def fill(city: Path, archive_: Path) -> None:
    shutil.rmtree(archive_, ignore_errors=True)
    (city / ".archive").unlink(missing_ok=True)
    put(city / "cdr/a/1.csv", csv_of(*(call_row(n) for n in range(3))))
    put(city / "cdr/a/2.csv", csv_of(*(call_row(n) for n in range(3, 5))))
    put(city / "cdr/b/x/1.csv", csv_of(call_row(7), "bad"))
    put(city / "events/1.ndjson", call_json(9) + "\n")


def left(city: Path) -> list[str]:
    return sorted(f.name for files in find_sources(city).own.values() for f in files)


def test_files_are_moved_and_count_as_before(city: Path, tmp_path: Path) -> None:
    fill(city, tmp_path / "old")
    plain, _ = read(city)
    before = sorted(file.name for file in (city / "cdr").rglob("*.csv"))
    post, report = read(city, archive=tmp_path / "old")
    assert (left(city), report.rows) == ([], 8)
    assert sorted(file.name for file in (tmp_path / "old/cdr").rglob("*.csv")) == before
    assert read(city, post, archive=tmp_path / "old")[1].rows == 0
    lost, _ = read(city)  # all that was known is lost, and nobody says where the archive is
    assert (lost.facts(), lost.letters()) == (plain.facts(), plain.letters())
    assert len(find(str(city), CALLS)) == 3
    ((source, position, reason, payload),) = lost.letters()
    result = recheck([DeadLetter(source, position, 0, reason, payload)], city, None, 1)
    assert [why for _, why in result.refused] == [reason]


class Killed(Exception):
    pass


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.integers(1, 40), other_disk=st.booleans())
def test_killed_anywhere_nothing_is_lost_or_read_twice(
    city: Path, tmp_path: Path, steps: int, other_disk: bool
) -> None:
    fill(city, tmp_path / "old")
    plain, _ = read(city)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == steps:
            raise Killed

    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if "old" not in target.parts:
            return real(path, target)
        step()
        if other_disk and not path.name.endswith(".draft"):
            raise OSError(errno.EXDEV, "another disk")
        moved = real(path, target)
        step()
        return moved

    post = ListPost(after=step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        try:
            read(city, post, archive=tmp_path / "old")
        except Killed:
            assert {f.name for fs in find_sources(city).sources.values() for f in fs} == {
                "cdr/a/1.csv", "cdr/a/2.csv", "cdr/b/x/1.csv", "events/1.ndjson",
            }  # fmt: skip
        post.after = lambda: None
        count = steps
        read(city, post, archive=tmp_path / "old")
    assert (post.facts(), set(post.letters())) == (plain.facts(), set(plain.letters()))
    assert left(city) == []
    lost, report = read(city)
    assert (lost.facts(), report.files) == (plain.facts(), 4)


def test_a_name_that_comes_again_is_kept_beside_the_first(city: Path, tmp_path: Path) -> None:
    old, post = tmp_path / "old", ListPost()
    for number in (1, 2, 2, 3):
        put(city / "cdr/a/Master.csv", csv_of(call_row(number)))
        read(city, post, archive=old)
    assert len(list((old / "cdr/a").iterdir())) == 3
    assert {use[0] for use in post.uses()} == {"C1", "C2", "C3"}
    assert read(city, post, archive=old)[1].rows == 0
    assert [use[0] for use in read(city)[0].uses()] == ["C1", "C2", "C3"]


def test_files_may_be_moved_by_hand(city: Path, tmp_path: Path) -> None:
    fill(city, tmp_path / "old")
    post, _ = read(city)
    (tmp_path / "old/cdr").mkdir(parents=True)
    (city / ".archive").write_text("../old\n")
    shutil.move(city / "cdr/a", tmp_path / "old/cdr/a")
    assert read(city, post)[1].rows == 0
    assert read(city)[0].facts() == post.facts()


def test_one_that_may_be_written_on_stays(
    city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(city, tmp_path / "old")
    with monkeypatch.context() as patch:
        rounds = iter(range(3))

        async def wait(_: object, stop: object) -> None:
            if next(rounds, None) is None:
                stop.set()  # type: ignore[attr-defined]

        patch.setattr(INGEST._Reading, "_wait", wait)
        read(city, archive=tmp_path / "old", follow=True)
    assert left(city) == ["cdr/a/2.csv", "cdr/b/x/1.csv", "events/1.ndjson"]


def test_an_archive_that_cannot_be_is_told(city: Path, tmp_path: Path) -> None:
    fill(city, tmp_path / "old")
    with pytest.raises(InputError, match="is where files are read from"):
        read(city, archive=city / "cdr/old")
    with pytest.raises(InputError, match="cannot be used as archive"):
        archive.use_archive(city, city / "reference/outlets.csv/old")
    (city / ".archive").write_text("../gone\n")
    with pytest.raises(InputError, match="which is not there: bring it back"):
        read(city)
