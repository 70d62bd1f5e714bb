"""The city as the operator's reference tables know it: territories, cells, wholesalers, outlets,
who holds which outlet from when, and the registered SIMs. Nothing happens here.

A SIM is its index: batches lie one after another, and `lane` tells which neighbours in that order
have neighbouring ICCIDs too.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random

from pipelines.simulate.demand import KINDS, SKUS, Kind
from pipelines.simulate.plan import HOUR_MS, CityPlan, iso, seeded
from pipelines.simulate.truth import write_csv

_STREETS = (
    ("建国路", "Jianguo Rd"),
    ("人民路", "Renmin Rd"),
    ("解放路", "Jiefang Rd"),
    ("中山路", "Zhongshan Rd"),
    ("长江路", "Changjiang Rd"),
    ("文化街", "Wenhua St"),
    ("和平里", "Hepingli"),
    ("青年街", "Qingnian St"),
    ("站前", "Station Sq"),
    ("东市", "East Market"),
)
_SURNAMES = ("王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴")
_PINYIN = ("Wang", "Li", "Zhang", "Liu", "Chen", "Yang", "Zhao", "Huang", "Zhou", "Wu")
_MOBILE_PREFIXES = (135, 136, 137, 138, 139, 150, 151, 158, 159, 182, 187, 188)
DISTRICTS = 3
_CELLS = 4
AWAY = "AWAY"


@dataclass(frozen=True)
class CityWholesaler:
    id: str
    name: str
    phone: str
    backup_phone: str
    language: str
    county: int


@dataclass(frozen=True)
class CityOutlet:
    """`demand` is mean SIMs a day by SKU number, for the SKUs it carries."""

    id: str
    name: str
    kind: Kind
    county: int
    district: int
    opened_on: date
    closed_on: date | None
    demand: dict[int, float]


@dataclass(frozen=True)
class CityBatch:
    """SIMs `first` … `first + count - 1` of the city; same `lane`: ICCIDs run on."""

    id: str
    sku: int
    first_iccid: int
    first_imsi: int
    count: int
    first: int
    lane: int


@dataclass
class City:
    """All of the reference tables, by number; `holders[outlet]` is (valid_from ms, wholesaler)."""

    districts: list[str]
    cells: list[str]
    wholesalers: list[CityWholesaler]
    outlets: list[CityOutlet]
    holders: list[list[tuple[int, int]]]
    batches: list[CityBatch]
    #: Outlets whose SIMs are mostly carried off to other counties.
    diverting: set[int]
    _firsts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._firsts = [batch.first for batch in self.batches]

    @property
    def sims(self) -> int:
        return self.batches[-1].first + self.batches[-1].count

    def batch_of(self, sim: int) -> CityBatch:
        return self.batches[bisect_right(self._firsts, sim) - 1]

    def iccid(self, sim: int) -> str:
        batch = self.batch_of(sim)
        return str(batch.first_iccid + sim - batch.first)

    def imsi(self, sim: int) -> int:
        batch = self.batch_of(sim)
        return batch.first_imsi + sim - batch.first

    def holder(self, outlet: int, at: int) -> int | None:
        """The wholesaler assigned to the outlet at a time, None where nobody is."""
        latest = None
        for valid_from, wholesaler in self.holders[outlet]:
            if valid_from <= at:
                latest = wholesaler
        return latest

    def county(self, county: int) -> range:
        """The district numbers of a county."""
        return range(county * DISTRICTS, (county + 1) * DISTRICTS)

    def cells_of(self, district: int) -> range:
        """Cell numbers of a district; the one after the last district is elsewhere."""
        return range(district * _CELLS, (district + 1) * _CELLS)


def build_city(plan: CityPlan) -> City:
    """Draw a city; the same plan draws the same one."""
    rng = seeded(plan.seed, "city")
    districts = [
        f"C{c:02d}-{d}" for c in range(1, plan.territories + 1) for d in range(1, DISTRICTS + 1)
    ]
    wholesalers = _wholesalers(plan, rng)
    outlets = [_outlet(plan, rng, i) for i in range(plan.outlets)]
    return City(
        districts=districts,
        cells=[f"{d}.{n}" for d in [*districts, AWAY] for n in range(1, _CELLS + 1)],
        wholesalers=wholesalers,
        outlets=outlets,
        holders=_holders(plan, rng, outlets, wholesalers),
        batches=_batches(plan, rng, outlets),
        diverting=_diverting(plan, rng, outlets),
    )


def _language(county: int) -> str:
    return "en" if county % 4 == 3 else "zh"


def _wholesalers(plan: CityPlan, rng: Random) -> list[CityWholesaler]:
    # Drawn without repeats: two wholesalers on one phone would read each other's messages.
    phones = rng.sample(range(len(_MOBILE_PREFIXES) * 10**8), plan.wholesalers * 2)
    made = []
    for i in range(plan.wholesalers):
        county = i % plan.territories
        language = _language(county)
        who = rng.randrange(len(_SURNAMES))
        name = f"{_SURNAMES[who]}记批发" if language == "zh" else f"{_PINYIN[who]} Wholesale"
        phone, backup = (
            f"+86{_MOBILE_PREFIXES[n // 10**8]}{n % 10**8:08d}" for n in phones[2 * i : 2 * i + 2]
        )
        kept = backup if rng.random() < 0.7 else ""
        made.append(
            CityWholesaler(f"W{i + 1:03d}", f"{name} {i + 1}", phone, kept, language, county)
        )
    return made


def _outlet(plan: CityPlan, rng: Random, number: int) -> CityOutlet:
    # Every city has a few halls and partner halls, however small it is.
    early = (0, 1, 2, 2)
    kind = KINDS[early[number]] if number < 4 else rng.choices(KINDS, [k.share for k in KINDS])[0]
    district = rng.randrange(plan.territories * DISTRICTS)
    county = district // DISTRICTS
    zh, en = _STREETS[rng.randrange(len(_STREETS))]
    door = rng.randrange(1, 400)
    name = (
        f"{en} {door} {kind.name.replace('_', ' ')}"
        if _language(county) == "en"
        else f"{zh}{door}号{kind.zh}"
    )
    opened_on = plan.start - timedelta(days=rng.randrange(30, 3_000))
    closed = rng.random() < 0.01 and number >= 4
    carried = sorted(rng.sample(range(len(SKUS)), rng.choices((1, 2, 3), kind.carries)[0]))
    daily = kind.daily * rng.uniform(0.5, 1.5)
    weights = {sku: (5, 3, 2)[sku] * rng.uniform(0.7, 1.3) for sku in carried}
    total = sum(weights.values())
    return CityOutlet(
        id=f"O{number + 1:06d}",
        name=name,
        kind=kind,
        county=county,
        district=district,
        opened_on=opened_on,
        closed_on=plan.start - timedelta(days=rng.randrange(1, 20)) if closed else None,
        demand={} if closed else {sku: daily * w / total for sku, w in weights.items()},
    )


def _holders(
    plan: CityPlan, rng: Random, outlets: list[CityOutlet], wholesalers: list[CityWholesaler]
) -> list[list[tuple[int, int]]]:
    """One holder each from long ago, some with a predecessor; in every fourth county a wholesaler
    quits at 14:00 on the first day and another takes over; a very few outlets nobody holds."""
    of_county: list[list[int]] = [[] for _ in range(plan.territories)]
    for number, wholesaler in enumerate(wholesalers):
        of_county[wholesaler.county].append(number)
    takeover = plan.start_ms + 14 * HOUR_MS
    forgotten = set(rng.sample(range(4, len(outlets)), max(1, len(outlets) // 500)))
    holders: list[list[tuple[int, int]]] = []
    for number, outlet in enumerate(outlets):
        local = of_county[outlet.county]
        held = rng.choice(local)
        spans = [(plan.start_ms - rng.randrange(100, 400) * 24 * HOUR_MS, held)]
        if rng.random() < 0.1:
            spans.insert(0, (spans[0][0] - 200 * 24 * HOUR_MS, rng.choice(local)))
        quits = outlet.county % 4 == 0 and held == local[0]
        if len(local) > 1 and (quits or rng.random() < 0.01):
            spans.append((takeover, local[1] if held == local[0] else local[0]))
        holders.append([] if number in forgotten else spans)
    return holders


def _batches(plan: CityPlan, rng: Random, outlets: list[CityOutlet]) -> list[CityBatch]:
    """Three batches a SKU. Some are neighbours by ICCID and IMSI, some by ICCID alone, some share
    a thousand IMSIs with other subscribers' between them: every way a range can be cut wrongly."""
    made: list[CityBatch] = []
    imsi = 460_001_230_004_321 + rng.randrange(10**6)
    next_iccid = 0
    for sku, name in enumerate(SKUS):
        daily = sum(o.demand.get(sku, 0.0) for o in outlets)
        shelves = sum(sku in o.demand for o in outlets)
        wanted = int(daily * (5 + 2 * plan.days)) + 10 * shelves + 400
        for part, share in enumerate((0.45, 0.30, 0.25)):
            count = int(wanted * share) + 17
            count += count % 1_000 == 0
            runs_on = (sku, part) in {(0, 1), (1, 0), (2, 1)}
            if not runs_on:
                # The third SKU's cards have 20 digits.
                stem = 89_860_1 if sku == 2 else 8_986_0
                digits = 14
                next_iccid = stem * 10**digits + (len(made) + 1) * 10**10 + rng.randrange(10**9)
            if not (runs_on and sku != 1):
                imsi += 40 if part else 60_000 + rng.randrange(10**5)
            first = made[-1].first + made[-1].count if made else 0
            lane = made[-1].lane + (not runs_on) if made else 0
            batch_id = f"B{len(made) + 1:02d}-{name}"
            made.append(CityBatch(batch_id, sku, next_iccid, imsi, count, first, lane))
            next_iccid += count
            imsi += count
    return made


