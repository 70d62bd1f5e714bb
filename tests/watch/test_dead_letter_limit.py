"""A feed that is wholly wrong stops the reading; bad lines among good ones never do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.dead_letters.limit import DeadLetterLimit, FeedRefused
from pipelines.ingest import IngestProgress
from pipelines.simulate import CityPlan, simulate


def told(chunks: list[tuple[int, int]], most: int) -> int | None:
    """Which chunk of (lines, of them refused) stops the reading."""
    limit, rows, refused = DeadLetterLimit(most, lambda _: None), 0, 0
    for number, (lines, bad) in enumerate(chunks):
        rows, refused = rows + lines, refused + bad
        try:
            limit(IngestProgress(rows=rows, refused=Counter({"malformed": refused})))
        except FeedRefused:
            return number
    return None


def test_a_wholly_wrong_feed_stops_at_the_limit() -> None:
    assert told([(400, 400)] * 9, 1_000) == 2
    assert told([(400, 400)] * 9, 0) is None, "0 means never"


def test_it_is_noticed_beside_a_good_feed_of_ten_times_its_size() -> None:
    assert told([(4_000, 0), (400, 400)] * 9, 1_000) is not None


@given(st.lists(st.tuples(st.integers(1, 40_000), st.floats(0, 0.89)), max_size=60))
def test_bad_lines_among_good_ones_never_stop_it(chunks) -> None:
    assert told([(lines, int(lines * share)) for lines, share in chunks], 1) is None


def test_the_reason_is_said() -> None:
    limit = DeadLetterLimit(1, lambda _: None)
    with pytest.raises(FeedRefused, match=r"2 lines .* most as malformed"):
        limit(IngestProgress(rows=2, refused=Counter({"malformed": 2})))


@pytest.mark.slow
def test_a_run_stops_loudly_and_keeps_the_letters(tmp_path: Path) -> None:
    plan = CityPlan(seed=6, outlets=10, cdrs=300, territories=1, wholesalers=1, bad_lines=0)
    simulate(plan, tmp_path / "city")
    wrong = tmp_path / "city" / "cdr" / "switch-z"
    wrong.mkdir()
    lines = "".join(f"c{n},yesterday,46000000000000{n % 10}\n" for n in range(3_000))
    (wrong / "0.csv").write_text("call_id,start_time,imsi\n" + lines)
    command = [sys.executable, "-m", "infra.cli"]
    common = {"capture_output": True, "text": True, "timeout": 240}
    done = subprocess.run(
        [*command, "run", "--input", tmp_path / "city", "--data", tmp_path / "data"],
        env={**os.environ, "ZEROSTOCK_DEAD_LETTER_LIMIT": "2000"},
        check=False, **common,
    )  # fmt: skip
    assert done.returncode == 1
    assert "3,000 lines of a feed that is wholly wrong" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    listed = subprocess.run(
        [*command, "dead-letters", "list", "--data", tmp_path / "data", "--limit", "1"],
        check=False,
        **common,
    )
    assert "invalid_field  3,000" in " ".join(listed.stdout.split()).replace(" 3,000", "  3,000")
