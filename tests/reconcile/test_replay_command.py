"""Dead letters after a fix: shown, sent on once, off the list, and the stock is right at last."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pipelines.simulate import read_truth


def rows(zerostock, data: Path, sql: str) -> list[list]:
    done = zerostock("query", "--data", data, "--format", "JSONCompactEachRow", sql)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def stock(zerostock, data: Path) -> dict[tuple[str, str], int]:
    found = rows(zerostock, data, "SELECT outlet_id, sku, on_hand FROM stock_on_hand")
    return {(outlet, sku): on_hand for outlet, sku, on_hand in found}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def broken(city: Path, tmp_path: Path) -> tuple[Path, str]:
    """The city with a shop forgotten in outlets.csv, and the shop."""
    folder = Path(shutil.copytree(city, tmp_path / "city"))
    table = folder / "reference" / "outlets.csv"
    forgotten = max(read_truth(city).stock.items(), key=lambda shelf: shelf[1])[0][0]
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith(f"{forgotten},")))
    return folder, forgotten


@pytest.mark.slow
def test_a_forgotten_shop_is_put_right(zerostock, city: Path, broken, tmp_path: Path) -> None:
    folder, shop = broken
    truth, data = read_truth(city), tmp_path / "data"
    run = ("run", "--input", folder, "--data", data, "--sms", f"file:{tmp_path}/sms")
    assert zerostock(*run).returncode == 0
    wrong = {(letter.file, letter.line) for letter in truth.dead_letters}
    open_now = rows(zerostock, data, "SELECT source, position FROM dead_letters_open")
    letters = len({(source, int(line)) for source, line in open_now} - wrong)
    assert letters > 0
    assert shop not in {outlet for outlet, _ in stock(zerostock, data)}
    replay = ("dead-letters", "replay", "--input", folder, "--data", data)

    nothing_fixed = zerostock(*replay)
    assert nothing_fixed.stdout.startswith("0 dead letters are accepted"), nothing_fixed.stderr
    shutil.copy(city / "reference" / "outlets.csv", folder / "reference" / "outlets.csv")
    before = tree(folder)
    dry = zerostock(*replay, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert f"{letters} dead letters would be accepted now" in dry.stdout
    still = rows(zerostock, data, "SELECT source, position FROM dead_letters_open")
    assert sorted(still) == sorted(open_now), "a dry run changes nothing"

    done = zerostock(*replay)
    assert f"{letters} dead letters are accepted now" in done.stdout, done.stderr
    assert "the next `zerostock run" in done.stdout
    left = rows(zerostock, data, "SELECT source, position FROM dead_letters_open")
    assert {(source, int(line)) for source, line in left} == wrong
    (some, line), *_ = {(source, int(line)) for source, line in open_now} - wrong
    listing = ("dead-letters", "list", "--data", data, "--limit", 999)
    assert f"{some}:{line}: unknown_outlet" not in zerostock(*listing).stdout
    assert f"{some}:{line}: unknown_outlet" in zerostock(*listing, "--all").stdout
    again = zerostock(*replay)
    assert again.stdout.startswith("0 dead letters are accepted now"), "at most once a fix"

    second = zerostock(*run)
    assert second.returncode == 0, second.stderr
    shown = re.search(r"^dead letters +([\d,]+)", second.stdout, re.MULTILINE)
    assert shown, second.stdout
    assert int(shown[1].replace(",", "")) == len(left), "the summary counts what is still refused"
    assert f"{letters} dead letters replayed" in second.stdout
    assert stock(zerostock, data) == truth.stock
    assert "nothing new to read" in zerostock(*run).stdout
    assert tree(folder) == before, "the input is the user's"
    night = zerostock("reconcile", "--input", folder, "--data", data)
    assert night.returncode == 0, night.stdout
    assert ", 0 differences\n" in night.stdout, "they count where they belong, not as late"
