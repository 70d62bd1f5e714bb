"""A policy that speaks of what nobody knows says so, wherever the slip is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.policy.policy import parse_policy
from alerts.policy.unknown_ids import unknown_ids
from infra.cli import app
from schemas.errors import SettingsError
from schemas.reference import Outlet, Reference, Territory, Wholesaler

KNOWN = Reference(
    territories={"T": Territory(territory_id="T", name="Town")},
    outlets={"O": Outlet(outlet_id="O", name="Shop", kind="kiosk")},
    wholesalers={"W": Wholesaler(wholesaler_id="W", name="Wang")},
)

POLICY = """
[managers]
"T" = "north"
"*" = "all"
[quiet_hours]
start = "21:00"
end = "07:00"
except = [{ outlet = "O" }]
[[silences]]
outlet = "O"
wholesaler = "W"
sku = "anything"
[[maintenance]]
territory = "T"
[[leave]]
wholesaler = "W"
[wholesalers.W]
quiet_hours = { start = "23:00", end = "06:00", except = [{ territory = "T" }] }
"""


def test_what_is_known_is_no_stranger() -> None:
    assert unknown_ids(parse_policy(POLICY), KNOWN) == ""


PLACES = [found.span() for found in re.finditer(r"(?<=[\".])[OTW](?=[\"\]])", POLICY)]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_slip_in_any_id_is_named(place: tuple[int, int]) -> None:
    start, end = place
    name = POLICY[start:end].lower()
    said = unknown_ids(parse_policy(POLICY[:start] + name + POLICY[end:]), KNOWN)
    assert re.search(rf" (outlet|territory|wholesaler) {name}, and the reference tables", said)


def test_the_check_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[wholesalers.W9]\nresolved_notes = true\n")
    for name, text in (
        ("territories", "territory_id,name,parent_id"), ("cells", "cell_id,territory_id"),
        ("wholesalers", "wholesaler_id,name,phone,backup_phone,language"),
        ("outlets", "outlet_id,name,kind,territory_id,opened_on,closed_on"),
        ("assignments", "outlet_id,wholesaler_id,valid_from"),
        ("sim_batches", "batch_id,sku,first_iccid,first_imsi,count"),
    ):  # fmt: skip
        (tmp_path / f"{name}.csv").write_text(text + "\n")
    call = ["alerts", "check", str(tmp_path / "policy.toml")]
    assert CliRunner().invoke(app, call).output.endswith("is a policy\n")
    failed = CliRunner().invoke(app, [*call, "--reference", str(tmp_path)])
    assert isinstance(failed.exception, SettingsError)
    assert "speaks of wholesaler W9" in str(failed.exception)
