"""How long each view of the desk takes over a year of a whole city, and what watchers cost.

The desk runs as people start it. The limit of a view is a static file by the same server. Watchers
ask for *Now* as their browsers do, every three seconds; the stream's speed beside them is that of
the embedded `zerostock run` over the same made city, with and without.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from infra.bench.common.report import Measurement, of_runs
from pipelines.simulate import CityPlan, simulate
from pipelines.warehouse import migrate, open_warehouse
from schemas.errors import InputError

_LIVE: Final = "/"
_SHARED: Final = 2.0

VIEWS: Final = (
    "/", "/stock-outs",
    "/stock-outs?month=&state=open&wholesaler=Wholesaler%207", "/outlets",
    "/outlets?q=shop%20777&sort=as_of", "/outlets/O000777", "/soon-empty", "/ranking",
    "/wholesalers", "/wholesalers/W7", "/diversion", "/diversion/2026-02/O000001/W1",
    "/commission", "/halls", "/loss", "/loss/units/U7", "/loss/readings?unit_id=U7", "/arrears",
    "/arrears/bills?bucket=61-90", "/batch-runs", "/dead-letters", "/system",
    "/refills", "/promotion", "/loss/units", "/search?q=Shop%20777",
    "/search?q=460000000777777", "/sims/8986000000000777777",
)  # fmt: skip


def run(
    *, outlets: int = 13_500, runs: int = 5, watchers: int = 100, cdrs: int = 2_000_000
) -> Iterator[Measurement]:
    """The lines of the benchmark: seconds a view, then the watched stream."""
    with tempfile.TemporaryDirectory(prefix="zerostock-bench-") as folder:
        data = Path(folder) / "data"
        _year(data, outlets)
        with _served(data) as port:
            limit, _ = of_runs([_asked(port, "/static/desk.css") for _ in range(runs)])
            for view in VIEWS:
                took = [_asked(port, view) for _ in range(1 if view == _LIVE else 1 + runs)]
                while len(took) <= runs:  # watchers share a page for a while; each is made anew
                    time.sleep(_SHARED + 10 * max(took))
                    took.append(_asked(port, view))
                yield Measurement("page", view, "s", *of_runs(took), limit)
        yield from _watched(
            Path(folder), watchers, CityPlan(seed=1, outlets=min(outlets, 3_500), cdrs=cdrs)
        )


def _year(data: Path, outlets: int) -> None:
    with closing(open_warehouse(data=data)) as warehouse:
        migrate(warehouse)
        script = (resources.files("infra.bench") / "page_year.sql").read_text()
        for statement in script.split(";\n"):
            if "INSERT" in statement:
                warehouse.execute(statement, {"outlets": outlets})


@contextmanager
def _served(data: Path) -> Iterator[int]:
    """The desk in a process of its own; gives its port."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "infra.cli", "serve", "--data", str(data), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _await(port, server)
            yield port
        finally:
            server.terminate()
            server.wait(60)


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            _asked(port, "/static/desk.css")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise InputError(f"the desk did not start on port {port}")


def _asked(port: int, path: str, headers: dict[str, str] | None = None) -> float:
    """Seconds from the request to the last byte; `headers` are sent, and say what was seen."""
    began = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        answer.read()
    if answer.status >= 400:
        raise InputError(f"the desk answers {path} with {answer.status}")
    if headers is not None and answer.getheader("ETag"):
        headers["X-Seen"] = str(answer.getheader("ETag")).strip('"')
    return time.perf_counter() - began


def _watched(folder: Path, watchers: int, plan: CityPlan) -> Iterator[Measurement]:
    """CDRs a second of an embedded run, alone and with people watching it."""
    city = folder / "city"
    simulate(plan, city)
    speeds = {}
    for name, people in (("alone", 0), ("watched", watchers)):
        data = folder / name
        with closing(open_warehouse(data=data)) as warehouse:
            migrate(warehouse)
        command = [sys.executable, "-m", "infra.cli", "run", "--input", str(city)]
        command += ["--data", str(data), "--sms", f"file:{folder / name}.sms"]
        with _served(data) as port, _watching(port, people) as asked:
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            speeds[name] = plan.cdrs / (time.perf_counter() - began)
        if people:
            yield Measurement(
                "page", f"Now, {people} watchers, median", "s", *of_runs(asked or [0.0])
            )
    yield Measurement("page", f"run with {watchers} watchers", "CDR/s", speeds["watched"], None,
               speeds["alone"])  # fmt: skip


@contextmanager
def _watching(port: int, people: int) -> Iterator[list[float]]:
    """So many browsers on *Now*; gives the seconds that each of their requests took."""
    stop, asked = threading.Event(), list[float]()

    def watch(number: int) -> None:
        stop.wait(3 * number / max(1, people))
        headers = {"HX-Request": "true"}
        while not stop.is_set():
            asked.append(_asked(port, _LIVE, headers))
            stop.wait(3)

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        stop.set()
        for thread in threads:
            thread.join()
