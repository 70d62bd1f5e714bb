"""Time enters at the reader: what it concludes of silent, gone and abandoned sources, and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_harness import (
    FIRST_ICCID,
    FIRST_IMSI,
    HEADER,
    INGEST,
    ListPost,
    make_reference,
    put,
)
from oracle.plain_fold import Fact, fold
from oracle.stream_harness import Rig

from pipelines.core.effects import Effect
from pipelines.ingest import IngestOptions, read_directory
from pipelines.ingest.mapping.mapping import Mapping, load_mapping
from pipelines.ingest.source_clock import LONGEST_CALL
from schemas import topics
from schemas.envelope import NO_WATERMARK, Header, pack, unpack

NOON = 1_772_409_600_000
IDLE, DISORDER, ABSENT = 5_000, 2_000, 60_000


#: Looks that readers have taken at their directories.
LOOKS: Counter[Path] = Counter()


class Clock:
    """The reader's clock, set by the test."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(INGEST, "LOOK_EVERY", 0.001)
        look = INGEST._Reading._look

        async def counted(reading: Any) -> None:
            await look(reading)
            LOOKS[reading.directory] += 1

        patch.setattr(INGEST._Reading, "_look", counted)
        yield


@pytest.fixture
def city(tmp_path: Path) -> Path:
    make_reference(tmp_path)
    for name in "ab":
        put(tmp_path / f"cdr/{name}/1.csv", HEADER + "\n")
    return tmp_path


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds")


def call(number: int, at: int, lasts: int = 1) -> str:
    return f"C{number},{iso(at)},{FIRST_IMSI + number},,{lasts},17-4,1\n"


def delivery_line(fact: Fact) -> str:
    (imsi,) = fact.imsis
    row = {"type": "delivery", "event_id": fact.event_id, "at": iso(fact.at), "count": 1}
    iccid = str(FIRST_ICCID + imsi - FIRST_IMSI)
    return (
        json.dumps(row | {"outlet_id": fact.outlet, "wholesaler_id": "W1", "first_iccid": iccid})
        + "\n"
    )


def write(city: Path, source: str, *lines: str) -> None:
    """A switch appends to its file."""
    with (city / source / "1.csv").open("a") as file:
        file.writelines(lines)


class Reader:
    """A reader that follows a directory, looked at between its looks."""

    def __init__(self, city: Path, clock: Clock, stop: asyncio.Event) -> None:
        self.city, self.clock, self.stop = city, clock, stop

    async def at(self, now: int) -> None:
        """Set the clock and wait until the reader has looked, and read, and looked again."""
        self.clock.now = now
        enough = LOOKS[self.city] + 4  # one may be under way
        async with asyncio.timeout(60):
            while LOOKS[self.city] < enough:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def following(
    city: Path,
    post: ListPost,
    clock: Clock,
    mapping: Mapping | None = None,
    dies: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Reader]:
    """A reader at work; it is down afterwards, and said nothing of that if it `dies`."""
    stop = asyncio.Event()
    options = IngestOptions(
        disorder_ms=DISORDER,
        idle_after_ms=IDLE,
        absent_after_ms=ABSENT,
        mapping=mapping,
        follow=True,
        live=True,
        now=clock,
    )
    reading = asyncio.create_task(read_directory(city, post, options=options, stop=stop))
    reader = Reader(city, clock, stop)
    try:
        await reader.at(clock.now)
        yield reader
    finally:
        if dies():
            reading.cancel()
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


def headers(post: ListPost, partition: int = 0) -> list[Header]:
    """What a partition of sim-events was told, in order."""
    return [
        unpack(data)[0]
        for topic, to, data in post.sent
        if topic == topics.SIM_EVENTS and to == partition
    ]


def marks(post: ListPost, source: str) -> list[int]:
    return [h.watermark for h in headers(post) if h.source == source]


