"""Managers' channels: told over HTTP for real, named in errors, their secrets never shown."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from alerts.delivery.channels import AppriseChannels
from schemas.errors import SendError, SettingsError


class Server:
    """Takes what channels are told; answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.told: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.told.append(json.loads(body))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_every_address_of_a_channel_is_told(server: Server) -> None:
    channels = AppriseChannels(
        f"# who is on duty\nnorth = json://{server.address}/a\n\nnorth = json://{server.address}/b\n"
        f"fallback = json://{server.address}/c"
    )
    assert channels.names == ["north", "fallback"]
    asyncio.run(channels.tell("north", "Li has not refilled 2 shops", "Shop 1\nShop 2"))
    assert [(t["title"], t["message"]) for t in server.told] == [
        ("Li has not refilled 2 shops", "Shop 1\nShop 2")
    ] * 2


def test_a_channel_that_does_not_take_it_is_an_error_without_secrets(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = 503
    channels = AppriseChannels(f"north = json://me:hunter2@{server.address}/t0ken")
    with pytest.raises(SendError, match="was not taken") as failed:
        asyncio.run(channels.tell("north", "title", "body"))
    said = caplog.text + str(failed.value)
    assert len(server.told) == 1
    assert "hunter2" not in said
    assert "t0ken" not in said


def test_a_server_that_is_not_there_is_an_error(server: Server) -> None:
    server.http.server_close()
    channels = AppriseChannels(f"north = json://{server.address}/")
    with pytest.raises(SendError, match="was not taken"):
        asyncio.run(channels.tell("north", "title", "body"))


def test_a_channel_that_is_not_there_is_named_with_those_that_are() -> None:
    channels = AppriseChannels("north = json://127.0.0.1/")
    with pytest.raises(SendError, match=r"no channel of this name .*\(north\)"):
        asyncio.run(channels.tell("south", "title", "body"))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("north json://localhost/s3cret", "line 1: write a line like"),
        ("# fine\nnorth = nosuch://s3cret", "a URL of 'north' is none that Apprise knows"),
    ],
)
def test_what_is_no_channel_is_said_at_the_start(written: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as wrong:
        AppriseChannels(written)
    assert "s3cret" not in str(wrong.value)
