"""`zerostock serve`: the desk on this machine's own address."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from infra.dead_letters.listing import DeadLetterFilter, open_dead_letters, send_on
from infra.dead_letters.replay import Recheck, fix_of, recheck
from infra.desk.access.guard import Guard, by_https
from infra.desk.access.pages import AccessPages
from infra.desk.access.store import AccessStore
from infra.desk.app import desk_app
from infra.desk.page import Replay, Services
from infra.desk.reading import SharedWarehouse
from infra.http_server import serve_http
from infra.settings import Settings
from pipelines.ingest.mapping.mapping import load_mapping
from pipelines.warehouse.port import Warehouse
from schemas.errors import InputError, UsageError, ZerostockError

log = logging.getLogger(__name__)

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def serve_desk(
    settings: Settings,
    host: str,
    port: int,
    *,
    url: str | None = None,
    input: Path | None = None,
    mapping: Path | None = None,
) -> None:
    """Serves until it is interrupted.

    `url` is where people reach it, if by a server before it; `input` the exchange directory by
    which dead letters are checked again. Raises `UsageError` where there is no place for logins,
    or no login for an address that others can reach, `InputError` where there is no such data.
    """
    if settings.data is None:
        raise UsageError("name --data DATA, also beside --warehouse: logins are kept there")
    store = AccessStore(settings.data / "desk.sqlite")
    here, secure = host in _LOOPBACK, by_https(url)
    if not here and not store.any_user():
        raise UsageError(
            f"nobody has a login yet, so the desk listens on this machine only, not on {host};"
            f" make one: zerostock users add NAME --role admin --data {settings.data}"
        )
    if settings.warehouse is None and not settings.data.is_dir():
        raise InputError(
            f"{settings.data} does not exist: name the --data of `zerostock run`, or run it first"
        )
    if not here and not secure:
        log.warning(
            "passwords and pages travel unencrypted: put a server with TLS before the desk, and"
            " give its address as --url https://…"
        )
    shared = SharedWarehouse(settings.data, settings.warehouse)
    with suppress(ZerostockError), shared.opened():
        pass  # so that the first visitor need not wait; what is wrong is said with the first page
    services = Services(
        settings.time_zone, store.note, _replay(settings, input, mapping), str(settings.data)
    )
    app = desk_app(
        shared.opened,
        services,
        more=lambda render: AccessPages(store, render, secure=secure).routes(),
    )
    print(f"The desk is at {url or f'http://{host}:{port}/'} (Ctrl-C ends it).", flush=True)
    try:
        serve_http(
            Guard(app, store, anonymous=here, url=url),
            host,
            port,
            trusted_proxies=settings.trusted_proxies,
        )
    finally:
        shared.close()


def _replay(settings: Settings, input: Path | None, mapping: Path | None) -> Replay | None:
    if input is None:
        return None
    exports = load_mapping(mapping) if mapping is not None else None

    def replay(warehouse: Warehouse, reason: str, source: str, sends: bool) -> Recheck:
        letters = open_dead_letters(warehouse, DeadLetterFilter(reason, source))
        found = recheck(letters, input, exports, settings.partitions, settings.live)
        if sends and found.resolved:
            send_on(warehouse, settings, found, fix_of(input, mapping))
        return found

    return replay
