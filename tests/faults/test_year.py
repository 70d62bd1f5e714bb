"""Days and months of live feeds on a real Kafka, by a clock that runs as fast as the reader reads.

`ZEROSTOCK_TEST_DAYS` is how many days are played: 365 for a year. The judge of history is the plain
fold of all facts; of messages, that each stock-out of a shop whose papers come in time is told
once, to whoever held it then or took it over since, that nobody hears of anything twice, and that
the provider, who fails in every way, got each message once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from oracle.plain_fold import Fact, fold
from services.kafka import KafkaServer
from services.twilio_server import (
    ACCOUNT,
    CUT_AFTER,
    CUT_BEFORE,
    FROM,
    LOST,
    SLOW,
    TOKEN,
    Twilio,
    error,
)
from services.waiting import wait_until

from infra.operations.hand_over import add_hand_over, undo_hand_over
from infra.settings import load_settings
from pipelines.ingest import IngestOptions, ingest
from pipelines.ingest.reading.files import DirectoryWatch
from pipelines.kafka import open_consumer, read_to_end
from schemas import topics
from schemas.envelope import unpack
from schemas.errors import BrokerError

DAYS = int(os.environ.get("ZEROSTOCK_TEST_DAYS", "3"))

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
#: The moment of the first upload: three minutes past each hour.
START = 1_772_323_200_000 + 3 * MINUTE
#: Rows come by the end of calls, up to two hours after they began.
DISORDER = 2 * HOUR
SKEW = {"a": 0, "b": 4 * MINUTE, "c": -3 * MINUTE}
ICCID, IMSI, CARDS = 8_986_000_123_450_000_000, 460_001_234_500_000, 2_000
#: The first of the cards whose numbers follow no rule.
LOOSE = 460_005_550_000_000
SETTINGS = {
    "ZEROSTOCK_CLOCK": "wall",
    "ZEROSTOCK_GROUP_WAIT": "0s",
    "ZEROSTOCK_STALE_AFTER": "36500d",  # the days played are not those of the workers' clock
    "ZEROSTOCK_SMS": "twilio",
    "ZEROSTOCK_TWILIO_ACCOUNT_SID": ACCOUNT,
    "ZEROSTOCK_TWILIO_AUTH_TOKEN": TOKEN,
    "ZEROSTOCK_TWILIO_FROM": FROM,
    "ZEROSTOCK_TWILIO_RATE": "1000",
}
#: How the provider fails, day by day: what becomes of the next messages.
MISHAPS = {
    "provider down for three hours": [],
    "provider slow, or took a message and never answered": [SLOW, SLOW, LOST],
    "provider refused, or took a message and hung up": [error(503)] * 3 + [CUT_AFTER],
    "provider asked for patience": [error(429, 20429, Retry_After="1")] * 2 + [CUT_BEFORE] * 2,
}


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds")


class Watch(DirectoryWatch):
    """Counts the looks of readers: what lay there at one of them is read by the end of the next."""

    looks = 0

    def look(self) -> Any:
        found = super().look()
        Watch.looks += 1
        return found


class LiveCity:
    """Shops that sell and are refilled; what they report arrives when it does.

    Papers of shops whose name begins with D come days late, those of others within half an hour.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng = folder, random.Random(13)
        self.facts: list[Fact] = []
        self.holders: dict[str, list[tuple[int, str]]] = {}
        self._shops: dict[str, tuple[int, list[int]]] = {}
        self._batches = self._cards = self._listed = self._loose = 0
        self.handed: list[tuple[int, bool, str, str, str]] = []
        self._coming: list[tuple[int, int, str, str]] = []
        self._number = itertools.count()
        self._files: list[tuple[int, Path]] = []
        for name in [f"S{n}" for n in range(14)] + [f"D{n}" for n in range(4)]:
            self.open(name, START - DAY)
        self.tables()
        for source in ("quiet", "old"):
            row = {"type": "activation", "event_id": source, "at": iso(START - HOUR), "imsi": "1"}
            self._write(source, START, [json.dumps(row)])

    def open(self, shop: str, at: int) -> None:
        """A shop begins to trade, of one of three wholesalers."""
        self._shops[shop] = (at + self.rng.randrange(DAY), [])
        self.holders.setdefault(shop, []).append((START - 9 * DAY, self.rng.choice("UVW")))

    def hand_on(self, at: int) -> None:
        """One shop gets another wholesaler."""
        self.holders[self.rng.choice(list(self.holders))].append((at, self.rng.choice("UVW")))

    def hand_over(self, at: int) -> None:
        """A wholesaler leaves; or the one who left last is back."""
        settings = load_settings(reference=self.folder / "reference")
        if len(self.handed) % 2:
            _, _, name, leaving, successor = self.handed[-1]
            undo_hand_over(settings, name, iso(at))
        else:
            leaving, successor = self.rng.sample("UVW", 2)
            name = add_hand_over(settings, leaving, successor, None, iso(at)).split(":")[0]
        self.handed.append((at, bool(len(self.handed) % 2), name, leaving, successor))

    def tables(self) -> None:
        """Write the reference tables, with cards for the time to come; of a list, few."""
        self._batches, self._listed = self._cards // CARDS + 2, self._loose + 40
        shops = list(self.holders)
        tables = {
            "territories": ["territory_id,name,parent_id", "T1,Old Town,"],
            "cells": ["cell_id,territory_id", "17-4,T1"],
            "wholesalers": ["wholesaler_id,name,phone,backup_phone,language"]
            + [f"{w},{w},+861380013800{n},,en" for n, w in enumerate("UVW")],
            "outlets": ["outlet_id,name,kind,territory_id,opened_on,closed_on"]
            + [f"{shop},{shop},kiosk,T1,," for shop in shops],
            "assignments": ["outlet_id,wholesaler_id,valid_from"]
            + [f"{shop},{who},{iso(at)}" for shop in shops for at, who in self.holders[shop]],
            "sim_batches": ["batch_id,sku,first_iccid,first_imsi,count"]
            + [
                f"B{n},std,{ICCID + n * CARDS},{IMSI + n * CARDS},{CARDS}"
                for n in range(self._batches)
            ],
            "sims": ["iccid,imsi,sku"]
            + [f"{loose_iccid(n)},{LOOSE + 37 * n},std" for n in range(self._listed)],
        }
        (self.folder / "reference").mkdir(parents=True, exist_ok=True)
        for name, lines in tables.items():
            path = self.folder / "reference" / f"{name}.csv"
            path.with_suffix(".part").write_text("\n".join(lines) + "\n")
            path.with_suffix(".part").replace(path)

    def trade(self, until: int) -> None:
        """All that happens up to a moment, into the post."""
        for shop, (since, cards) in self._shops.items():
            at = since
            while at < until:
                if cards:
                    self._sell(cards.pop(0), at)
                elif self._loose < self._listed and self.rng.random() < 0.3:
                    self._refill_from_list(shop, at, cards)
                elif self._cards < self._batches * CARDS - 10:
                    self._refill(shop, at, cards)
                if cards:
                    at += round(self.rng.expovariate(1 / (4 * HOUR))) + 1
                elif shop[0] == "D" and self.rng.random() < 0.1:
                    at += self.rng.randrange(6 * DAY, 9 * DAY)
                else:
                    at += self.rng.randrange(2 * HOUR, 30 * HOUR)
            self._shops[shop] = at, cards

    def _sell(self, imsi: int, at: int) -> None:
        switch = self.rng.choice("abc")
        lasts = self.rng.randrange(50 * MINUTE)
        at, name = at + SKEW[switch], f"c{next(self._number)}"
        self.facts.append(Fact(at, name, "use", (imsi,)))
        row = {
            "type": "call", "call_id": name, "start_time": iso(at), "imsi": str(imsi),
            "duration_s": lasts // 1_000, "cell_id": "17-4", "charge_fen": 1,
        }  # fmt: skip
        self._post(at - SKEW[switch] + lasts, switch, row)

    def _refill(self, shop: str, at: int, cards: list[int]) -> None:
        count = self.rng.randrange(1, 5)
        cards += (IMSI + self._cards + n for n in range(count))
        self._deliver(shop, at, cards, first_iccid=str(ICCID + self._cards), count=count)
        self._cards += count

    def _refill_from_list(self, shop: str, at: int, cards: list[int]) -> None:
        some = range(self._loose, min(self._loose + self.rng.randrange(1, 4), self._listed))
        cards += (LOOSE + 37 * n for n in some)
        self._deliver(shop, at, cards, iccids=[loose_iccid(n) for n in some])
        self._loose = some.stop

    def _deliver(self, shop: str, at: int, cards: list[int], **which: Any) -> None:
        name = f"d{next(self._number)}"
        self.facts.append(Fact(at, name, "delivery", tuple(cards), shop))
        row = {"type": "delivery", "event_id": name, "at": iso(at), "outlet_id": shop}
        late = self.rng.randrange(DAY, 4 * DAY) if shop[0] == "D" else 0
        ready = at + late + self.rng.randrange(30 * MINUTE)
        self._post(ready, "van", row | {"wholesaler_id": "U"} | which)

    def _post(self, ready: int, source: str, row: dict[str, Any]) -> None:
        heappush(self._coming, (ready, next(self._number), source, json.dumps(row)))

    def upload(self, now: int) -> None:
        """Each source brings what it has since its last upload, in the order it became ready."""
        rows: dict[str, list[str]] = {}
        while self._coming and self._coming[0][0] <= now - 3 * MINUTE:
            _, _, source, row = heappop(self._coming)
            rows.setdefault(source, []).append(row)
            if self.rng.random() < 0.05:
                rows[source].append(row)
        for source, some in rows.items():
            self._write(source, now, some)
        while self._files and self._files[0][0] < now - 2 * DAY:  # Somebody clears up.
            self._files.pop(0)[1].unlink(missing_ok=True)

    def _write(self, source: str, now: int, rows: list[str]) -> None:
        path = self.folder / "events" / source / f"{now}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}").write_text("".join(f"{row}\n" for row in rows))
        path.with_name(f".{path.name}").replace(path)
        self._files.append((now, path))

    def retire(self) -> None:
        """The folder of a source is taken away."""
        for path in (self.folder / "events" / "old").iterdir():
            path.unlink()
        (self.folder / "events" / "old").rmdir()

    def holder(self, shop: str, at: int) -> str:
        held = list(self.holders[shop])
        taken: set[str] = set()

        def who(when: int) -> str:
            return max((since, who) for since, who in held if since <= when)[1]

        for when, undone, name, leaving, successor in self.handed:
            if not undone and who(when) == leaving:
                taken.add(name)
                held.append((when, successor))
            if undone and name in taken and who(when) == successor:
                held.append((when, leaving))
        return who(at)

    def may_hear(self, shop: str, opened: int) -> set[str]:
        """Who held a shop then; or who took it over before the message was due."""
        now = self.holder(shop, opened)
        soon = {
            self.holder(shop, when)
            for when, *_ in self.handed
            if opened < when <= opened + 6 * HOUR
        }
        return {now} | soon


