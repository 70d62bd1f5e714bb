"""The least that taking a request costs: reads each body and looks at nothing.

python -m infra.bench.peers.taker PORT
"""

from __future__ import annotations

import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.http_server import serve_http


async def take(request: Request) -> Response:
    """Answer how long the body was."""
    return JSONResponse({"bytes": len(await request.body())})


async def ready(_: Request) -> Response:
    """Answer."""
    return Response()


if __name__ == "__main__":
    routes = [Route("/v1/events", take, methods=["POST"]), Route("/healthz", ready)]
    serve_http(Starlette(routes=routes), "127.0.0.1", int(sys.argv[1]))
