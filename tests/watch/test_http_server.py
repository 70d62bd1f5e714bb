"""The HTTP server's bounds: silence takes nobody's place, and no header says who somebody is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from services.certificates import make_certificates
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from infra import http_server
from schemas.errors import SettingsError


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the address that the request seems to come from."""
    request = Request(scope, receive)
    address = request.client.host if request.client else ""
    await PlainTextResponse(address)(scope, receive, send)


@asynccontextmanager
async def served(
    trusted_proxies: str = "", tls: tuple[Path, Path] | None = None
) -> AsyncIterator[int]:
    """The port of a server."""
    server = http_server.http_server(who, trusted_proxies=trusted_proxies, tls=tls)
    server.config.lifespan = "off"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


async def asked(port: int, headers: str = "", authority: Path | None = None) -> str:
    """The last line of the answer to one request."""
    trust = ssl.create_default_context(cafile=authority) if authority is not None else None
    reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return answer.decode().rpartition("\r\n")[2]


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow"])
def test_connections_that_wait_stop_nobody(said: bytes) -> None:
    async def go() -> None:
        async with served() as port:
            waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(250)]
            for _, writer in waiting:
                writer.write(said)
            assert await asked(port) == "127.0.0.1"
            for _, writer in waiting:
                writer.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX-Sl",
    ],
    ids=["silent", "half a header", "half a second request"],
)
def test_who_does_not_finish_the_headers_is_hung_up_on(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEADERS_WITHIN", 0.1)

    async def go() -> None:
        async with served() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            await reader.read()  # ends only when the server hangs up
            writer.close()

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize(
    ("trusted", "seen"), [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "9.9.9.9")]
)
def test_only_a_trusted_proxy_says_for_whom_it_asks(trusted: str, seen: str) -> None:
    async def go() -> str:
        async with served(trusted) as port:
            return await asked(port, "X-Forwarded-For: 9.9.9.9\r\n")

    assert asyncio.run(go()) == seen


def test_by_tls_a_client_that_trusts_the_authority_is_served(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)

    async def go() -> None:
        async with served(tls=(made.certificate, made.key)) as port:
            assert await asked(port, authority=made.authority) == "127.0.0.1"

    asyncio.run(go())


@pytest.mark.parametrize("what", ["absent", "another's", "no key"])
def test_a_key_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, what: str) -> None:
    made = make_certificates(tmp_path / "ours")
    key = {
        "absent": tmp_path / "absent.pem",
        "another's": make_certificates(tmp_path / "theirs").key,
        "no key": made.certificate,
    }[what]
    with pytest.raises(SettingsError) as caught:
        http_server.http_server(who, tls=(made.certificate, key))
    assert str(key) in str(caught.value)
    assert "\n" not in str(caught.value)
