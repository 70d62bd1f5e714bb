"""The reference tables: who and what there is, and who held what when."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from schemas.cards import CardList, IccidSeries, iccid_in, series_of
from schemas.errors import InputError
from schemas.fields import Count, EmptyIsNone, Iccid, Identifier, Imsi, Phone, Time
from schemas.hand_over import HandOver, Holding, Takeover, take_over
from schemas.service.rules import ServiceRules

_Day = Annotated[date | None, EmptyIsNone]


class _Row(BaseModel):
    """A row; without a right value in a `dispensable` field it is a row all the same."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dispensable: ClassVar[frozenset[str]] = frozenset()


class Territory(_Row):
    """A part of the city; `parent_id` is the part that it belongs to."""

    territory_id: Identifier
    name: str
    parent_id: Annotated[Identifier | None, EmptyIsNone] = None


class SimCard(_Row):
    """A card whose number follows no rule."""

    iccid: Iccid
    imsi: Imsi
    sku: Identifier


class Cell(_Row):
    """A radio cell."""

    cell_id: Identifier
    territory_id: Identifier


class Wholesaler(_Row):
    """Who refills outlets; phones in E.164."""

    dispensable: ClassVar[frozenset[str]] = frozenset({"phone", "backup_phone"})

    wholesaler_id: Identifier
    name: str
    phone: Annotated[Phone | None, EmptyIsNone] = None
    backup_phone: Annotated[Phone | None, EmptyIsNone] = None
    language: Annotated[str | None, EmptyIsNone] = None


class Outlet(_Row):
    """A shop that sells SIM cards."""

    outlet_id: Identifier
    name: str
    kind: str
    territory_id: Annotated[Identifier | None, EmptyIsNone] = None
    opened_on: _Day = None
    closed_on: _Day = None


class Assignment(_Row):
    """From `valid_from` (ms) on, a wholesaler holds an outlet."""

    outlet_id: Identifier
    wholesaler_id: Identifier
    valid_from: Time


class Unit(_Row):
    """A hall, team, district or call centre; `parent_id` is who hears when it does not act."""

    dispensable: ClassVar[frozenset[str]] = frozenset({"phone"})

    unit_id: Identifier
    name: str
    kind: str
    parent_id: Annotated[Identifier | None, EmptyIsNone] = None
    phone: Annotated[Phone | None, EmptyIsNone] = None
    language: Annotated[str | None, EmptyIsNone] = None


class ServiceTarget(_Row):
    """What a figure of the service side shall be, for a unit; without one for all."""

    unit_id: Annotated[Identifier | None, EmptyIsNone] = None
    kpi: Identifier
    target: float


class SimBatch(_Row):
    """The i-th SIM has `first_imsi + i` and the i-th ICCID after `first_iccid`."""

    batch_id: Identifier
    sku: Identifier
    first_iccid: Iccid
    first_imsi: Imsi
    check_digit: Annotated[Literal["luhn"] | None, EmptyIsNone] = None
    count: Count

    @field_validator("check_digit")
    @classmethod
    def _is_right(cls, check_digit: str | None, others: ValidationInfo) -> str | None:
        if check_digit is not None and "first_iccid" in others.data:
            series_of(others.data["first_iccid"], luhn=True)
        return check_digit

    @field_validator("count")
    @classmethod
    def _numbers_do_not_run_out(cls, count: int, others: ValidationInfo) -> int:
        if not {"first_iccid", "first_imsi", "check_digit"} <= others.data.keys():
            return count  # wrong themselves
        iccid, imsi = others.data["first_iccid"], others.data["first_imsi"]
        series, number = series_of(iccid, luhn=others.data["check_digit"] is not None)
        try:
            iccid_in(series, number + count - 1)
        except ValueError:
            raise ValueError(f"there are no {count} numbers from first_iccid {iccid} on") from None
        if len(str(int(imsi) + count - 1)) > len(imsi):
            raise ValueError(f"there are no {count} numbers from first_imsi {imsi} on")
        return count

    @property
    def luhn(self) -> bool:
        """Whether ICCIDs end in a check digit."""
        return self.check_digit is not None

    @property
    def start(self) -> tuple[IccidSeries, int]:
        """The series of the ICCIDs, and the first's number there."""
        return series_of(self.first_iccid, luhn=self.luhn)


