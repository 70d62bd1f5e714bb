"""A desk over a warehouse of two shops, one of them empty."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from services.tables import put

from infra.desk.app import desk_app
from pipelines.warehouse import migrate
from pipelines.warehouse.engines.embedded import Embedded

T0 = dt.datetime(2026, 3, 1, 8, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    opened = Embedded(tmp_path_factory.mktemp("desk") / "data")
    migrate(opened)
    put(opened, "outlets", outlet_id=["O1", "O2"], name=["Corner <b>", "Hall"],
        kind=["shop", "hall"], territory_id=["T", "T"])  # fmt: skip
    put(opened, "territories", territory_id=["T"], name=["North"], parent_id=[""])
    put(opened, "wholesalers", wholesaler_id=["W"], name=["Wang"], phone=["+8613800138000"],
        backup_phone=[""], language=["en"])  # fmt: skip
    put(opened, "assignments", outlet_id=["O1", "O2"], wholesaler_id=["W", "W"],
        valid_from=[T0 - dt.timedelta(days=30)] * 2)  # fmt: skip
    put(opened, "stock_levels_rows", outlet_id=["O1", "O2"], sku=["S", "S"], on_hand=[0, 1234],
        wholesaler_id=["W", "W"], as_of=[T0, T0])  # fmt: skip
    put(opened, "stock_incidents_rows", incident_id=["I", "J"], outlet_id=["O1", "O3"],
        sku=["S", "S"], wholesaler_id=["W", ""], opened_at=[T0, T0], version=[1, 1])  # fmt: skip
    put(opened, "stock_incidents_rows", incident_id=["K"] * 2, outlet_id=["O2"] * 2, sku=["S"] * 2,
        wholesaler_id=["W"] * 2, opened_at=[T0] * 2, withdrawn=[0, 1], version=[1, 2])  # fmt: skip
    put(opened, "dead_letters_rows", source=["f"], position=[7], received_at=[T0],
        reason=["bad row: 13800138000 of 2026-03-01"], payload=["13800138000"])  # fmt: skip
    put(opened, "dead_letters_rows", source=[f"g{n % 7}" for n in range(130)],
        position=[*range(130)], received_at=[T0] * 130, reason=["alike"] * 130,
        payload=[""] * 130)  # fmt: skip
    put(opened, "unread_inputs_rows", reader=["here"] * 2, at=[T0] * 2, n=[0, 1],
        input=["", "cdr/<b>.bin"], reason=["", "its name ends in none of .csv"])  # fmt: skip
    put(opened, "batch_run_states", run_id=["R"], job=["arrears"], period=["2026-02-28"],
        started_at=[T0], finished_at=[T0], status=["succeeded"])  # fmt: skip
    yield opened
    opened.close()


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(warehouse: Embedded, clock: Clock) -> Any:
    return desk_app(lambda: nullcontext(warehouse), clock=clock)


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "none"
