"""The body of a request as lines of NDJSON: bounded in size and time, unpacked, a list or lines."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pipelines.ingest.reading.decoding import BOM, text_form

#: Seconds that a body may take to come.
LONGEST: Final = 30.0

_LINES: Final = {
    *("", "application/x-ndjson", "application/ndjson", "application/jsonl", "text/plain"),
    *("application/octet-stream", "application/x-www-form-urlencoded"),
}
_JSON: Final = "application/json"
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


def check_headers(request: Request) -> None:
    """Raises `HTTPException` for a kind of body that is not taken, before any of it is read."""
    kind = _kind(request)
    if kind not in _LINES and kind != _JSON:
        raise HTTPException(415, "send application/x-ndjson or application/json")
    if _packing(request) not in ("", "identity", "gzip"):
        raise HTTPException(415, "the body may be packed as gzip, and not otherwise")


async def lines_of(request: Request, most: int) -> bytes:
    """The events of a body, each on a line with its newline; `most` bytes, packed and unpacked.

    Raises `HTTPException` for a body that is too large or too slow, or that is none.
    """
    packed = _packing(request) == "gzip"
    unpack = zlib.decompressobj(wbits=31)
    size, body = 0, bytearray()
    try:
        async with asyncio.timeout(LONGEST):
            async for piece in request.stream():
                size += len(piece)
                body += unpack.decompress(piece, most + 1 - len(body)) if packed else piece
                if max(size, len(body)) > most:
                    raise HTTPException(413, f"more than {most:,} bytes: send less at a time")
    except TimeoutError:
        raise HTTPException(408, "the body came too slowly") from None
    except zlib.error:
        raise HTTPException(400, "the body is not gzip") from None
    if packed and not unpack.eof:
        raise HTTPException(400, "the body is gzip that ends too early")
    if not body:
        raise HTTPException(400, "the body is empty")
    return _as_lines(bytes(body).removeprefix(BOM), json=_kind(request) == _JSON)


def _as_lines(body: bytes, *, json: bool) -> bytes:
    start = body.lstrip()[:1]
    if start == b"[":
        try:
            values = _raws(body)
        except (msgspec.MsgspecError, RecursionError):
            raise HTTPException(400, "the list is not JSON") from None
        return b"".join(_one_line(bytes(value)) + b"\n" for value in values)
    if json and start != b"{":
        raise HTTPException(400, "give a list of events, or one event a line")
    lines = text_form(body[: 64 * 1024], json=True).text(body)
    return lines if lines.endswith(b"\n") or not lines else lines + b"\n"


def _one_line(value: bytes) -> bytes:
    return value.replace(b"\n", b" ").replace(b"\r", b" ")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _packing(request: Request) -> str:
    return request.headers.get("content-encoding", "").strip().lower()
