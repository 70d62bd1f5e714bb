"""Dead letters that wanted rows of reference tables, resolved through a real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from services.kafka import KafkaServer
from services.waiting import wait_until

from infra.dead_letters import resolve
from infra.dead_letters.listing import DeadLetterFilter, open_dead_letters
from infra.dead_letters.resolve import Resolver
from pipelines.ingest.live_reference import LiveReference
from pipelines.kafka import open_consumer, read_to_end
from pipelines.warehouse import migrate, open_warehouse
from pipelines.warehouse.rows import to_rows
from schemas import topics
from schemas.envelope import unpack

ICCID, IMSI = 8_986_001_000_000_000_000, 460_001_000_001_000
LISTED = ("8986001A000000000777", 460_001_000_700_000)
TABLES = {
    "territories": "territory_id,name,parent_id\nt,T,\n",
    "cells": "cell_id,territory_id\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\nw,W,,,\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\no1,O,kiosk,t,,\n",
    "assignments": "outlet_id,wholesaler_id,valid_from\no1,w,2026-01-01T00:00:00Z\n",
    "sim_batches": f"batch_id,sku,first_iccid,first_imsi,count\nb,std,{ICCID},{IMSI},100\n",
}
LATER = {
    "outlets": TABLES["outlets"] + "o2,New,kiosk,t,,\n",
    "sims": f"iccid,imsi,sku\n{LISTED[0]},{LISTED[1]},std\n",
    "sim_batches": TABLES["sim_batches"] + f"c,std,{ICCID + 500},{IMSI + 500},100\n",
}


def write(folder: Path, tables: Mapping[str, str]) -> None:
    """Write tables, each at another time of the file's clock than before."""
    for name, text in tables.items():
        path = folder / f"{name}.csv"
        then = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(text)
        os.utime(path, ns=(then + 10**9, then + 10**9))


def delivery(number: int, outlet: str, **cards: object) -> dict[str, object]:
    event = {"type": "delivery", "event_id": f"d{number}", "at": f"2026-03-01T0{number}:00:00Z"}
    return event | {"outlet_id": outlet, "wholesaler_id": "w"} | cards


def use(number: int, imsi: int) -> dict[str, object]:
    at = f"2026-03-01T1{number}:00:00Z"
    return {"type": "activation", "event_id": f"a{number}", "at": at, "imsi": str(imsi)}


def rows(broker: str, topic: str) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        async with open_consumer(broker) as consumer:
            return [
                row
                async for message in read_to_end(consumer, topic, 0, 1)
                if (batch := unpack(message.value)[1]) is not None
                for row in batch.to_pylist()
            ]

    return asyncio.run(look())


@pytest.mark.slow
def test_letters_that_only_wanted_a_row_are_sent_on_once_it_is_there_also_after_a_death(
    tmp_path: Path,
    kafka: KafkaServer,
    clusters: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    city = tmp_path / "city"
    for folder in ("reference", "events"):
        (city / folder).mkdir(parents=True)
    write(city / "reference", TABLES)
    events = [
        delivery(1, "o2", first_iccid=str(ICCID), count=3),
        delivery(2, "o1", iccids=[LISTED[0]]),
        delivery(3, "o1", first_iccid=str(ICCID + 500), count=2),
        delivery(4, "nowhere", first_iccid=str(ICCID + 50), count=1),
        use(1, LISTED[1]),
        use(2, IMSI + 500),
        use(3, IMSI + 99),
    ]
    (city / "events/1.ndjson").write_text("".join(f"{json.dumps(e)}\n" for e in events))
    cluster = clusters(kafka.bootstrap, tmp_path, city, 2)
    cluster.start(stock=1)
    cluster.read_all()
    warehouse = open_warehouse(data=tmp_path / "warehouse")
    migrate(warehouse)

    async def list_letters() -> None:
        async with open_consumer(kafka.bootstrap) as consumer:
            async for message in read_to_end(consumer, topics.DEAD_LETTERS, 0, 1):
                header, batch = unpack(message.value)
                assert batch is not None
                warehouse.insert(*to_rows(header.kind, batch))

    asyncio.run(list_letters())
    live = LiveReference(city / "reference")
    resolver = Resolver(live, 2, live=False)

    def look() -> int:
        return asyncio.run(resolver.look(warehouse, kafka.bootstrap, {}))

    assert look() == 0
    write(city / "reference", LATER)
    live.look()
    assert live.look()
    resolver.changed()
    mark = resolve.mark_replayed

    def dies(*_: object) -> None:
        raise ConnectionError("killed before the letters were marked")

    monkeypatch.setattr(resolve, "mark_replayed", dies)
    with pytest.raises(ConnectionError):
        look()
    monkeypatch.setattr(resolve, "mark_replayed", mark)
    resolver = Resolver(live, 2, live=False)  # as its worker starts again
    assert (look(), look()) == (3, 0)
    (still,) = open_dead_letters(warehouse, DeadLetterFilter())
    assert still.reason.startswith("unknown_outlet: nowhere")
    # A reader that knows the rows moves the stream on.
    (city / "events/2.ndjson").write_text(json.dumps(use(9, IMSI + 98)) + "\n")
    cluster.read_all()
    for topic in (topics.SIM_EVENTS, topics.STOCK_MOVEMENTS):
        wait_until(lambda t=topic: cluster.lag("stock", (t,)) == 0, f"{topic} to be done")  # type: ignore[misc]
    cluster.stop()
    moved = {
        (r["at"], r["movement_id"]): (r["outlet_id"], r["event_id"], r["iccid"], r["delta"])
        for r in rows(kafka.bootstrap, topics.STOCK_MOVEMENTS)
        if not r["withdrawn"]
    }
    assert sorted(moved.values()) == sorted(
        [("o2", "d1", str(ICCID + n), 1) for n in range(3)]
        + [("o1", "d2", LISTED[0], 1), ("o1", "a1", LISTED[0], -1)]
        + [("o1", "d3", str(ICCID + 500 + n), 1) for n in range(2)]
        + [("o1", "a2", str(ICCID + 500), -1)]
    )
    warehouse.close()
