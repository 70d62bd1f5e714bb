"""Files of the exchange directory that arrive slice by slice: rows come a little late and out of
order, some twice, and bad lines lie between them.

Rows are written by the time they arrive. Unless the plan says that calls are written when they end
or papers come late, each row's delay is shorter than the plan's disorder: within a source no row is
written once the source has shown a time that much later.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulate.badlines import BadLine
from pipelines.simulate.plan import DAY_MS, HOUR_MS, CityPlan, seeded
from pipelines.simulate.truth import TrueDeadLetter

CDR_COLUMNS = ("call_id", "start_time", "imsi", "msisdn", "duration_s", "cell_id", "charge_fen")
_FAST_GZIP = 1
#: The last slice takes everything that is still under way.
FOR_EVER = 2**62

#: Reported on paper; the rest is reported by machines.
_ON_PAPER = ("delivery", "return", "transfer", "write_off")


class EventFeed:
    """events/*.ndjson, every third file compressed."""

    def __init__(self, plan: CityPlan, out: Path) -> None:
        self._plan = plan
        self._out = out
        self._rng = seeded(plan.seed, "events")
        self._papers = seeded(plan.seed, "late papers")
        self._pending: list[tuple[int, int, bytes, str | None]] = []
        self._seen = 0
        self.written = 0
        self.files = 0
        self.dead: list[TrueDeadLetter] = []

    def add(self, at: int, event: dict[str, Any]) -> None:
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        if event["type"] in _ON_PAPER and self._papers.random() < self._plan.late_papers:
            at += self._papers.randrange(2 * HOUR_MS, 3 * DAY_MS)
        self._queue(at + self._delay(), line)
        if self._rng.random() < self._plan.duplicates:
            self._queue(at + self._delay(), line)

    def add_bad(self, at: int, bad: BadLine) -> None:
        self._queue(at, bad.line, bad.reason)

    def write(self, name: str, until: int) -> None:
        """One file with all that arrives before `until`."""
        self._pending.sort(key=lambda queued: queued[:2])
        split = sum(1 for queued in self._pending if queued[0] < until)
        ready, self._pending = self._pending[:split], self._pending[split:]
        path = self._out / "events" / f"{name}.ndjson{'.gz' if self.files % 3 == 1 else ''}"
        for number, (_, _, _, reason) in enumerate(ready, 1):
            if reason:
                self.dead.append(TrueDeadLetter(f"events/{path.name}", number, reason))
            else:
                self.written += 1
        _write(path, b"".join(line + b"\n" for _, _, line, _ in ready))
        self.files += 1

    def _queue(self, arrives: int, line: bytes, reason: str | None = None) -> None:
        self._pending.append((arrives, self._seen, line, reason))
        self._seen += 1

    def _delay(self) -> int:
        # Cubed: most are prompt, a few almost as late as they may be.
        return int(self._plan.disorder_ms * self._rng.random() ** 3)


class CdrFeeds:
    """cdr/switch-x/*: every switch serves its own cells; rows written twice may be written by two
    switches."""

    def __init__(self, plan: CityPlan, out: Path, cells: list[str]) -> None:
        self._plan = plan
        self._out = out
        self._cells = pl.Series(cells, dtype=pl.String)
        self._rng = np.random.default_rng([plan.seed, 3])
        self._pending = pl.DataFrame()
        self._bad: list[tuple[int, int, BadLine]] = []
        self.written = 0
        self.files = 0
        self.dead: list[TrueDeadLetter] = []

    def add(self, calls: pl.DataFrame) -> None:
        """Calls as `Subscribers` makes them."""
        again = self._rng.random(calls.height) < self._plan.duplicates
        twice = calls.filter(again)
        switches = self._plan.switches
        own = pl.col("cell") % switches
        other = pl.Series(self._rng.integers(0, switches, twice.height), dtype=pl.Int64)
        rows = pl.concat([calls.with_columns(switch=own), twice.with_columns(switch=other)])
        delay = self._plan.disorder_ms * self._rng.random(rows.height) ** 3
        known = pl.col("at")
        if self._plan.calls_by == "end":
            known += pl.col("duration_s") * 1000
        rows = rows.with_columns(arrives=known + pl.Series(delay.astype(np.int64)))
        self._pending = pl.concat([self._pending, rows]) if self._pending.height else rows

    def add_bad(self, at: int, bad: BadLine) -> None:
        """Given to one of the switches that write such files."""
        parquet = bad.feed == "parquet"
        fitting = [
            s
            for s in range(self._plan.switches)
            if (self._plan.format_of(s) == "parquet") == parquet
        ]
        self._bad.append((at, fitting[at % len(fitting)], bad))

    def write(self, name: str, until: int) -> None:
        """A file a switch with all that arrives before `until`."""
        ready = self._pending.filter(pl.col("arrives") < until)
        self._pending = self._pending.filter(pl.col("arrives") >= until)
        bad = [b for b in self._bad if b[0] < until]
        self._bad = [b for b in self._bad if b[0] >= until]
        for switch in range(self._plan.switches):
            ending = self._plan.format_of(switch)
            path = self._out / "cdr" / f"switch-{chr(ord('a') + switch)}" / f"{name}.{ending}"
            mine = pl.DataFrame(
                [(at, b.line.decode(), b.reason) for at, s, b in bad if s == switch],
                schema={"arrives": pl.Int64, "raw": pl.String, "reason": pl.String},
                orient="row",
            )
            rows = pl.concat([ready.filter(pl.col("switch") == switch), mine], how="diagonal").sort(
                "arrives", maintain_order=True
            )
            self._bury(path, rows, header=ending != "parquet")
            self.written += rows.height - mine.height
            self.files += 1
            if ending == "parquet":
                self._write_parquet(path, rows)
            else:
                self._write_lines(path, rows, switch)

    def _bury(self, path: Path, rows: pl.DataFrame, *, header: bool) -> None:
        numbered = rows.select("reason", line=pl.int_range(pl.len()) + 1 + header)
        file = path.relative_to(self._out).as_posix()
        for reason, line in numbered.filter(pl.col("reason").is_not_null()).iter_rows():
            self.dead.append(TrueDeadLetter(file, line, reason))

    def _write_lines(self, path: Path, rows: pl.DataFrame, switch: int) -> None:
        # Every other switch keeps UTC.
        shift, suffix = (0, "Z") if switch % 2 else (8 * HOUR_MS, "+08:00")
        start = pl.from_epoch(pl.col("at") + shift, time_unit="ms")
        line = pl.concat_str(
            pl.col("call_id"),
            start.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.3f{suffix}"),
            pl.col("imsi").cast(pl.String),
            pl.col("msisdn").cast(pl.String),
            pl.col("duration_s").cast(pl.String),
            self._cell_ids(rows),
            pl.col("charge_fen").cast(pl.String),
            separator=",",
        )
        text = rows.select(pl.coalesce("raw", line)).write_csv(
            include_header=False, quote_style="never"
        )
        _write(path, ",".join(CDR_COLUMNS).encode() + b"\n" + text.encode())

    def _write_parquet(self, path: Path, rows: pl.DataFrame) -> None:
        # A row that is only a bad IMSI needs the rest of a row around it.
        filled = rows.with_columns(
            pl.col("at").fill_null(pl.col("arrives")),
            pl.col("call_id").fill_null(pl.concat_str(pl.lit("X-"), pl.col("raw"))),
            pl.col("msisdn", "duration_s", "cell", "charge_fen").fill_null(1),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        filled.select(
            "call_id",
            pl.from_epoch("at", time_unit="ms").dt.replace_time_zone("UTC").alias("start_time"),
            pl.coalesce("raw", pl.col("imsi").cast(pl.String)).alias("imsi"),
            pl.col("msisdn").cast(pl.String),
            pl.col("duration_s").cast(pl.Int32),
            self._cell_ids(filled).alias("cell_id"),
            "charge_fen",
        ).write_parquet(path, compression="zstd", compression_level=1)

    def _cell_ids(self, rows: pl.DataFrame) -> pl.Expr:
        return pl.lit(self._cells.gather(rows["cell"]), dtype=pl.String)


def _write(path: Path, data: bytes) -> None:
    """Compressed if the name says so, without the clock's time in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = gzip.compress(data, _FAST_GZIP, mtime=0)
    path.write_bytes(data)
