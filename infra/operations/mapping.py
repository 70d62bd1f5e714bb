"""`zerostock look` and `zerostock mapping check`: an export as it is, and as it would be read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.text import counted, printable
from pipelines.ingest.accepted import rows_of
from pipelines.ingest.mapping.look import Look, look, starting_mapping
from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.ingest.reading.files import find_sources
from pipelines.ingest.reading.headers import OPTIONAL
from schemas.errors import InputError

_SHOWN = 5
_WIDTH = 40


def show_look(path: Path) -> None:
    """Print what a file is like and a mapping to start from. Raises `InputError`."""
    console = Console(highlight=False)
    found = look(path)
    for line in _facts(found):
        console.print(line, markup=False, soft_wrap=True)
    if not found.columns:
        return
    table = Table(box=None)
    for name in ("column", "values that differ", "times", "for example"):
        table.add_column(name)
    for column in found.columns:
        layout = {None: "", "": "ISO 8601"}.get(column.time_format, column.time_format or "")
        example = next((value for value in column.values if value), "")
        cells = (column.name, f"{column.distinct:,}", layout, example[:_WIDTH])
        table.add_row(*map(_escaped, cells))
    console.print(table)
    console.print("\nA mapping file to start from:\n")
    folder = path.parent.name or "FOLDER"
    mapping = starting_mapping(found, f"cdr/{folder}/*{path.suffix}")
    console.print(mapping, markup=False, soft_wrap=True)


def _facts(found: Look) -> list[str]:
    separator = {"\t": "tabs"}.get(found.delimiter, repr(found.delimiter))
    ends = ", lines that end in a carriage return" if found.form.bare_cr else ""
    lines = {
        "csv": f"text in {found.form.encoding}{ends}, columns separated by {separator},"
        f" {'a' if found.header else 'no'} header line",
        "ndjson": f"JSON in {found.form.encoding}"
        + (", values over several lines or in a list" if found.form.values else ", one a line"),
        "parquet": "Parquet",
    }
    facts = [lines[found.kind], f"{counted(found.rows, 'row')} looked at"]
    if found.malformed:
        facts.append(f"{counted(found.malformed, 'line')} with another number of columns")
    if found.by_end:
        facts.append('rows are in the order in which calls end: ordered_by = "end" of a [[source]]')
    elif found.disorder_ms:
        seconds = -(-found.disorder_ms // 1_000)
        facts.append(f"times run back by up to {seconds:,} s: give at least --disorder {seconds}s")
    elif found.disorder_ms == 0:
        facts.append("rows are in the order of their times")
    return facts


def check_mapping(mapping: Path, directory: Path) -> None:
    """Print the first rows of each kind of file as they would be read.

    Raises `MappingError` for a mapping that is wrong, `InputError` if it fits no file.
    """
    console = Console(highlight=False)
    exports = load_mapping(mapping)
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory")
    listing = find_sources(directory, exports.names)
    files = [file for some in listing.sources.values() for file in some]
    fitting = 0
    for number, export in enumerate(exports.export, start=1):
        mine = [file for file in files if exports.export_of(file.name) is export]
        console.print(
            f"export[{number}] {export.files}: {counted(len(mine), 'file')}", markup=False
        )
        fitting += len(mine)
        if not mine:
            continue
        some = next(rows_of(mine[0], exports), None)
        if some is None:
            console.print(f"{mine[0].name} has no rows", markup=False)
            continue
        console.print(f"{mine[0].name}, {counted(some.uses.num_rows, 'row')} read:", markup=False)
        for row in some.uses.slice(0, _SHOWN).to_pylist():
            at = datetime.fromtimestamp(row["at"] / 1_000, UTC).isoformat(timespec="milliseconds")
            named = {"call_id": row["event_id"], "start_time": at, "imsi": row["imsi"]}
            named |= {name: row[name] for name in OPTIONAL}
            text = " ".join(f"{name}={value}" for name, value in named.items() if value is not None)
            console.print(printable(f"  row {row['row']}: {text}"), markup=False, soft_wrap=True)
        for row_number, why in some.refused[:_SHOWN]:
            console.print(f"  row {row_number} is refused: {printable(why)}", markup=False)
        if len(some.refused) > _SHOWN:
            console.print(f"  {counted(len(some.refused) - _SHOWN, 'more row')} refused")
    for bounds in exports.source:
        folders = [name for name in listing.sources if exports.bounds_of(name) is bounds]
        fitting += len(folders)
        console.print(f"source {bounds.name}: {counted(len(folders), 'folder')}", markup=False)
    for name, why in listing.unread[:_SHOWN]:
        console.print(f"{name} would not be read: {why}", markup=False, soft_wrap=True)
    if not fitting:
        raise InputError(f"{mapping} fits no file of {directory}")


def _escaped(text: str) -> str:
    return printable(text).replace("[", "\\[")