def loose_iccid(number: int) -> str:
    """A card of the list."""
    return f"8986A{number * 7919 % 10**14:014}"


class VirtualReader:
    """The product's reader by a clock that the test sets; started again when the broker dies."""

    def __init__(self, city: LiveCity, broker: str) -> None:
        self.now = START
        self._city, self._broker = city, broker
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._read(),))
        self._thread.start()

    async def _read(self) -> None:
        options = IngestOptions(
            disorder_ms=DISORDER,
            idle_after_ms=30 * MINUTE,
            follow=True,
            live=True,
            watchdog_ms=6 * HOUR,
            now=lambda: self.now,
        )
        while not self._stop.is_set():
            try:
                await ingest(self._city.folder, self._broker, options=options, stop=self._stop)
            except BrokerError:
                await asyncio.sleep(0.2)  # as a supervisor would

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            self._thread = None
            self._loop.close()


class Record:
    """What the stream says at the end: history as it is known last, and who was told."""

    def __init__(self, cluster: Cluster) -> None:
        self.incidents: dict[str, dict[str, Any]] = {}
        self.opened: dict[str, set[int]] = {}
        self.restated = 0
        self.messages: dict[str, dict[str, Any]] = {}
        asyncio.run(self._read(cluster))

    async def _read(self, cluster: Cluster) -> None:
        async with open_consumer(cluster.broker) as consumer:
            for topic in (topics.STOCK_INCIDENTS, topics.SMS_MESSAGES):
                async for message in read_to_end(consumer, topic, 0, 1):
                    header, rows = unpack(message.value)
                    for row in rows.to_pylist() if rows else ():
                        if header.kind == "incidents":
                            self._incident(row)
                        elif header.kind == "messages":
                            known = self.messages.setdefault(row["message_id"], row)
                            if row["version"] > known["version"]:
                                self.messages[row["message_id"]] = row

    def _incident(self, row: dict[str, Any]) -> None:
        self.restated += row["restated_at"] == row["at"]
        self.opened.setdefault(row["incident_id"], set()).add(row["opened_at"])
        before = self.incidents.get(row["incident_id"])
        order = row["at"], row["closed_at"] is not None or row["withdrawn"]
        if before is None or order >= before["order"]:
            self.incidents[row["incident_id"]] = row | {"order": order}

    def history(self, shops: Container[str]) -> set[tuple[str, str, int, int | None]]:
        return {
            (row["outlet_id"], row["sku"], row["opened_at"], row["closed_at"])
            for row in self.incidents.values()
            if not row["withdrawn"] and row["outlet_id"] in shops
        }

    def told(self) -> list[tuple[str, str, str, set[int]]]:
        """(wholesaler, incident, shop, the times at which it was said to have opened)."""
        return [
            (message["wholesaler_id"], name, self.incidents[name]["outlet_id"], self.opened[name])
            for message in self.messages.values()
            if message["status"] == "sent"
            for name in message["incident_ids"]
        ]


