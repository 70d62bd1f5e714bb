"""Every panel of the channel dashboard runs on a made city, and shows it where it has data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.simulate.truth import read_truth

GRAFANA = Path(__file__).parents[2] / "infra/grafana"
DASHBOARD = json.loads((GRAFANA / "channel.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
#: No job of the made city fills these.
EMPTY = {"Ranking", "Diversion"}


def expanded(sql: str) -> str:
    """The statement as the ClickHouse plug-in sends it, for all the time there is."""
    macros = {
        "timeFilter": r"\1 >= toDateTime(0) AND \1 <= toDateTime(4000000000)",
        "dateFilter": r"\1 >= toDate('1970-01-01') AND \1 <= toDate('2100-01-01')",
    }
    for name, text in macros.items():
        sql = re.sub(rf"\$__{name}\((\w+)\)", text, sql)
    assert "$" not in sql
    return sql


def rows(ran: Any, title: str) -> list[dict[str, Any]]:
    sql = expanded(PANELS[title]["targets"][0]["rawSql"])
    text = ran.zerostock("query", "--data", ran.data, "--format", "JSONEachRow", sql)
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("title", PANELS)
def test_the_panel_runs(ran: Any, title: str) -> None:
    found = rows(ran, title)
    assert found or title in EMPTY
    if PANELS[title]["type"] == "timeseries":
        assert next(iter(found[0])) == "time"


def test_the_numbers_are_the_city_s(ran: Any) -> None:
    incidents = read_truth(ran.city).incidents
    still = [i for i in incidents if i.closed_at is None]
    assert int(rows(ran, "Empty shelves")[0]["shelves"]) == len(still)
    assert int(rows(ran, "Outlets with an empty shelf")[0]["outlets"]) == len(
        {i.outlet_id for i in still}
    )
    assert sum(int(row["stock_outs"]) for row in rows(ran, "Stock-outs per day")) == len(incidents)


def test_panels_do_not_overlap_and_have_their_own_numbers() -> None:
    places = {
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"])
        for panel in PANELS.values()
        for dx in range(panel["gridPos"]["w"])
    }
    assert len(places) == sum(panel["gridPos"]["w"] for panel in PANELS.values())
    assert len({panel["id"] for panel in PANELS.values()}) == len(DASHBOARD["panels"])


def test_it_is_provisioned_as_the_reading_user() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/clickhouse.yaml").read_text())[
        "datasources"
    ]
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"]
    assert (source["jsonData"]["username"], source["jsonData"]["defaultDatabase"]) == (
        "analyst",
        "analysts",
    )
