"""The intake does what its description says, whatever is asked of it: by schemathesis."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import settings
from ingest_harness import make_reference
from schemathesis import Case
from services.waiting import wait_until

from infra.http_server import http_server, listen
from infra.intake.app import OPENAPI, IntakeLimits, intake_app
from infra.intake.folder import IntakeFolder
from infra.intake.tokens import FeederTokens
from infra.settings import load_settings
from schemas.fields import TIME_END

TOKEN = "a-token-of-a-van"


@schemathesis.serializer("application/x-ndjson")
def lines(_: object, value: object) -> bytes:
    """Text as lines as they are, all else as a line of JSON."""
    text = value if isinstance(value, str) and value else json.dumps(value)
    return text.encode("utf-8", "surrogatepass")


schema = schemathesis.openapi.from_path(OPENAPI)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    city: Path = tmp_path_factory.mktemp("intake") / "city"
    make_reference(city)
    folder = IntakeFolder(city, lambda: TIME_END)
    tokens = FeederTokens(load_settings(intake_tokens=f"van {TOKEN}"))
    app = intake_app(tokens, folder.take, IntakeLimits(1 << 20, 10**6), lambda: True)
    server = http_server(app)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, "the intake to listen")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)
    folder.close()


@schema.parametrize()
@settings(max_examples=40)
def test_every_call_is_answered_as_described(case: Case, address: str) -> None:
    case.call_and_validate(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"})
