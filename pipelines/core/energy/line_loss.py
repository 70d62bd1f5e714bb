"""Line loss: balances up the grid's tree, what is high or unknown, and what physics expects.

Energies are whole microwatt-hours (see `energy`). Which readings count is in `overlaps`; reading
files, shuffling and writing live in `pipelines.batch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.core.energy.proration import MICRO
from schemas import sentences as said

LEVELS = ("region", "voltage", "feeder", "transformer_area")

#: A loss rate above this is `high`; a file `loss_thresholds` (level, threshold) replaces them.
THRESHOLDS: Mapping[str, float] = {
    "region": 0.08,
    "voltage": 0.08,
    "feeder": 0.08,
    "transformer_area": 0.07,
}


@dataclass(frozen=True, slots=True)
class GridNode:
    """A unit of the grid; parent_id is "" at the top."""

    unit_id: str
    level: str
    parent_id: str


@dataclass(slots=True)
class Energy:
    """What one unit's own readings add up to, in µWh; supplied is None without a reading.

    `meters` are its customers' meters known of the month or the one before, `meters_read` those
    with a usable reading.
    """

    supplied: int | None = None
    sold: int = 0
    estimated: int = 0
    meters: int = 0
    meters_read: int = 0


@dataclass(slots=True)
class Loss:
    """One row of line_loss: energies in µWh, None where unknown."""

    unit: GridNode
    supplied: int | None
    sold: int
    transferred: int = 0
    own_loss: int | None = None
    sold_total: int | None = 0
    loss: int | None = None
    estimated_total: int = 0
    meters: int = 0
    meters_read: int = 0
    status: str = "ok"
    reasons: list[str] = field(default_factory=list)

    @property
    def loss_rate(self) -> float | None:
        """loss / supplied, None where nothing was supplied."""
        return self.loss / self.supplied if self.loss is not None and self.supplied else None

    @property
    def read_share(self) -> float | None:
        """The share of the subtree's meters that were read, None where it has none."""
        return self.meters_read / self.meters if self.meters else None

    @property
    def estimated_share(self) -> float | None:
        """The estimated part of the energy sold in the subtree, None where none was sold."""
        if not self.sold_total:
            return None
        return self.estimated_total / self.sold_total


def loops(units: Mapping[str, GridNode]) -> dict[str, str]:
    """unit_id → the loop it lies on, written out ("A > B > A"); units merely below one are not."""
    found: dict[str, str] = {}
    done: set[str] = set()
    for start in units:
        path: dict[str, int] = {}
        here = start
        while here in units and here not in done and here not in path:
            path[here] = len(path)
            here = units[here].parent_id
        if here in path:
            ring = list(path)[path[here] :]
            first = ring.index(min(ring))
            ring = ring[first:] + ring[:first]
            found.update(dict.fromkeys(ring, " > ".join([*ring, ring[0]])))
        done.update(path)
    return found


def _top_down(
    units: Mapping[str, GridNode], cut: Mapping[str, str]
) -> tuple[list[str], dict[str, list[str]]]:
    """All units, parents before their children, and the children of each; loops are cut open."""
    children: dict[str, list[str]] = {unit_id: [] for unit_id in units}
    order = []
    for unit in units.values():
        if unit.unit_id not in cut and unit.parent_id in units:
            children[unit.parent_id].append(unit.unit_id)
        else:
            order.append(unit.unit_id)
    for unit_id in order:  # grows while it is walked
        order.extend(children[unit_id])
    return order, children


def line_loss(
    units: Mapping[str, GridNode],
    energy: Mapping[str, Energy],
    thresholds: Mapping[str, float] = THRESHOLDS,
    *,
    least_read: float = 0.0,
    unfinished: str = "",
) -> list[Loss]:
    """Every unit's balance, parents before children.

    A parent that is not among the units makes its child a top unit; a unit on a loop keeps its own
    figures and is skipped: what its tree holds cannot be known. Sums are added, rates divided last.
    Where less than the share `least_read` of the meters was read, or the data are `unfinished`
    (why, in words), the loss may be a gap: it is shown, and the unit is incomplete.
    """
    cut = loops(units)
    order, children = _top_down(units, cut)
    nothing = Energy()
    losses: dict[str, Loss] = {}
    for unit_id in reversed(order):
        unit, own = units[unit_id], energy.get(unit_id, nothing)
        row = Loss(unit, own.supplied, own.sold)
        below = [losses[child] for child in children[unit_id]]
        row.transferred = sum(child.supplied or 0 for child in below)
        row.sold_total = own.sold + sum(child.sold_total or 0 for child in below)
        row.estimated_total = own.estimated + sum(child.estimated_total for child in below)
        row.meters = own.meters + sum(child.meters for child in below)
        row.meters_read = own.meters_read + sum(child.meters_read for child in below)
        if own.supplied is not None:
            row.loss = own.supplied - row.sold_total
        unread = sum(child.supplied is None for child in below)
        if own.supplied is not None and not unread:
            row.own_loss = own.supplied - row.transferred - own.sold
        _judge(row, unread, len(below), cut.get(unit_id), thresholds)
        gaps = [unfinished] if unfinished else []
        if row.read_share is not None and row.read_share < least_read:
            gaps.append(said.METERS_READ.format(row.meters_read, row.meters))
        if gaps and row.status != "skipped":
            row.status, row.reasons = "incomplete", [*gaps, *row.reasons]
        if unit.parent_id and unit.parent_id not in units:
            row.reasons.append(said.PARENT_UNKNOWN.format(unit.parent_id))
        losses[unit_id] = row
    return [losses[unit_id] for unit_id in order]