def test_a_silent_source_moves_on_with_the_clock_and_an_awake_one_with_its_rows(
    city: Path,
) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            write(city, "cdr/a", call(1, NOON))
            await reader.at(NOON + 1_000)
            assert marks(post, "cdr/a")[-1] == NOON - DISORDER
            assert max(marks(post, "cdr/b")) == NO_WATERMARK
            await reader.at(NOON + IDLE - 1_000)
            assert max(marks(post, "cdr/b")) == NO_WATERMARK, "it may still have something to say"
            await reader.at(NOON + IDLE)
            assert marks(post, "cdr/b")[-1] == NOON
            assert marks(post, "cdr/a")[-1] == NOON - DISORDER, "not silent for long enough"
            await reader.at(NOON + 60_000)
            assert marks(post, "cdr/a")[-1] == marks(post, "cdr/b")[-1] == NOON + 60_000 - IDLE
            write(city, "cdr/b", call(2, NOON + 60_000))
            await reader.at(NOON + 61_000)
            await reader.at(NOON + 63_000)
            assert marks(post, "cdr/b")[-1] == NOON + 60_000 - DISORDER

    asyncio.run(work())
    here, there = ([(h.source, h.watermark) for h in headers(post, p)] for p in (0, 1))
    assert here == there
    assert not any(h.ended or h.absent for h in headers(post))


def test_a_source_may_have_bounds_of_its_own(city: Path, tmp_path: Path) -> None:
    toml = put(
        tmp_path / "map.toml",
        '[[export]]\n[[source]]\nname = "cdr/b*"\ndisorder = "20s"\nidle_after = "10s"\n',
    )
    post, clock = ListPost(), Clock()
    write(city, "cdr/b", call(1, NOON), call(2, NOON - 20_000), call(3, NOON - 20_001))

    async def work() -> None:
        async with following(city, post, clock, load_mapping(toml)) as reader:
            await reader.at(NOON + 9_000)
            assert marks(post, "cdr/a")[-1] == NOON + 9_000 - IDLE
            assert marks(post, "cdr/b")[-1] == NOON - 20_000
            await reader.at(NOON + 21_000)
            assert marks(post, "cdr/b")[-1] == NOON + 1_000

    asyncio.run(work())
    assert [known - at for _, _, at, known in post.uses()] == [0, 0, 1]


