"""Kafka with SASL_SSL: who is let in by the product's settings, and what others are told."""

from __future__ import annotations

import asyncio
import gc

import pytest
from services.certificates import make_certificates
from services.kafka import SASL_PASSWORD, SASL_USER

from infra.settings import Settings, load_settings
from infra.topics import ensure_topics
from infra.wiring import kafka_security
from pipelines.ingest.post import KafkaSink
from schemas.errors import BrokerError


def secure(kafka, **changes) -> Settings:
    """Settings that the server accepts, but for what is changed."""
    right = {
        "broker": kafka.secure_bootstrap,
        "kafka_security": "SASL_SSL",
        "kafka_mechanism": "SCRAM-SHA-512",
        "kafka_username": SASL_USER,
        "kafka_password": SASL_PASSWORD,
        "kafka_ca": kafka.certificates.authority,
    }
    return load_settings(**(right | changes))


def connect(settings: Settings) -> None:
    """What every worker does first."""
    asyncio.run(ensure_topics(settings.broker, 2, 1, kafka_security(settings)))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_the_right_password_over_the_right_certificate_is_let_in(kafka, mechanism):
    connect(secure(kafka, kafka_mechanism=mechanism))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_refused_in_a_line_without_it(kafka, mechanism):
    settings = secure(kafka, kafka_mechanism=mechanism, kafka_password="a-wrong-secret")

    with pytest.raises(BrokerError) as refused:
        connect(settings)
    gc.collect()  # a connection left open would warn here, and a warning is an error

    assert "\n" not in str(refused.value)
    assert kafka.secure_bootstrap in str(refused.value)
    assert "a-wrong-secret" not in str(refused.value) + repr(settings)


def test_ingest_is_refused_in_the_same_words(kafka):
    settings = secure(kafka, kafka_password="a-wrong-secret")

    async def open_sink() -> None:
        async with KafkaSink(settings.broker, kafka_security(settings), None):
            pass

    with pytest.raises(BrokerError, match="refused the login"):
        asyncio.run(open_sink())
    gc.collect()


def test_a_server_whose_certificate_nobody_vouches_for_is_not_trusted(kafka, tmp_path):
    stranger = make_certificates(tmp_path / "stranger").authority

    with pytest.raises(BrokerError):
        connect(secure(kafka, kafka_ca=stranger))
    gc.collect()
