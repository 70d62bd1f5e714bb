"""The one HTTP server: whoever connects and says nothing takes nobody else's place."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from schemas.errors import SettingsError

log = logging.getLogger(__name__)

#: Seconds that a request's line and headers may take to come. A body has its own limit.
HEADERS_WITHIN: Final = 10.0
#: Connections and running requests; of those that wait for a request, the oldest makes room.
MOST_CONNECTIONS: Final = 200
_MOST_HEADER_BYTES: Final = 32 * 1024


class BoundedConnection(H11Protocol):
    """A connection that is closed unless it sends a request in time; uvicorn itself would wait."""

    _since: float | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, and make room if too many wait."""
        super().connection_made(transport)
        self._wait()
        waiting = [c for c in self.connections if isinstance(c, BoundedConnection) and c._since]
        if len(self.connections) > MOST_CONNECTIONS // 2 and len(waiting) > 1:
            min(waiting, key=lambda c: c._since or 0.0)._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Stop the clock once the headers are here."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()

    def on_response_complete(self) -> None:
        """The next request's headers have to come in time, too."""
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        self._stop()
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(HEADERS_WITHIN, self._close)

    def _stop(self) -> None:
        self._since = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._stop()
        self.transport.close()


def http_server(
    app: ASGIApp, *, trusted_proxies: str = "", tls: tuple[Path, Path] | None = None
) -> uvicorn.Server:
    """A server with all its bounds; see `serve_http`. `tls` names a certificate and its key.

    Raises `SettingsError` for a certificate or key that cannot be used.
    """
    if tls is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*tls)
        except OSError as error:  # ssl.SSLError is one as well
            raise SettingsError(
                f"TLS with certificate {tls[0]} and key {tls[1]} cannot be had: {error.strerror}"
            ) from None
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedConnection,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            timeout_graceful_shutdown=10,
            ssl_certfile=tls[0] if tls is not None else None,
            ssl_keyfile=tls[1] if tls is not None else None,
        )
    )


def serve_http(app: ASGIApp, host: str, port: int, *, trusted_proxies: str = "") -> None:
    """Serve until SIGINT or SIGTERM.

    `trusted_proxies` are the addresses and networks, with commas between, whose X-Forwarded-For is
    believed; "" believes nobody. Raises `SettingsError` if it cannot listen there.
    """
    server = http_server(app, trusted_proxies=trusted_proxies)
    with listen(host, port) as listener:
        log.warning("listening on http://%s:%d", *listener.getsockname()[:2])
        server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `SettingsError` if it cannot do so there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
