"""How many cards to fill each shelf up to: left by the evening's lists for the next day's messages.

A small CSV file beside the record of what was sent. Without it messages name no number of cards,
and a message already sent never changes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipelines.files import replace_file

_NAME: Final = "fill_levels.csv"


class FillLevelsFile:
    """Answers `alerts.delivery.ports.FillLevels` from the file, as it is now."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._read = 0
        self._levels: dict[tuple[str, str], int] = {}

    def __call__(self, outlet_id: str, sku: str) -> int | None:
        """Cards; None when nobody knows."""
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if changed != self._read:
            with self._path.open(newline="", encoding="utf-8") as file:
                self._levels = {(o, s): int(cards) for o, s, cards in csv.reader(file)}
            self._read = changed
        return self._levels.get((outlet_id, sku))


def write_fill_levels(folder: Path, rows: Iterable[tuple[str, str, int]]) -> None:
    """Replace the folder's file in one step; rows are outlet, SKU, cards."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    replace_file(folder / _NAME, text.getvalue().encode())
