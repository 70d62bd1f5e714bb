"""Topics of a real Kafka give the rows of files, whatever the partitions, deaths and doublings."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fastavro
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.helpers import create_ssl_context
from aiokafka.structs import TopicPartition
from ingest_harness import (
    FIRST_ICCID,
    INGEST,
    ListPost,
    call_fields,
    call_json,
    make_reference,
    put,
    read,
)
from services.kafka import SASL_PASSWORD, SASL_USER, KafkaServer
from services.running import running

from infra.operations.ingest import split_inputs
from pipelines.ingest import IngestOptions, IngestReport, read_directory
from pipelines.ingest.feeds.topic import TopicAddress, TopicFeed
from pipelines.ingest.mapping.mapping import Mapping, load_mapping
from schemas.envelope import Header, unpack
from schemas.errors import BrokerError, MappingError, UsageError
from schemas.fields import parse_time
from schemas.topics import SIM_EVENTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    folder = tmp_path_factory.mktemp("kafka")
    with running(lambda: KafkaServer(folder, secure=True)) as server:
        yield server


@pytest.fixture
def city(tmp_path: Path) -> Path:
    make_reference(tmp_path / "city")
    return tmp_path / "city"


def run(work):  # type: ignore[no-untyped-def]
    return asyncio.run(asyncio.wait_for(work, 60))


async def admin(kafka: KafkaServer, *calls):  # type: ignore[no-untyped-def]
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        for call in calls:
            await call(client)
    finally:
        await client.close()


async def fill(kafka: KafkaServer, topic: str, parts: int, values: Sequence[bytes | None]) -> None:
    """A new topic with these values, spread over its partitions."""
    await admin(kafka, lambda a: a.create_topics([NewTopic(topic, parts, 1)]))
    await send(kafka, topic, parts, values)


async def send(kafka: KafkaServer, topic: str, parts: int, values: Sequence[bytes | None]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type="lz4")
    await producer.start()
    try:
        sent = [
            await producer.send(topic, value, key=b"k", partition=number % parts)
            for number, value in enumerate(values)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def take(
    kafka: KafkaServer,
    topic: str,
    city: Path,
    post: ListPost | None = None,
    mapping: Mapping | None = None,
    **options: object,
) -> ListPost:
    """Read a topic to the end that it has."""
    post = post or ListPost()
    feed = TopicFeed(TopicAddress(kafka.bootstrap, topic), {}, None, mapping)
    read_options = IngestOptions(mapping=mapping, **options)  # type: ignore[arg-type]
    run(
        read_directory(None, post, options=read_options, feeds=[feed], reference=city / "reference")
    )
    return post


def lines() -> list[bytes]:
    """Calls and deliveries, and what is none."""
    found = [call_json(number).encode() for number in range(3_000)]
    for outlet in range(2):
        event = {"type": "delivery", "event_id": f"D{outlet}", "at": "2026-03-02T00:00:01Z"}
        event |= {"outlet_id": f"O{outlet + 1}", "wholesaler_id": "W1"}
        event |= {"first_iccid": str(FIRST_ICCID + 100 * outlet), "count": 100}
        found.insert(outlet * 700, json.dumps(event).encode())
    found[50] = b"{not json"
    found[60] = '{"type":"call","call_id":"é"}'.encode("latin-1")
    found[70] = b'{"type":"parcel"}'
    return found


class Died(Exception):
    """As a kill would end it."""


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_topic_gives_what_a_file_gives_killed_at_random_and_sent_twice(
    kafka: KafkaServer, city: Path, parts: int
) -> None:
    rng, topic, values = random.Random(parts), f"same-{parts}", lines()
    put(city / "events/a.ndjson", b"\n".join(values))
    file, _ = read(city, disorder_ms=10**9)
    run(fill(kafka, topic, parts, values + values[:500]))
    deaths = [rng.randint(1, 12) for _ in range(5)]

    def die() -> None:
        if deaths:
            deaths[0] -= 1
        if deaths and deaths[0] == 0:
            deaths.pop(0)
            raise Died

    post, suffered = ListPost(after=die), 0
    while True:
        try:
            take(kafka, topic, city, post, disorder_ms=10**9)
            break
        except Died:
            suffered += 1
    assert suffered
    assert post.facts() == file.facts()
    assert {(why, raw) for _, _, why, raw in post.letters()} == {
        (why, raw) for _, _, why, raw in file.letters()
    }
    before = len(post.sent)
    take(kafka, topic, city, post, disorder_ms=10**9)  # There is nothing new.
    assert len([1 for _, _, data in post.sent[before:] if b"uses" in data[:40]]) == 0


def test_poison_is_a_dead_letter_with_topic_partition_and_offset(
    kafka: KafkaServer, city: Path
) -> None:
    values = [call_json(1).encode(), None, b"\xff\xfe\x00", call_json(2).encode(), b"[1, {}]"]
    run(fill(kafka, "poison", 1, values))
    post = take(kafka, "poison", city)
    assert [use[0] for use in post.uses()] == ["C1", "C2"]
    source = f"kafka://{kafka.bootstrap}/poison/0"
    assert {(where, offset) for where, offset, _, _ in post.letters()} == {
        (source, 1),
        (source, 2),
        (source, 4),
    }
    assert (source, 2, "malformed", b"\xff\xfe\x00") in [
        (where, offset, why.split(":")[0], raw) for where, offset, why, raw in post.letters()
    ]


SCHEMA = {
    "type": "record",
    "name": "Call",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "when", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "card", "type": {"type": "record", "name": "Card", "fields": [
            {"name": "imsi", "type": "long"}]}},
    ],
}  # fmt: skip

EXPORT = """
[[export]]
files = "kafka://*/{topic}"
{how}
[export.fields]
call_id = "id"
start_time = "when"
imsi = "{imsi}"
"""


def described(folder: Path, topic: str, how: str, imsi: str) -> Mapping:
    (folder / "call.avsc").write_text(json.dumps(SCHEMA))
    return load_mapping(put(folder / "map.toml", EXPORT.format(topic=topic, how=how, imsi=imsi)))


def encoded(kind: str) -> list[bytes]:
    """Twenty calls in the dress of somebody else."""
    found = []
    for number in range(20):
        call_id, at, imsi, *_ = call_fields(number)
        if kind == "csv":
            found.append(f"{call_id};{at};{imsi}".encode())
        elif kind == "json":
            found.append(json.dumps({"id": call_id, "when": at, "card": {"imsi": imsi}}).encode())
        else:
            out = io.BytesIO()
            record = {"id": call_id, "when": parse_time(at), "card": {"imsi": int(imsi)}}
            fastavro.schemaless_writer(out, SCHEMA, record)
            frame = {"avro": b"", "registry": b"\0\0\0\0\7"}[kind]
            found.append(frame + out.getvalue())
    return found


@pytest.mark.parametrize(
    ("kind", "how", "imsi"),
    [
        ("csv", 'columns = ["id", "when", "imsi"]\ndelimiter = ";"', "imsi"),
        ("json", "", "card.imsi"),
        ("avro", 'avro_schema = "call.avsc"', "card.imsi"),
        ("registry", 'avro_schema = "call.avsc"', "card.imsi"),
    ],
)
def test_other_formats_by_mapping_with_a_poison_record_each(
    kafka: KafkaServer, city: Path, tmp_path: Path, kind: str, how: str, imsi: str
) -> None:
    values = encoded(kind)
    run(fill(kafka, f"as-{kind}", 1, [*values[:7], b"\xff" * 9, *values[7:]]))
    post = take(kafka, f"as-{kind}", city, mapping=described(tmp_path, f"as-{kind}", how, imsi))
    put(city / "events/a.ndjson", "\n".join(call_json(n) for n in range(20)))
    plain, _ = read(city)
    assert post.uses() == plain.uses()
    ((source, offset, why, raw),) = post.letters()
    assert (source, offset, raw) == (f"kafka://{kafka.bootstrap}/as-{kind}/0", 7, b"\xff" * 9)
    assert why.startswith("malformed")


def test_what_retention_deleted_before_it_was_read_is_told(kafka: KafkaServer, city: Path) -> None:
    run(fill(kafka, "short", 1, [call_json(n).encode() for n in range(5)]))
    post = take(kafka, "short", city)
    run(send(kafka, "short", 1, [call_json(n).encode() for n in range(5, 15)]))
    part = TopicPartition("short", 0)
    run(admin(kafka, lambda a: a.delete_records({part: RecordsToDelete(12)})))
    take(kafka, "short", city, post)
    assert len(post.uses()) == 8
    ((source, offset, why, _),) = post.letters()
    assert (source, offset) == (f"kafka://{kafka.bootstrap}/short/0", 5)
    assert why.startswith("lost: offsets 5 to 11 ")


def test_a_followed_topic_is_read_as_it_fills_and_grows(kafka: KafkaServer, city: Path) -> None:
    async def work() -> ListPost:
        post, stop = ListPost(), asyncio.Event()
        await fill(kafka, "grows", 1, [call_json(1).encode()])
        feed = TopicFeed(TopicAddress(kafka.bootstrap, "grows"), {}, follow=True)
        feed.ask_every = 0.2
        options = IngestOptions(follow=True)
        reading = asyncio.create_task(
            read_directory(
                None, post, options=options, feeds=[feed],
                reference=city / "reference", stop=stop,
            )
        )  # fmt: skip

        async def until(count: int) -> None:
            while len(post.uses()) < count:
                assert not reading.done(), reading.result()
                await asyncio.sleep(0.05)

        await until(1)
        await admin(kafka, lambda a: a.create_partitions({"grows": NewPartitions(3)}))
        await send(kafka, "grows", 3, [call_json(n).encode() for n in range(2, 8)])
        await until(7)
        stop.set()
        await reading
        return post

    post = run(work())
    assert {n for n in post.kept if n.startswith("kafka://")} == {
        f"kafka://{kafka.bootstrap}/grows/{part}" for part in range(3)
    }


def login(kafka: KafkaServer, mechanism: str, password: str = SASL_PASSWORD) -> dict[str, object]:
    assert kafka.certificates is not None
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": create_ssl_context(cafile=str(kafka.certificates.authority)),
        "sasl_mechanism": mechanism,
        "sasl_plain_username": SASL_USER,
        "sasl_plain_password": password,
    }


def secure_feed(kafka: KafkaServer, topic: str, security: dict[str, object]) -> TopicFeed:
    assert kafka.certificates is not None
    address, ca = TopicAddress(kafka.secure_bootstrap, topic), str(kafka.certificates.authority)
    return TopicFeed(address, security, ca, setting="ZEROSTOCK_FEED_KAFKA")


def take_from(feed: TopicFeed, city: Path) -> ListPost:
    post = ListPost()
    run(
        read_directory(
            None, post, options=IngestOptions(), feeds=[feed], reference=city / "reference"
        )
    )
    return post


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_topic_behind_a_login_is_read(kafka: KafkaServer, city: Path, mechanism: str) -> None:
    topic = f"behind-{mechanism.lower()}"
    run(fill(kafka, topic, 2, [call_json(n).encode() for n in range(10)]))
    post = take_from(secure_feed(kafka, topic, login(kafka, mechanism)), city)
    assert len(post.uses()) == 10


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("topic", "there is no topic nowhere"),
        ("PLAIN", "refused the login: check ZEROSTOCK_FEED_KAFKA_USERNAME"),
        ("SCRAM-SHA-512", "refused the login: check ZEROSTOCK_FEED_KAFKA_USERNAME"),
        ("authority", "ZEROSTOCK_FEED_KAFKA_CA names the authority to trust"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    kafka: KafkaServer, city: Path, wrong: str, says: str
) -> None:
    if wrong == "topic":
        feed = TopicFeed(TopicAddress(kafka.bootstrap, "nowhere"), {})
    elif wrong == "authority":
        security = login(kafka, "PLAIN") | {"ssl_context": create_ssl_context()}
        feed = secure_feed(kafka, "poison", security)
    else:
        feed = secure_feed(kafka, "poison", login(kafka, wrong, "wrong"))
    with pytest.raises(BrokerError) as caught:
        take_from(feed, city)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mapping_that_fits_no_record_is_told_before_anything_is_refused(
    kafka: KafkaServer, city: Path, tmp_path: Path
) -> None:
    run(fill(kafka, "misfit", 2, [call_json(n).encode() for n in range(50)]))
    post = ListPost()
    mapping = described(tmp_path, "misfit", "", "nobody")
    with pytest.raises(MappingError, match="fits none of the first 50 messages: "):
        take(kafka, "misfit", city, post, mapping=mapping)
    assert post.letters() == []


@pytest.mark.parametrize(
    "url", ["kafka://h:1", "kafka:///t", "kafka://h:1/a/b", "kafka://u:p@h:1/t", "kafka://h:1/t?x"]
)
def test_an_address_that_is_none_is_bad_usage(url: str) -> None:
    with pytest.raises(UsageError, match="kafka://HOST:PORT/TOPIC"):
        split_inputs([url])


def test_a_cluster_that_goes_away_is_no_silence_then_absent_and_read_on_when_it_is_back(
    kafka: KafkaServer, city: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = IngestOptions(follow=True, live=True, absent_after_ms=1_500)

    async def work() -> ListPost:
        post, stop = ListPost(), asyncio.Event()
        await fill(kafka, "away", 1, [call_json(1).encode()])

        def start() -> tuple[TopicFeed, asyncio.Task[IngestReport]]:
            feed = TopicFeed(TopicAddress(kafka.bootstrap, "away"), {}, follow=True, ask_every=0.2)
            reading = read_directory(
                None, post, options=options, feeds=[feed], reference=city / "reference", stop=stop
            )
            return feed, asyncio.create_task(reading)

        feed, reading = start()
        source = f"{feed.name}/0"

        async def until(true: Callable[[], bool]) -> None:
            while not true():
                assert not reading.done(), reading.result()
                await asyncio.sleep(0.05)

        def status() -> str:
            return post.states[source].status

        def unread() -> list[str]:
            newest = max((row["at"] for row in post.rows("unread_inputs")), default=0)
            rows = [row for row in post.rows("unread_inputs") if row["at"] == newest]
            return [row["input"] for row in rows if row["n"]]

        await until(lambda: len(post.uses()) == 1)
        kafka.kill()
        await until(lambda: "cannot be read and is tried again" in caplog.text)
        assert await feed.look() == {source: True}
        assert status() == "open"
        await until(lambda: status() == "absent")
        assert f"{source}: could not be read for 1 s" in caplog.text
        assert [h for h in heads(post) if h.source == source][-1].absent
        # Started anew meanwhile, it knows what it read, and waits for no answer.
        stop.set()
        await reading
        stop.clear()
        feed, reading = start()
        await until(lambda: unread() == [source])
        assert status() == "absent"
        kafka.start()  # not in a thread: its child would end with it
        await send(kafka, "away", 1, [call_json(2).encode()])
        await until(lambda: len(post.uses()) == 2)
        await until(lambda: status() == "open")
        assert not [h for h in heads(post) if h.source == source][-1].absent
        await until(lambda: unread() == [])
        stop.set()
        await reading
        return post

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(INGEST, "LIST_EVERY", 100)
        post = run(work())
    assert post.letters() == []
    assert caplog.text.count("tried again") < 7  # told when it changes, not at each look


def heads(post: ListPost) -> list[Header]:
    return [unpack(data)[0] for topic, _, data in post.sent if topic == SIM_EVENTS]


def test_a_topic_that_falls_silent_moves_on_with_the_clock(kafka: KafkaServer, city: Path) -> None:
    """Its last messages and its end may come together, or one after the other."""

    async def work() -> None:
        post, stop = ListPost(), asyncio.Event()
        await fill(kafka, "silent", 2, [call_json(n).encode() for n in range(4_000)])
        feed = TopicFeed(TopicAddress(kafka.bootstrap, "silent"), {}, follow=True)
        options = IngestOptions(follow=True, live=True, idle_after_ms=200, disorder_ms=100)
        reading = asyncio.create_task(
            read_directory(
                None, post, options=options, feeds=[feed],
                reference=city / "reference", stop=stop,
            )
        )  # fmt: skip
        began = options.now()

        def moved() -> list[str]:
            return [name for name, state in post.states.items() if state.watermark > began]

        while len(moved()) < 2:
            assert not reading.done(), reading.result()
            await asyncio.sleep(0.05)
        stop.set()
        await reading

    run(work())
