"""Saved questions over a few rows each: what counts, for whom, once, and of which month."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from infra.analysts.questions import question, questions
from infra.operations.ask import answer, statement
from pipelines.warehouse import Warehouse, migrate, open_warehouse
from schemas.errors import InputError, UsageError

HOUR = 3_600_000
START = 1_772_323_200_000  # 2026-03-01, UTC


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    found = open_warehouse(data=tmp_path_factory.mktemp("questions"))
    migrate(found, zone="UTC")
    yield found
    found.close()


@pytest.fixture
def warehouse(opened: Warehouse) -> Warehouse:
    for table in ("stock_movements_rows", "stock_incidents_rows", "assignments",
                  "line_loss_rows", "batch_publications", "commission_lines_rows",
                  "outlet_ranking_rows"):  # fmt: skip
        opened.execute(f"TRUNCATE TABLE {table}")
    return opened


def put(warehouse: Warehouse, table: str, *rows: dict[str, Any]) -> None:
    schema = warehouse.query(f"SELECT * FROM {table} LIMIT 0").schema
    named = [field for field in schema if field.name in rows[0]]
    warehouse.insert(table, pa.Table.from_pylist([*rows]).select([f.name for f in named]).cast(
        pa.schema(named)))  # fmt: skip


def move(number: int, hours: float, delta: int, cause: str, outlet: str = "o") -> dict[str, Any]:
    at = START + int(hours * HOUR)
    return {"movement_id": f"m{number}", "at": at, "known_at": at, "outlet_id": outlet, "sku": "s",
            "imsi": number, "iccid": str(number), "delta": delta, "cause": cause,
            "event_id": f"e{number}", "wholesaler_id": "w", "withdrawn": 0}  # fmt: skip


def stock_out(number: int, hours: float, closed: float | None, outlet: str = "o") -> dict[str, Any]:
    end = None if closed is None else START + int(closed * HOUR)
    return {"incident_id": f"i{number}", "outlet_id": outlet, "sku": "s", "wholesaler_id": "w",
            "opened_at": START + int(hours * HOUR), "closed_at": end, "version": 1}  # fmt: skip


def asked(warehouse: Warehouse, name: str, **params: object) -> list[dict[str, Any]]:
    given = {key: str(value) for key, value in params.items()}
    return warehouse.query(question(name).statement(given)).to_pylist()


@pytest.mark.parametrize(
    ("emptied", "filled", "in_time", "stock_outs"),
    [
        ("first_use", "delivery", 1, 1),
        ("first_use", "transfer_in", 0, 1),  # as in wholesaler_scorecard
        ("return", "delivery", None, None),
        ("transfer_out", "delivery", None, None),
        ("write_off", "transfer_in", None, None),
    ],
)
def test_wholesalers_answer_for_deliveries_after_sales(
    emptied: str, filled: str, in_time: int | None, stock_outs: int | None, warehouse: Warehouse
) -> None:
    put(warehouse, "stock_movements_rows", move(1, 0, 1, "delivery"), move(2, 5, -1, emptied),
        move(3, 7, 1, filled), move(4, 99, 1, "delivery"))  # fmt: skip
    put(warehouse, "stock_incidents_rows", stock_out(1, 5, 7))
    found = asked(warehouse, "delivery-timeliness", hours=4)
    wanted = [] if in_time is None else [(stock_outs, in_time)]
    assert [(row["stock_outs"], row["in_time"]) for row in found] == wanted
    late = asked(warehouse, "late-stock-outs", wholesaler="w", hours=4)
    assert len(late) == (stock_outs or 0) - (in_time or 0)


def test_the_van_goes_where_its_wholesaler_serves_today(warehouse: Warehouse) -> None:
    put(warehouse, "stock_movements_rows", move(1, 0, 1, "delivery"), move(2, 5, -1, "first_use"),
        move(3, 9, 1, "delivery", "p"))  # fmt: skip
    put(warehouse, "stock_incidents_rows", stock_out(1, 5, None))
    begins = {"w": START - HOUR, "heir": START + 6 * HOUR}
    put(warehouse, "assignments", *(
        {"outlet_id": "o", "wholesaler_id": who, "valid_from": at} for who, at in begins.items()
    ))  # fmt: skip
    assert [row["outlet_id"] for row in asked(warehouse, "van-round", wholesaler="heir")] == ["o"]
    assert asked(warehouse, "van-round", wholesaler="w") == []


def test_one_loss_is_listed_where_it_is_lost(warehouse: Warehouse) -> None:
    publish(warehouse, "line-loss", "2026-03")
    lost = {"T": ("transfer_area", "F", 100.0, 20.0, 20.0), "F": ("feeder", "R", 102.0, 2.0, 22.0),
            "R": ("region", "", 102.0, 0.0, 22.0)}  # fmt: skip
    put(warehouse, "line_loss_rows", *(
        {"run_id": "r", "period": "2026-03", "unit_id": unit, "level": level, "parent_id": parent,
         "supplied_kwh": supplied, "own_loss_kwh": own, "loss_kwh": loss, "status": "high",
         "loss_rate": loss / supplied, "transferred_kwh": 0.0, "sold_kwh": 0.0, "meters": 1,
         "meters_read": 1, "reason": ""}
        for unit, (level, parent, supplied, own, loss) in lost.items()
    ))  # fmt: skip
    assert [row["unit_id"] for row in asked(warehouse, "worst-losses")] == ["T"]


def publish(warehouse: Warehouse, job: str, period: str) -> None:
    put(warehouse, "batch_publications", {"job": job, "period": period, "generation": 1,
        "run_id": "r", "published_at": START})  # fmt: skip


def test_nothing_found_not_worked_out_and_mistyped_are_told_apart(warehouse: Warehouse) -> None:
    publish(warehouse, "line-loss", "2026-03")
    assert answer(warehouse, "worst-losses", ["period=2026-03"], "TSV") == b""
    with pytest.raises(InputError, match=r"line-loss has not been run for 2026-04: .* 2026-03"):
        answer(warehouse, "worst-losses", ["period=2026-04"], "TSV")
    with pytest.raises(
        InputError, match=r"channel has not been run for 2026-03: it has not been at all"
    ):
        answer(warehouse, "whom-to-promote", ["period=2026-03"], "TSV")
    for wrong in ("period=2026-13", "period=March", "period=202603"):
        with pytest.raises(UsageError, match="must be a month"):
            statement("worst-losses", [wrong])


def test_monthly_questions_have_a_month(warehouse: Warehouse) -> None:
    for saved in questions().values():
        if "monthly" in saved.who and saved.name not in ("busiest-outlets",):
            assert {p.name for p in saved.params} & {"period", "as_of"}, saved.name
    put(warehouse, "stock_movements_rows", move(1, -2, 1, "delivery"), move(2, 2, -1, "first_use"))
    sold = {
        month: sum(row["sold"] for row in asked(warehouse, "books-by-wholesaler", period=month))
        for month in ("2026-02", "2026-03", "")
    }
    assert sold == {"2026-02": 0, "2026-03": 1, "": 1}
    migrate(warehouse, zone="America/New_York")  # there it was February still
    try:
        (row,) = asked(warehouse, "books-by-wholesaler", period="2026-02")
        assert (row["received"], row["sold"]) == (1, 1)
    finally:
        migrate(warehouse, zone="UTC")


def test_hours_empty_by_what_emptied_a_shelf(warehouse: Warehouse) -> None:
    put(warehouse, "stock_movements_rows", move(1, 0, 1, "delivery"), move(2, 5, -1, "first_use"),
        move(3, 7, 1, "delivery"), move(4, 9, -1, "first_use"), move(5, 19, 1, "delivery"),
        move(6, 20, -1, "return"), move(7, 30, 1, "delivery", "p"))  # fmt: skip
    put(warehouse, "stock_incidents_rows", stock_out(1, 5, 7), stock_out(2, 9, 19),
        stock_out(3, 20, None))  # fmt: skip
    found = {row.pop("cause"): list(row.values()) for row in asked(warehouse, "hours-empty")}
    assert found == {"first_use": [2, 0, 12, 10, 10], "return": [1, 1, 10, None, None]}


def test_what_lies_on_a_shelf_has_an_age(warehouse: Warehouse) -> None:
    put(warehouse, "stock_movements_rows", move(1, 0, 1, "delivery"), move(2, 0, 1, "delivery"),
        move(3, 48, 1, "delivery"), move(4, 240, 1, "delivery", "p"),
        move(2, 72, -1, "first_use") | {"movement_id": "sold"})  # fmt: skip
    (shelf,) = [row for row in asked(warehouse, "shelf-age") if row["outlet_id"] == "o"]
    assert (shelf["sold"], shelf["had"], shelf["on_hand"]) == (1, 3, 2)
    assert (shelf["sell_through"], shelf["oldest_days"]) == (pytest.approx(1 / 3), 10)
    assert shelf["median_days"] in (8, 10)


def test_lost_sales_in_money_are_what_the_shops_cards_bring(warehouse: Warehouse) -> None:
    publish(warehouse, "channel", "2026-03")
    for outlet, fee in (("o", 5_800), ("o", 4_200), ("p", 20_000)):
        put(warehouse, "commission_lines_rows", {"run_id": "r", "period": "2026-03", "imsi": fee,
            "outlet_id": outlet, "kind": "activation", "fee_fen": fee, "sku": "s", "iccid": "",
            "wholesaler_id": "w", "amount_fen": 0, "explanation": "",
            "activated_at": START})  # fmt: skip
    for outlet, lost in (("o", 2.0), ("p", 0.0), ("q", 3.0)):
        put(warehouse, "outlet_ranking_rows", {"run_id": "r", "period": "2026-03", "sales": 0,
            "outlet_id": outlet, "lost_sales": lost, "sales_rank": 1, "deliveries": 0,
            "received": 0, "shelf_days": 0, "shelf_days_out": 0, "status": "ok", "promote": 0,
            "reasons": "", "wholesaler_id": "", "territory_id": ""})  # fmt: skip
    found = {r["outlet_id"]: r["lost_yuan_a_month"] for r in asked(warehouse, "lost-sales")}
    assert found == {"o": 2 * 50.0, "q": 3 * 100.0}
    fees = asked(warehouse, "revenue-by-shop")
    assert [(r["outlet_id"], r["cards"], r["fees_yuan"]) for r in fees] == [
        ("p", 1, 200.0), ("o", 2, 100.0)
    ]  # fmt: skip
