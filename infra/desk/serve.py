"""`zerostock serve`: the desk on this machine's own address."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import uvicorn

from infra.desk.app import desk_app
from infra.desk.reading import opener
from schemas.errors import UsageError

_LOOPBACK: Final = ("127.0.0.1", "localhost")


def serve_desk(data: Path | None, warehouse: str | None, host: str, port: int) -> None:
    """Serves until it is interrupted.

    Raises `UsageError` for any address but loopback, because the page has no logins, and when
    there is not exactly one warehouse to show.
    """
    if host not in _LOOPBACK:
        raise UsageError(f"the desk has no logins yet and listens on loopback only, not on {host}")
    if (data is None) == (warehouse is None):
        raise UsageError("name one warehouse: --data DATA or --warehouse URL")
    print(f"The desk is at http://{host}:{port}/ (read-only; Ctrl-C ends it).", flush=True)
    app = desk_app(opener(data, warehouse))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
