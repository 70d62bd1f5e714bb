"""Commission: what activations earn, what is taken back, and what attainment makes of it.

Money is whole fen. Plans come from a file that `pipelines.batch.channel.plans` reads and checks.
A SIM is under the plan of the month in which it was activated, for ever: what it earned is what is
taken back, and it has one trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated

import msgspec
import polars as pl
from msgspec import Meta

from pipelines.core.channel.diversion import DiversionRules
from schemas import sentences as said

#: An exchange's day counts if it has at least so much of what its median day has.
_ENOUGH = 0.5

#: Yuan, shares, factors and weights: none is below zero.
NotNegative = Annotated[float, Meta(ge=0)]


class AttainmentStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An activation whose monthly fee is from … to yuan earns `pays` yuan."""

    from_: NotNegative = msgspec.field(name="from")
    to: NotNegative
    pays: NotNegative


class Attainment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From this share of the target on, commission is multiplied by `factor`."""

    at: NotNegative
    factor: NotNegative


class CommissionPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds from the month `from` on. `fees`: SKU → monthly fee in yuan."""

    from_: str = msgspec.field(name="from")
    fees: dict[str, NotNegative]
    steps: tuple[AttainmentStep, ...]
    attainment: tuple[Attainment, ...] = (Attainment(1.2, 1.2), Attainment(1.4, 1.4))
    lead_attainment: tuple[Attainment, ...] = (
        Attainment(0.8, 0.8),
        Attainment(1.0, 1.0),
        Attainment(1.2, 1.2),
        Attainment(1.4, 1.4),
    )
    shift_lead: NotNegative = 0.15
    hall_manager: NotNegative = 0.10
    dead_days: int = 30
    silent_days: int = 15


class Assessment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of a hall's assessment; they need not add up to one."""

    sales: NotNegative = 0.6
    service: NotNegative = 0.4


class ChannelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file: plans, what counts as diversion, the promised hours, weights."""

    plan: tuple[CommissionPlan, ...] = ()
    diversion: DiversionRules = DiversionRules()
    assessment: Assessment = Assessment()
    promised_hours: Annotated[float, Meta(gt=0)] = 24.0

    def plan_of(self, period: str) -> CommissionPlan | None:
        """The plan that holds in a month: the newest that began by then."""
        begun = [plan for plan in self.plan if plan.from_ <= period]
        return max(begun, key=lambda plan: plan.from_, default=None)


def terms(plans: Iterable[CommissionPlan], begins: Callable[[str], int]) -> pl.DataFrame:
    """plan, begins, dead_days, silent_days, in order; `begins` gives a month's first ms."""
    return pl.DataFrame(
        [(plan.from_, begins(plan.from_), plan.dead_days, plan.silent_days) for plan in plans],
        schema={
            "plan": pl.String,
            "begins": pl.Int64,
            "dead_days": pl.Int64,
            "silent_days": pl.Int64,
        },
        orient="row",
    ).sort("begins")


def under_plans(sims: pl.DataFrame, of_plans: pl.DataFrame) -> pl.DataFrame:
    """With plan, dead_days and silent_days by activated_at; NULL before the first plan."""
    return sims.sort("activated_at").join_asof(
        of_plans, left_on="activated_at", right_on="begins", check_sortedness=False
    )


