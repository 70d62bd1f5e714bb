"""The wholesaler's day in docs/alerts.md is what the code sends."""

from __future__ import annotations

from transcript import MARKED, PAGE, transcript


def test_the_day_on_the_page_is_the_day_as_it_goes() -> None:
    found = MARKED.search(PAGE.read_text())
    assert found is not None
    written = found[0].removeprefix(found[1]).removesuffix(found[2])
    assert written == transcript(), "run `python tests/alerts/transcript.py` and read what changed"
