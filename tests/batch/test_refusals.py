"""A run that refuses too much of any one input fails, and what was shown before stays."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from batch_harness import write_csv

from pipelines.batch import run_job
from pipelines.warehouse.port import Warehouse
from schemas.errors import BatchError, UsageError

ROWS = 40
COLUMNS = {
    "customers": "customer_id,segment,hall_id",
    "bills": "bill_id,customer_id,billing_period,issued_on,due_on,amount_fen",
    "payments": "payment_id,customer_id,bill_id,paid_on,amount_fen,channel",
    "channel_statements": "day,channel,amount_fen,payments",
    "customer_records": "record_id,customer_id,kind,happened_on",
}
#: What spoils a row of each input; the first column of customers may be anything but empty.
SPOILED = {
    "customers": {"customer_id": ""},
    "bills": {"amount_fen": "much"},
    "payments": {"paid_on": "yesterday"},
    "channel_statements": {"day": "2026-13-01"},
    "customer_records": {"kind": "rumour"},
}


def books(root: Path, spoil: Callable[[str, int], bool]) -> Path:
    """Forty rows of each input, those that `spoil` names unusable."""
    for name, columns in COLUMNS.items():
        rows = []
        for n in range(ROWS):
            row: dict[str, object] = {
                "customer_id": f"c{n}", "segment": "s", "hall_id": "h", "bill_id": f"b{n}",
                "billing_period": "2026-01", "issued_on": "2026-02-01", "due_on": "2026-02-15",
                "amount_fen": 1000, "payment_id": f"p{n}", "paid_on": "2026-02-10",
                "channel": f"ch{n}", "day": "2026-02-10", "payments": 1, "record_id": f"r{n}",
                "kind": "dispute", "happened_on": "2026-01-01",
            }  # fmt: skip
            rows.append(row | (SPOILED[name] if spoil(name, n) else {}))
        write_csv(root / f"{name}.csv", columns.split(","), rows)
    return root


def arrears(warehouse: Warehouse, root: Path, *args: str, **how: object) -> list[str]:
    lines: list[str] = []
    run_job("arrears", as_of=date(2026, 3, 31), input=root, warehouse=warehouse,
            beam_args=args, progress=lines.append, **how)  # type: ignore[arg-type]  # fmt: skip
    return lines


@pytest.mark.parametrize("name", COLUMNS)
def test_too_many_refused_rows_of_any_one_input_fail_the_run(
    name: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    rng = random.Random(name)
    bad = rng.randint(1, ROWS)
    arrears(warehouse, books(tmp_path, lambda _, n: False))
    before = warehouse.query("SELECT * FROM customer_credit ORDER BY customer_id")
    books(tmp_path, lambda of, n: of == name and n < bad)
    with pytest.raises(
        BatchError, match=rf"^{bad} of 40 rows of {name}.csv were refused"
    ) as failed:
        arrears(warehouse, tmp_path, f"--most-refused={(bad - 0.5) / ROWS}")
    assert warehouse.query("SELECT * FROM customer_credit ORDER BY customer_id") == before
    newest = warehouse.query("SELECT * FROM batch_runs ORDER BY started_at").to_pylist()[-1]
    assert (newest["status"], newest["rows_rejected"]) == ("failed", bad)
    assert str(failed.value) in newest["error"]
    arrears(warehouse, tmp_path, f"--most-refused={bad / ROWS}")
    assert warehouse.query("SELECT * FROM batch_rejects").num_rows == bad


def test_by_default_one_in_twenty_may_be_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    arrears(warehouse, books(tmp_path, lambda of, n: n < 2))
    with pytest.raises(BatchError, match=r"3 of 40 rows of payments.csv .* \(7.5%; .* is 5.0%\)"):
        arrears(warehouse, books(tmp_path, lambda of, n: of == "payments" and n < 3), dry_run=True)


def test_the_reasons_are_counted_on_one_screen(warehouse: Warehouse, tmp_path: Path) -> None:
    lines = arrears(warehouse, books(tmp_path, lambda of, n: n < 2))
    told = [line for line in lines if "refused of" in line]
    assert len(told) == len(COLUMNS)
    assert (
        "  2 refused of bills.csv: invalid_field: amount_fen: 'much' is not a whole number (row 1)"
        in told
    )


def test_files_of_a_folder_are_one_input(warehouse: Warehouse, tmp_path: Path) -> None:
    books(tmp_path, lambda of, n: of == "payments" and n < 3)
    text = (tmp_path / "payments.csv").read_text().splitlines(keepends=True)
    (tmp_path / "payments.csv").unlink()
    for part, rows in (("a", text[1:4]), ("b", text[4:])):
        (tmp_path / "payments").mkdir(exist_ok=True)
        (tmp_path / f"payments/{part}.csv").write_text(text[0] + "".join(rows))
    with pytest.raises(BatchError, match="3 of 40 rows of payments were refused"):
        arrears(warehouse, tmp_path)


@pytest.mark.parametrize("share", ["5 per cent", "-1%", "101%", "1.5", ""])
def test_a_share_is_a_number_up_to_one(share: str, warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a share"):
        arrears(warehouse, books(tmp_path, lambda of, n: False), f"--most-refused={share}")