def _diverting(plan: CityPlan, rng: Random, outlets: list[CityOutlet]) -> set[int]:
    if plan.territories == 1:
        return set()
    busy = [
        i
        for i, o in enumerate(outlets)
        if o.kind.name in {"phone_shop", "partner_hall"}
        if o.demand
    ]
    return set(rng.sample(busy, min(len(busy), max(2, plan.outlets // 150))))


def write_reference(city: City, plan: CityPlan, folder: Path) -> None:
    """The six reference tables as CSV."""
    counties = range(1, plan.territories + 1)
    write_csv(
        folder / "territories.csv",
        ("territory_id", "name", "parent_id"),
        [
            ("CITY", "清江市", ""),
            *((f"C{c:02d}", f"第{c}区", "CITY") for c in counties),
            *((d, f"第{int(d[1:3])}区{d[-1]}片", d[:3]) for d in city.districts),
            (AWAY, "外地", ""),
        ],
    )
    write_csv(
        folder / "cells.csv",
        ("cell_id", "territory_id"),
        ((cell, cell.split(".")[0]) for cell in city.cells),
    )
    write_csv(
        folder / "wholesalers.csv",
        ("wholesaler_id", "name", "phone", "backup_phone", "language"),
        ((w.id, w.name, w.phone, w.backup_phone, w.language) for w in city.wholesalers),
    )
    write_csv(
        folder / "outlets.csv",
        ("outlet_id", "name", "kind", "territory_id", "opened_on", "closed_on"),
        (
            (o.id, o.name, o.kind.name, city.districts[o.district], o.opened_on, o.closed_on or "")
            for o in city.outlets
        ),
    )
    write_csv(
        folder / "assignments.csv",
        ("outlet_id", "wholesaler_id", "valid_from"),
        (
            (city.outlets[number].id, city.wholesalers[holder].id, iso(valid_from))
            for number, spans in enumerate(city.holders)
            for valid_from, holder in spans
        ),
    )
    write_csv(
        folder / "sim_batches.csv",
        ("batch_id", "sku", "first_iccid", "first_imsi", "count"),
        ((b.id, SKUS[b.sku], b.first_iccid, b.first_imsi, b.count) for b in city.batches),
    )
