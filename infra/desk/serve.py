"""`zerostock serve`: the desk on this machine's own address."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import uvicorn

from infra.desk.app import desk_app
from infra.desk.page import Means, Replay
from infra.desk.reading import Standing
from infra.letters import Wanted, open_letters, send_on
from infra.replaying import Recheck, fix_of, recheck
from infra.settings import Settings
from pipelines.ingest.mapping import load_mapping
from pipelines.warehouse.port import Warehouse
from schemas.errors import UsageError

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def serve_desk(
    settings: Settings, host: str, port: int, *, input: Path | None, mapping: Path | None
) -> None:
    """Serves until it is interrupted.

    `input` is the exchange directory by which dead letters are checked again. Raises `UsageError`
    when there is no warehouse to show.
    """
    if settings.data is None and settings.warehouse is None:
        raise UsageError("name a warehouse: --data DATA or --warehouse URL")
    if host not in _LOOPBACK:
        raise UsageError(
            f"nobody has a login yet, so the desk listens on loopback only, not {host}"
        )
    standing = Standing(settings.data, settings.warehouse)
    means = Means(zone=settings.display_zone, replay=_replay(settings, input, mapping))
    print(f"The desk is at http://{host}:{port}/ (Ctrl-C ends it).", flush=True)
    try:
        uvicorn.run(
            desk_app(standing.opened, means),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
        )
    finally:
        standing.close()


def _replay(settings: Settings, input: Path | None, mapping: Path | None) -> Replay | None:
    if input is None:
        return None
    exports = load_mapping(mapping) if mapping is not None else None

    def replay(warehouse: Warehouse, reason: str, source: str, sends: bool) -> Recheck:
        letters = open_letters(warehouse, Wanted(reason, source))
        found = recheck(letters, input, exports, settings.partitions)
        if sends and found.resolved:
            send_on(warehouse, settings, found, fix_of(input, mapping))
        return found

    return replay