def fees(plans: Iterable[CommissionPlan]) -> pl.DataFrame:
    """plan, sku, fee_fen, pays_fen; a fee that no step covers earns nothing."""
    rows = [
        (
            plan.from_,
            sku,
            round(fee * 100),
            round(100 * next((s.pays for s in plan.steps if s.from_ <= fee <= s.to), 0)),
        )
        for plan in plans
        for sku, fee in sorted(plan.fees.items())
    ]
    schema = {"plan": pl.String, "sku": pl.String, "fee_fen": pl.Int64, "pays_fen": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def taken_back(
    dead: pl.DataFrame, sims: pl.DataFrame, decided: pl.DataFrame, taken: pl.DataFrame
) -> pl.DataFrame:
    """With kind: the SIMs that are `dead` or `diverted`, each taken back in one month only, and
    those whose diversion was `dismissed` after they had been.

    `dead` and `sims` have imsi, plan and what else lines need. `decided`: imsi, decision (the
    newest of its case). `taken`: imsi of SIMs that other months took back, and whether for
    diversion (diverted).
    """

    def of(decision: str) -> pl.DataFrame:
        return sims.join(decided.filter(decision=decision), on="imsi", how="semi")

    to_take = [of("confirmed").with_columns(kind=pl.lit("diverted")),
               dead.select(sims.columns).with_columns(kind=pl.lit("dead"))]  # fmt: skip
    given = of("dismissed").join(taken.filter("diverted"), on="imsi", how="semi")
    return pl.concat(
        [
            pl.concat(to_take)
            .unique("imsi", keep="first", maintain_order=True)
            .join(taken, on="imsi", how="anti"),
            given.with_columns(kind=pl.lit("dismissed")),
        ]
    ).filter(pl.col("plan").is_not_null())


def lines(
    activated: pl.DataFrame, back: pl.DataFrame, plans: Iterable[CommissionPlan]
) -> pl.DataFrame:
    """A line a SIM: what it earned, what is taken back, or what is given back.

    `activated`: outlet_id, wholesaler_id, imsi, iccid, sku, activated_at, and what `under_plans`
    adds; `back` has kind besides, see `taken_back`.
    """
    rows = pl.concat([activated.with_columns(kind=pl.lit("activation")), back], how="diagonal")
    kind = pl.col("kind")
    sign = pl.when(kind.is_in(["dead", "diverted"])).then(-1).otherwise(1)
    silent = pl.format(said.SILENT, "silent_days", "dead_days")
    why = {
        "activation": said.ACTIVATED,
        "diverted": said.DIVERTED,
        "dismissed": said.DISMISSED,
    }
    known = pl.col("fee_fen").is_not_null()
    return (
        rows.join(fees(plans), on=["plan", "sku"], how="left")
        .with_columns(amount_fen=sign * pl.col("pays_fen").fill_null(0))
        .with_columns(
            explanation=pl.format(
                said.BETWEEN.join(["{}", "{}"]),
                pl.when(kind == "dead").then(silent).otherwise(kind.replace(why)),
                pl.when(known)
                .then(pl.format(said.FEE_EARNS, _yuan("fee_fen"), _yuan("pays_fen")))
                .otherwise(pl.format(said.NO_FEE, "sku")),
            ),
            fee_fen=pl.col("fee_fen").fill_null(0),
        )
        .drop("pays_fen", "plan", "dead_days", "silent_days")
    )


def totals(
    of_lines: pl.DataFrame, targets: dict[str, int], plan: CommissionPlan
) -> list[dict[str, object]]:
    """A row a role and outlet. Leads and managers only where there is a target."""
    activation = pl.col("kind") == "activation"
    sums = of_lines.group_by("outlet_id").agg(
        activations=activation.sum().cast(pl.Int64),
        base=pl.col("amount_fen").filter(activation).sum(),
        back=pl.col("amount_fen").filter(~activation).sum(),
        fees=pl.col("fee_fen").filter(activation).sum(),
    )
    rows: list[dict[str, object]] = []
    for outlet, sold, base, back, fee in sums.sort("outlet_id").iter_rows():
        target = targets.get(outlet) or None
        reached = sold / target if target else None
        seller = _factor(plan.attainment, reached, 1.0)
        parts = [("seller", base, seller, back, said.LINES_TIMES)]
        if reached is not None:
            lead = _factor(plan.lead_attainment, reached, 0.0)
            shares = [("shift_lead", plan.shift_lead), ("hall_manager", plan.hall_manager)]
            for role, share in shares:
                product = said.FEES_TIMES.format(f"{share:g}", "{}", "{}")
                parts.append((role, _fen(fee, 0.5, share), lead, 0, product))
        for role, base_fen, factor, clawback, product in parts:
            earned = product.format(f"{base_fen / 100:.2f}", f"{factor:g}")
            rows.append(
                {
                    "role": role,
                    "outlet_id": outlet,
                    "activations": sold,
                    "base_fen": base_fen,
                    "target": target,
                    "attainment": reached,
                    "factor": factor,
                    "clawback_fen": clawback,
                    "amount_fen": _fen(base_fen, factor) + clawback,
                    "explanation": said.BETWEEN.join([earned, *_said(clawback)]),
                }
            )
    return rows


def _factor(steps: tuple[Attainment, ...], reached: float | None, below: float) -> float:
    if reached is None:
        return 1.0
    passed = [step for step in steps if reached >= step.at]
    return max(passed, key=lambda step: step.at).factor if passed else below


def _said(clawback: int) -> list[str]:
    if not clawback:
        return []
    sentence = said.GIVEN_BACK if clawback > 0 else said.TAKEN_BACK
    return [sentence.format(f"{abs(clawback) / 100:.2f}")]


def _yuan(fen: str) -> pl.Expr:
    return (pl.col(fen) / 100).cast(pl.Decimal(scale=2))


def _fen(fen: int, *shares: float) -> int:
    """Whole fen of a product, half of one counting as one; shares as people write them: 1.15 times
    50 is 57.5, which binary fractions miss."""
    amount = Decimal(fen)
    for share in shares:
        amount *= Decimal(repr(share))
    return int(amount.to_integral_value(ROUND_HALF_UP))


def assessment(marks: pl.DataFrame, sales: pl.DataFrame, weights: Assessment) -> pl.DataFrame:
    """A row a hall of `marks` (outlet_id, target, inspection, satisfaction, complaints).

    sales_score = 100 × sales / target up to 100; service_score = mean of the three marks.
    """
    whole = weights.sales + weights.service
    return (
        marks.join(sales.select("outlet_id", "sales"), on="outlet_id", how="left")
        .with_columns(pl.col("sales").fill_null(0))
        .with_columns(
            sales_score=(100 * pl.col("sales") / pl.col("target")).clip(0, 100),
            service_score=pl.mean_horizontal("inspection", "satisfaction", "complaints"),
        )
        .with_columns(
            score=(
                pl.col("sales_score") * weights.sales + pl.col("service_score") * weights.service
            )
            / whole
        )
    )


def covered(counts: pl.DataFrame) -> set[date]:
    """The days of which every exchange has its records.

    `counts`: exchange, day, rows (any number of rows an exchange and day, which add up). A day on
    which an exchange has less than half of its own median day is not covered, and neither is one of
    which it has nothing: its files may be missing, late or cut short. A wrong "not covered" costs
    a claw-back that may be made up for; a wrong "covered" takes money from an honest seller.
    """
    if counts.is_empty():
        return set()
    days = counts.group_by("exchange", "day").agg(pl.col("rows").sum())
    enough = days.filter(pl.col("rows") >= pl.col("rows").median().over("exchange") * _ENOUGH)
    full = enough.group_by("day").agg(exchanges=pl.col("exchange").n_unique())
    exchanges = days["exchange"].n_unique()
    return set(full.filter(pl.col("exchanges") == exchanges)["day"])
