"""The channel's figures once more: one row at a time, in loops and dicts, sharing no arithmetic.

Slow and plain on purpose. It knows the files and the rows of the live tables, nothing of the job.
"""

from __future__ import annotations

import csv
import gzip
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import polars as pl

Row = dict[str, Any]
DAY = timedelta(days=1)
HALLS = {"hall", "own_hall", "partner_hall"}


@dataclass
class Rules:
    """What channel.toml says, spelt out by the test that wrote it."""

    promised: timedelta = timedelta(hours=24)
    fees: dict[str, float] = field(default_factory=dict)
    steps: list[tuple[float, float, float]] = field(default_factory=list)
    seller: list[tuple[float, float]] = field(default_factory=list)
    lead: list[tuple[float, float]] = field(default_factory=list)
    dead: int = 30
    silent: int = 15


class City:
    """What is known of a city: its files, and the rows of the live tables."""

    def __init__(self, root: Path, tables: dict[str, list[Row]], zone: tzinfo) -> None:
        self.zone = zone
        self.moves = sorted(tables["stock_movements"], key=lambda m: (m["at"], m["movement_id"]))
        self.incidents = tables["stock_incidents"]
        self.papers = [r for r in tables["registrations"] if r["complete"] == 1]
        self.wholesalers = [r["wholesaler_id"] for r in read(root / "reference/wholesalers.csv")]
        self.outlets = {r["outlet_id"]: r for r in read(root / "reference/outlets.csv")}
        self.territories = {
            r["territory_id"]: r["parent_id"] for r in read(root / "reference/territories.csv")
        }
        self.cells = {r["cell_id"]: r["territory_id"] for r in read(root / "reference/cells.csv")}
        self.assignments: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for r in read(root / "reference/assignments.csv"):
            begins = datetime.fromisoformat(r["valid_from"])
            self.assignments[r["outlet_id"]].append((begins, r["wholesaler_id"]))
        for spans in self.assignments.values():
            spans.sort()
        self.calls, self.records = calls_of(root)
        marks = root / "channel/hall_marks.csv"
        self.marks = read(marks) if marks.exists() else []

    def day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    def holder(self, outlet: str, at: datetime) -> str:
        held = ""
        for begins, who in self.assignments.get(outlet, []):
            if begins <= at:
                held = who
        return held

    def area(self, territory: str) -> str:
        """The part of the city just below its root."""
        chain = [territory]
        while self.territories.get(chain[-1]):
            chain.append(self.territories[chain[-1]])
        return chain[-2] if len(chain) > 1 else chain[0]


def read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def calls_of(root: Path) -> tuple[dict[int, list[Row]], dict[str, list[datetime]]]:
    """Calls by IMSI, each once; times of records by exchange, as often as they are on file."""
    calls: dict[int, list[Row]] = defaultdict(list)
    records: dict[str, list[datetime]] = defaultdict(list)
    seen = set()
    for path in sorted((root / "cdr").rglob("*.*")):
        for row in lines_of(path):
            call = usable(row)
            if call is None:
                continue
            records[str(path.parent)].append(call["at"])
            if (call["imsi"], call["id"]) not in seen:
                seen.add((call["imsi"], call["id"]))
                calls[call["imsi"]].append(call)
    return calls, records


