"""The jobs once more, as plainly as they can be written, over lists of dicts and exact numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

Row = dict[str, Any]


# --- line loss -----------------------------------------------------------------------------------


def plain_line_loss(
    units: list[Row],
    boundary: list[Row],
    customer: list[Row],
    start: int,
    end: int,
    before: int = 0,
) -> dict[str, Row]:
    """unit_id → figures in kWh (Fraction, or None where unknown), without loops.

    Meters are known from `before` on, where the month before begins.
    """
    known = {u["unit_id"]: u for u in units}
    supplied: dict[str, Fraction] = {}
    sold: defaultdict[str, Fraction] = defaultdict(Fraction)
    estimated: defaultdict[str, Fraction] = defaultdict(Fraction)
    for r in _counting(boundary, known, start, end, ("meter_id", "unit_id", "direction")):
        sign = 1 if r["direction"] == "in" else -1
        supplied[r["unit_id"]] = supplied.get(r["unit_id"], Fraction()) + sign * _part(
            r, start, end
        )
    counted = _counting(customer, known, start, end, ("meter_id", "register", "direction"))
    for r in counted:
        if r["direction"] == "feed_in":
            fed = supplied.get(r["unit_id"], Fraction())
            supplied[r["unit_id"]] = fed + _part(r, start, end)
            continue
        sold[r["unit_id"]] += _part(r, start, end)
        if r["quality"] == "estimated":
            estimated[r["unit_id"]] += _part(r, start, end)

    touching = [r for r in customer if r["unit_id"] in known and r["start"] < end]
    here = {(r["meter_id"], r["unit_id"]) for r in touching if r["end"] > start}
    moved = {meter for meter, _ in here}
    past = {
        (r["meter_id"], r["unit_id"])
        for r in touching
        if r["end"] > before
        and r["start"] < start
        and r["start"] < r["end"]
        and r["kwh"] is not None
        and r["kwh"] >= 0
        and r["quality"] != "missing"
        and r["meter_id"] not in moved
    }
    read = {(r["meter_id"], r["unit_id"]) for r in _usable(customer, known, start, end)}
    meters, of_them_read = defaultdict(int), defaultdict(int)
    for meter, unit_id in here | past:
        meters[unit_id] += 1
        of_them_read[unit_id] += (meter, unit_id) in read

    def below(unit_id: str) -> list[str]:
        return [u["unit_id"] for u in units if u["parent_id"] == unit_id]

    def total(unit_id: str, of: Mapping[str, Any]) -> Fraction:
        return of[unit_id] + sum((total(child, of) for child in below(unit_id)), Fraction())

    result = {}
    for unit_id in known:
        own, children = supplied.get(unit_id), below(unit_id)
        transferred = sum((supplied.get(child, Fraction()) for child in children), Fraction())
        sold_total = total(unit_id, sold)
        complete = own is not None and all(child in supplied for child in children)
        loss = None if own is None else own - sold_total
        result[unit_id] = {
            "supplied_kwh": own,
            "transferred_kwh": transferred,
            "sold_kwh": sold[unit_id],
            "own_loss_kwh": own - transferred - sold[unit_id]
            if complete and own is not None
            else None,
            "sold_total_kwh": sold_total,
            "loss_kwh": loss,
            "loss_rate": loss / own if loss is not None and own else None,
            "meters": total(unit_id, meters),
            "read_share": total(unit_id, of_them_read) / total(unit_id, meters)
            if total(unit_id, meters)
            else None,
            "estimated_share": total(unit_id, estimated) / sold_total if sold_total else None,
        }
    return result


def _counting(
    readings: list[Row], units: dict[str, Row], start: int, end: int, meter: tuple[str, ...]
) -> list[Row]:
    """The readings that count: usable, touching the month, no two of a meter overlapping."""
    fit = _usable(readings, units, start, end)
    fit.sort(
        key=lambda r: (r["quality"] == "estimated", r["start"], r["end"], r["kwh"], r["unit_id"])
    )
    kept: list[Row] = []
    for r in fit:
        same = [k for k in kept if all(k[name] == r[name] for name in meter)]
        if not any(k["start"] < r["end"] and r["start"] < k["end"] for k in same):
            kept.append(r)
    return kept


def _usable(readings: list[Row], units: dict[str, Row], start: int, end: int) -> list[Row]:
    return [
        r
        for r in readings
        if r["quality"] != "missing"
        and r["kwh"] is not None
        and r["kwh"] >= 0
        and r["start"] < r["end"]
        and r["start"] < end
        and r["end"] > start
        and r["unit_id"] in units
    ]


def _part(r: Row, start: int, end: int) -> Fraction:
    inside = min(r["end"], end) - max(r["start"], start)
    return Fraction(str(r["kwh"])) * Fraction(inside, r["end"] - r["start"])


# --- arrears -------------------------------------------------------------------------------------


def _once(rows: Iterable[Row], *key: str) -> list[Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in key), row)
    return list(found.values())


def _in_order(payment: Row) -> tuple[date, str, str]:
    return payment["paid_on"], payment["payment_id"], payment["channel"] or ""


def _without_reversed(payments: list[Row]) -> list[Row]:
    """The payments of more than nothing that no other one takes back."""
    kept = sorted((p for p in payments if p["amount_fen"] >= 0), key=_in_order)
    for r in sorted((p for p in payments if p["amount_fen"] < 0), key=_in_order):
        if r.get("reverses"):
            called_so = [p for p in kept if p["payment_id"] == r["reverses"]]
            own = [p for p in called_so if p["channel"] == r["channel"]]
            meant = [p for p in called_so if p["customer_id"] == r["customer_id"]]
            meant = own or (meant if len(meant) == 1 else [])
        else:
            same = ("customer_id", "bill_id")
            meant = [
                p
                for p in kept
                if all(p[name] == r[name] for name in same)
                and p["amount_fen"] == -r["amount_fen"]
                and p["paid_on"] <= r["paid_on"]
            ]
        if meant:
            kept.remove(meant[-1])
    return kept


def _with_notes_matched(bills: list[Row]) -> list[Row]:
    """The bills; a note that could not name one ("") names the like of it, if there is one."""
    corrected = {b["corrects"] for b in bills}
    named = {}
    for note in sorted(bills, key=lambda b: (b["issued_on"], b["bill_id"])):
        if note["amount_fen"] >= 0 or note["corrects"] != "":
            continue
        alike = [
            b["bill_id"]
            for b in bills
            if b["customer_id"] == note["customer_id"]
            and b["billing_period"] == note["billing_period"]
            and b["amount_fen"] == -note["amount_fen"]
            and b["issued_on"] <= note["issued_on"]
            and b["bill_id"] not in corrected
        ]
        named[note["bill_id"]] = min(alike, default=None)
        corrected.add(named[note["bill_id"]])
    return [b | {"corrects": named.get(b["bill_id"], b["corrects"])} for b in bills]


def bucket(days: int) -> str:
    """The ageing bucket."""
    if days <= 0:
        return "not_due"
    for most, name in (
        (30, "1-30"),
        (60, "31-60"),
        (90, "61-90"),
        (180, "91-180"),
        (365, "181-365"),
    ):
        if days <= most:
            return name
    return "365+"


def plain_arrears(
    customers: list[Row], bills: list[Row], payments: list[Row], as_of: date
) -> dict[str, Any]:
    """ageing {(dimension, key, bucket): [fen, bills, customers]} and recovery
    {(period, dimension, key): [charged, received, cash]}, allocated and unallocated."""
    who = {c["customer_id"]: c for c in customers}
    bills = [b for b in _once(bills, "bill_id") if b["issued_on"] <= as_of]
    bills = _with_notes_matched(bills)
    payments = [p for p in _once(payments, "channel", "payment_id") if p["paid_on"] <= as_of]
    payments = _without_reversed(payments)
    charged = {b["bill_id"]: b["amount_fen"] for b in bills if b["amount_fen"] >= 0}
    credit: defaultdict[str, int] = defaultdict(int)
    for b in sorted(bills, key=lambda b: (b["issued_on"], b["bill_id"])):
        if b["amount_fen"] < 0:
            lowered = min(-b["amount_fen"], charged.get(b.get("corrects"), 0))
            if lowered:
                charged[b["corrects"]] -= lowered
            credit[b["customer_id"]] += -b["amount_fen"] - lowered
    credited = sum(credit.values())
    bills = [b | {"amount_fen": charged[b["bill_id"]]} for b in bills if b["amount_fen"] >= 0]
    still_open = dict(charged)
    for p in sorted(payments, key=_in_order):
        left = p["amount_fen"]
        if p["bill_id"] in still_open:
            taken = min(left, still_open[p["bill_id"]])
            still_open[p["bill_id"]] -= taken
            left -= taken
        credit[p["customer_id"]] += left
    for b in sorted(bills, key=lambda b: (b["due_on"] or b["issued_on"], b["bill_id"])):
        taken = min(credit[b["customer_id"]], still_open[b["bill_id"]])
        credit[b["customer_id"]] -= taken
        still_open[b["bill_id"]] -= taken

    def keys(customer_id: str) -> list[tuple[str, str]]:
        c = who.get(customer_id, {})
        return [
            ("all", "all"),
            ("segment", c.get("segment") or "unknown"),
            ("hall", c.get("hall_id") or "unknown"),
        ]

    ageing: dict[tuple[str, str, str], list[Any]] = {}
    recovery: dict[tuple[str, str, str], list[int]] = {}
    for b in bills:
        days = (as_of - (b["due_on"] or b["issued_on"])).days
        for dimension, key in keys(b["customer_id"]):
            if still_open[b["bill_id"]]:
                cell = ageing.setdefault((dimension, key, bucket(days)), [0, 0, set()])
                cell[0] += still_open[b["bill_id"]]
                cell[1] += 1
                cell[2].add(b["customer_id"])
            if b["amount_fen"] > 0:
                sums = recovery.setdefault((b["billing_period"], dimension, key), [0, 0, 0])
                sums[0] += b["amount_fen"]
                sums[1] += b["amount_fen"] - still_open[b["bill_id"]]
    billed = {period for period, _, _ in recovery}
    for p in payments:
        month = f"{p['paid_on']:%Y-%m}"
        for dimension, key in keys(p["customer_id"]):
            if month in billed:
                recovery.setdefault((month, dimension, key), [0, 0, 0])[2] += p["amount_fen"]
    return {
        "ageing": {k: [fen, n, len(c)] for k, (fen, n, c) in ageing.items()},
        "recovery": recovery,
        "unallocated": {c: fen for c, fen in credit.items() if fen},
        "open": {bill_id: fen for bill_id, fen in still_open.items() if fen},
        "billed": sum(charged.values()),
        "credited": credited,
        "paid": sum(p["amount_fen"] for p in payments),
    }


# --- subscriber loss -----------------------------------------------------------------------------


def plain_subscriber_loss(
    calls: list[Row],
    events: list[Row],
    assignments: list[Row],
    outlets: dict[str, str],
    batch: tuple[int, str, int],
    start: int,
    end: int,
    *,
    charged: bool = False,
) -> dict[str, Any]:
    """loss {(dimension, key): (base, lost, pre_lost)}, retention and silent {imsi: outlet_id}.

    A subscriber is a number where calls name one, else a SIM; silence is judged up to the end of
    the day of the newest event.
    """
    first_imsi, first_iccid, count = batch
    day = 86_400_000
    loss: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    retention: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    silent = {}
    ours = range(first_imsi, first_imsi + count)
    calls = [c for c in calls if c["start_time"] < end]
    switched_on = [e for e in events if e["type"] == "activation" and e["at"] < end]
    times = [c["start_time"] for c in calls] + [e["at"] for e in switched_on]
    until = min(end, (max(times, default=start) // day + 1) * day)
    until = max(until, start)
    cards: defaultdict[str, list[int]] = defaultdict(list)
    for imsi in ours:
        named = [c for c in calls if c["imsi"] == imsi and c["msisdn"]]
        newest = max(((c["start_time"], c["msisdn"]) for c in named), default=None)
        cards[newest[1] if newest else f"imsi {imsi}"].append(imsi)
    for imsis in cards.values():
        own = [c for c in calls if c["imsi"] in imsis]
        used = [(c["start_time"], c["call_id"], c["imsi"]) for c in own]
        used += [
            (e["at"], e["event_id"], int(e["imsi"])) for e in switched_on if int(e["imsi"]) in imsis
        ]
        if not used or min(used)[0] >= until:
            continue
        *first, first_sim = min(used)
        newest_sim = max(
            (min(u for u in used if u[2] == imsi) for imsi in {u[2] for u in used}),
        )[2]
        outlet = _outlet_at(tuple(first), first_sim - first_imsi + int(first_iccid), events)
        held = [a for a in assignments if a["outlet_id"] == outlet and a["valid_from"] <= first[0]]
        holder = max(held, key=lambda a: a["valid_from"])["wholesaler_id"] if held else "unknown"
        cohort = f"{datetime.fromtimestamp(first[0] / 1000, UTC):%Y-%m}"
        seen = [c["start_time"] for c in own if not charged or c["charge_fen"] > 0]
        before = max([first[0], *(at for at in seen if at < start)])
        quiet = until - max([first[0], *seen])
        lost = quiet >= 30 * day
        for key in (("all", "all"), ("outlet", outlet or "unknown"), ("wholesaler", holder)):
            retention[(*key, cohort)][0] += 1
            retention[(*key, cohort)][1] += not lost
        if not lost and quiet >= 5 * day:
            silent[newest_sim] = outlet or "unknown"
        if first[0] < start and start - before < 30 * day:
            keys = [
                ("all", "all"),
                ("territory", outlets.get(outlet, "unknown")),
                ("outlet", outlet or "unknown"),
                ("wholesaler", holder),
                ("cohort", cohort),
            ]
            pre_lost = not lost and quiet >= 5 * day
            for key in keys:
                for place, counts in enumerate((True, lost, pre_lost)):
                    loss[key][place] += counts
    return {
        "loss": {key: tuple(sums) for key, sums in loss.items()},
        "retention": {key: tuple(sums) for key, sums in retention.items()},
        "silent": silent,
    }


def _outlet_at(moment: tuple[int, str], iccid: int, events: list[Row]) -> str:
    """Where a SIM was just before a moment, by the rules for deliveries and their kin."""
    place = ""
    for e in sorted((e for e in events if "count" in e), key=lambda e: (e["at"], e["event_id"])):
        covered = int(e["first_iccid"]) <= iccid < int(e["first_iccid"]) + e["count"]
        if not covered or (e["at"], e["event_id"]) >= moment:
            continue
        if e["type"] == "delivery":
            place = e["outlet_id"]
        elif e["type"] == "transfer":
            place = e["to_outlet_id"] if place == e["from_outlet_id"] else place
        else:
            place = "" if place == e["outlet_id"] else place
    return place
