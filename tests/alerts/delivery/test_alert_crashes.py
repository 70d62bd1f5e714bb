"""SIGKILL at every step of dispatching: no message missing, none again after its success."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alert_harness import BACKUP, NOW, PHONE, group, incident
from services.twilio_server import Twilio

HERE = Path(__file__).parent

#: What crash_child sends.
IDS = {
    group(incident("a")).message_id,
    group(incident("c", NOW + 90_000)).message_id,
    group(incident("d"), wholesaler_id="v").message_id,
}

Life = Callable[[Path, str, str, int | None], tuple[int, list[str]]]


@pytest.fixture(scope="module")
def live() -> Iterator[Life]:
    """One life of a worker: its exit status and the steps it came by."""
    with subprocess.Popen(
        [sys.executable, HERE / "crash_child.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def one(folder: Path, way: str, url: str, last: int | None) -> tuple[int, list[str]]:
            request = {"folder": str(folder), "way": way, "url": url, "last": last}
            print(json.dumps(request), file=child.stdin, flush=True)
            status, steps = json.loads(child.stdout.readline())
            return status, steps

        yield one
        child.stdin.close()


def written(folder: Path) -> list[str]:
    """The ids of the lines that are whole."""
    path = folder / "sms"
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line)["message_id"] for line in data.split(b"\n")[:-1]]


def recorded(folder: Path) -> set[str]:
    """The ids whose success is on the disk."""
    with closing(sqlite3.connect(folder / "receipts")) as base:
        try:
            return {name for (name,) in base.execute("SELECT message_id FROM successes")}
        except sqlite3.OperationalError:
            return set()  # it died before there was a table


def fates(live: Life, tmp_path: Path, way: str, url: str) -> list[list[int | None]]:
    """Death at each step in turn, and some lives with many deaths."""
    first = tmp_path / "first"
    first.mkdir()
    status, steps = live(first, way.replace("FOLDER", str(first)), url, None)
    assert status == 0
    assert len(steps) >= 12
    seeded = random.Random(7)
    return [[step] for step in range(len(steps))] + [
        [seeded.randrange(len(steps)) for _ in range(5)] for _ in range(10)
    ]


def test_the_file_has_each_message_once(live: Life, tmp_path: Path) -> None:
    for number, deaths in enumerate(fates(live, tmp_path, "file:FOLDER/sms", "")):
        folder = tmp_path / str(number)
        folder.mkdir()
        for last in [*deaths, None, None]:
            status, _ = live(folder, f"file:{folder / 'sms'}", "", last)
            assert status in (0, -signal.SIGKILL)
            assert recorded(folder) <= set(written(folder))
        assert status == 0
        assert sorted(written(folder)) == sorted(IDS)
        assert recorded(folder) == IDS


def test_twilio_accepts_each_message_once(live: Life, tmp_path: Path) -> None:
    with Twilio() as first:
        plans = fates(live, tmp_path, "twilio", first.url)
    for number, deaths in enumerate(plans):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Twilio() as twilio:
            for last in [*deaths, None, None]:
                status, steps = live(folder, "twilio", twilio.url, last)
                assert status in (0, -signal.SIGKILL)
            assert status == 0
            assert steps == []  # the last life found everything done
            assert Counter(m["to"] for m in twilio.messages) == {PHONE: 2, BACKUP: 1}
            assert len({m["body"] for m in twilio.messages}) == 3
        assert recorded(folder) == IDS


def test_a_death_after_acceptance_is_found_by_look_up(live: Life, tmp_path: Path) -> None:
    deaths = 0
    for last in range(14):
        folder = tmp_path / str(last)
        folder.mkdir()
        with Twilio() as twilio:
            status, steps = live(folder, "twilio", twilio.url, last)
            taken, known = len(twilio.messages), len(recorded(folder))
            live(folder, "twilio", twilio.url, None)
            assert len(twilio.posts) == len(twilio.messages) == 3
            if status == -signal.SIGKILL and "after send" in steps and taken > known:
                deaths += 1
                assert twilio.lists >= taken - known
    assert deaths >= 2


def test_the_screen_shows_nothing_again_once_that_is_recorded(live: Life, tmp_path: Path) -> None:
    for number, deaths in enumerate(fates(live, tmp_path, "console", "")):
        folder = tmp_path / str(number)
        folder.mkdir()
        shown_when_recorded: dict[int, int] = {}
        for last in [*deaths, None, None]:
            live(folder, "console", "", last)
            shown = (folder / "screen").read_text().splitlines()
            shown_when_recorded.setdefault(len(recorded(folder)), len(shown))
        assert len(set(shown)) == 3
        # From the moment all were recorded not one line more.
        assert len(shown) == shown_when_recorded[3]
