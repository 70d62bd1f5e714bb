"""Simulated cities, and benchmarks."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from infra.bench import NAMES
from schemas.errors import UsageError

app = typer.Typer()

#: What a simulated city has, and hardly any other directory.
_OF_A_CITY = "truth/stock.csv"


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="New directory for the city.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same city.")] = 1,
    outlets: Annotated[int, typer.Option(help="How many shops.")] = 3_500,
    days: Annotated[int, typer.Option(help="How many days.")] = 1,
    start: Annotated[str, typer.Option(help="The first day.")] = "2026-03-02",
    cdrs: Annotated[int, typer.Option(help="How many call records, at least.")] = 2_000_000,
    switches: Annotated[int, typer.Option(help="How many switches write call records.")] = 2,
    cdr_format: Annotated[str, typer.Option(help="mixed, csv, csv.gz or parquet.")] = "mixed",
    calls_by: Annotated[
        str, typer.Option(help="start, or end: switches write a call when it ends, as most do.")
    ] = "start",
    late_papers: Annotated[
        float, typer.Option(help="Share of deliveries, returns, … reported hours or days late.")
    ] = 0.0,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing if the city exists.")
    ] = False,
) -> None:
    """Simulate a city: an exchange directory, and in truth/ the expected results.

    Example: `zerostock simulate --out city --outlets 300 --cdrs 100000`
    """
    from rich.console import Console

    from pipelines.simulate import CityPlan
    from pipelines.simulate import simulate as write_city

    console = Console(highlight=False)
    if if_missing and (out / _OF_A_CITY).exists():
        console.print(f"the city in {out} is there already")
        return
    try:
        first = date.fromisoformat(start)
    except ValueError:
        raise UsageError(f"--start is a day like 2026-03-02, not {start!r}") from None
    plan = CityPlan(
        seed,
        outlets,
        days,
        cdrs,
        first,
        switches=switches,
        cdr_format=cdr_format,  # type: ignore[arg-type]
        calls_by=calls_by,  # type: ignore[arg-type]
        late_papers=late_papers,
    )
    with console.status(f"making a city in {out}"):
        made = write_city(plan, out)
    console.print(
        f"{made.cdrs:,} call records and {made.events:,} events in {made.files} files,"
        f" {made.first_uses:,} SIMs sold, {made.stock_outs:,} stock-outs"
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    sizes: typer.Context,
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMES)}; see docs/performance.md.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Run a benchmark, beside the machine's limit and a peer.

    Each benchmark takes its sizes as options, like `--cdrs 1000000`.

    Example: `zerostock bench stream --json`
    """
    from infra.bench import main as measure

    measure(name, json, **_sizes(sizes.args))


def _sizes(arguments: list[str]) -> dict[str, int | str]:
    """`--cdrs 1000 --sims 20000,40000` as names and numbers, or lists of them as text."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=False))
    if len(arguments) % 2 or not all(name.startswith("--") for name, _ in pairs):
        raise UsageError("sizes are given like --cdrs 1000000")
    return {
        name.removeprefix("--").replace("-", "_"): int(value) if value.isdigit() else value
        for name, value in pairs
    }
