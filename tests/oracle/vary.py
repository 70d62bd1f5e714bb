"""The same city told differently: shuffled within the bound, doubled, split into other files.
Nothing that is true of it changes, except where its bad lines stand.
"""

from __future__ import annotations

import gzip
import json
import shutil
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from oracle.judge_reading import (
    files_of,
    lines_of,
    read_events,
    read_reference,
    to_ms,
)
from pipelines.simulate.plan import seeded

#: The time of a row, None for one that is a dead letter, and the row.
Told = tuple[int | None, Any]


def vary(
    source: Path,
    target: Path,
    *,
    seed: int = 0,
    shuffle: bool = True,
    double: bool = False,
    split: int = 0,
    disorder_ms: int = 60_000,
) -> None:
    """Write `source`, an exchange directory, anew into `target`, which must not exist.

    shuffle: every row gets a new delay below `disorder_ms`. double: every usable row twice, each
    with its own delay. split: that many files a folder instead of those there are, cut anywhere,
    every other one compressed. For cities small enough to be held in memory.
    """
    rng = seeded(seed, "vary")
    reference = read_reference(source / "reference")
    dead = {letter[:2] for letter in read_events(source, reference, disorder_ms).dead}
    target.mkdir(parents=True)
    for part in ("reference", "utility"):
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part)
    folders: dict[tuple[Path, str], list[Path]] = {}
    for path in files_of(source):
        folders.setdefault((path.parent, _kind(path)), []).append(path)
    for (folder, kind), paths in folders.items():
        told: list[Told] = []
        for path in paths:
            file = path.relative_to(source).as_posix()
            for number, row in _rows(path, kind):
                usable = (file, number) not in dead
                told.append((_time(row, kind) if usable else None, row))
        rows = _retold(told, rng, double, disorder_ms if shuffle else None)
        head = lines_of(paths[0])[0] if kind == "csv" else None
        into = target / folder.relative_to(source)
        into.mkdir(parents=True, exist_ok=True)
        cuts = sorted(rng.randrange(len(rows) + 1) for _ in range((split or len(paths)) - 1))
        for number, (a, b) in enumerate(pairwise([0, *cuts, len(rows)])):
            _write(into / f"part-{number:04d}", kind, head, rows[a:b], packed=number % 2 == 1)


def _kind(path: Path) -> str:
    return next(kind for kind in ("ndjson", "csv", "parquet") if f".{kind}" in path.suffixes)


def _rows(path: Path, kind: str) -> list[tuple[int, Any]]:
    """(line or row number, row) as dead letters number them."""
    if kind == "parquet":
        return list(enumerate(pl.read_parquet(path).iter_rows(named=True), 1))
    return list(enumerate(lines_of(path), 1))[kind == "csv" :]


def _time(row: Any, kind: str) -> int:
    if kind == "parquet":
        return int(row["start_time"].timestamp() * 1000 + 0.5)
    if kind == "csv":
        return to_ms(row.split(b",")[1].decode())
    event: dict[str, str] = json.loads(row)
    return to_ms(event.get("start_time") or event["at"])


def _retold(told: list[Told], rng: Random, double: bool, disorder_ms: int | None) -> list[Any]:
    queue: list[tuple[int, int, Any]] = []
    last = 0
    for number, (at, row) in enumerate(told):
        # A dead letter has no time of its own: it stays near the row before it.
        last = last if at is None else at
        for _ in range(2 if double and at is not None else 1):
            arrives = number if disorder_ms is None else last + rng.randrange(max(1, disorder_ms))
            queue.append((arrives, len(queue), row))
    return [row for _, _, row in sorted(queue, key=lambda queued: queued[:2])]


def _write(stem: Path, kind: str, head: bytes | None, rows: list[Any], *, packed: bool) -> None:
    path = stem.with_name(f"{stem.name}.{kind}")
    if kind == "parquet":
        if rows:
            pl.DataFrame(rows).with_columns(pl.col("duration_s").cast(pl.Int32)).write_parquet(path)
        return
    data = b"".join(line + b"\n" for line in ([head] if head else []) + rows)
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data, 1, mtime=0))
    else:
        path.write_bytes(data)
