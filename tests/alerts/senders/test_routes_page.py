"""The table that docs/routes.md shows is one that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.senders.opening import open_routes
from alerts.senders.table import load_table

PAGE = Path(__file__).parents[3] / "docs/routes.md"


def test_the_table_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CMCC_PASSWORD", "GATEWAY_SECRET", "TWILIO_TOKEN"):
        monkeypatch.setenv(name, "x")
    (tmp_path / "gateway.key").write_text("k\n")
    found = re.search(r"<!-- table -->\n```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "routes.toml").write_text(found[1])
    routes = open_routes(load_table(tmp_path / "routes.toml"), tmp_path)
    chosen = {
        (to, language): [route.name for route in routes.of(to, language)]
        for to, language in (("+8613800138000", "zh"), ("+8613800138000", "en"), ("+44", "en"))
    }
    assert list(chosen.values()) == [
        ["cmcc", "gateway", "abroad"],
        ["gateway", "abroad"],
        ["abroad"],
    ]
    assert routes.signature == "零库存"
