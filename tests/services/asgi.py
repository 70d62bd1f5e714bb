"""Requests to an ASGI application without a network: what went in, what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def call(
    app: Any,
    method: str,
    target: str,
    body: bytes | Iterable[bytes] = b"",
    headers: Mapping[str, str] | Iterable[tuple[bytes, bytes]] = (),
    client: str = "127.0.0.1",
) -> Reply:
    """One request; `target` is a path with its query, as it travels."""
    path, _, query = target.partition("?")
    if isinstance(headers, Mapping):
        headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": list(headers),
        "client": (client, 50_000),
        "server": ("127.0.0.1", 80),
    }
    chunks = [body] if isinstance(body, bytes) else list(body)
    left = [
        {"type": "http.request", "body": chunk, "more_body": number + 1 < len(chunks)}
        for number, chunk in enumerate(chunks)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    return Reply(
        start["status"],
        {k.decode(): v.decode("latin-1") for k, v in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


async def form(
    app: Any,
    target: str,
    fields: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
    client: str = "127.0.0.1",
) -> Reply:
    """A POST of a URL-encoded form."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(fields).encode()
    return await call(app, "POST", target, body, kind | dict(headers or {}), client)
