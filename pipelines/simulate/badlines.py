"""Lines that nobody can use, each with the reason a reader should give. No city state changes by
them, and each is wrong in one way only, so that nobody can argue about the reason.
"""

from __future__ import annotations

import json
from itertools import count
from typing import NamedTuple

from pipelines.simulate.city import City
from pipelines.simulate.plan import CityPlan, iso, seeded


class BadLine(NamedTuple):
    """`feed` is "events", "csv" or "parquet"; of a Parquet row the line is only its IMSI."""

    feed: str
    line: bytes
    reason: str


def bad_lines(plan: CityPlan, city: City) -> list[tuple[int, BadLine]]:
    """`plan.bad_lines` of them, each with the ms at which it is written, every reason in turn."""
    rng = seeded(plan.seed, "bad")
    feeds = {"parquet" if plan.format_of(s) == "parquet" else "csv" for s in range(plan.switches)}
    made: list[tuple[int, BadLine]] = []
    number = 0
    while len(made) < plan.bad_lines:
        at = rng.randrange(plan.start_ms, plan.end_ms)
        made.extend(
            (rng.randrange(plan.start_ms, plan.end_ms), bad)
            for bad in _one_of_each(city, at, number)
            if bad.feed == "events" or bad.feed in feeds
        )
        number += 1
    return made[: plan.bad_lines]


def _one_of_each(city: City, at: int, number: int) -> list[BadLine]:
    outlet, wholesaler = city.outlets[0].id, city.wholesalers[0].id
    iccid, imsi = city.iccid(0), str(city.imsi(0))
    numbers = count()
    past = str(city.batches[-1].first_iccid + city.batches[-1].count - 2)

    def event(reason: str, /, **changes: object) -> BadLine:
        fields: dict[str, object] = {
            "type": "delivery",
            "event_id": f"X{number:04d}-{next(numbers)}",
            "at": iso(at),
            "outlet_id": outlet,
            "wholesaler_id": wholesaler,
            "first_iccid": iccid,
            "count": 3,
        } | changes
        left = {name: value for name, value in fields.items() if value is not None}
        return BadLine("events", json.dumps(left, ensure_ascii=False).encode(), reason)

    def row(reason: str, /, **changes: str) -> BadLine:
        fields = {
            "call_id": f"X{number:04d}-{next(numbers)}",
            "start_time": iso(at),
            "imsi": imsi,
            "msisdn": "8613900000000",
            "duration_s": "60",
            "cell_id": city.cells[0],
            "charge_fen": "19",
        } | changes
        return BadLine("csv", ",".join(fields.values()).encode(), reason)

    ends = {"from_outlet_id": outlet, "to_outlet_id": "O-none", "outlet_id": None}
    return [
        BadLine("events", b'{"type": "delivery", "event_id": "X', "malformed"),
        row("malformed", charge_fen="19,extra"),
        event("unknown_type", type="teleport"),
        row("invalid_field: imsi", imsi=f"46000X{number:09d}"),
        event("unknown_outlet", outlet_id="O-none"),
        event("unknown_wholesaler", wholesaler_id="W-none"),
        event("unknown_sim", first_iccid="8986099999999999999"),
        event("invalid_field: count", count=0),
        BadLine("parquet", f"46000X{number:09d}".encode(), "invalid_field: imsi"),
        row("invalid_field: start_time", start_time="yesterday"),
        event("invalid_field: at", at="2026-13-45T10:00:00.000+08:00"),
        event("invalid_field: at", at="2026-03-02T10:00:00.000"),
        event("invalid_field: outlet_id", outlet_id=None),
        event("invalid_field: first_iccid", first_iccid="898600"),
        row("invalid_field: imsi", imsi=imsi[:-2]),
        row("invalid_field: duration_s", duration_s="a minute"),
        event("unknown_outlet", type="return", reason="lost", outlet_id="O-none"),
        event("unknown_outlet", type="transfer", **ends),
        event("unknown_sim", first_iccid=past),
        event("invalid_field: imsi", type="activation", imsi="46000"),
        BadLine("events", b"not JSON at all", "malformed"),
        BadLine("events", b'{"type": "activation", "event_id": "\xff\xfe"}', "malformed"),
        BadLine("csv", b"half a row,2026-03-02T10:", "malformed"),
    ]
