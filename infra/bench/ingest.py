"""Call records a second through all checks to the broker, by kind of file and by other ways in.

Limits: parsing the same file with Arrow, fetching the same topic, taking the same requests, and
looking at nothing. Peer: the models that decide what is accepted, asked about a line at a time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from infra.bench.common.feeds import fetch_rate, fill_topic, intake_rates, read_topic
from infra.bench.common.harness import Harness
from infra.bench.common.report import Measurement, of_runs
from infra.bench.common.seeded_state import SeededState
from infra.bench.common.traffic import Traffic, call_ids, make_traffic
from pipelines.ingest import IngestOptions, IngestReport, ingest
from schemas.errors import ZerostockError
from schemas.events import Refused, accept

_BAD = 1_000  # One line in so many is refused.
_PEER_LINES = 100_000


def run(
    *,
    cdrs: int = 1_000_000,
    posted: int = 200_000,
    sims: int = 1_000_000,
    runs: int = 3,
    broker: str | None = None,
) -> Iterator[Measurement]:
    """The lines of the benchmark; `posted` events come by HTTP, 1,000 a request."""
    traffic = make_traffic(SeededState(sims, sims // 10, 1_000), cdrs)
    for kind, write, parse in (
        ("JSON", _write_json, pa.json.read_json),
        ("CSV", _write_csv, pa.csv.read_csv),
        ("Parquet", _write_parquet, pa.parquet.read_table),
    ):
        ours, limits = [], []
        peer: float | None = None
        for _ in range(runs):
            with Harness(traffic.state, broker) as harness:
                path = write(harness.folder, traffic)
                started = time.perf_counter()
                parse(path)
                limits.append(cdrs / (time.perf_counter() - started))
                ours.append(
                    asyncio.run(_read(harness, cdrs, cdrs // _BAD if kind == "JSON" else 0))
                )
                if kind == "JSON" and peer is None:
                    peer = _a_line_at_a_time(path)
        name = "pydantic, a line at a time" if peer is not None else None
        limit, _ = of_runs(limits)
        yield Measurement("ingest", f"{kind} CDRs", "CDR/s", *of_runs(ours), limit, peer, name)
    yield from _feeds(traffic, min(posted, cdrs), runs, broker)


def _feeds(traffic: Traffic, posted: int, runs: int, broker: str | None) -> Iterator[Measurement]:
    cdrs = len(traffic)
    topic: list[tuple[float, float]] = []
    posts: list[tuple[float, float]] = []
    for _ in range(runs):
        with Harness(traffic.state, broker) as harness:
            path = _write_json(harness.folder, traffic)
            fill_topic(harness, path)
            limit = fetch_rate(harness, cdrs)
            report = asyncio.run(read_topic(harness, cdrs))
            _compare(report, cdrs, cdrs // _BAD)
            topic.append((cdrs / report.seconds, limit))
            with path.open("rb") as file:
                lines = [line.rstrip(b"\n") for line in islice(file, posted)]
            posts.append(intake_rates(harness, lines))
    for metric, some in (("JSON CDRs of a topic", topic), ("JSON CDRs by HTTP", posts)):
        ours, limits = zip(*some, strict=True)
        limit, _ = of_runs(limits)
        yield Measurement("ingest", metric, "CDR/s", *of_runs(ours), limit)


async def _read(harness: Harness, cdrs: int, bad: int) -> float:
    report = await ingest(harness.folder, harness.address, options=IngestOptions())
    _compare(report, cdrs, bad)
    return cdrs / report.seconds


def _compare(report: IngestReport, cdrs: int, bad: int) -> None:
    if (report.rows, report.dead_letters) != (cdrs, bad):
        raise ZerostockError(
            f"{report.rows} rows were read and {report.dead_letters} refused;"
            f" there are {cdrs} and {bad}"
        )


def _a_line_at_a_time(path: Path) -> float:
    with path.open("rb") as file:
        lines = [line for line, _ in zip(file, range(_PEER_LINES), strict=False)]
    started = time.perf_counter()
    for line in lines:
        try:
            accept(json.loads(line))
        except Refused:
            continue
    return len(lines) / (time.perf_counter() - started)


def _times(traffic: Traffic) -> list[str]:
    text = np.datetime_as_string(traffic.at.astype("datetime64[ms]"), timezone="UTC")
    return [str(time) for time in text]


def _write_json(folder: Path, traffic: Traffic) -> Path:
    path = folder / "events" / "calls.ndjson"
    path.parent.mkdir()
    with path.open("w") as file:
        for number, (imsi, at) in enumerate(
            zip(traffic.imsis.tolist(), _times(traffic), strict=True), start=1
        ):
            who = "nobody" if number % _BAD == 0 else imsi
            file.write(
                f'{{"type":"call","call_id":"c{number:015}","start_time":"{at}","imsi":"{who}",'
                '"msisdn":"13800138000","duration_s":61,"cell_id":"c","charge_fen":12}\n'
            )
    return path


def _table(traffic: Traffic, at: pa.Array) -> pa.Table:
    count = len(traffic)
    return pa.table(
        {
            "call_id": call_ids(np.arange(count)),
            "start_time": at,
            "imsi": pa.array(traffic.imsis).cast(pa.string()),
            "msisdn": pa.repeat("13800138000", count),
            "duration_s": pa.repeat(61.0, count),
            "cell_id": pa.repeat("c", count),
            "charge_fen": pa.repeat(12, count),
        }
    )


def _write_csv(folder: Path, traffic: Traffic) -> Path:
    path = folder / "cdr" / "made" / "calls.csv"
    path.parent.mkdir(parents=True)
    pa.csv.write_csv(_table(traffic, pa.array(_times(traffic))), path)
    return path


def _write_parquet(folder: Path, traffic: Traffic) -> Path:
    path = folder / "cdr" / "made" / "calls.parquet"
    path.parent.mkdir(parents=True)
    at = pa.array(traffic.at, pa.timestamp("ms", tz="UTC"))
    pa.parquet.write_table(_table(traffic, at), path, row_group_size=100_000)
    return path