def lines_of(path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        yield from pl.read_parquet(path).iter_rows(named=True)
        return
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
    heads = text.splitlines()[0].split(",")
    for line in text.splitlines()[1:]:
        cells = next(csv.reader([line]), [])
        if len(cells) == len(heads):
            yield dict(zip(heads, cells, strict=True))


def usable(row: Row) -> Row | None:
    """The call, if a person would take the record for one."""
    at = row["start_time"]
    try:
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
        seconds, imsi = round(float(row["duration_s"] or 0)), str(row["imsi"])
    except (TypeError, ValueError):
        return None
    if at.tzinfo is None or seconds < 0 or not (imsi.isdigit() and len(imsi) == 15):
        return None
    if not row["call_id"]:
        return None
    return {"at": at, "seconds": seconds, "imsi": int(imsi), "cell": row["cell_id"],
            "id": row["call_id"]}  # fmt: skip


def daily(city: City) -> list[Row]:
    """outlet_daily: every business day of every shelf, from its first movement to the last day."""
    named = {
        "delivery": "received", "first_use": "activated", "return": "returned",
        "transfer_in": "transferred_in", "transfer_out": "transferred_out",
        "moved_out": "transferred_out", "write_off": "written_off",
    }  # fmt: skip
    sums: dict[tuple[str, str], dict[date, Row]] = defaultdict(dict)
    for move in city.moves:
        days = sums[move["outlet_id"], move["sku"]]
        row = days.setdefault(city.day(move["at"]), dict.fromkeys(named.values(), 0))
        row[named[move["cause"]]] += 1
    last = max(city.day(move["at"]) for move in city.moves)
    found = []
    for (outlet, sku), days in sums.items():
        day, stock = min(days), 0
        while day <= last:
            row = days.get(day, dict.fromkeys(named.values(), 0))
            closing = (
                stock + row["received"] + row["transferred_in"] - row["activated"]
                - row["returned"] - row["transferred_out"] - row["written_off"]
            )  # fmt: skip
            found.append({"day": day, "outlet_id": outlet, "sku": sku, "opening": stock,
                          "closing": closing, **row})  # fmt: skip
            day, stock = day + DAY, closing
    return found


def ranking(city: City, start: datetime, end: datetime) -> dict[str, Row]:
    """outlet_ranking of [start, end), by outlet."""
    moves = [move for move in city.moves if move["at"] < end]
    asked = city.day(end - timedelta(milliseconds=1))
    last = min(asked, max(city.day(move["at"]) for move in city.moves))
    first = city.day(start)
    days = (last - first).days + 1
    recent = last - 27 * DAY
    month_before = (first - DAY).replace(day=1)
    before = datetime.combine(month_before, datetime.min.time(), city.zone)
    # Of a month known in part as many days of the one before.
    then = min(first, month_before + days * DAY) if (last + DAY).day != 1 else first
    until = datetime.combine(then, datetime.min.time(), city.zone)
    found: dict[str, Row] = {}
    for outlet, shop in city.outlets.items():
        own = [move for move in moves if move["outlet_id"] == outlet]
        sold = [move for move in own if move["cause"] == "first_use"]
        closed = date.fromisoformat(shop["closed_on"] or "9999-12-31")
        if closed <= first and not any(move["at"] >= start for move in sold):
            continue
        row: Row = {
            "wholesaler_id": city.holder(outlet, end - timedelta(milliseconds=1)),
            "territory_id": shop["territory_id"],
            "sales": sum(move["at"] >= start for move in sold),
            "sales_before": None,
            "deliveries": len({m["event_id"] for m in own
                               if m["cause"] == "delivery" and m["at"] >= start}),
            "received": sum(m["cause"] == "delivery" and m["at"] >= start for m in own),
            "on_hand": None, "shelf_days": 0, "shelf_days_out": 0, "daily_sales": None,
            "lost_sales": 0.0,
        }  # fmt: skip
        known = city.moves and city.moves[0]["at"] < before + timedelta(days=1)
        if own and own[0]["at"] < start and known:
            row["sales_before"] = sum(before <= move["at"] < until for move in sold)
        empty = False
        for sku in {move["sku"] for move in own}:
            shelf = [move for move in own if move["sku"] == sku]
            figures = of_shelf(city, shelf, first, last, recent, closed)
            row["on_hand"] = (row["on_hand"] or 0) + figures["on_hand"]
            row["shelf_days"] += figures["days"]
            row["shelf_days_out"] += figures["out"]
            if figures["daily"] is not None:
                row["daily_sales"] = (row["daily_sales"] or 0) + figures["daily"]
                row["lost_sales"] += figures["out"] * figures["daily"]
            empty = empty or figures["on_hand"] <= 0
        row["growth"] = row["sales"] / row["sales_before"] - 1 if row["sales_before"] else None
        row["stock_out_rate"] = (
            row["shelf_days_out"] / row["shelf_days"] if row["shelf_days"] else None
        )
        cover = row["on_hand"] / row["daily_sales"] if row["daily_sales"] else None
        row["days_of_cover"] = cover
        if row["on_hand"] is None or closed <= last:
            row["status"] = "unknown"
        elif empty:
            row["status"] = "out"
        elif cover is None:
            row["status"] = "unknown"
        else:
            row["status"] = "at_risk" if cover < 3 else "over" if cover > 60 else "ok"
        found[outlet] = row
    for row in found.values():
        row["sales_rank"] = 1 + sum(other["sales"] > row["sales"] for other in found.values())
    for outlet, row in found.items():
        row["promote"] = int(
            last == asked
            and city.outlets[outlet]["kind"] not in HALLS
            and not "" < city.outlets[outlet]["closed_on"] <= str(last)
            and row["sales_rank"] <= max(1, len(found) // 10)
            and row["sales"] > 0
            and (row["growth"] is None or row["growth"] >= 0.1)
            and row["stock_out_rate"] is not None
            and row["stock_out_rate"] <= 0.2
        )
    return found


def of_shelf(
    city: City, shelf: list[Row], first: date, last: date, recent: date, closed: date
) -> Row:
    """What one shelf did, day by day of the city's clock, until its shop closed."""
    by_day: dict[date, list[Row]] = defaultdict(list)
    for move in shelf:
        by_day[city.day(move["at"])].append(move)
    day, stock = min(by_day), 0
    days = out = sold = stocked = 0
    while day <= last:
        moves = by_day[day]
        filled = stock > 0 or any(move["delta"] > 0 for move in moves)
        stock += sum(move["delta"] for move in moves)
        if first <= day < closed:
            days += 1
            out += stock <= 0
        if recent <= day < closed and filled:
            stocked += 1
            sold += sum(move["cause"] == "first_use" for move in moves)
        day += DAY
    return {"on_hand": stock, "days": days, "out": out, "daily": sold / stocked if sold else None}


def cases(city: City, start: datetime, end: datetime, known: datetime
          ) -> dict[tuple[str, str], Row]:  # fmt: skip
    """Diversion by the calls before `known`: (outlet, wholesaler) → sims, away, bounds, level, and
    the SIMs."""
    home: dict[str, set[str]] = defaultdict(set)
    for outlet, spans in city.assignments.items():
        for number, (begins, who) in enumerate(spans):
            ends = spans[number + 1][0] if number + 1 < len(spans) else end
            if begins < end and ends > start and outlet in city.outlets:
                home[who].add(city.area(city.outlets[outlet]["territory_id"]))
    samples: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for move in city.moves:
        if move["cause"] != "first_use" or not start <= move["at"] < end:
            continue
        seconds = away = 0
        for call in city.calls.get(move["imsi"], []):
            if call["at"] >= known or not timedelta(0) <= call["at"] - move["at"] < 7 * DAY:
                continue
            if call["cell"] in city.cells:
                seconds += call["seconds"]
                if city.area(city.cells[call["cell"]]) not in home[move["wholesaler_id"]]:
                    away += call["seconds"]
        if seconds and move["wholesaler_id"]:
            samples[move["outlet_id"], move["wholesaler_id"]].append((move["imsi"], away / seconds))
    found = {}
    for key, sims in samples.items():
        carried = sorted(imsi for imsi, share in sims if share >= 0.7)
        n, p, z = len(sims), len(carried) / len(sims), 1.959963984540054
        middle, scale = p + z * z / (2 * n), 1 + z * z / n
        half = z * math.sqrt((p * (1 - p) + z * z / (4 * n)) / n)
        low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
        if n >= 10 and low >= 0.15:
            found[key] = {"sims": n, "away": len(carried), "share": p, "low": low, "high": high,
                          "level": "alarm" if low >= 0.3 else "watch",
                          "imsis": carried}  # fmt: skip
    return found


def scorecard(city: City, start: datetime, end: datetime, known: datetime, rules: Rules
              ) -> dict[str, Row]:  # fmt: skip
    """wholesaler_scorecard, of what happened before `known`."""
    diverted = cases(city, start, end, known)
    now = max(move["at"] for move in city.moves if move["at"] < known)
    papers = {row["imsi"] for row in city.papers if row["at"] < known}
    delivered = {
        (m["outlet_id"], m["sku"], m["at"]) for m in city.moves if m["cause"] == "delivery"
    }
    emptied: dict[tuple[str, str, datetime], set[str]] = defaultdict(set)
    for move in city.moves:
        if move["delta"] < 0:
            emptied[move["outlet_id"], move["sku"], move["at"]].add(move["cause"])
    of_month = [
        one for one in city.incidents
        if start <= one["opened_at"] < end
        and "first_use" in emptied[one["outlet_id"], one["sku"], one["opened_at"]]
    ]  # fmt: skip
    sold = [m for m in city.moves if m["cause"] == "first_use" and start <= m["at"] < end]
    names = {*city.wholesalers, *(one["wholesaler_id"] for one in of_month),
             *(move["wholesaler_id"] for move in sold)}  # fmt: skip
    found = {}
    for who in names:
        own = [one for one in of_month if one["wholesaler_id"] == who]
        due = [one for one in own if one["opened_at"] + rules.promised <= now]
        on_time = [
            one for one in due
            if one["closed_at"] is not None
            and one["closed_at"] <= one["opened_at"] + rules.promised
            and (one["outlet_id"], one["sku"], one["closed_at"]) in delivered
        ]  # fmt: skip
        subscribers = [move for move in sold if move["wholesaler_id"] == who]
        complete = sum(move["imsi"] in papers for move in subscribers)
        ours = [case for (_, holder), case in diverted.items() if holder == who]
        found[who] = {
            "incidents": len(own),
            "due": len(due),
            "on_time": len(on_time),
            "timeliness": len(on_time) / len(due) if due else None,
            "stock_outs_open": sum(
                one["closed_at"] is None or one["closed_at"] > now for one in own
            ),
            "activations": len(subscribers),
            "complete_papers": complete,
            "completeness": complete / len(subscribers) if subscribers else None,
            "diversion_cases": len(ours),
            "diversion_alarms": sum(case["level"] == "alarm" for case in ours),
            "diverted_sims": sum(case["away"] for case in ours),
        }
    return found


def told_days(city: City) -> set[date]:
    """Days of which every exchange has at least half of what its median day has."""
    good = []
    for times in city.records.values():
        counts = Counter(city.day(at) for at in times)
        least = statistics.median(counts.values()) / 2
        good.append({day for day, n in counts.items() if n >= least})
    return set.intersection(*good) if good else set()


def commission_lines(city: City, start: datetime, end: datetime, rules: Rules
                     ) -> dict[tuple[str, int], Row]:  # fmt: skip
    """(kind, imsi) → outlet and amount, in fen."""
    told, found = told_days(city), {}
    for move in city.moves:
        if move["cause"] != "first_use" or move["at"] >= end:
            continue
        fee = rules.fees.get(move["sku"])
        pays = 0.0
        for least, most, yuan in rules.steps:
            if fee is not None and least <= fee <= most:
                pays = yuan
                break
        line = {"outlet_id": move["outlet_id"], "fee_fen": round((fee or 0) * 100)}
        if move["at"] >= start:
            found["activation", move["imsi"]] = {**line, "amount_fen": round(pays * 100)}
        trial = move["at"] + rules.dead * DAY
        if not start <= trial < end:
            continue
        watched = trial - rules.silent * DAY
        if any(watched <= call["at"] < trial for call in city.calls.get(move["imsi"], [])):
            continue
        # A record tells of its quarter of an hour.
        quarters = {k: max(at.timestamp() for at in v) // 900 for k, v in city.records.items()}
        if trial.timestamp() > 900 * (1 + min(quarters.values(), default=-1)):
            continue
        last = city.day(trial - timedelta(milliseconds=1))
        if all(last - n * DAY in told for n in range(rules.silent + 1)):
            found["dead", move["imsi"]] = {**line, "amount_fen": -round(pays * 100)}
    return found


def commission(city: City, start: datetime, end: datetime, rules: Rules, period: str
               ) -> dict[tuple[str, str], Row]:  # fmt: skip
    """(role, outlet) → what it earns."""
    targets = {m["outlet_id"]: int(m["target"]) for m in city.marks if m["period"] == period}
    by_outlet: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for (kind, _), line in commission_lines(city, start, end, rules).items():
        by_outlet[line["outlet_id"]].append((kind, line))
    found = {}
    for outlet, lines in by_outlet.items():
        earned = [line for kind, line in lines if kind == "activation"]
        base = sum(line["amount_fen"] for line in earned)
        back = sum(line["amount_fen"] for kind, line in lines if kind != "activation")
        reached = len(earned) / targets[outlet] if outlet in targets else None
        factor = step(rules.seller, reached, 1.0)
        found["seller", outlet] = {"amount_fen": math.floor(base * factor + 0.5) + back,
                                   "activations": len(earned), "factor": factor}  # fmt: skip
        if reached is not None:
            factor = step(rules.lead, reached, 0.0)
            for role, share in (("shift_lead", 0.15), ("hall_manager", 0.10)):
                base = math.floor(sum(line["fee_fen"] for line in earned) / 2 * share + 0.5)
                found[role, outlet] = {"amount_fen": math.floor(base * factor + 0.5),
                                       "activations": len(earned), "factor": factor}  # fmt: skip
    return found


def step(steps: list[tuple[float, float]], reached: float | None, below: float) -> float:
    if reached is None:
        return 1.0
    factor = below
    for at, value in sorted(steps):
        if reached >= at:
            factor = value
    return factor


def halls(city: City, start: datetime, end: datetime, period: str) -> dict[str, Row]:
    """hall_assessment."""
    found = {}
    for mark in city.marks:
        if mark["period"] != period:
            continue
        sales = sum(
            move["cause"] == "first_use" and move["outlet_id"] == mark["outlet_id"]
            and start <= move["at"] < end
            for move in city.moves
        )  # fmt: skip
        service = sum(float(mark[n]) for n in ("inspection", "satisfaction", "complaints")) / 3
        sold = min(100.0, 100 * sales / int(mark["target"]))
        found[mark["outlet_id"]] = {"sales": sales, "score": 0.6 * sold + 0.4 * service}
    return found
