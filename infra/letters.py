"""`zerostock dead-letters`, as a person sees it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from infra.settings import Settings
from pipelines.warehouse import open_for_reading

_WHERE = "WHERE startsWith(reason, {reason:String}) AND startsWith(source, {source:String})"


def show_dead_letters(
    settings: Settings, *, reason: str | None, source: str | None, limit: int
) -> None:
    """Print counts by reason, then the lines themselves in the order of their sources."""
    console = Console(highlight=False)
    warehouse = open_for_reading(data=settings.data, url=settings.warehouse)
    wanted = {"reason": reason or "", "source": source or ""}
    try:
        counts = warehouse.query(
            "SELECT splitByChar(':', reason)[1] AS why, count() AS lines"
            f" FROM dead_letters {_WHERE}"
            " GROUP BY why ORDER BY lines DESC, why",
            wanted,
        ).to_pydict()
        letters = warehouse.query(
            f"SELECT source, position, reason, payload FROM dead_letters {_WHERE}"
            " ORDER BY source, position LIMIT {most:UInt32}",
            {**wanted, "most": limit},
        ).to_pylist()
    finally:
        warehouse.close()
    if not letters:
        console.print("no dead letters")
        return
    table = Table(box=None)
    table.add_column("why")
    table.add_column("lines", justify="right")
    for why, lines in zip(counts["why"], counts["lines"], strict=True):
        table.add_row(why, f"{lines:,}")
    console.print(table)
    for letter in letters:
        payload = letter["payload"]
        text = payload.decode(errors="replace") if isinstance(payload, bytes) else payload
        console.print(
            f"\n{letter['source']}:{letter['position']}: {letter['reason']}", markup=False
        )
        console.print(f"    {text[:400]}", markup=False, soft_wrap=True)
    shown, there = len(letters), sum(counts["lines"])
    if shown < there:
        console.print(f"\n{there - shown:,} more: use --limit, --reason or --source")
