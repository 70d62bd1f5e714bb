"""However long the lines, ids or ranges: a broker takes every message; `ListPost` counts bytes."""

from __future__ import annotations

from pathlib import Path

from ingest_harness import FIRST_ICCID, FIRST_IMSI, call_fields, csv_of, moment, put, read


def test_long_ids(city: Path) -> None:
    rows = [",".join([f"{i:0256}", *call_fields(i)[1:]]) for i in range(6_000)]
    put(city / "cdr/s/a.csv", csv_of(*rows))
    assert len(read(city)[0].uses()) == 6_000


def test_many_long_dead_letters(city: Path) -> None:
    put(city / "cdr/s/a.csv", csv_of(*(f"{i}" + "x" * 60_000 for i in range(40))))
    assert len(read(city)[0].letters()) == 40


def test_a_delivery_of_ten_million_sims(city: Path) -> None:
    count = 10_000_000
    put(
        city / "reference/sim_batches.csv",
        "batch_id,sku,first_iccid,first_imsi,count\n"
        f"B1,PREPAID,{FIRST_ICCID},{FIRST_IMSI},{count}\n",
    )
    outlet = "O" * 256
    with (city / "reference/outlets.csv").open("a") as file:
        file.write(f"{outlet},Depot,depot,,,\n")
    put(
        city / "events/a.ndjson",
        f'{{"type":"delivery","event_id":"D1","at":"{moment(0)}","outlet_id":"{outlet}",'
        f'"wholesaler_id":"W1","first_iccid":"{FIRST_ICCID}","count":{count}}}\n',
    )
    post, report = read(city)
    assert report.placements == 1
    placed = post.rows("placements")
    assert sum(row["count"] for row in placed) == count
    assert {row["first_imsi"] // 1_000 for row in placed} == {
        (row["first_imsi"] + row["count"] - 1) // 1_000 for row in placed
    }
