"""The channel's arithmetic against known values and plain second implementations."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batch.channel.plans import read_plans
from pipelines.core.channel import commission, diversion, ranking, scorecard, shelf_days
from schemas.errors import InputError

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [  # R: prop.test(hits, of, correct = FALSE)$conf.int
        (0, 10, 0.0, 0.2775328),
        (5, 10, 0.2365931, 0.7634069),
        (10, 10, 0.7224672, 1.0),
        (81, 263, 0.2552697, 0.3661978),
    ],
)
def test_the_interval_of_a_share(hits: int, of: int, low: float, high: float) -> None:
    assert diversion.wilson(hits, of) == pytest.approx((low, high), abs=1e-4)


def sims(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    names = ("imsi", "outlet_id", "wholesaler_id", "seconds", "seconds_away")
    kinds = (pl.Int64, pl.String, pl.String, pl.Int64, pl.Int64)
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")


def test_only_a_share_that_is_surely_high_is_a_case() -> None:
    few = [(n, "small", "W", 10, 10) for n in range(9)]
    big = [(100 + n, "big", "W", 100, 70 if n < 100 else 69) for n in range(1000)]
    bad = [(2000 + n, "bad", "W", 10, 7 if n < 12 else 0) for n in range(20)]
    silent = [(3000 + n, "silent", "W", 0, 0) for n in range(50)]
    nobody = [(4000 + n, "nobody", "", 10, 10) for n in range(50)]
    cases, evidence = diversion.cases(
        sims(few + big + bad + silent + nobody), diversion.DiversionRules()
    )
    assert cases.select("outlet_id", "sims", "away", "level").rows() == [("bad", 20, 12, "alarm")]
    assert evidence["imsi"].to_list() == list(range(2000, 2012))


def test_the_evidence_is_known_again_whatever_its_order() -> None:
    assert diversion.evidence_hash([3, 1, 2]) == diversion.evidence_hash([1, 2, 3])
    assert diversion.evidence_hash([1, 2]) != diversion.evidence_hash([1, 2, 3])


incidents = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.integers(0, 100),
        st.none() | st.integers(0, 60),
        st.booleans(),
    ),
    max_size=12,
)


@given(incidents, st.integers(0, 150))
@settings(max_examples=60)
def test_timeliness_is_what_counting_by_hand_gives(
    rows: list[tuple[str, int, int | None, bool]], now: int
) -> None:
    frame = pl.DataFrame(
        [(w, o * HOUR, None if c is None else (o + c) * HOUR, d) for w, o, c, d in rows],
        schema={
            "wholesaler_id": pl.String,
            "opened_at": pl.Int64,
            "closed_at": pl.Int64,
            "delivered": pl.Boolean,
        },
        orient="row",
    )
    got = {r["wholesaler_id"]: r for r in scorecard.timeliness(frame, now * HOUR).to_dicts()}
    for who in {row[0] for row in rows}:
        mine = [row[1:] for row in rows if row[0] == who]
        due = [row for row in mine if row[0] + 24 <= now]
        good = [row for row in due if row[1] is not None and row[1] <= 24 and row[2]]
        assert (got[who]["incidents"], got[who]["due"], got[who]["on_time"]) == (
            len(mine), len(due), len(good)
        )  # fmt: skip


moves = st.dictionaries(
    st.tuples(st.sampled_from("AB"), st.integers(0, 9)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    max_size=14,
)


@given(moves, st.dictionaries(st.sampled_from("AB"), st.integers(0, 5)), st.integers(0, 9))
@settings(max_examples=60)
def test_shelf_days_are_what_counting_day_by_day_gives(
    moved: dict[tuple[str, int], tuple[int, int]], before: dict[str, int], first: int
) -> None:
    opening = pl.DataFrame(
        [(o, "S", n) for o, n in before.items()],
        schema={"outlet_id": pl.String, "sku": pl.String, "on_hand": pl.Int64},
        orient="row",
    )
    names = ("day", "net", "came", "sold")
    rows = pl.DataFrame(
        [(o, "S", day, came - sold, came, sold) for (o, day), (came, sold) in moved.items()],
        schema={"outlet_id": pl.String, "sku": pl.String} | dict.fromkeys(names, pl.Int64),
        orient="row",
    )
    days = shelf_days.shelf_days(opening, rows, 10)
    got = {row["outlet_id"]: row for row in shelf_days.figures(days, first).to_dicts()}
    assert set(got) == set(before) | {o for o, _ in moved}
    for outlet, row in got.items():
        on_hand, seen, out, total, stocked, sales = (
            before.get(outlet, 0),
            outlet in before,
            0,
            0,
            0,
            0,
        )
        for day in range(10):
            came, sold = moved.get((outlet, day), (0, 0))
            seen = seen or (outlet, day) in moved
            if seen and (on_hand > 0 or came > 0):
                stocked, sales = stocked + 1, sales + sold
            on_hand += came - sold
            total += seen and day >= first
            out += seen and day >= first and on_hand <= 0
        daily = sales / stocked if sales else None
        assert (row["on_hand"], row["shelf_days"], row["shelf_days_out"]) == (on_hand, total, out)
        assert row["daily_sales"] == (None if daily is None else pytest.approx(daily))
        assert row["lost_sales"] == pytest.approx(out * (daily or 0))


def test_statuses_exclude_each_other_and_unknown_is_not_zero() -> None:
    cases = {
        "none": (None, None, None, "unknown"),
        "empty": (5, 1.0, True, "out"),
        "silent": (5, None, False, "unknown"),
        "low": (2, 1.0, False, "at_risk"),
        "fine": (10, 1.0, False, "ok"),
        "full": (90, 1.0, False, "over"),
    }
    frame = pl.DataFrame(
        [(n, h, None if d is None or h is None else h / d, e) for n, (h, d, e, _) in cases.items()],
        schema={"name": pl.String, "on_hand": pl.Int64, "days_of_cover": pl.Float64,
                "empty": pl.Boolean},
        orient="row",
    )  # fmt: skip
    got = frame.with_columns(closed=False).select("name", status=ranking.status()).rows()
    assert got == [(name, want) for name, (_, _, _, want) in cases.items()]
    assert set(frame.with_columns(closed=True).select(ranking.status()).to_series()) == {"unknown"}


PLAN = """
[[plan]]
from = "2026-01"
steps = [{from = 46, to = 66, pays = 5}, {from = 96, to = 126, pays = 10}]

