"""Producers compress with lz4's fast level."""

from __future__ import annotations

from random import Random

import pytest
from aiokafka.codec import lz4_encode
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from pipelines.kafka import compress_lightly


def test_batches_are_what_the_fast_level_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Random(1)
    value = b"".join(b"C%011d" % chance.randrange(10**6) for _ in range(20_000))

    def packed() -> bytes:
        batch = DefaultRecordBatchBuilder(2, 3, 0, -1, -1, 0, 1 << 20)
        batch.append(0, 1, None, value, [])
        return bytes(batch.build())

    monkeypatch.setattr(lz4_encode, "__defaults__", (9,))
    hard = packed()
    compress_lightly()
    light = packed()
    assert len(hard) < len(light) < len(value)
