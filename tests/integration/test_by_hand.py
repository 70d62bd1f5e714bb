"""A city small enough to work out by hand: every rule once, the answers typed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from city import anomalies, dead_letters, incidents, rows, stock, zerostock

FILES = {
    "reference/territories.csv": """\
territory_id,name,parent_id
C,City,
T1,North,C
""",
    "reference/cells.csv": """\
cell_id,territory_id
c1,T1
""",
    "reference/wholesalers.csv": """\
wholesaler_id,name,phone,backup_phone,language
W1,One,+8613800138000,,zh
W2,Two,+8613800138001,,en
""",
    "reference/outlets.csv": """\
outlet_id,name,kind,territory_id,opened_on,closed_on
A,Shop A,kiosk,T1,2020-01-01,
B,Shop B,kiosk,T1,2020-01-01,
N,Nobody,kiosk,T1,2020-01-01,
""",
    "reference/assignments.csv": """\
outlet_id,wholesaler_id,valid_from
A,W1,2020-01-01T00:00:00Z
A,W2,2026-03-01T12:00:00+00:00
B,W2,2020-01-01T00:00:00Z
""",
    "reference/sim_batches.csv": """\
batch_id,sku,first_iccid,first_imsi,count
b1,S,8986001000000000000,460010000000995,100
""",
    "events/1.ndjson": """\
{"type":"delivery","event_id":"d1","at":"2026-03-01T08:00:00Z","outlet_id":"A","wholesaler_id":"W1","first_iccid":"8986001000000000000","count":2}
{"type":"delivery","event_id":"d2","at":"2026-03-01T08:00:01Z","outlet_id":"B","wholesaler_id":"W2","first_iccid":"8986001000000000002","count":10}
{"type":"delivery","event_id":"d3","at":"2026-03-01T08:00:02Z","outlet_id":"N","wholesaler_id":"W2","first_iccid":"8986001000000000012","count":1}
{"type":"activation","event_id":"a1","at":"2026-03-01T09:00:00+00:00","imsi":"460010000000995"}
{"type":"transfer","event_id":"t1","at":"2026-03-01T09:30:00Z","from_outlet_id":"B","to_outlet_id":"B","first_iccid":"8986001000000000002","count":10}
{"type":"registration","event_id":"r1","at":"2026-03-01T09:31:00Z","imsi":"460010000000995","complete":true}
{"type":"call","call_id":"jc1","start_time":"2026-03-01T10:00:00Z","imsi":"460010000000996","msisdn":"","duration_s":3,"cell_id":"c1","charge_fen":10}
{"type":"activation","event_id":"a9","at":"2026-03-01T10:00:30Z","imsi":"460010000001007"}
{"type":"delivery","event_id":"d4","at":"2026-03-01T13:00:00Z","outlet_id":"A","wholesaler_id":"W2","first_iccid":"8986001000000000020","count":1}
{"type":"activation","event_id":"late1","at":"2026-03-01T10:05:00Z","imsi":"460010000000997"}
{"type":"delivery","event_id":"late2","at":"2026-03-01T07:05:00Z","outlet_id":"A","wholesaler_id":"W1","first_iccid":"8986001000000000030","count":2}
{"type":"activation","event_id":"a5","at":"2026-03-01T14:00:00.500Z","imsi":"460010000001015"}

{"type":"wat","event_id":"x"}
not json
""",
    "cdr/a/1.csv": """\
call_id,start_time,imsi,msisdn,duration_s,cell_id,charge_fen
k1,2026-03-01T14:30:00.000+08:00,460010000000995,8613,10,c1,5
k2,2026-03-01T09:30:00Z,460019999999999,1,1,c1,1
""",
}


def ms(clock: str) -> int:
    """A time of day on 1 March 2026, UTC, in ms."""
    hours, minutes, seconds = clock.split(":")
    return 1_772_323_200_000 + round(
        (int(hours) * 60 + int(minutes)) * 60_000 + float(seconds) * 1_000
    )


@pytest.mark.slow
def test_every_rule_once(tmp_path: Path) -> None:
    city, data, sms = tmp_path / "city", tmp_path / "data", tmp_path / "sms.ndjson"
    for name, text in FILES.items():
        (city / name).parent.mkdir(parents=True, exist_ok=True)
        (city / name).write_text(text)
    done = zerostock("run", "--input", city, "--data", data, "--sms", f"file:{sms}")
    assert done.returncode == 0, done.stderr
    # A: two delivered, one of them used before, the other at 10:00. That it was empty was told;
    # a delivery of 07:05 that became known after noon shows that it was not.
    # B: ten delivered, handed to itself, one used late. N: nobody's.
    assert stock(data) == {("A", "S"): 2, ("B", "S"): 9, ("N", "S"): 0}
    assert incidents(data) == [("N", "S", "", ms("10:00:30"), None)]
    withdrawn = "SELECT incident_id FROM alert_news WHERE kind = 'withdrawn'"
    assert rows(data, withdrawn) == [("A/S/jc1",)]
    assert [(event, kind, at) for event, _, kind, at in anomalies(data)] == [
        ("d1", "delivered_after_use", ms("08:00:00")),
        ("k1", "active_before_delivery", ms("06:30:00")),
        ("late1", "late", ms("10:05:00")),
        ("late2", "late", ms("07:05:00")),
        ("late2", "late", ms("07:05:00")),
    ]
    assert dead_letters(data) == [
        ("events/1.ndjson", 14, "unknown_type"),
        ("events/1.ndjson", 15, "malformed"),
    ]
    (message,) = [json.loads(line) for line in sms.read_text().splitlines()]
    assert message["wholesaler_id"] == "W1"
    assert message["to"] == "+8613800138000"
    assert message["at"] == "2026-03-01T10:01:00.000+00:00"
    assert [i["incident_id"] for i in message["incidents"]] == ["A/S/jc1"]
    ((status, error),) = rows(data, "SELECT status, error FROM sms_messages WHERE status != 'sent'")
    assert status == "undeliverable"
    assert "no wholesaler holds N" in error
    assert rows(data, "SELECT event_id, complete FROM registrations") == [("r1", 1)]
    daily = (
        "SELECT outlet_id, opening, received, activated, transferred_in, transferred_out, closing"
        " FROM outlet_daily ORDER BY outlet_id"
    )
    assert [(o, *map(int, n)) for o, *n in rows(data, daily)] == [
        ("A", 0, 4, 2, 0, 0, 2),
        ("B", 0, 10, 1, 10, 10, 9),
        ("N", 0, 1, 1, 0, 0, 0),
    ]
    # A file that comes after the end, with nothing but old news, still corrects stock and days.
    (city / "events" / "2.ndjson").write_text(
        '{"type":"activation","event_id":"old","at":"2026-03-01T09:00:00Z",'
        '"imsi":"460010000000998"}\n'
    )
    done = zerostock("run", "--input", city, "--data", data, "--sms", f"file:{sms}")
    assert done.returncode == 0, done.stderr
    assert stock(data)["B", "S"] == 8
    assert ("old", "late") in {(event, kind) for event, _, kind, _ in anomalies(data)}
    assert len(sms.read_text().splitlines()) == 1
