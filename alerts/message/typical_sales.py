"""What each shelf typically sells a day: left by the evening's lists for the next day's messages.

A small CSV file beside the record of what was sent. Without it messages say nothing of sales, and
a message already sent never changes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipelines.files import replace_file

_NAME: Final = "typical_sales.csv"


class TypicalSalesFile:
    """Answers `alerts.delivery.ports.TypicalSales` from the file, as it is now."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._read = 0
        self._sales: dict[tuple[str, str], float] = {}

    def __call__(self, outlet_id: str, sku: str) -> float | None:
        """Cards a day; None when nobody knows."""
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if changed != self._read:
            with self._path.open(newline="", encoding="utf-8") as file:
                self._sales = {(o, s): float(sold) for o, s, sold in csv.reader(file)}
            self._read = changed
        return self._sales.get((outlet_id, sku))


def write_typical_sales(folder: Path, rows: Iterable[tuple[str, str, float]]) -> None:
    """Replace the folder's file in one step; rows are outlet, SKU, cards a day."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    replace_file(folder / _NAME, text.getvalue().encode())
