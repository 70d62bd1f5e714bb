"""Events by HTTP: taken as files are, told of what was refused, and of when to come again."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ingest_harness import FIRST_ICCID, ListPost, call_json, make_reference, put, read
from services.asgi import Reply, call

from infra.intake.app import IntakeLimits, intake_app
from infra.intake.folder import FOLDER, IntakeFolder
from infra.intake.tokens import FeederTokens
from infra.settings import load_settings
from pipelines.ingest import IngestOptions, read_directory
from pipelines.ingest.feeds.http import HttpFeed
from schemas.errors import BrokerError, SettingsError
from schemas.fields import TIME_END

TOKENS = {"van-7": "a-token-of-seven", "van-8": "a-token-of-eight"}
Send = Callable[..., Awaitable[Reply]]


@pytest.fixture
def city(tmp_path: Path) -> Path:
    make_reference(tmp_path / "city")
    return tmp_path / "city"


def tokens() -> FeederTokens:
    return FeederTokens(load_settings(intake_tokens=",".join(map(" ".join, TOKENS.items()))))


def sender(app: object) -> Send:
    async def send(
        body: bytes, feeder: str = "van-7", kind: str = "application/x-ndjson", **headers: str
    ) -> Reply:
        given = {"Content-Type": kind, "Authorization": f"Bearer {TOKENS.get(feeder, feeder)}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await call(app, "POST", "/v1/events", body, given | named)

    return send


@asynccontextmanager
async def taking(
    city: Path, post: ListPost, body: int = 1 << 20, rate: int = 10**6
) -> AsyncIterator[Send]:
    """A reader at work on what comes by HTTP."""
    who, stop = tokens(), asyncio.Event()
    feed = HttpFeed(lambda: who.feeders)
    app = intake_app(who, feed.take, IntakeLimits(body, rate), lambda: feed.ready)
    options = IngestOptions(follow=True, disorder_ms=10**9)
    reading = asyncio.create_task(
        read_directory(
            None, post, options=options, feeds=[feed], reference=city / "reference", stop=stop
        )
    )
    while not feed.ready:
        assert not reading.done(), reading.result()
        await asyncio.sleep(0)
    try:
        yield sender(app)
    finally:
        stop.set()
        await reading


def run(work: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))  # type: ignore[arg-type]


def delivery(number: int, outlet: str = "O1") -> bytes:
    event = {"type": "delivery", "event_id": f"D{number}", "at": "2026-03-02T00:00:01Z"}
    event |= {"outlet_id": outlet, "wholesaler_id": "W1"}
    return json.dumps(event | {"first_iccid": str(FIRST_ICCID + number), "count": 1}).encode()


def test_each_refused_line_is_told_with_its_reason_and_kept(city: Path) -> None:
    post = ListPost()

    async def work() -> None:
        async with taking(city, post) as send:
            first = await send(delivery(1) + b"\n\n{nonsense\n" + delivery(2, "O9"))
            assert (first.status, json.loads(first.body)["accepted"]) == (200, 1)
            told = json.loads(first.body)["refused"]
            assert [(r["line"], r["reason"].split(":")[0]) for r in told] == [
                (3, "malformed"),
                (4, "unknown_outlet"),
            ]
            second = await send(b'\xff\n{"type":"call","call_id":"\xe9"}\n' + delivery(3))
            assert json.loads(second.body)["accepted"] == 1
            assert [r["line"] for r in json.loads(second.body)["refused"]] == [1, 2]
            other = await send(b"[1]", "van-8", "application/json")
            assert [r["line"] for r in json.loads(other.body)["refused"]] == [1]

    run(work())
    assert [(where, line) for where, line, _, _ in post.letters()] == [
        ("http/van-7", 3),
        ("http/van-7", 4),
        ("http/van-7", 5),
        ("http/van-7", 6),
        ("http/van-8", 1),
    ]
    assert sorted(row["event_id"] for row in post.rows("placements")) == ["D1", "D3"]
    assert {"http/van-7", "http/van-8"} <= set(post.kept)


def dressed(lines: list[bytes], how: int) -> tuple[bytes, dict[str, str]]:
    """The same events in one of the ways in which they may come."""
    whole = b"[" + b",\n ".join(lines) + b"]"
    return [
        (b"\n".join(lines), {}),
        (b"\r\n".join(lines) + b"\r\n", {"kind": "text/plain; charset=utf-8"}),
        (b"\xef\xbb\xbf" + b"\n".join(lines), {"kind": ""}),
        (whole, {"kind": "application/json"}),
        (whole, {}),
        (gzip.compress(b"\n".join(lines)), {"Content_Encoding": "gzip"}),
        (gzip.compress(whole), {"kind": "application/json", "Content_Encoding": "gzip"}),
    ][how]


def test_in_any_dress_order_and_number_they_are_the_rows_of_a_file(city: Path) -> None:
    rng, post = random.Random(7), ListPost()
    lines = [call_json(number).encode() for number in range(300)]
    lines += [delivery(number) for number in range(1, 30)]
    put(city / "events/a.ndjson", b"\n".join(lines))
    file, _ = read(city, disorder_ms=10**9)

    async def work() -> None:
        async with taking(city, post) as send:
            parts = [(lines[i : i + 40], how % 7) for how, i in enumerate(range(0, len(lines), 40))]
            parts += rng.sample(parts, 4)  # sent twice
            rng.shuffle(parts)
            answers = await asyncio.gather(
                *(
                    send(body, rng.choice(list(TOKENS)), **headers)
                    for body, headers in (dressed(*part) for part in parts)
                )
            )
            assert {answer.status for answer in answers} == {200}
            assert sum(json.loads(a.body)["accepted"] for a in answers) == sum(
                len(some) for some, _ in parts
            )

    run(work())
    assert post.facts() == file.facts()
    assert post.letters() == []


@pytest.mark.parametrize(
    ("body", "more", "status", "says"),
    [
        (b"{}", {"feeder": "a-token-of-nobody"}, 401, "token"),
        (b"{}", {"Authorization": "Basic a-token-of-seven"}, 401, "token"),
        (b"[{}", {"kind": "application/json"}, 400, "not JSON"),
        (b"7", {"kind": "application/json"}, 400, "list"),
        (b"no gzip", {"Content_Encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(b"{}" * 9, mtime=0)[:-9], {"Content_Encoding": "gzip"}, 400, "too early"),
        (b"{}", {"Content_Encoding": "br"}, 415, "gzip"),
        (b"{}", {"kind": "multipart/form-data"}, 415, "x-ndjson"),
        (b" " * 5_000, {}, 413, "send less"),
        (gzip.compress(b" " * 10**7, mtime=0), {"Content_Encoding": "gzip"}, 413, "send less"),
    ],
)
def test_a_request_that_is_none_is_refused_as_a_whole(
    city: Path, body: bytes, more: dict[str, str], status: int, says: str
) -> None:
    post = ListPost()

    async def work() -> None:
        async with taking(city, post, body=4_096) as send:
            answer = await send(body, **more)
            assert answer.status == status
            assert says in answer.text

    run(work())
    assert post.letters() == []


def test_a_body_that_breaks_off_leaves_nothing(city: Path) -> None:
    """The client is gone before its last piece: no line of it was taken."""
    post = ListPost()

    async def work() -> None:
        who = tokens()
        feed = HttpFeed(lambda: who.feeders)
        app = intake_app(who, feed.take, IntakeLimits(10**6, 10**6), lambda: True)
        heard = [{"type": "http.request", "body": delivery(1) + b"\n", "more_body": True}]
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return heard.pop() if heard else {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b""}
        scope |= {"headers": [(b"authorization", b"Bearer " + TOKENS["van-7"].encode())]}
        await app(scope, receive, send)
        assert sent[0]["status"] == 400
        assert not feed._waiting

    run(work())
    assert post.sent == []


def test_who_sends_too_much_and_what_finds_no_broker_is_told_when_to_come_again(
    city: Path,
) -> None:
    class Down(ListPost):
        async def send(self, effects: list) -> None:  # type: ignore[type-arg]
            raise BrokerError("Kafka is away")

    async def work() -> None:
        async with taking(city, ListPost(), rate=1) as send:
            assert (await send(b"{}\n" * 30)).status == 200
            answer = await send(delivery(1))
            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 10
            assert (await send(delivery(1), "van-8")).status == 200

    async def without_broker() -> None:
        async with taking(city, Down()) as send:
            answer = await send(delivery(1))
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert "harmless" in answer.text
            assert (await send(delivery(1))).status == 503

    run(work())
    with pytest.raises(BrokerError, match="away"):
        run(without_broker())


def test_a_feeder_whose_token_is_withdrawn_is_retired_and_tokens_are_taken_up(
    tmp_path: Path,
) -> None:
    file = put(tmp_path / "tokens", "# vans\nvan-7 a-token-of-seven\nvan-7 = another-token-of-7\n")
    who = FeederTokens(load_settings(intake_tokens_file=file))
    assert who.feeder_of("Bearer a-token-of-seven") == who.feeder_of("bearer another-token-of-7")
    feed = HttpFeed(lambda: who.feeders)
    assert not feed.is_gone("http/van-7")
    put(file, "van-9 a-token-of-number-nine\n")
    assert who.feeder_of("Bearer a-token-of-seven") is None
    assert who.feeder_of("Bearer a-token-of-number-nine") == "van-9"
    assert feed.is_gone("http/van-7")
    put(file, "van-9 short\n")
    assert who.feeder_of("Bearer a-token-of-number-nine") == "van-9"  # the old ones hold


@pytest.mark.parametrize("text", ["", "van-7", "van-7 short", "../x a-token-of-16-chars"])
def test_tokens_that_are_none_are_told_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="FEEDER TOKEN"):
        FeederTokens(load_settings(intake_tokens_file=put(tmp_path / "tokens", text)))


def test_a_run_keeps_what_comes_as_files_that_say_the_same(city: Path) -> None:
    """The folder refuses and accepts as the reader does; a half line of a kill is cut off."""
    answers = {}

    async def work(body: bytes) -> None:
        folder = IntakeFolder(city, lambda: TIME_END)
        app = intake_app(tokens(), folder.take, IntakeLimits(10**6, 10**6), lambda: True)
        answer = await sender(app)(body)
        answers.update({r["line"]: r["reason"] for r in json.loads(answer.body)["refused"]})
        folder.close()

    run(work(delivery(1) + b"\nnonsense\n" + delivery(2, "O9")))
    (file,) = (city / FOLDER / "van-7").iterdir()
    file.write_bytes(file.read_bytes() + delivery(3)[:20])
    run(work(delivery(4)))
    post, _ = read(city, disorder_ms=10**9)
    assert [row["event_id"] for row in post.rows("placements")] == ["D1", "D4"]
    assert [(line, why) for _, line, why, _ in post.letters()] == sorted(answers.items())
    assert sorted(answers) == [2, 3]