@pytest.fixture
def twilio() -> Iterator[Twilio]:
    with Twilio() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(600 + DAYS * 60)
def test_days_of_live_feeds(
    tmp_path: Path,
    kafka: KafkaServer,
    clusters: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
    twilio: Twilio,
) -> None:
    reading = sys.modules["pipelines.ingest.ingest"]
    monkeypatch.setattr(reading, "DirectoryWatch", Watch)

    def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait while the reader looks as seldom as it would, and leaves the machine to others."""
        with monkeypatch.context() as patch:
            patch.setattr(reading, "LOOK_EVERY", 0.5)
            wait_until(condition, what, timeout=timeout)

    monkeypatch.setattr(reading, "LOOK_EVERY", 0.02)
    city, policy = LiveCity(tmp_path / "city"), tmp_path / "policy.toml"
    policy.write_text("grace = '1m'\n")
    more = {"ZEROSTOCK_POLICY": str(policy), "ZEROSTOCK_TWILIO_BASE_URL": twilio.url}
    cluster = clusters(kafka.bootstrap, tmp_path, city.folder, 2, SETTINGS | more)
    cluster.start(stock=1, alerts=1)
    reader, happened, begun = VirtualReader(city, kafka.bootstrap), Counter[str](), time.monotonic()
    reader.start()

    def looked(times: int = 3) -> None:
        cluster.look_after()
        seen = Watch.looks
        wait_until(lambda: Watch.looks >= seen + times, "the reader to look", timeout=120)

    def pass_hours(hours: int) -> None:
        for _ in range(hours):
            reader.now += HOUR
            city.upload(reader.now)

    def caught_up() -> bool:
        cluster.look_after()
        return not any(
            cluster.lag(kind, (topic,))
            for kind, topic in (
                ("stock", topics.SIM_EVENTS),
                ("stock", topics.STOCK_MOVEMENTS),
                ("alerts", topics.STOCK_INCIDENTS),
            )
        )

    def change_tables(day: int) -> None:
        city.open(f"{'SD'[day % 2]}{100 + day}", reader.now)
        city.hand_on(reader.now + DAY)
        city.hand_over(reader.now + DAY + 90 * MINUTE)
        taken = "the reference tables changed and are in use"
        before = {worker.name: worker.output().count(taken) for worker in cluster.workers}
        city.tables()
        wait_for(
            lambda: all(w.output().count(taken) > before[w.name] for w in cluster.workers),
            "all workers to take up the tables",
            timeout=120,
        )
        looked(5)

    second = None
    try:
        for day in range(DAYS + 6):
            if day < DAYS:
                city.trade(reader.now + DAY)
            if day % 10 == 1 and day < DAYS:
                wait_for(caught_up, "the workers to run, and to catch up", timeout=180)
                change_tables(day)
                happened["tables changed"] += 1
            hour = 0
            while hour < 24:
                if day < DAYS and hour == 13 and day % 2 == 0:
                    reader.stop()
                    pass_hours(8)
                    hour += 8
                    reader.start()
                    happened["reader down for eight hours"] += 1
                else:
                    step = 1 if day < DAYS else 8  # only late papers are still to come
                    pass_hours(step)
                    hour += step
                looked()
                if day >= DAYS:
                    continue
                if hour == 3 and day % 3 == 0:
                    cluster.kill(cluster.workers[0])
                    happened["stock worker killed"] += 1
                if hour == 5:
                    mishap, script = list(MISHAPS.items())[day % len(MISHAPS)]
                    twilio.script += script
                    twilio.down = "down" in mishap
                    happened[mishap] += 1
                if hour == 8:
                    twilio.down = False
                if hour == 6 and day % 3 == 1:
                    cluster.kill(cluster.workers[1])
                    happened["alerts worker killed"] += 1
                if hour == 9 and day % 3 == 2:
                    kafka.kill()
                    kafka.start()
                    happened["broker killed"] += 1
                if hour == 11 and day % 4 == 1:
                    policy.write_text(f"grace = '{day + 2}m'\n")
                    happened["policy changed"] += 1
                if hour == 12 and day % 5 == 1:
                    if second is None:
                        second = cluster.add("stock", f"stock-{day}")
                        happened["stock worker joined"] += 1
                    else:
                        cluster.workers.remove(second)
                        second.child.kill()
                        second = None
                        happened["stock worker left"] += 1
            if day == 1:
                city.retire()
            if day % 5 == 4 and day < DAYS:
                wait_for(caught_up, "the workers to catch up", timeout=180)
        wait_for(caught_up, "all to be dealt with", timeout=300)
    finally:
        reader.stop()
    seconds = time.monotonic() - begun
    cluster.stop()

    truth, record = fold(city.facts, lambda _: "std").incidents, Record(cluster)
    history, told = record.history(city.holders), record.told()
    in_time = Counter((shop, min(opened)) for _, _, shop, opened in told if shop[0] == "S")
    due = Counter((shop, opened) for shop, _, opened, _ in truth if shop[0] == "S")
    wrong = [
        (who, name)
        for who, name, shop, opened in told
        if shop[0] == "S" and who not in city.may_hear(shop, min(opened))
    ]
    sent = [m["provider_id"] for m in record.messages.values() if m["status"] == "sent"]
    repeated = Counter(name for _, name, _, _ in told)
    heard = {shop: [o for _, _, s, some in told if s == shop for o in some] for *_, shop, _ in told}
    # Longer than any paper is late: somebody must have heard of it while it lasted.
    long = [
        (shop, opened, closed)
        for shop, _, opened, closed in truth
        if shop[0] == "D" and (closed or opened) - opened > 5 * DAY
    ]
    unheard = [
        one for one in long if not any(one[1] - DAY <= at < one[2] for at in heard.get(one[0], []))
    ]
    print(
        f"\n{DAYS} days in {seconds:.0f} s: {len(city.facts):,} facts, {len(truth):,} stock-outs,"
        f" {len(sent):,} messages, {record.restated:,} rows restated; {dict(happened)};"
        f" differences {len(truth ^ history)}, messages missing {(due - in_time).total()},"
        f" repeated {sum(n > 1 for n in repeated.values())}"
    )
    assert history == truth
    assert due - in_time == Counter()
    assert in_time - due == Counter()
    assert [name for name, times in repeated.items() if times > 1] == []
    assert unheard == []
    assert wrong == []
    assert Counter(sent) == Counter(message["sid"] for message in twilio.messages)
    assert twilio.script == []
    assert record.restated or DAYS < 3
