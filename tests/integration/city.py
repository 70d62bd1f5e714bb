"""Runs a made city through `zerostock run` and holds what came out against the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from pipelines.simulate import Truth

ZEROSTOCK = [sys.executable, "-m", "infra.cli"]


def zerostock(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, output captured."""
    return subprocess.run(
        [*ZEROSTOCK, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def rows(data: Path, sql: str) -> list[tuple]:
    """The result of a query as tuples."""
    done = zerostock("query", "--data", data, "--format", "JSONCompactEachRow", sql)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def _ms(sql: str) -> str:
    return f"toUnixTimestamp64Milli({sql})"


def stock(data: Path) -> dict[tuple[str, str], int]:
    return {
        (outlet, sku): int(on_hand)
        for outlet, sku, on_hand in rows(data, "SELECT outlet_id, sku, on_hand FROM stock_on_hand")
    }


def incidents(data: Path) -> list[tuple]:
    sql = (
        f"SELECT outlet_id, sku, wholesaler_id, toString({_ms('opened_at')}),"
        f" if(closed_at IS NULL, NULL, toString({_ms('assumeNotNull(closed_at)')}))"
        " FROM stock_incidents"
    )
    return sorted(
        (o, s, w, int(opened), closed and int(closed))
        for o, s, w, opened, closed in rows(data, sql)
    )


def anomalies(data: Path) -> list[tuple]:
    sql = f"SELECT event_id, iccid, kind, toString({_ms('at')}) FROM anomalies"
    return sorted((e, i, k, int(at)) for e, i, k, at in rows(data, sql))


def dead_letters(data: Path) -> list[tuple]:
    sql = "SELECT source, toString(position), splitByChar(':', reason)[1] FROM dead_letters"
    return sorted((source, int(line), reason) for source, line, reason in rows(data, sql))


def messages(sms: Path) -> list[tuple]:
    """What the file sender wrote, in the shape of the truth."""
    told = [json.loads(line) for line in sms.read_text().splitlines()] if sms.exists() else []
    assert len({m["message_id"] for m in told}) == len(told), "a message went out twice"
    return sorted(
        (
            m["wholesaler_id"],
            _time(m["at"]),
            tuple((i["outlet_id"], i["sku"], _time(i["opened_at"])) for i in m["incidents"]),
        )
        for m in told
    )


def _time(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


def assert_equals_truth(data: Path, sms: Path, truth: Truth) -> None:
    """Stock, incidents, messages, anomalies and dead letters are exactly those of the truth."""
    assert_tables_equal_truth(data, truth)
    held = [m for m in truth.messages if m.wholesaler_id]
    assert messages(sms) == sorted(map(tuple, held))


def assert_messages_equal_a_run(sms: Path, city: Path, folder: Path, policy: Path) -> None:
    """What went out is to the letter, and once, what `zerostock run` by the same policy sends."""
    undisturbed = folder / "undisturbed.ndjson"
    way = ("--sms", f"file:{undisturbed}", "--policy", policy)
    done = zerostock("run", "--input", city, "--data", folder / "undisturbed", *way)
    assert done.returncode == 0, done.stderr
    sent, expected = ([*map(json.loads, f.read_text().splitlines())] for f in (sms, undisturbed))
    assert len({m["message_id"] for m in sent}) == len(sent), "a message went out twice"
    assert sorted(sent, key=_by_id) == sorted(expected, key=_by_id)


def _by_id(message: dict[str, str]) -> str:
    return message["message_id"]


def assert_tables_equal_truth(data: Path, truth: Truth) -> None:
    """Stock, incidents, anomalies and dead letters are exactly those of the truth."""
    assert stock(data) == truth.stock
    assert incidents(data) == sorted(
        (i.outlet_id, i.sku, i.wholesaler_id, i.opened_at, i.closed_at) for i in truth.incidents
    )
    assert anomalies(data) == sorted(map(tuple, truth.anomalies))
    assert dead_letters(data) == sorted(
        (d.file, d.line, d.reason.split(":")[0]) for d in truth.dead_letters
    )
