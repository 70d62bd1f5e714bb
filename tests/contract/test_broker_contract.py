"""What the product relies on in a broker, on Apache Kafka and on the embedded one alike."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from services.child import Child
from services.waiting import wait_until
from wire import Row, committed, create_topic, read, write


def test_what_was_acknowledged_is_read_back_at_its_offset(broker, name):
    create_topic(broker.bootstrap, name("t"))
    rows = [Row(b"v%d" % i, b"k%d" % i) for i in range(100)]

    offsets = write(broker.bootstrap, name("t"), rows)

    records = read(broker.bootstrap, name("t"))
    assert offsets == list(range(100))
    assert [(r.offset, r.key, r.value) for r in records] == [
        (i, row.key, row.value) for i, row in enumerate(rows)
    ]
    assert [r.offset for r in read(broker.bootstrap, name("t"), offset=97)] == [97, 98, 99]


def test_a_message_goes_to_the_partition_it_names(broker, name):
    create_topic(broker.bootstrap, name("t"), partitions=4)

    write(broker.bootstrap, name("t"), [Row(b"%d" % i, b"same key", i % 4) for i in range(20)])

    for partition in range(4):
        values = [r.value for r in read(broker.bootstrap, name("t"), partition=partition)]
        assert values == [b"%d" % i for i in range(partition, 20, 4)]


def test_a_compacted_topic_keeps_the_last_value_of_each_key(broker, name):
    create_topic(broker.bootstrap, name("t"), config={"cleanup.policy": "compact"})

    write(
        broker.bootstrap,
        name("t"),
        [Row(b"%d" % i, b"k%d" % (i % 5)) for i in range(50)] + [Row(None, b"k0")],
    )

    last = {r.key: r.value for r in read(broker.bootstrap, name("t"))}
    assert last == {b"k0": None} | {b"k%d" % i: b"%d" % (45 + i) for i in range(1, 5)}


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", None])
def test_a_compressed_message_of_a_megabyte_arrives_whole(broker, name, codec):
    create_topic(broker.bootstrap, name("t"), config={"max.message.bytes": str(4 << 20)})
    big = os.urandom(1 << 20) + bytes(1 << 20)

    write(
        broker.bootstrap,
        name("t"),
        [Row(big), Row(b"small"), Row(big[::-1])],
        compression_type=codec,
        max_request_size=4 << 20,
    )

    values = [r.value for r in read(broker.bootstrap, name("t"))]
    assert values == [big, b"small", big[::-1]]


def test_a_group_goes_on_where_its_killed_member_had_committed(broker, name, tmp_path):
    create_topic(broker.bootstrap, name("t"))
    reader = [sys.executable, str(Path(__file__).with_name("group_reader.py"))]
    arguments = [broker.bootstrap, name("g"), name("t"), "10"]

    write(broker.bootstrap, name("t"), [Row(b"%d" % i) for i in range(25)])
    with Child([*reader, *arguments], log=tmp_path / "first.log") as first:
        first.wait_for("read 24")
        first.wait_for("committed 20")
    assert committed(broker.bootstrap, name("g"), name("t")) == 20

    write(broker.bootstrap, name("t"), [Row(b"%d" % i) for i in range(25, 30)])
    with Child([*reader, *arguments], log=tmp_path / "second.log") as second:
        second.wait_for("committed 30")
        assert second.output().splitlines()[0] == "read 20"
    assert committed(broker.bootstrap, name("g"), name("t")) == 30


def test_a_group_that_never_committed_has_no_offsets(broker, name):
    create_topic(broker.bootstrap, name("t"))

    assert committed(broker.bootstrap, name("nobody"), name("t")) is None


def test_the_offsets_of_a_working_group_are_seen_from_outside(broker, name, tmp_path):
    create_topic(broker.bootstrap, name("t"), partitions=2)
    write(broker.bootstrap, name("t"), [Row(b"%d" % i, partition=i % 2) for i in range(20)])
    reader = [sys.executable, str(Path(__file__).with_name("group_reader.py"))]

    with Child(
        [*reader, broker.bootstrap, name("g"), name("t"), "5"], log=tmp_path / "reader.log"
    ) as member:
        wait_until(
            lambda: (
                [committed(broker.bootstrap, name("g"), name("t"), partition=p) for p in range(2)]
                == [10, 10]
            ),
            "the offsets of both partitions",
        )
        assert member.running

        write(broker.bootstrap, name("t"), [Row(b"more")] * 5)
        wait_until(
            lambda: committed(broker.bootstrap, name("g"), name("t")) == 15,
            "the member, undisturbed by who looks, to commit more",
        )