def network_of(imsis: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first five digits of each IMSI of 14 or 15: its country and network."""
    found: npt.NDArray[np.int64] = imsis // np.where(imsis < 10**14, 10**9, 10**10)
    return found


@dataclass
class Reference:
    """All reference tables of an exchange directory, with the look-ups that are asked of them."""

    territories: dict[str, Territory] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    wholesalers: dict[str, Wholesaler] = field(default_factory=dict)
    outlets: dict[str, Outlet] = field(default_factory=dict)
    assignments: list[Assignment] = field(default_factory=list)
    batches: list[SimBatch] = field(default_factory=list)
    hand_overs: list[HandOver] = field(default_factory=list)
    cards: CardList = field(default_factory=CardList)
    units: dict[str, Unit] = field(default_factory=dict)
    service_targets: dict[tuple[str, str], float] = field(default_factory=dict)
    service: ServiceRules = field(default_factory=ServiceRules)

    def __post_init__(self) -> None:
        self._take_over()
        self._holders: dict[str, tuple[list[int], list[str]]] = {}
        for row in sorted(self.assignments, key=lambda a: a.valid_from):
            times, holders = self._holders.setdefault(row.outlet_id, ([], []))
            times.append(row.valid_from)
            holders.append(row.wholesaler_id)
        self.batches.sort(key=lambda b: int(b.first_imsi))
        self._imsi_start = np.array([int(b.first_imsi) for b in self.batches], np.int64)
        self._imsi_end = self._imsi_start + np.array([b.count for b in self.batches], np.int64)
        self._networks = np.unique(network_of(np.append(self._imsi_start, self.cards.imsis)))
        self._by_iccid = sorted(self.batches, key=lambda b: b.start)
        self._iccid_start = [batch.start for batch in self._by_iccid]
        self._refuse_overlaps()

    def _take_over(self) -> None:
        """Let hand_overs become assignments."""
        holdings = [Holding(a.outlet_id, a.wholesaler_id, a.valid_from) for a in self.assignments]
        added, takeovers = take_over(holdings, self.hand_overs, self.territories_of)
        # Checked already, as parts of rows that were: models read times as text only.
        assigned = (Assignment.model_construct(**holding._asdict()) for holding in added)
        self.assignments = [*self.assignments, *assigned]
        self.takeovers = takeovers
        self._taken: dict[tuple[str, str], list[Takeover]] = {}
        for takeover in takeovers:
            key = takeover.wholesaler_id, takeover.outlet_id
            self._taken.setdefault(key, []).append(takeover)

    def _refuse_overlaps(self) -> None:
        for number in np.flatnonzero(self._imsi_start[1:] < self._imsi_end[:-1]):
            one, other = self.batches[number], self.batches[number + 1]
            raise InputError(
                f"sim_batches.csv: {one.batch_id} and {other.batch_id} have IMSIs in common"
            )
        starts = zip(self._iccid_start, self._by_iccid, strict=True)
        for (one_start, one), (other_start, other) in pairwise(starts):
            if one_start[0] == other_start[0] and one_start[1] + one.count > other_start[1]:
                raise InputError(
                    f"sim_batches.csv: {one.batch_id} and {other.batch_id} have ICCIDs in common"
                )

    def holder(self, outlet_id: str, at: int) -> str:
        """The wholesaler who holds an outlet at a time (ms); "" when nobody does."""
        times, holders = self._holders.get(outlet_id, ((), ()))
        index = bisect_right(times, at) - 1
        return holders[index] if index >= 0 else ""

    def successor(self, wholesaler_id: str, outlet_id: str, at: int) -> str:
        """Who acts at a time (ms) for a wholesaler who held an outlet: whoever took it over."""
        for takeover in self._taken.get((wholesaler_id, outlet_id), ()):
            if takeover.valid_from <= at and (takeover.until is None or at < takeover.until):
                return self.holder(outlet_id, at)
        return wholesaler_id

    def territories_of(self, outlet_id: str) -> tuple[str, ...]:
        """The outlet's territory and those it is part of, the smallest first."""
        outlet = self.outlets.get(outlet_id)
        found: dict[str, None] = {}
        here = outlet.territory_id if outlet is not None else None
        while here is not None and here not in found:  # a loop in the table is none of ours
            found[here] = None
            row = self.territories.get(here)
            here = row.parent_id if row is not None else None
        return tuple(found)

    def registered(self, imsis: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which IMSIs some batch or the list of cards holds; same shape."""
        if not self.batches:
            return self.cards.listed(imsis)
        index = np.searchsorted(self._imsi_start, imsis, side="right") - 1
        found = (index >= 0) & (imsis < self._imsi_end[index])
        return found | self.cards.listed(imsis) if len(self.cards) else found

    def own_network(self, imsis: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which IMSIs begin as that of some registered SIM, same shape; all while there is none."""
        if not len(self._networks):
            return np.ones(len(imsis), np.bool_)
        return np.isin(network_of(imsis), self._networks)

    def imsi_ranges(self, first_iccid: str, count: int) -> list[tuple[int, int]] | None:
        """The SIMs of consecutive ICCIDs as (first IMSI, count) by batch.

        None when some of them are in no batch.
        """
        for luhn in (False, True):
            try:
                series, number = series_of(first_iccid, luhn=luhn)
            except ValueError:
                continue
            if (ranges := self._ranges_in(series, number, count)) is not None:
                return ranges
        imsi = self.cards.imsi_of(first_iccid) if count == 1 else None
        return [(imsi, 1)] if imsi is not None else None

    def _ranges_in(
        self, series: IccidSeries, number: int, count: int
    ) -> list[tuple[int, int]] | None:
        ranges: list[tuple[int, int]] = []
        while count > 0:
            index = bisect_right(self._iccid_start, (series, number)) - 1
            if index < 0:
                return None
            batch, (of_batch, first) = self._by_iccid[index], self._iccid_start[index]
            offset = number - first
            if of_batch != series or offset >= batch.count:
                return None
            taken = min(count, batch.count - offset)
            ranges.append((int(batch.first_imsi) + offset, taken))
            number, count = number + taken, count - taken
        return ranges
