"""Writes a made city to a directory as its hours go by, so that memory holds a day of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipelines.simulate.badlines import bad_lines
from pipelines.simulate.books import Books
from pipelines.simulate.calls import Subscribers, rows_a_slice
from pipelines.simulate.city import City, build_city, write_reference
from pipelines.simulate.feeds import FOR_EVER, CdrFeeds, EventFeed
from pipelines.simulate.mishaps import schedule_mishaps
from pipelines.simulate.partners import write_channel
from pipelines.simulate.plan import DAY_MS, LOCAL, CityPlan, Summary
from pipelines.simulate.trade import Trade, Used
from pipelines.simulate.truth import Truth, write_csv, write_truth
from pipelines.simulate.utility import write_utility
from schemas.errors import InputError


def simulate(
    plan: CityPlan, out: Path, progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Write reference/, events/, cdr/, utility/, channel/ and truth/ into `out`, a new directory.

    `progress` is called with (CDR rows done, all of them). Raises `InputError` if `out` holds
    anything: a city mixed with other data would have no truth.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty directory: name a new one for the simulated city")
    part = out.with_name(f".{out.name}.part")  # one cut short is not taken for a whole city
    shutil.rmtree(part, ignore_errors=True)
    summary = _write(plan, part, progress)
    part.rename(out)
    return summary


def _write(plan: CityPlan, out: Path, progress: Callable[[int, int], None] | None) -> Summary:
    city = build_city(plan)
    trade = Trade(plan, city)
    schedule_mishaps(trade)
    subscribers = Subscribers(plan, city)
    events, cdrs = EventFeed(plan, out), CdrFeeds(plan, out, city.cells)
    write_reference(city, plan, out / "reference")
    for at, bad in bad_lines(plan, city):
        (events if bad.feed == "events" else cdrs).add_bad(at, bad)
    done, begun = 0, plan.start_ms
    for start, end, rows in rows_a_slice(plan):
        trade.run(start, end)
        for at, event in trade.events:
            events.add(at, event)
        cdrs.add(subscribers.calls(rows, start, end, trade.used))
        cdrs.add(subscribers.first_calls(trade.first_calls))
        trade.events.clear()
        trade.first_calls.clear()
        done += rows
        if not plan.daily_files or (end - plan.start_ms) % DAY_MS == 0:
            name = datetime.fromtimestamp(begun / 1000, LOCAL).strftime("%Y%m%dT%H%M%S")
            until = end if end < plan.end_ms else FOR_EVER
            events.write(name, until)
            cdrs.write(name, until)
            begun = end
        if progress:
            progress(done, plan.cdrs)
    truth = replace(
        trade.books.truth(plan.group_wait_s * 1000), dead_letters=sorted(events.dead + cdrs.dead)
    )
    write_truth(truth, out / "truth")
    _write_diversion(city, trade.used, out / "truth" / "diversion.csv")
    write_utility(plan, out / "utility")
    write_channel(plan, city, out / "channel")
    return _summary(truth, trade.books, trade.turned_away, events, cdrs)


def _write_diversion(city: City, used: list[Used], path: Path) -> None:
    """The outlets that were made to divert, with the SIMs sold and those used in other counties."""
    sold: Counter[int] = Counter()
    abroad: Counter[int] = Counter()
    for use in used:
        if use.outlet in city.diverting:
            sold[use.outlet] += 1
            local = city.outlets[use.outlet].county
            abroad[use.outlet] += all(
                use.cell not in city.cells_of(district) for district in city.county(local)
            )
    rows = ((city.outlets[o].id, sold[o], abroad[o]) for o in sorted(city.diverting))
    write_csv(path, ("outlet_id", "sold", "used_elsewhere"), rows)


def _summary(
    truth: Truth, books: Books, turned_away: int, events: EventFeed, cdrs: CdrFeeds
) -> Summary:
    return Summary(
        cdrs=cdrs.written,
        events=events.written,
        files=events.files + cdrs.files,
        first_uses=books.first_uses,
        customers_turned_away=turned_away,
        stock_outs=len(truth.incidents),
        still_out=sum(incident.closed_at is None for incident in truth.incidents),
        messages=len(truth.messages),
        anomalies=dict(sorted(Counter(a.kind for a in truth.anomalies).items())),
        dead_letters=dict(sorted(truth.dead_reasons().items())),
    )
