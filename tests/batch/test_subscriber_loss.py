"""Subscriber loss against a plain reading of the same events."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from batch_harness import compute_tables, reasons, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.plain_batch import plain_subscriber_loss

from pipelines.batch import run_job
from pipelines.warehouse.port import Warehouse
from schemas.errors import InputError

DAY = 86_400_000
START = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
END = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1000)
FIRST_IMSI, FIRST_ICCID = 460_000_000_000_100, "8986000000000000100"
SIMS = 30
CDR = ("call_id", "start_time", "imsi", "msisdn", "duration_s", "cell_id", "charge_fen")
OUTLETS = {"o1": "t1", "o2": "t1", "o3": "t2"}
Row = dict[str, Any]


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def write_reference(root: Path, assignments: list[Row]) -> None:
    folder = root / "reference"
    write_csv(folder / "territories.csv", ("territory_id", "name", "parent_id"),
              [{"territory_id": t, "name": t} for t in ("t1", "t2")])  # fmt: skip
    write_csv(folder / "cells.csv", ("cell_id", "territory_id"), [])
    write_csv(
        folder / "wholesalers.csv",
        ("wholesaler_id", "name", "phone", "backup_phone", "language"),
        [{"wholesaler_id": w, "name": w} for w in ("w1", "w2")],
    )
    write_csv(
        folder / "outlets.csv",
        ("outlet_id", "name", "kind", "territory_id", "opened_on", "closed_on"),
        [{"outlet_id": o, "name": o, "kind": "kiosk", "territory_id": t}
         for o, t in OUTLETS.items()],
    )  # fmt: skip
    write_csv(folder / "assignments.csv", ("outlet_id", "wholesaler_id", "valid_from"), assignments)
    write_csv(
        folder / "sim_batches.csv",
        ("batch_id", "sku", "first_iccid", "first_imsi", "count"),
        [{"batch_id": "b", "sku": "s", "first_iccid": FIRST_ICCID, "first_imsi": FIRST_IMSI,
          "count": SIMS}],
    )  # fmt: skip


def write(root: Path, calls: list[Row], events: list[Row], assignments: list[Row]) -> None:
    write_reference(root, [a | {"valid_from": iso(a["valid_from"])} for a in assignments])
    half = len(calls) // 2
    told = [c | {"start_time": iso(c["start_time"])} for c in calls]
    write_csv(root / "cdr/switch-a/1.csv", CDR, told[:half])
    plain = "\n".join([",".join(CDR), *(",".join(str(c[n]) for n in CDR) for c in told[half:])])
    (root / "cdr/switch-b").mkdir()
    (root / "cdr/switch-b/1.csv.gz").write_bytes(gzip.compress(plain.encode() + b"\n"))
    (root / "events/shops").mkdir(parents=True)
    lines = [json.dumps(e | {"at": iso(e["at"])} if "at" in e else e) for e in events]
    (root / "events/shops/1.ndjson").write_text("".join(line + "\n" for line in lines))


def call(number: int, sim: int, at: int, fen: int = 10) -> Row:
    return {
        "call_id": f"call-{number}",
        "start_time": at,
        "imsi": FIRST_IMSI + sim,
        "msisdn": "",
        "duration_s": 60,
        "cell_id": "",
        "charge_fen": fen,
    }


def placement(number: int, kind: str, at: int, sim: int, count: int, outlet: str, **m: Any) -> Row:
    named = {"from_outlet_id": outlet} if kind == "transfer" else {"outlet_id": outlet}
    return {
        "type": kind,
        "event_id": f"e-{number}",
        "at": at,
        "first_iccid": str(int(FIRST_ICCID) + sim),
        "count": count,
        "wholesaler_id": "w1",
        **named,
        **m,
    }


def a_trade(rng: random.Random) -> tuple[list[Row], list[Row], list[Row]]:
    """Calls, events and assignments, with ties, strangers and repetitions."""

    def some_time() -> int:
        return START + rng.randint(-90, 40) * DAY + rng.choice((0, 0, 1, 12_345))

    calls = [
        call(i, rng.randrange(-2, SIMS + 2), some_time(), rng.choice((0, 5, 10)))
        | {"msisdn": rng.choice(("", "", *(f"{n}" for n in range(6))))}
        for i in range(rng.randint(0, 80))
    ]
    events = [
        {"type": "activation", "event_id": f"a-{i}", "at": some_time(),
         "imsi": str(FIRST_IMSI + rng.randrange(SIMS))}
        for i in range(rng.randint(0, 15))
    ]  # fmt: skip
    for i in range(rng.randint(0, 25)):
        sim, count = rng.randrange(SIMS), rng.randint(1, 10)
        kind = rng.choice(("delivery", "delivery", "return", "transfer", "write_off"))
        events.append(
            placement(i, kind, some_time(), sim, min(count, SIMS - sim), rng.choice(list(OUTLETS)),
                      to_outlet_id=rng.choice(list(OUTLETS)))
        )  # fmt: skip
    assignments = [
        {"outlet_id": rng.choice(list(OUTLETS)), "wholesaler_id": rng.choice(("w1", "w2")),
         "valid_from": START + rng.randint(-100, 10) * DAY + i}
        for i in range(rng.randint(0, 5))
    ]  # fmt: skip
    return calls, events, assignments


def run(root: Path, **how: Any) -> dict[str, list[Row]]:
    return compute_tables("subscriber-loss", root, "2026-03", **how)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_equals_a_plain_reading(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    calls, events, assignments = a_trade(rng)
    root = tmp_path_factory.mktemp("trade")
    shown = [rng.sample(r + r[:3], len(r + r[:3])) for r in (calls, events)]
    write(root, *shown, assignments)
    tables = run(root, parts=rng.choice((1, 3)))
    wanted = plain_subscriber_loss(
        calls, events, assignments, OUTLETS, (FIRST_IMSI, FIRST_ICCID, SIMS), START, END
    )
    assert {
        (r["dimension"], r["key"]): (r["base"], r["lost"], r["pre_lost"])
        for r in tables["subscriber_loss"]
    } == wanted["loss"]
    assert {
        (r["dimension"], r["key"], r["cohort"]): (r["activated"], r["in_service"])
        for r in tables["subscriber_retention"]
    } == wanted["retention"]
    assert {r["imsi"]: r["outlet_id"] for r in tables["silent_subscribers"]} == wanted["silent"]
    for r in tables["subscriber_loss"]:
        assert r["loss_rate"] == r["lost"] / r["base"]
        assert r["pre_loss_rate"] == r["pre_lost"] / r["base"]
        assert r["annualised_rate"] == pytest.approx(1 - (1 - r["loss_rate"]) ** 12)


def test_borders_of_base_lost_and_silent(tmp_path: Path) -> None:
    last = {  # days before the month's end → what becomes of who was seen then last
        0: START, 1: END - 30 * DAY, 2: END - 30 * DAY + 1, 3: END - 5 * DAY, 4: END - 5 * DAY + 1,
    }  # fmt: skip
    calls = [call(i, i, START - 10 * DAY) for i in range(7)]
    calls += [call(10 + i, i, at) for i, at in last.items()]
    calls[5] = call(5, 5, START)  # began with the month: not in the base
    calls[6] = call(6, 6, START - 30 * DAY)  # was lost already
    calls.append(call(99, SIMS + 9, END - 1))  # somebody else's: the data reach to the end
    write(tmp_path, calls, [], [])
    tables = run(tmp_path)
    (row,) = [r for r in tables["subscriber_loss"] if r["dimension"] == "all"]
    assert (row["base"], row["lost"], row["pre_lost"]) == (5, 2, 2)
    assert [r["imsi"] - FIRST_IMSI for r in tables["silent_subscribers"]] == [2, 3]


def test_what_counts_as_use_is_a_setting_and_not_guessed(tmp_path: Path) -> None:
    calls = [call(n, n, START - DAY, 0) for n in range(10)]
    calls += [call(20 + n, n, END - DAY, 0) for n in range(10)]
    for name, more in (("flat", []), ("one", [call(99, 3, START + 5 * DAY, 150)])):
        write(tmp_path / name, [*calls, *more], [], [])
        (row, *_) = run(tmp_path / name)["subscriber_loss"]
        assert (row["base"], row["lost"]) == (10, 0)
        (row, *_) = run(tmp_path / name, args=["--use=charged"])["subscriber_loss"]
        assert (row["base"], row["lost"]) == (10, 10 - len(more))


@pytest.mark.parametrize("parts", [1, 4])
def test_a_replaced_card_is_no_loss(parts: int, tmp_path: Path) -> None:
    old, new = {"msisdn": "+8613900000001"}, {"msisdn": "8613900000001"}
    calls = [
        call(1, 1, START - 40 * DAY) | old, call(2, 1, START + 10 * DAY) | old,
        call(3, 17, START + 11 * DAY) | new, call(4, 17, END - 1) | new,
        call(5, 2, START - DAY) | {"msisdn": "2"},
    ]  # fmt: skip
    write(tmp_path, calls, [], [])
    tables = run(tmp_path, parts=parts, args=["--inactive-days=15"])
    (row,) = [r for r in tables["subscriber_loss"] if r["dimension"] == "all"]
    assert (row["base"], row["lost"]) == (1, 1), "the number was silent too long before March"
    tables = run(tmp_path, parts=parts, args=["--inactive-days=41"])
    (row,) = [r for r in tables["subscriber_loss"] if r["dimension"] == "all"]
    assert (row["base"], row["lost"], row["pre_lost"]) == (2, 0, 1)
    (card,) = tables["replaced_cards"]
    assert (card["old_imsi"], card["new_imsi"]) == (FIRST_IMSI + 1, FIRST_IMSI + 17)
    assert card["msisdn"] == "8613900000001"


def test_the_silent_among_the_new_are_listed(tmp_path: Path) -> None:
    calls = [call(1, 1, START + 5 * DAY), call(2, 2, START - DAY), call(3, 99, END - 1)]
    write(tmp_path, calls, [], [])
    listed = run(tmp_path, args=["--inactive-days=60"])["silent_subscribers"]
    assert {r["imsi"] - FIRST_IMSI: r["is_new"] for r in listed} == {1: 1, 2: 0}


@pytest.mark.parametrize("days", [0, 1, 9])
def test_silence_beyond_the_data_is_not_known(days: int, tmp_path: Path) -> None:
    calls = [call(1, 1, START - 25 * DAY), call(2, 2, START + days * DAY)]
    write(tmp_path, calls, [], [])
    (row, *_) = run(tmp_path)["subscriber_loss"]
    assert (row["base"], row["lost"]) == (1, int(25 + days + 1 >= 30))


def test_as_of_a_day_lists_silent_accounts_with_their_manager(tmp_path: Path) -> None:
    write(tmp_path, [call(1, 1, START - DAY), call(2, 2, START + 4 * DAY)], [], [])
    (tmp_path / "reference/key_accounts.csv").write_text(
        f"imsi,account,manager\n{FIRST_IMSI + 1},Grand Hotel,Li\n{FIRST_IMSI + 2},Mill,Wu\n"
    )
    (row,) = run(tmp_path, until=date(2026, 3, 5))["silent_subscribers"]
    assert (row["account"], row["manager"], row["silent_days"]) == ("Grand Hotel", "Li", 6)
    assert run(tmp_path, until=date(2026, 3, 2))["silent_subscribers"] == []
    assert (
        run(tmp_path, until=date(2026, 3, 5), args=["--silent-days=7"])["silent_subscribers"] == []
    )


def test_parquet_calls_and_bad_lines(tmp_path: Path) -> None:
    write(tmp_path, [], [], [])
    at = datetime(2026, 2, 20, tzinfo=UTC)
    (tmp_path / "cdr/switch-c").mkdir()
    pl.DataFrame(
        {"call_id": ["a", "b"], "start_time": [at, at + timedelta(days=1)],
         "imsi": [FIRST_IMSI, FIRST_IMSI], "charge_fen": [0, 3]}
    ).write_parquet(tmp_path / "cdr/switch-c/1.parquet")  # fmt: skip
    with (tmp_path / "cdr/switch-a/1.csv").open("a") as file:
        file.write(f"x,{iso(START)},12345,,1,,1\nshort\n")
    event = placement(1, "delivery", START, 0, 1, "o9") | {"at": iso(START)}
    with (tmp_path / "events/shops/1.ndjson").open("ab") as file:
        file.write(b"{not json\n\n" + json.dumps(event).encode() + b'\n{"type": "dance"}\n')
    tables = run(tmp_path)
    (row,) = [r for r in tables["subscriber_loss"] if r["dimension"] == "all"]
    assert (row["base"], row["lost"]) == (1, 0), "nothing is known of March"
    assert reasons(tables) == [
        "invalid_field", "malformed", "malformed", "unknown_outlet", "unknown_type",
    ]  # fmt: skip
    assert {r["source"]: r["row"] for r in tables["batch_rejects"]} == {
        "cdr/switch-a/1.csv": 2,
        "events/shops/1.ndjson": 4,
    }


def test_events_are_read_as_the_stream_reads_them(tmp_path: Path) -> None:
    delivery = placement(1, "delivery", 0, 1, 1, "o1") | {"at": iso(START - 2 * DAY)}
    use = {"type": "call", **call(1, 1, 0)} | {"start_time": iso(START - DAY)}
    write(tmp_path, [], [], [])
    deep = b'{"a":' * 5_000
    (tmp_path / "events/shops/1.ndjson").write_bytes(
        b"\xef\xbb\xbf" + json.dumps(delivery).encode() + b"\r\n" + deep + b"\r\n"
    )
    (tmp_path / "events/shops/2.ndjson").write_text(json.dumps(use | {"imsi": str(use["imsi"])}))
    (tmp_path / "events/shops/3.ndjson").write_bytes(b"")
    tables = run(tmp_path)
    (row,) = [r for r in tables["subscriber_loss"] if r["dimension"] == "outlet"]
    assert (row["key"], row["base"]) == ("o1", 1)
    (reject,) = tables["batch_rejects"]
    assert (reject["row"], reject["reason"]) == (2, "malformed: JSON nested too deeply")


def test_calls_may_come_as_events_alone_and_deliveries_not_at_all(tmp_path: Path) -> None:
    write(tmp_path, [call(1, 1, START - DAY)], [], [])
    with pytest.raises(InputError, match=r"needs a folder events/ or cdr/"):
        run_without(tmp_path, "cdr", "events")
    (row, *_) = run_without(tmp_path, "events")["subscriber_loss"]
    assert (row["dimension"], row["base"]) == ("all", 1)
    use = {"type": "call"} | call(1, 1, 0) | {"start_time": iso(START - DAY)}
    (tmp_path / "events/shops/1.ndjson").write_text(json.dumps(use | {"imsi": str(use["imsi"])}))
    (row, *_) = run_without(tmp_path, "cdr")["subscriber_loss"]
    assert (row["dimension"], row["base"]) == ("all", 1)


def run_without(root: Path, *folders: str) -> dict[str, list[Row]]:
    for folder in folders:
        (root / folder).rename(root / f"no-{folder}")
    try:
        return run(root)
    finally:
        for folder in folders:
            (root / f"no-{folder}").rename(root / folder)


def test_a_month_and_its_days_stand_beside_each_other(warehouse: Warehouse, tmp_path: Path) -> None:
    write(tmp_path, [call(1, 1, START - DAY), call(2, 2, END - 1)], [], [])
    common = {"input": tmp_path, "warehouse": warehouse, "beam_args": ["--time-zone=UTC"]}
    run_job("subscriber-loss", period="2026-03", **common)
    for day in (10, 11, 10):
        run_job("subscriber-loss", as_of=date(2026, 3, day), **common)
    rows = warehouse.query(
        "SELECT period, lost FROM subscriber_loss WHERE dimension = 'all' ORDER BY period"
    ).to_pylist()
    assert [(row["period"], row["lost"]) for row in rows] == [
        ("2026-03", 1), ("2026-03-10", 0), ("2026-03-11", 0)
    ]  # fmt: skip
    (inputs, *_) = warehouse.query("SELECT inputs FROM batch_runs")["inputs"].to_pylist()
    assert {"reference/outlets.csv", "reference/sim_batches.csv", "cdr/switch-a/1.csv",
            "events/shops/1.ndjson"} <= json.loads(inputs).keys()  # fmt: skip
