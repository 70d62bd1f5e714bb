"""Quix Streams, an event a message, in its idiomatic stateful form: JSON in, state by key.

python quix_events.py BROKER SHELVES, where SHELVES is a JSON file {imsi: outlet} of the SIMs on
shelves. Needs only quixstreams, which may live in an environment of its own.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found, unused-ignore]


def main(broker: str, shelves: dict[str, str]) -> None:
    """The program as Quix Streams' own guide would write it."""
    app = Application(
        broker_address=broker,
        consumer_group="peer-quix",
        auto_offset_reset="earliest",
        state_dir=tempfile.mkdtemp(),
        loglevel="WARNING",
        consumer_extra_config={"session.timeout.ms": 6000},
    )
    calls = app.topic("peer-calls", value_deserializer="json", key_deserializer="str")
    movements = app.topic("peer-movements", value_serializer="json")

    def first_use(call: dict[str, Any], state: Any) -> dict[str, Any] | None:
        first = state.get("first_use")
        state.set("first_use", min(first or call["at"], call["at"]))
        if first is None and call["imsi"] in shelves:
            return {"imsi": call["imsi"], "outlet": shelves[call["imsi"]], "at": call["at"]}
        return None

    stream = app.dataframe(calls).apply(first_use, stateful=True)
    stream.filter(lambda movement: movement is not None).to_topic(movements)
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
