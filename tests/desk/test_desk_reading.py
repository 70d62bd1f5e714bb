"""The desk's hold on an embedded warehouse: kept between pages, given up to whoever wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from services.asgi import call
from services.tables import put

from infra.desk.app import desk_app
from infra.desk.freshness import of_stream
from infra.desk.page import ViewRequest
from infra.desk.reading import SharedWarehouse
from pipelines.warehouse import migrate, open_for_reading, open_warehouse
from pipelines.warehouse.loopback.client import LoopbackClient
from pipelines.warehouse.loopback.server import serve_loopback


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with closing(open_warehouse(data=tmp_path)) as made:
        migrate(made)
    return tmp_path


@pytest.fixture
def shared(data: Path) -> Iterator[SharedWarehouse]:
    opened = SharedWarehouse(data, None)
    yield opened
    opened.close()


def outlets(shared: SharedWarehouse) -> int:
    with shared.opened() as warehouse:
        return int(warehouse.query("SELECT count() AS n FROM outlets").to_pylist()[0]["n"])


def test_it_stays_open_between_pages(shared: SharedWarehouse) -> None:
    with shared.opened() as first, shared.opened() as second:
        assert first is second
        assert not isinstance(first, LoopbackClient)


def test_without_events_the_first_page_leads_to_them(shared: SharedWarehouse) -> None:
    reply = asyncio.run(call(desk_app(shared.opened), "GET", "/", b"", {"Host": "localhost"}))
    page = reply.body.decode()
    assert "no figures yet" in page
    assert "zerostock run" in page
    assert 'hx-trigger="every 3s' in page  # it shows the figures by itself


def test_a_policy_that_cannot_be_used_is_noted_until_it_is_mended(data: Path) -> None:
    def note(second: int, kind: str, detail: str) -> str:
        at = datetime(2026, 3, 1, 8, 0, second, tzinfo=UTC)
        put(warehouse, "alert_news_rows", incident_id=[""], wholesaler_id=[""], at=[at],
            kind=[kind], message_id=[""], detail=[detail], by=["policy"],
            slot=[f"policy/{second}"], version=[0])  # fmt: skip
        found = of_stream(ViewRequest(warehouse))
        return found.warning.format(*found.values)

    with closing(open_warehouse(data=data)) as warehouse:
        assert note(1, "policy_changed", "{}") == ""
        assert note(3, "policy_refused", '{"error": "line 5: grace"}').endswith("line 5: grace")
        assert note(2, "policy_changed", "{}") != ""  # which comes late
        assert note(4, "policy_changed", "{}") == ""


def test_others_may_ask_while_it_is_held(data: Path, shared: SharedWarehouse) -> None:
    assert outlets(shared) == 0
    with closing(open_for_reading(data=data, patience=0)) as other:
        assert isinstance(other, LoopbackClient)
        assert other.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_it_is_given_up_read_through_its_owner_and_taken_back(
    data: Path, shared: SharedWarehouse
) -> None:
    assert outlets(shared) == 0
    with closing(open_warehouse(data=data)) as owner, serve_loopback(owner, data):
        with shared.opened() as through:
            assert isinstance(through, LoopbackClient)
        assert outlets(shared) == 0
    assert outlets(shared) == 0
    with shared.opened() as back:
        assert not isinstance(back, LoopbackClient)


def test_an_owner_that_needs_it_is_left_alone(data: Path, shared: SharedWarehouse) -> None:
    with closing(open_warehouse(data=data)) as owner, serve_loopback(owner, data):
        owner_client = LoopbackClient.find(data)
        assert owner_client is not None
        with pytest.raises(Exception, match="needed here"):
            owner_client.ask_to_leave()
        assert owner.query("SELECT 1 AS one").num_rows == 1
