"""The power company beside the operator: a grid with its meters, customers with bills and payments,
for the month in which most of the city's days lie. Modest in size, with thieves, broken meters,
late payers and a bank that books some days wrongly; those planted are in truth/utility.csv.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import polars as pl

from pipelines.simulate.plan import LOCAL, CityPlan, seeded
from pipelines.simulate.truth import write_csv

_FEN_PER_KWH = 52
_MONTHS = 6
#: Share of customers, mean kWh a month and chance of paying late, by segment.
_SEGMENTS = {
    "residential": (0.80, 210, 0.08),
    "commercial": (0.13, 1_900, 0.12),
    "industrial": (0.04, 26_000, 0.10),
    "property_manager": (0.02, 8_000, 0.30),
    "demolition_site": (0.01, 4_000, 0.60),
}
#: Registers of those who pay by the hour, with their shares of what is used.
_REGISTERS = (("peak", 0.45), ("flat", 0.35), ("valley", 0.2))
#: What a roof feeds in, beside what is used below it.
_FED_IN = 0.3
_CHANNELS = ("counter", "bank", "wechat", "alipay", "agent")


@dataclass
class CityUnit:
    id: str
    level: str
    parent: str
    supplied: float = 0.0


@dataclass
class Customer:
    """`kwh` a month are used; some pay by the hour, some feed in, of some nobody reads the meter
    any more."""

    id: str
    unit: str
    segment: str
    hall: str
    kwh: float
    by_the_hour: bool
    fed_in: float
    unread: bool


@dataclass
class Grid:
    """`units` run from the region down; `planted` is (what, id)."""

    units: list[CityUnit] = field(default_factory=list)
    customers: list[Customer] = field(default_factory=list)
    planted: list[tuple[str, str]] = field(default_factory=list)


def write_utility(plan: CityPlan, folder: Path) -> None:
    """The input files of the batch jobs; customer readings in Parquet, all else in CSV."""
    rng = seeded(plan.seed, "utility")
    month = (plan.start + timedelta(days=plan.days // 2)).replace(day=1)
    grid = _grid(rng, areas=max(4, min(60, plan.outlets // 60)))
    write_csv(
        folder / "grid_units.csv",
        ("unit_id", "level", "parent_id", "name"),
        ((u.id, u.level, u.parent, f"{u.level} {u.id}") for u in grid.units),
    )
    write_csv(
        folder / "boundary_readings.csv",
        ("meter_id", "unit_id", "direction", "start", "end", "kwh", "quality"),
        _boundary_readings(rng, grid, month),
    )
    folder.mkdir(parents=True, exist_ok=True)
    columns = (
        *("meter_id", "customer_id", "unit_id", "start", "end", "kwh", "quality"),
        *("register", "direction"),
    )
    kinds = dict.fromkeys(columns, pl.String) | {"kwh": pl.Float64}
    readings = pl.DataFrame(list(_customer_readings(rng, grid, month)), kinds, orient="row")
    readings.write_parquet(folder / "customer_readings.parquet")
    write_csv(
        folder / "customers.csv",
        ("customer_id", "segment", "hall_id"),
        ((c.id, c.segment, c.hall) for c in grid.customers),
    )
    _write_money(seeded(plan.seed, "money"), grid, month, folder)
    write_csv(folder.parent / "truth" / "utility.csv", ("planted", "id"), sorted(grid.planted))


def _grid(rng: Random, areas: int) -> Grid:
    """Region, two voltages, feeders of five transformer areas with 25 customers each."""
    grid = Grid()
    region = CityUnit("R1", "region", "")
    voltages = [CityUnit(f"V{n}", "voltage", "R1") for n in (1, 2)]
    feeders = [
        CityUnit(f"F{n:02d}", "feeder", voltages[n % 2].id) for n in range(1, -(-areas // 5) + 1)
    ]
    leaves = [
        CityUnit(f"T{n + 1:03d}", "transformer_area", feeders[n // 5].id) for n in range(areas)
    ]
    for unit in leaves:
        grid.customers += _customers(rng, unit, len(grid.customers))
    sold: defaultdict[str, float] = defaultdict(float)
    for customer in grid.customers:
        sold[customer.unit] += customer.kwh
    for number, unit in enumerate(leaves):
        loss = rng.uniform(0.03, 0.06)
        if number % 11 == 3:
            loss = rng.uniform(0.15, 0.3)
            grid.planted.append(("theft", unit.id))
        elif number % 17 == 2:
            loss = -0.04
            grid.planted.append(("negative_loss", unit.id))
        unit.supplied = sold[unit.id] / (1 - loss)
    for level, loss in ((feeders, 0.03), (voltages, 0.02), ([region], 0.015)):
        for unit in level:
            below = [u for u in (*leaves, *feeders, *voltages) if u.parent == unit.id]
            unit.supplied = sum(u.supplied for u in below) / (1 - rng.uniform(0.5, 1.5) * loss)
    grid.units = [region, *voltages, *feeders, *leaves]
    return grid


def _customers(rng: Random, unit: CityUnit, known: int) -> Iterator[Customer]:
    names = list(_SEGMENTS)
    for number in range(known + 1, known + 26):
        segment = rng.choices(names, [share for share, _, _ in _SEGMENTS.values()])[0]
        kwh = round(_SEGMENTS[segment][1] * rng.lognormvariate(0, 0.4), 2)
        yield Customer(
            f"K{number:06d}",
            unit.id,
            segment,
            f"H{rng.randrange(1, 7)}",
            kwh,
            by_the_hour=segment in {"commercial", "industrial"} and number % 3 == 0,
            fed_in=round(_FED_IN * kwh, 2) if segment == "residential" and number % 25 == 7 else 0,
            unread=number % 151 == 13,
        )


def _next_month(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=LOCAL)


def _boundary_readings(rng: Random, grid: Grid, month: date) -> Iterator[tuple[object, ...]]:
    """Three readings a meter, the first begins and the last ends outside the month."""
    begin, end = month, _next_month(month)
    fed_in: defaultdict[str, float] = defaultdict(float)
    for customer in grid.customers:
        fed_in[customer.unit] += customer.fed_in
    cuts = [begin - timedelta(2), begin + timedelta(9), begin + timedelta(19), end + timedelta(3)]
    per_day = (end - begin).days
    for number, unit in enumerate(grid.units):
        if unit.level == "transformer_area" and number % 19 == 12:
            grid.planted.append(("no_supply_reading", unit.id))
            continue
        flows = [("in", unit.supplied - fed_in[unit.id])]
        if unit.level in {"region", "voltage"}:  # What passes through is metered twice.
            through = unit.supplied * rng.uniform(0.02, 0.1)
            flows = [("in", unit.supplied + through), ("out", through)]
        for direction, kwh in flows:
            for first, last in pairwise(cuts):
                used = round(kwh / per_day * (last - first).days, 3)
                quality = "estimated" if rng.random() < 0.03 else "measured"
                meter = f"M-{unit.id}-{direction}"
                row = (meter, unit.id, direction, _midnight(first), _midnight(last), used, quality)
                written = (*row[:3], row[3].isoformat(), row[4].isoformat(), *row[5:])
                yield written
                if rng.random() < 0.02:
                    yield written
    yield ("M-R1-in", "R1", "in", _midnight(begin).isoformat(), "", "n/a", "measured")


def _customer_readings(rng: Random, grid: Grid, month: date) -> Iterator[tuple[object, ...]]:
    """A reading a register of each customer's meter and month, or two that meet on a day within it;
    and one of the month before."""
    begin, end = month, _next_month(month)
    before, days = (begin - timedelta(days=1)).replace(day=1), (end - begin).days
    for customer in grid.customers:
        cuts = [begin, end] if rng.random() < 0.8 else [begin, begin + timedelta(14), end]
        if customer.unread:
            grid.planted.append(("unread", customer.id))
            cuts = [begin]
        for first, last in pairwise([before, *cuts]):
            share = (last - first).days / days
            quality = "measured"
            if first >= begin:
                quality = rng.choices(("measured", "estimated", "missing"), (955, 40, 5))[0]
            if quality == "missing":
                grid.planted.append(("missing_reading", customer.id))
            span = (_midnight(first).isoformat(), _midnight(last).isoformat())
            for register, direction, used in _registers(customer):
                kwh = None if quality == "missing" else round(used * share, 3)
                meter = customer.id.replace("K", "M"), customer.id, customer.unit
                row = (*meter, *span, kwh, quality, register, direction)
                yield row
                if rng.random() < 0.01:
                    yield row


def _registers(customer: Customer) -> Iterator[tuple[str | None, str, float]]:
    """(register, direction, kWh a month) of a meter."""
    if customer.by_the_hour:
        yield from ((name, "use", customer.kwh * share) for name, share in _REGISTERS)
    else:
        yield None, "use", customer.kwh
    if customer.fed_in:
        yield None, "feed_in", customer.fed_in


def _write_money(rng: Random, grid: Grid, month: date, folder: Path) -> None:
    """Bills of six months to the one given, their payments, and what the channels say they took."""
    months = [month]
    while len(months) < _MONTHS:
        months.insert(0, (months[0] - timedelta(days=1)).replace(day=1))
    last_day = _next_month(month) - timedelta(days=1)
    bills: list[tuple[object, ...]] = []
    payments: list[tuple[object, ...]] = []
    stated: Counter[tuple[date, str]] = Counter()
    counted: Counter[tuple[date, str]] = Counter()
    for customer in grid.customers:
        lateness = _SEGMENTS[customer.segment][2]
        for period in months:
            amount = round(customer.kwh * rng.uniform(0.8, 1.2) * _FEN_PER_KWH)
            issued = _next_month(period) - timedelta(days=30)
            due = issued + timedelta(days=20)
            bill = f"BILL{len(bills) + 1:07d}"
            bills.append(
                (
                    bill,
                    customer.id,
                    f"{period:%Y-%m}",
                    issued,
                    due if rng.random() < 0.98 else "",
                    amount,
                )
            )
            for paid_on, part in _instalments(rng, lateness, issued, due, amount):
                if paid_on > last_day:
                    continue
                channel = rng.choice(_CHANNELS)
                named = bill if rng.random() < 0.85 else ""
                row = (f"PAY{len(payments) + 1:07d}", customer.id, named, paid_on, part, channel)
                payments.append(row)
                stated[paid_on, channel] += part
                counted[paid_on, channel] += 1
    repeated = rng.sample(payments, len(payments) // 200)
    refused = ("PAY-BAD", grid.customers[0].id, "", month, "12.5 yuan", "counter")
    write_csv(
        folder / "bills.csv",
        ("bill_id", "customer_id", "billing_period", "issued_on", "due_on", "amount_fen"),
        bills,
    )
    write_csv(
        folder / "payments.csv",
        ("payment_id", "customer_id", "bill_id", "paid_on", "amount_fen", "channel"),
        [*payments, *repeated, refused],
    )
    write_csv(
        folder / "channel_statements.csv",
        ("day", "channel", "amount_fen", "payments"),
        _statements(rng, grid, stated, counted),
    )


def _instalments(
    rng: Random, lateness: float, issued: date, due: date, amount: int
) -> list[tuple[date, int]]:
    mood = rng.random()
    if mood < lateness / 3:
        return []
    if mood < lateness:
        return [(due + timedelta(days=rng.randrange(1, 80)), amount)]
    on = issued + timedelta(days=rng.randrange(20))
    if mood < lateness + 0.05:
        return [(on, amount // 3), (on + timedelta(days=9), amount - amount // 3)]
    if mood < lateness + 0.08:  # Some pay ahead.
        return [(on, amount + 1_000)]
    return [(on, amount)]


def _statements(
    rng: Random,
    grid: Grid,
    stated: Counter[tuple[date, str]],
    counted: Counter[tuple[date, str]],
) -> Iterator[tuple[object, ...]]:
    for day, channel in sorted(stated):
        amount, payments = stated[day, channel], counted[day, channel]
        fate = rng.random()
        if fate < 0.01:
            grid.planted.append(("statement_missing", f"{day}/{channel}"))
            continue
        if fate < 0.02:
            grid.planted.append(("statement_doubled", f"{day}/{channel}"))
            amount, payments = amount * 2, payments * 2
        elif fate < 0.03:
            grid.planted.append(("statement_differs", f"{day}/{channel}"))
            amount += 500
        yield day, channel, amount, payments