[plan.fees]
A = 58
B = 108
"""


def sold(imsi: int, sku: str = "A") -> dict[str, Any]:
    return {"outlet_id": "O", "wholesaler_id": "W", "imsi": imsi, "iccid": str(imsi), "sku": sku,
            "activated_at": 0, "plan": "2026-01", "dead_days": 30, "silent_days": 15}  # fmt: skip


NOTHING_BACK = pl.DataFrame([sold(0) | {"kind": ""}]).clear()


def test_lines_add_up_to_what_is_paid() -> None:
    plan = read_plans(PLAN).plan_of("2026-03")
    assert plan is not None
    activated = pl.DataFrame([sold(1), sold(2, "B"), sold(3, "none")])
    back = pl.DataFrame([sold(9) | {"kind": "diverted"}])
    lines = commission.lines(activated, back, [plan])
    assert lines.select("imsi", "kind", "amount_fen").rows() == [
        (1, "activation", 500),
        (2, "activation", 1000),
        (3, "activation", 0),
        (9, "diverted", -500),
    ]
    rows = {row["role"]: row for row in commission.totals(lines, {"O": 2}, plan)}
    # 3 of 2 is 150 %: × 1.4. Fees of 58 and 108 yuan.
    assert rows["seller"]["amount_fen"] == 1500 * 1.4 - 500
    assert rows["shift_lead"]["amount_fen"] == round(16600 / 2 * 0.15) * 1.4
    assert rows["hall_manager"]["amount_fen"] == 16600 / 2 * 0.1 * 1.4


def test_half_a_fen_counts_as_one_also_where_binary_fractions_miss_it() -> None:
    lines = pl.DataFrame({"outlet_id": ["O"], "kind": ["activation"], "amount_fen": [50],
                          "fee_fen": [5000]})  # fmt: skip
    plan = read_plans(
        PLAN.replace("[plan.fees]", "attainment = [{at = 1, factor = 1.15}]\n[plan.fees]")
    )
    [seller, *_] = commission.totals(lines, {"O": 1}, plan.plan[0])
    assert seller["amount_fen"] == 58  # 57.5


@pytest.mark.parametrize(("target", "factor"), [(10, 0.0), (5, 0.8), (4, 1.0), (3, 1.2), (2, 1.4)])
def test_leads_get_nothing_below_eighty_percent(target: int, factor: float) -> None:
    plan = read_plans(PLAN).plan_of("2026-03")
    assert plan is not None
    activated = pl.DataFrame([sold(n) for n in range(4)])
    lines = commission.lines(activated, NOTHING_BACK, [plan])
    rows = {row["role"]: row["factor"] for row in commission.totals(lines, {"O": target}, plan)}
    assert rows["shift_lead"] == rows["hall_manager"] == factor


def test_the_newest_plan_that_has_begun_holds() -> None:
    later = PLAN + PLAN.replace("2026-01", "2026-04").replace("58", "60")
    plans = read_plans(later)
    assert plans.plan_of("2025-12") is None
    assert [plans.plan_of(m).fees["A"] for m in ("2026-03", "2026-04")] == [58, 60]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (PLAN.replace("58", '"x"'), "line 6"),
        (PLAN.replace('"2026-01"', '"2026-13"'), "line 2: from"),
        (PLAN.replace("from = 96", "from = 60"), "line 2: two steps"),
        (PLAN + "[diversion]\naway = true", "line 10"),
        (PLAN + "[diversion]\nleast_sims = 0", "line 10"),
        (PLAN + "[diversion]\naway = 70", "line 10"),
        (PLAN.replace("pays = 5", "pays = -5"), "line 4"),
        ("a = ", "channel.toml"),
    ],
)
def test_a_wrong_plan_names_its_line(wrong: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_plans(wrong)


def test_halls_are_sixty_percent_sales() -> None:
    marks = pl.DataFrame(
        {"outlet_id": ["O"], "target": [10], "inspection": [80.0], "satisfaction": [90.0],
         "complaints": [100.0]}
    )  # fmt: skip
    got = commission.assessment(
        marks, pl.DataFrame({"outlet_id": ["O"], "sales": [5]}), commission.Assessment()
    )
    assert got.select("sales_score", "service_score", "score").rows() == [(50.0, 90.0, 66.0)]
