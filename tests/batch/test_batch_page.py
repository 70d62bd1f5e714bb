"""docs/batch.md: every query on it runs, and every table of the jobs stands on it."""

from __future__ import annotations

import re
from datetime import date
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.batch import JOBS, run_job
from pipelines.simulate.plan import CityPlan
from pipelines.simulate.utility import write_utility
from pipelines.warehouse.port import Warehouse

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "batch.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def month(shared_warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The power company's month in the warehouse."""
    root = tmp_path_factory.mktemp("city")
    write_utility(CityPlan(outlets=300), root / "utility")
    for name, args in (("line-loss", ["--readings", "--least-read=80%"]), ("meter-suspects", [])):
        run_job(name, period="2026-03", input=root, warehouse=shared_warehouse, beam_args=args)
    for day in (date(2026, 2, 28), date(2026, 3, 31)):
        run_job("arrears", as_of=day, input=root, warehouse=shared_warehouse)
    return shared_warehouse


def test_every_query_runs_and_those_of_the_month_find_something(month: Warehouse) -> None:
    assert len(QUERIES) > 12
    empty = {
        query.split("FROM ")[1].split()[0]
        for query in QUERIES
        if month.query(query.strip()).num_rows == 0
    }
    # One month of a power company has no history, no doubled payments and no subscribers.
    assert empty <= {
        "line_loss_flags", "unread_meters", "meter_suspects", "payment_doubles",
        "subscriber_loss", "subscriber_retention", "silent_subscribers", "replaced_cards",
    }  # fmt: skip


def test_every_table_is_on_the_page() -> None:
    for name, module in JOBS.items():
        page = (DOCS / f"{name}.md").read_text() if name in ("channel", "service") else PAGE
        for table in import_module(module).JOB.tables:
            assert f"### {table.name}\n" in page, table.name
            for dataset in import_module(module).JOB.datasets:
                assert dataset.name in page
