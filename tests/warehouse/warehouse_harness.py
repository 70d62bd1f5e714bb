"""An owner's loop with its door open, beside the test."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from pathlib import Path

from pipelines.warehouse import Warehouse
from pipelines.warehouse.loopback.server import LoopbackServer


class OpenDoor:
    """An owner's loop in a thread of its own, with the door open; `data` is where its sign is."""

    def __init__(self, warehouse: Warehouse, data: Path) -> None:
        self.data = data
        self.door = LoopbackServer(warehouse, data)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.run(self.door.start())

    def run(self, action: object) -> None:
        """Run a coroutine in the owner's loop."""
        asyncio.run_coroutine_threadsafe(action, self.loop).result(60)  # type: ignore[arg-type]

    def sign(self) -> dict[str, object]:
        """What the sign says."""
        found: dict[str, object] = json.loads((self.data / "warehouse.json").read_text())
        return found

    def say(
        self, body: bytes, *, word: str | None = None, path: str = "/query"
    ) -> tuple[int, bytes]:
        """Knock by hand, as a program that is not ours would: status and answer."""
        sign = self.sign()
        connection = http.client.HTTPConnection("127.0.0.1", int(str(sign["port"])), timeout=60)
        headers = {"Authorization": f"Bearer {sign['token'] if word is None else word}"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def close(self) -> None:
        """Close the door and end the loop."""
        self.run(self.door.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
