"""`zerostock simulate`, as a person sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.simulate import CityPlan, simulate

#: What a made city has, and hardly any other directory.
_OF_A_CITY = "truth/stock.csv"


def make_city(out: Path, *, if_missing: bool = False, **plan: Any) -> None:
    """Write a city and say what is in it. Raises `InputError` if `out` holds anything."""
    console = Console(highlight=False)
    if if_missing and (out / _OF_A_CITY).exists():
        console.print(f"the city in {out} is there already")
        return
    with console.status(f"making a city in {out}"):
        summary = simulate(CityPlan(**plan), out)
    console.print(
        f"{summary.cdrs:,} call records and {summary.events:,} events in {summary.files} files,"
        f" {summary.first_uses:,} SIMs sold, {summary.stock_outs:,} stock-outs"
    )
