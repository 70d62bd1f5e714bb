"""Reference tables and the policy change under a live run: what is new counts without a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from city import ZEROSTOCK, messages, rows, stock, zerostock
from services.waiting import wait_until

BATCHES = "batch_id,sku,first_iccid,first_imsi,count\n"
HERE, THERE = 8_986_001_000_000_000_000, 8_986_001_000_000_000_500
TABLES = {
    "territories": "territory_id,name,parent_id\nt,Town,\n",
    "cells": "cell_id,territory_id\n",
    "wholesalers": "wholesaler_id,name,phone,backup_phone,language\n"
    "w,W,+8613800138000,,en\nv,V,+8613800138001,,en\n",
    "outlets": "outlet_id,name,kind,territory_id,opened_on,closed_on\no,Corner,kiosk,t,,\n",
    "assignments": "outlet_id,wholesaler_id,valid_from\no,w,2026-01-01T00:00:00Z\n",
    "sim_batches": f"{BATCHES}b1,std,{HERE},460001000000000,100\n",
}
LATER = {
    "outlets": TABLES["outlets"] + "o2,New shop,kiosk,t,,\n",
    "assignments": TABLES["assignments"] + "o2,v,2026-01-01T00:00:00Z\n",
    "sim_batches": f"{BATCHES}b2,std,{THERE},460001000000500,100\n",
    "sims": "iccid,imsi,sku\n8986001A000000000777,460001000700000,std\n",
}


def say(city: Path, kind: str, event_id: str, ago: float, **fields: object) -> None:
    at = datetime.now(UTC) - timedelta(seconds=ago)
    event = {"type": kind, "event_id": event_id, "at": at.isoformat(timespec="milliseconds")}
    with (city / "events" / "a.ndjson").open("a") as file:
        file.write(json.dumps(event | fields) + "\n")


INCIDENTS = "SELECT incident_id FROM stock_incidents"


def kinds(data: Path) -> list[str]:
    """What is on record about alerts."""
    return [kind for (kind,) in rows(data, "SELECT kind FROM alert_news")]


def delivery(
    city: Path, event_id: str, ago: float, outlet: str, holder: str, iccid: int, count: int = 1
) -> None:
    fields = {"outlet_id": outlet, "wholesaler_id": holder, "first_iccid": str(iccid)}
    say(city, "delivery", event_id, ago, count=count, **fields)


@pytest.mark.slow
def test_changed_tables_and_policies_count_at_once_and_rows_that_are_gone_end_nothing(
    tmp_path: Path,
) -> None:
    city, data, log = tmp_path / "city", tmp_path / "data", tmp_path / "log"
    policy = tmp_path / "policy.toml"
    policy.write_text("[[silences]]\noutlet = 'o'\n")
    for folder in ("reference", "events"):
        (city / folder).mkdir(parents=True)
    for name, text in TABLES.items():
        (city / "reference" / f"{name}.csv").write_text(text)
    delivery(city, "d1", 3_600, "o", "w", HERE)
    # What only later rows make sense of: three cards brought to a new shop, and two of them used.
    delivery(city, "d3", 1_800, "o2", "v", THERE + 2, count=2)
    listed = {"outlet_id": "o2", "wholesaler_id": "v", "iccids": ["8986001A000000000777"]}
    say(city, "delivery", "d4", 1_700, **listed)
    say(city, "activation", "x3", 900, imsi="460001000000502")
    say(city, "activation", "x5", 800, imsi="460001000700000")
    command = [*ZEROSTOCK, "run", "--input", city, "--data", data, "--follow", "--clock", "wall"]
    command += [
        "--sms",
        f"file:{data}.sms",
        "--group-wait",
        "0s",
        "--disorder",
        "1s",
        "--policy",
        policy,
    ]
    env = os.environ | {"ZEROSTOCK_IDLE_AFTER": "2s"}
    with log.open("wb") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, env=env)
    try:
        ready = data / "warehouse.json"
        wait_until(lambda: ready.exists() and stock(data) == {("o", "std"): 1}, "the first shelf")
        for name, text in LATER.items():
            (city / "reference" / f"{name}.csv").write_text(text)
        logs = [log, *(data / "logs" / f"{w}.log" for w in ("stock", "alerts", "warehouse"))]
        taken = "the reference tables changed and are in use"
        wait_until(lambda: all(taken in file.read_text() for file in logs), taken)
        delivery(city, "d2", 1, "o2", "v", THERE)
        wait_until(lambda: stock(data).get(("o2", "std")) == 2, "the new shop's shelf")
        say(city, "activation", "x2", 0, imsi="460001000000500")
        say(city, "activation", "x4", 0, imsi="460001000000503")
        say(city, "activation", "x1", 0, imsi="460001000000000")
        sms = Path(f"{data}.sms")
        wait_until(lambda: len(messages(sms)) == 1, "the message that is not silenced", timeout=120)
        wait_until(lambda: "waiting" in kinds(data), "what is silenced to wait")
        alerts = data / "logs" / "alerts.log"
        policy.write_text("[[silences]]\noutlet = 5\n")
        refused = "the policy changed and cannot be used, the old one holds"
        wait_until(lambda: refused in alerts.read_text(), refused)
        wait_until(lambda: "policy_refused" in kinds(data), "the note of it")
        assert len(messages(sms)) == 1
        policy.write_text("group_wait = '0s'\n")
        wait_until(lambda: len(messages(sms)) == 2, "the other message", timeout=60)
        assert sorted((w, told[0][0]) for w, _, told in messages(sms)) == [("v", "o2"), ("w", "o")]
        wait_until(lambda: kinds(data).count("notified") == 2, "the account of it")
        (name,) = [i for (i,) in rows(data, f"{INCIDENTS} WHERE outlet_id = 'o'")]
        said = zerostock("alerts", "explain", name, "--data", data).stdout
        assert said.index("silenced") < said.index("policy changed at") < said.index("told the")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    assert stock(data) == {("o", "std"): 0, ("o2", "std"): 0}
    assert rows(data, "SELECT count() FROM dead_letters_open") in ([(0,)], [("0",)])
    assert rows(data, "SELECT reason LIKE 'unknown_outlet: o2%' FROM dead_letters") == [(1,), (1,)]
    sold = "SELECT event_id, delta FROM stock_movements WHERE outlet_id = 'o2' ORDER BY at, iccid"
    assert rows(data, sold) == [
        ("d3", 1), ("d3", 1), ("d4", 1), ("x3", -1), ("x5", -1), ("d2", 1), ("x2", -1), ("x4", -1)
    ]  # fmt: skip
    shown = "SELECT iccid FROM stock_movements WHERE event_id = 'x5'"
    assert rows(data, shown) == [("8986001A000000000777",)]
    assert rows(data, "SELECT event_id FROM anomalies WHERE kind != 'late'") == []
    assert rows(data, "SELECT outlet_id FROM outlets ORDER BY outlet_id") == [("o",), ("o2",)]
