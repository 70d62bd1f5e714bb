"""A look finds what a look from the beginning would, at the cost of what changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import put

from pipelines.ingest.reading import files
from pipelines.ingest.reading.files import DirectoryWatch, SourceFile, find_sources

names = st.sampled_from(
    ["cdr/a/1.csv", "cdr/a/2.csv.gz", "cdr/a/3.txt", "cdr/b/x/1.parquet", "cdr/b/1.tmp", "events/1"]
)
steps = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "remove folder"]), names, st.booleans()),
    max_size=12,
)


def next_tick(folder: Path) -> None:
    """Wait until the file system tells now from before: steps within a tick look the same."""
    before = put(folder / "now", "").stat().st_mtime_ns
    while put(folder / "now", "").stat().st_mtime_ns == before:
        pass


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps, tick=st.sampled_from([0, 10**15]))
def test_each_look_finds_what_a_first_look_would(
    tmp_path: Path, steps: list[tuple[str, str, bool]], tick: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_TICK", tick)
    root = tmp_path / "city"
    shutil.rmtree(root, ignore_errors=True)
    watch = DirectoryWatch(root)
    for what, name, useful in steps:
        if what == "write":
            # A file that began as calls is read, whatever becomes of it.
            calls = useful or (root / name).exists()
            put(root / name, "call_id,start_time,imsi\n" if calls else "else\n")
        elif what == "remove":
            (root / name).unlink(missing_ok=True)
        else:
            shutil.rmtree((root / name).parent, ignore_errors=True)
        next_tick(tmp_path)
        found, first = watch.look(), find_sources(root)
        assert found.sources == first.sources
        assert sorted(found.unread) == sorted(first.unread)


def test_a_look_at_many_old_files_asks_the_disk_about_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_ALWAYS", 20)
    monkeypatch.setattr(files, "_TICK", 0)
    count = 1_000
    for number in range(count):
        put(tmp_path / f"cdr/a/{number:06}.csv", "")
    asked: list[Any] = []
    scan = os.listdir

    def listdir(path: Path) -> Any:
        asked.append(path)
        return scan(path)

    monkeypatch.setattr(os, "listdir", listdir)
    watch = DirectoryWatch(tmp_path)

    def due() -> list[SourceFile]:
        return watch.due(
            watch.look().sources["cdr/a"], lambda file: not file.name.endswith("7.csv")
        )

    assert len(due()) == count, "the first look is at all"
    listed = len(asked)
    seen: set[str] = set()
    for _ in range(files._TURNS):
        some = due()
        assert len(some) < 20 + count / 10 + count / 30
        seen |= {file.name for file in some}
    assert len(seen) == count, "each comes up in its turn"
    assert len(asked) == listed, "folders that did not change are not listed again"
    put(tmp_path / "cdr/a/new.csv", "")
    os.utime(tmp_path / "cdr/a", ns=(0, 1))
    assert "cdr/a/new.csv" in {file.name for file in due()}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("folder", ["events", "cdr/a"])
def test_a_link_that_leads_out_of_its_folder_is_not_read(
    tmp_path: Path, folder: str, packed: str
) -> None:
    secret = put(tmp_path / f"secret.ndjson{packed}", "not for you")
    home = tmp_path / "mounted"
    put(home / folder / "true.ndjson", "{}")
    (home / folder / "within.ndjson").symlink_to("true.ndjson")
    (home / folder / f"out.ndjson{packed}").symlink_to(secret)
    city = tmp_path / "city"
    city.symlink_to(home)  # what the operator links is the operator's affair
    found = find_sources(city)
    assert [file.path.name for file in found.sources[folder]] == ["true.ndjson", "within.ndjson"]
    assert found.unread == [
        (f"{folder}/out.ndjson{packed}", "it is a link that leads out of its folder")
    ]
