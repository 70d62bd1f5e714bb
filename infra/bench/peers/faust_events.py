"""Plain Faust, an event a message: JSON in, one table write each, a movement out for a first use.

python -m infra.bench.peers.faust_events BROKER PARTITIONS SHELVES, where SHELVES is a JSON file
{imsi: outlet} of the SIMs on shelves; prints its last event's time as it goes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import faust
from mode import Worker


def build(broker: str, partitions: int, shelves: dict[str, str]) -> faust.App:
    """The program as Faust's own guide would write it."""
    app = faust.App(
        "peer-faust",
        broker=f"kafka://{broker}",
        store="memory://",
        topic_partitions=partitions,
        web_enabled=False,
        broker_session_timeout=2,
        broker_rebalance_timeout=2,
        broker_heartbeat_interval=0.5,
        # Faust makes a folder for tables on disk even when there are none.
        datadir=str(Path(tempfile.gettempdir()) / "zerostock-peer-faust"),
        worker_redirect_stdouts=False,
    )
    calls = app.topic("peer-calls", value_type=bytes, value_serializer="json")
    movements = app.topic("peer-movements", value_serializer="json")
    first_use = app.Table("first_use", default=int, partitions=partitions)

    @app.agent(calls)  # type: ignore[untyped-decorator]
    async def follow(stream: faust.Stream[dict[str, object]]) -> None:
        async for call in stream:
            imsi = str(call["imsi"])
            first = first_use[imsi]
            first_use[imsi] = min(first or call["at"], call["at"])
            if not first and imsi in shelves:
                await movements.send(
                    value={"imsi": imsi, "outlet": shelves[imsi], "at": call["at"]}
                )

    return app


if __name__ == "__main__":
    app = build(sys.argv[1], int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
    app.finalize()
    Worker(app, loglevel="WARNING", override_logging=False).execute_from_commandline()