def _judge(
    row: Loss, unread: int, children: int, loop: str | None, thresholds: Mapping[str, float]
) -> None:
    """Set the status, and the reasons a person can act on."""
    if loop is not None:
        row.status = "skipped"
        row.reasons.append(said.LOOP.format(loop))
        row.own_loss = row.loss = row.sold_total = None
        row.estimated_total = 0
        return
    rate = row.loss_rate
    limit = thresholds.get(row.unit.level)
    if row.loss is None:
        row.status = "skipped"
        row.reasons.append(said.NO_SUPPLY)
    elif row.loss < 0:
        row.status = "negative"
        row.reasons.append(said.OVERSOLD)
    elif rate is not None and limit is not None and rate > limit:
        row.status = "high"
        row.reasons.append(said.LOSS_OVER.format(f"{limit:.1%}"))
    if unread:
        row.reasons.append(said.OWN_LOSS_UNKNOWN.format(unread, children))


@dataclass(frozen=True, slots=True)
class Conductor:
    """What a unit's line and transformer are made of; `shape` is RMS over mean of its current."""

    resistance_ohm: float
    voltage_kv: float
    power_factor: float = 0.95
    shape: float = 1.05
    no_load_kw: float = 0.0

    def loss(self, supplied_kwh: float, hours: float) -> float:
        """kWh lost in passing on `supplied_kwh` in `hours`: 3·(shape·I)²·R plus the iron's share.

        The method of the mean current: I = P / (√3·U·cos φ) of the three phases.
        """
        current = supplied_kwh / hours / (3**0.5 * self.voltage_kv * self.power_factor)
        copper_kw = 3 * (self.shape * current) ** 2 * self.resistance_ohm / 1000
        return (copper_kw + self.no_load_kw) * hours


def to_columns(
    losses: Sequence[Loss],
    lines: Mapping[str, Conductor] | None = None,
    hours: float = 1.0,
) -> dict[str, list[object]]:
    """The rows of line_loss by column, energies in kWh; `hours` is the length of the month."""

    def kwh(value: int | None) -> float | None:
        return None if value is None else value / MICRO

    def in_theory(row: Loss) -> float | None:
        line, supplied = (lines or {}).get(row.unit.unit_id), kwh(row.supplied)
        return None if line is None or supplied is None else line.loss(supplied, hours)

    theory = [in_theory(row) for row in losses]
    return {
        "level": [row.unit.level for row in losses],
        "unit_id": [row.unit.unit_id for row in losses],
        "parent_id": [row.unit.parent_id for row in losses],
        "supplied_kwh": [kwh(row.supplied) for row in losses],
        "transferred_kwh": [kwh(row.transferred) for row in losses],
        "sold_kwh": [kwh(row.sold) for row in losses],
        "own_loss_kwh": [kwh(row.own_loss) for row in losses],
        "sold_total_kwh": [kwh(row.sold_total) for row in losses],
        "loss_kwh": [kwh(row.loss) for row in losses],
        "loss_rate": [row.loss_rate for row in losses],
        "estimated_share": [row.estimated_share for row in losses],
        "read_share": [row.read_share for row in losses],
        "meters": [row.meters for row in losses],
        "meters_read": [row.meters_read for row in losses],
        "status": [row.status for row in losses],
        "reason": [said.BETWEEN.join(row.reasons) for row in losses],
        "theoretical_kwh": list(theory),
        "unexplained_kwh": [
            None if physics is None or row.own_loss is None else row.own_loss / MICRO - physics
            for row, physics in zip(losses, theory, strict=True)
        ],
    }
