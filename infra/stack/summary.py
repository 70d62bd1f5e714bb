"""What a person sees of a run: progress, messages as they go out, and the day in one picture."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.text import counted, printable
from pipelines.ingest import IngestProgress, IngestReport
from pipelines.warehouse import open_for_reading
from pipelines.warehouse.port import Warehouse

#: Unread files that are named.
_UNREAD = 20

#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY = 5.0


class Screen:
    """A terminal with a moving bar, or plain lines anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._said = time.monotonic()
        self._bar: Progress | None = None
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("starting broker and workers", total=None)
            self._bar.start()

    def progress(self, now: IngestProgress) -> None:
        """How far the files are read."""
        text = f"{now.rows:,} rows, {now.dead_letters:,} of them refused"
        if self._bar is not None:
            self._bar.update(
                self._task, description=text, completed=now.bytes, total=now.bytes_total or None
            )
        elif time.monotonic() - self._said >= _LINE_EVERY:
            self._said = time.monotonic()
            share = now.bytes / max(now.bytes_total, 1)
            self.console.print(f"{share:.0%} of the input read: {text}")

    def stage(self, text: str) -> None:
        """What is going on now."""
        if self._bar is not None:
            self._bar.update(self._task, description=text, total=None)
        else:
            self.console.print(text)

    def message(self, line: str) -> None:
        """A message that went out."""
        self.console.print(line, markup=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Something a person should know."""
        self.console.print(f"[yellow]note:[/yellow] {line}", soft_wrap=True)

    def unread(self, files: list[tuple[str, str]]) -> None:
        """The files that were not read, and why."""
        for name, why in files[:_UNREAD]:
            self.note(f"{escape(printable(name))} was not read: {escape(printable(why))}")
        if len(files) > _UNREAD:
            self.note(f"{counted(len(files) - _UNREAD, 'more file')} were not read")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def summary(self, data: Path, report: IngestReport, seconds: float) -> None:
        """The day as a manager would want it, and what to try next."""
        self.close()
        self.unread(report.unread)
        warehouse = open_for_reading(data=data)
        try:
            self._show(warehouse, report, seconds)
        finally:
            warehouse.close()
        self.console.print("\nTry next:")
        at = f"--data {data}"
        # As it was called, so that the line can be copied.
        command = sys.argv[0] if sys.argv[0].endswith("zerostock") else "zerostock"
        for line in (
            f'{command} query {at} "SELECT * FROM stock_incidents LIMIT 10"',
            f'{command} query {at} --format CSVWithNames "SELECT * FROM outlet_daily LIMIT 20"',
            f"{command} dead-letters list {at}",
        ):
            self.console.print(f"  {line}", markup=False, soft_wrap=True)

    def _show(self, warehouse: Warehouse, report: IngestReport, seconds: float) -> None:
        say = self.console.print
        if report.rows:
            # Of a small city the seconds are those of starting and stopping.
            rate = f", {report.rows / seconds:,.0f} a second" if report.rows >= 100_000 else ""
            say(f"\n[bold]{report.rows:,} rows read in {seconds:.1f} s{rate}[/bold]")
        else:
            say("\n[bold]nothing new was read; this is how things stand[/bold]")
        facts = Table.grid(padding=(0, 2))
        facts.add_column()
        facts.add_column(justify="right")
        for name, sql in _FACTS:
            facts.add_row(name, f"{_one(warehouse, sql):,}")
        say(facts)
        say()
        for title, sql in _LISTS:
            rows = warehouse.query(sql)
            if rows.num_rows:
                say(_table(title, rows.to_pydict()))
                say()
        orphans = _one(warehouse, _ORPHANS)
        if orphans:
            say(
                f"[bold red]{counted(orphans, 'stock-out')} at outlets that no wholesaler holds:"
                "[/bold red] add them to assignments.csv"
            )


def _one(warehouse: Warehouse, sql: str) -> int:
    return int(warehouse.query(sql).column(0)[0].as_py())


def _table(title: str, columns: dict[str, list[object]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for name, values in columns.items():
        number = all(isinstance(value, int) for value in values)
        table.add_column(name, justify="right" if number else "left")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row))
    return table


_FACTS = (
    ("SIMs on shelves", "SELECT toInt64(sum(on_hand)) FROM stock_on_hand"),
    ("first uses", "SELECT count() FROM stock_movements WHERE cause = 'first_use'"),
    ("stock-outs", "SELECT count() FROM stock_incidents"),
    ("  of them still open", "SELECT count() FROM stock_incidents WHERE closed_at IS NULL"),
    ("SMS sent", "SELECT count() FROM sms_messages WHERE status = 'sent'"),
    ("SMS that did not go out", "SELECT count() FROM sms_messages WHERE status != 'sent'"),
    ("anomalies", "SELECT count() FROM anomalies"),
    ("dead letters", "SELECT count() FROM dead_letters_open"),
)

_LISTS = (
    (
        "Why SMS did not go out",
        "SELECT status, error AS why, count() AS SMS FROM sms_messages WHERE status != 'sent'"
        " GROUP BY status, why ORDER BY 3 DESC, 1, 2 LIMIT 5",
    ),
    (
        "Busiest outlets",
        "SELECT outlet_id AS outlet, argMax(wholesaler_id, at) AS wholesaler,"
        " count() AS `SIMs sold`"
        " FROM stock_movements WHERE cause = 'first_use'"
        " GROUP BY outlet_id ORDER BY 3 DESC, 1 LIMIT 5",
    ),
    (
        "At zero now, longest first",
        "SELECT outlet_id AS outlet, sku, wholesaler_id AS wholesaler,"
        " formatDateTime(opened_at, '%Y-%m-%d %H:%i') AS `since (UTC)`"
        " FROM stock_incidents WHERE closed_at IS NULL ORDER BY opened_at, 1, 2 LIMIT 5",
    ),
    (
        "Anomalies",
        "SELECT kind, count() AS SIMs FROM anomalies GROUP BY kind ORDER BY 2 DESC, 1",
    ),
    (
        "Dead letters",
        "SELECT splitByChar(':', reason)[1] AS why, count() AS lines"
        " FROM dead_letters_open GROUP BY why ORDER BY 2 DESC, 1",
    ),
)

_ORPHANS = "SELECT count() FROM stock_incidents WHERE wholesaler_id = ''"
