"""`zerostock bench`: what the system does on this machine, beside the limit and beside peers.

One file a benchmark, each with `run(...)` that yields its lines; made input comes from `state` and
`traffic` with a fixed seed, processes and topics from `harness`. Nothing here is needed to run the
product.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from infra.bench.common.report import print_json, print_text
from schemas.errors import UsageError

NAMES = (
    "stream",
    "run",
    "ingest",
    "latency",
    "recovery",
    "warehouse",
    "scale",
    "batch",
    "forecast",
    "diversion",
    "page",
)


def main(name: str, as_json: bool, **options: Any) -> None:
    """Run one benchmark and print its lines; options that are None are left at their defaults.

    Raises `UsageError` for a name or an option that there is not.
    """
    if name not in NAMES:
        raise UsageError(f"there is no benchmark {name!r}: use {', '.join(NAMES)}")
    bench = import_module(f"infra.bench.{name}")
    given = {key: value for key, value in options.items() if value is not None}
    unknown = given.keys() - set(bench.run.__kwdefaults__ or {})
    if unknown:
        raise UsageError(f"bench {name} has no option {', '.join(sorted(unknown))}")
    (print_json if as_json else print_text)(bench.run(**given))