BY_END = """
[[source]]
name = "cdr/*"
disorder = "2m"
idle_after = "90m"
ordered_by = "end"
"""
MINUTE, HOUR = 60_000, 3_600_000


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), seen=st.booleans())
def test_by_the_end_of_calls_a_call_is_late_only_if_it_began_before_any_as_long_was_seen(
    seed: int, seen: bool
) -> None:
    """Two switches upload what ended each hour, calls of hours among it; the reader dies.

    If a call of four hours was seen before, none is late; else history comes right all the same.
    """
    random = Random(seed)
    calls = [
        (s, NOON + random.randrange(8 * HOUR // 1_000) * 1_000, random.choice([9, 9, 240]), card)
        for card, s in enumerate(random.choices("ab", k=40))
    ]
    calls = [(s, at, random.randrange(top * 60), card) for s, at, top, card in calls]
    if seen:
        calls += [(s, NOON - 4 * HOUR, 4 * 3_600, 100 + n) for n, s in enumerate("ab")]
    written = sorted(calls, key=lambda c: c[1] + 1_000 * c[2] + random.randrange(2 * MINUTE))
    facts = [
        Fact(NOON - 9 * HOUR + n, f"D{n}", "delivery", (FIRST_IMSI + n,), random.choice("OP") + "1")
        for n in range(0, 40, 3)
    ]
    facts += [Fact(at, f"C{card}", "use", (FIRST_IMSI + card,)) for _, at, _, card in calls]
    # By switch, after each upload: the newest end and the longest call, ms.
    heard: dict[str, list[tuple[int, int]]] = {"a": [(0, 0)], "b": [(0, 0)]}
    before: dict[str, list[tuple[int, int]]] = {}
    post, clock = ListPost(), Clock()

    async def work(city: Path, mapping: Mapping) -> None:
        left = written
        while left:
            async with following(city, post, clock, mapping, lambda: random.random() < 0.5) as at:
                for _ in range(random.randint(1, 4)):
                    until = clock.now
                    some = [c for c in left if c[1] + 1_000 * c[2] <= until]
                    left = [c for c in left if c not in some]
                    before.update((f"C{card}", heard[s][:]) for s, _, _, card in some)
                    for s in "ab":
                        lines = [call(n, t, lasts) for x, t, lasts, n in some if x == s]
                        put(city / f"cdr/{s}/{until}.csv", "".join([HEADER + "\n", *lines]))
                    for s, t, lasts, _ in some:
                        end, longest = heard[s][-1]
                        lasted = 1_000 * lasts
                        heard[s].append((max(end, t + lasted), max(longest, lasted)))
                    await at.at(clock.now + HOUR)

    with TemporaryDirectory() as folder:
        city = Path(folder)
        make_reference(city)
        shops = "outlet_id,name,kind,territory_id,opened_on,closed_on\nO1,O,k,T1,,\nP1,P,k,T1,,\n"
        put(city / "reference/outlets.csv", shops)
        put(city / "events/1.ndjson", "".join(map(delivery_line, facts[:14])))
        asyncio.run(work(city, load_mapping(put(city / "map.toml", BY_END))))

    began = {f"C{card}": (at, 1_000 * lasts) for _, at, lasts, card in calls}
    known = {}  # what is read again after a death may be late where its first copy was not
    for name, _, at, when in post.uses():
        known[name] = min(when - at, known.get(name, when - at))
    late = {name for name, behind in known.items() if behind}
    for name in late:
        at, lasted = began[name]
        marks = [e - longest - 2 * MINUTE for e, longest in before[name] if longest < lasted]
        assert max(marks, default=0) > at
    assert not (seen and late)
    end = [pack(Header("none", s, NOON + 99 * HOUR, True)) for s in ("cdr/a", "cdr/b", "events")]
    logs = [[d for t, p, d in post.sent if (t, p) == (topics.SIM_EVENTS, n)] for n in (0, 1)]
    rig = Rig([log + end for log in logs], seed, known=[])
    rig.run()
    truth = fold(facts, lambda _: "PREPAID")
    assert rig.movements() == truth.movements
    assert rig.incidents() == truth.incidents


def test_what_a_stop_cut_off_is_not_late_when_it_is_read_again(city: Path) -> None:
    """A chunk waits for workers that are far behind when the reader is told to stop."""
    post, clock = ListPost(), Clock()
    times = [NOON + second * 1_000 for second in range(0, 600, 10)]

    async def work() -> None:
        async with following(city, post, clock) as reader:
            taken = asyncio.Event()
            stuck = post.send

            async def waits(effects: list[Effect]) -> None:
                if any(e.header.kind == "uses" for e in effects):
                    taken.set()
                    await asyncio.Event().wait()
                await stuck(effects)

            post.send = waits  # type: ignore[method-assign]
            clock.now = times[-1]
            write(city, "cdr/a", *(call(n, at) for n, at in enumerate(times)))
            await taken.wait()
            reader.stop.set()
        post.send = stuck  # type: ignore[method-assign]
        async with following(city, post, clock) as reader:
            await reader.at(clock.now + 1_000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(INGEST, "STOP_WITHIN", 0.05)
        asyncio.run(work())
    assert sorted(at for _, _, at, _ in post.uses()) == times
    assert all(known == at for _, _, at, known in post.uses())


def test_a_silent_source_by_end_stays_back_by_its_longest_call_across_restarts(city: Path) -> None:
    post, clock = ListPost(), Clock()
    mapping = load_mapping(put(city / "map.toml", BY_END))
    write(city, "cdr/a", call(1, NOON - 3 * HOUR, 3 * 3_600), call(2, NOON - MINUTE, 60))

    async def work() -> None:
        async with following(city, post, clock, mapping, lambda: True) as reader:
            await reader.at(NOON + MINUTE)
            assert marks(post, "cdr/a")[-1] == NOON - 2 * MINUTE - 3 * HOUR
        assert post.states["cdr/a"].longest == 3 * HOUR, "on record with what was read"
        async with following(city, post, clock, mapping) as reader:
            await reader.at(NOON + 4 * HOUR)
            assert marks(post, "cdr/a")[-1] == NOON + 4 * HOUR - 90 * MINUTE - 3 * HOUR
            # A slip of the switch holds nobody back for ever.
            write(city, "cdr/a", call(3, NOON + 3 * HOUR, 10**9))
            await reader.at(NOON + 5 * HOUR)
        assert post.states["cdr/a"].longest == LONGEST_CALL

    asyncio.run(work())
    assert not any(known - at for _, _, at, known in post.uses())


def test_heartbeats_are_few(city: Path) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            for tenth in range(100):
                await reader.at(NOON + IDLE + 100 * tenth)

    asyncio.run(work())
    assert len(marks(post, "cdr/a")) <= 2 + 10  # announced, its first rows; a heartbeat a second


def test_a_reader_that_is_down_moves_nothing_and_first_reads_what_is_there(city: Path) -> None:
    """Down ten minutes: what happened meanwhile keeps its own times, and none of it is late."""
    post, clock = ListPost(), Clock()
    times = [NOON + second * 1_000 for second in range(10, 600, 10)]

    async def work() -> None:
        async with following(city, post, clock) as reader:
            await reader.at(NOON + IDLE + 3_000)
        before = len(post.sent)
        for number, at in enumerate(times):
            write(city, "cdr/a", call(number, at))
        clock.now = NOON + 640_000
        assert len(post.sent) == before
        async with following(city, post, clock) as reader:
            assert max(marks(post, "cdr/a")) == times[-1] - DISORDER
            assert max(marks(post, "cdr/b")) == NOON + 3_000, "silent only from now on"
            await reader.at(NOON + 640_000 + IDLE)
            assert marks(post, "cdr/b")[-1] == NOON + 640_000

    asyncio.run(work())
    assert sorted(at for _, _, at, _ in post.uses()) == times
    assert all(known == at for _, _, at, known in post.uses())


def test_what_comes_from_before_a_heartbeat_is_known_then(city: Path) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            await reader.at(NOON + 60_000)
            write(city, "cdr/a", call(1, NOON + 1_000))
            await reader.at(NOON + 62_000)

    asyncio.run(work())
    ((_, _, at, known),) = post.uses()
    assert (at, known) == (NOON + 1_000, NOON + 60_000 - IDLE)


@pytest.mark.parametrize("content", ["", HEADER[:10], "nothing,of,ours\n"])
def test_a_file_that_nobody_can_read_yet_does_not_count_as_news(city: Path, content: str) -> None:
    put(city / "cdr/b/2.csv", content)
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            await reader.at(NOON + IDLE + 1_000)
            assert marks(post, "cdr/b")[-1] == NOON + 1_000

    asyncio.run(work())


def test_a_source_whose_folder_is_gone_is_retired_and_comes_back_with_it(
    city: Path, caplog: pytest.LogCaptureFixture
) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            shutil.rmtree(city / "cdr/b")
            with caplog.at_level(logging.WARNING):
                await reader.at(NOON + 2_000)
            last = [h for h in headers(post) if h.source == "cdr/b"][-1]
            assert last.ended
            assert "cdr/b: the folder is gone; the source is retired" in caplog.text
            assert post.states["cdr/b"].status == "retired"
            put(city / "cdr/b/1.csv", HEADER + "\n" + call(1, NOON))
            await reader.at(NOON + 4_000)
            last = [h for h in headers(post) if h.source == "cdr/b"][-1]
            assert not last.ended

    asyncio.run(work())


def test_it_is_retired_also_when_it_went_while_the_reader_was_down(city: Path) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock):
            pass
        shutil.rmtree(city / "cdr/b")
        async with following(city, post, clock) as reader:
            await reader.at(NOON + 2_000)

    asyncio.run(work())
    assert post.states["cdr/b"].status == "retired"
    assert [h for h in headers(post) if h.source == "cdr/b"][-1].ended


def test_a_lost_mount_retires_nobody(city: Path) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            (city / "cdr").rename(city / "away")
            await reader.at(NOON + 2_000)

    asyncio.run(work())
    assert {state.status for state in post.states.values()} == {"open"}


def test_folders_that_are_only_emptied_stay_and_are_silent(city: Path) -> None:
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as reader:
            (city / "cdr/b/1.csv").unlink()
            await reader.at(NOON + 60_000)

    asyncio.run(work())
    assert post.states["cdr/b"].status == "open"
    assert marks(post, "cdr/b")[-1] == NOON + 60_000 - IDLE


def test_a_live_reader_puts_the_sources_of_a_dead_one_on_record_as_absent(
    city: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path_factory.mktemp("other")
    make_reference(other)
    put(other / "cdr/c/1.csv", HEADER + "\n")
    post, clock = ListPost(), Clock()

    async def work() -> None:
        async with following(city, post, clock) as here:
            async with following(other, post, clock) as there:
                for second in range(0, 3 * ABSENT, ABSENT // 4):
                    await there.at(NOON + second)
                    await here.at(NOON + second)
                assert not any(h.absent for h in headers(post)), "both are alive"
                assert {s.status for s in post.states.values()} == {"open"}
            died = clock.now
            await here.at(died + ABSENT - 1_000)
            assert not any(h.absent for h in headers(post))
            with caplog.at_level(logging.ERROR):
                await here.at(died + ABSENT + 1_000)
                await here.at(died + 2 * ABSENT)
        assert [h.source for h in headers(post) if h.absent] == ["cdr/c"], "said once"
        assert "cdr/c: nothing was heard of its reader" in caplog.text
        assert post.states["cdr/c"].status == "absent"
        async with following(other, post, clock) as again:
            await again.at(clock.now + 1_000)
            assert not [h for h in headers(post) if h.source == "cdr/c"][-1].absent
            await again.at(clock.now + ABSENT)
        assert post.states["cdr/c"].status == "open"

    asyncio.run(work())


def test_an_event_ahead_of_the_readers_clock_is_refused(city: Path) -> None:
    post, clock = ListPost(), Clock()
    write(city, "cdr/a", call(1, NOON + 299_999), call(2, NOON + 300_000))

    async def work() -> None:
        async with following(city, post, clock):
            pass

    asyncio.run(work())
    assert [use[0] for use in post.uses()] == ["C1"]
    assert [letter[2].split(":")[0:2] for letter in post.letters()] == [["invalid_field", " at"]]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(["cdr/a", "cdr/b"]), st.integers(0, DISORDER)),
        st.tuples(st.just("look"), st.just(""), st.integers(100, 3 * IDLE)),
        st.tuples(st.just("restart"), st.just(""), st.integers(0, 20 * IDLE)),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(steps=steps)
def test_no_outage_and_no_silence_makes_punctual_rows_late(
    steps: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Switches write within the bound; the reader comes, goes and looks when it will.

    However it went: no row is late, what a source was said to have reached never falls, and none
    runs ahead of what the switches may still write.
    """
    city = tmp_path_factory.mktemp("city")
    make_reference(city)
    for name in "ab":
        put(city / f"cdr/{name}/1.csv", HEADER + "\n")
    post, clock = ListPost(partitions=1), Clock()
    written: list[int] = []

    async def work() -> None:
        todo = list(steps)
        while todo:
            async with following(city, post, clock) as reader:
                while todo:
                    what, source, amount = todo.pop(0)
                    if what == "write":
                        written.append(clock.now - amount)
                        write(city, source, call(len(written), written[-1]))
                    elif what == "look":
                        await reader.at(clock.now + amount)
                        assert all(mark <= clock.now - DISORDER for mark in marks(post, "cdr/a"))
                    else:
                        break
                else:
                    await reader.at(clock.now)
            clock.now += amount if what == "restart" else 0
        async with following(city, post, clock) as reader:
            await reader.at(clock.now)

    asyncio.run(work())
    assert sorted(at for _, _, at, _ in post.uses()) == sorted(written)
    assert all(known == at for _, _, at, known in post.uses())
    for source in ("cdr/a", "cdr/b"):
        assert marks(post, source) == sorted(marks(post, source))
        assert post.states[source].watermark >= max(marks(post, source))
    shutil.rmtree(city)


def test_states_on_record_survive_as_json(city: Path) -> None:
    import msgspec

    from pipelines.ingest.positions import noted, noted_source, source_key

    post, clock = ListPost(), Clock()
    write(city, "cdr/a", call(1, NOON), call(2, NOON - 1_500))

    async def work() -> None:
        async with following(city, post, clock) as reader:
            await reader.at(NOON + 60_000)

    asyncio.run(work())
    state: Any = post.states["cdr/a"]
    found = noted_source(source_key("cdr/a"), msgspec.json.encode(state))
    assert found == ("cdr/a", state)
    assert noted(source_key("cdr/a"), msgspec.json.encode(state)) is None
    assert json.loads(msgspec.json.encode(state))["measured"]["most"] == 1_500
