"""An owner's loop that serves its warehouse, beside the test."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from pathlib import Path

from pipelines.warehouse import Warehouse
from pipelines.warehouse.loopback.server import LoopbackServer


class RunningServer:
    """An owner's loop in a thread of its own, serving its warehouse under `data`."""

    def __init__(self, warehouse: Warehouse, data: Path) -> None:
        self.data = data
        self.loopback = LoopbackServer(warehouse, data)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.run(self.loopback.start())

    def run(self, action: object) -> None:
        """Run a coroutine in the owner's loop."""
        asyncio.run_coroutine_threadsafe(action, self.loop).result(60)  # type: ignore[arg-type]

    def endpoint(self) -> dict[str, object]:
        """What DATA/warehouse.json says."""
        found: dict[str, object] = json.loads((self.data / "warehouse.json").read_text())
        return found

    def request(
        self, body: bytes, *, token: str | None = None, path: str = "/query"
    ) -> tuple[int, bytes]:
        """Ask as a program that is not ours would: status and answer."""
        endpoint = self.endpoint()
        connection = http.client.HTTPConnection("127.0.0.1", int(str(endpoint["port"])), timeout=60)
        headers = {"Authorization": f"Bearer {endpoint['token'] if token is None else token}"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def close(self) -> None:
        """Stop serving and end the loop."""
        self.run(self.loopback.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
