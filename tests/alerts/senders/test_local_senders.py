"""Senders that need no provider."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from alert_harness import NOW, PHONE, message

from alerts.senders.console import ConsoleSender
from alerts.senders.file import FileSender
from schemas.errors import InputError
from schemas.messages import Receipt


def test_the_screen_shows_text_but_not_the_number() -> None:
    screen = io.StringIO()
    assert asyncio.run(ConsoleSender(screen).send(message())) == Receipt("", 1)
    assert screen.getvalue() == "SMS to +861*******000: out of cards: m1\n"
    assert PHONE not in screen.getvalue()


def test_a_line_is_as_the_contract_says(tmp_path: Path) -> None:
    sender = FileSender(tmp_path / "sms")
    asyncio.run(sender.send(message(opened_at=NOW + 7)))
    assert json.loads((tmp_path / "sms").read_text()) == {
        "message_id": "m1",
        "wholesaler_id": "w",
        "to": PHONE,
        "body": "out of cards: m1",
        "at": "2025-11-23T06:05:00.007+00:00",
        "incidents": [
            {
                "incident_id": "i-m1",
                "outlet_id": "o-i-m1",
                "sku": "4G",
                "opened_at": "2025-11-23T06:05:00.007+00:00",
            }
        ],
    }


def test_a_message_is_one_line_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "sms"
    one, other = FileSender(path), FileSender(path)

    async def work() -> None:
        assert await one.find(message(), NOW) is None
        await one.send(message())
        assert await other.find(message(), NOW) == Receipt("", 1)
        await other.send(message())
        await other.send(message("m2"))
        await one.close()
        await other.close()
        again = FileSender(path)
        assert await again.find(message(), NOW) == Receipt("", 1)
        await again.send(message("m2"))

    asyncio.run(work())
    assert [json.loads(line)["message_id"] for line in path.read_text().splitlines()] == [
        "m1",
        "m2",
    ]


def test_a_torn_line_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "sms"
    asyncio.run(FileSender(path).send(message()))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    sender = FileSender(path)
    assert path.read_bytes() == whole
    asyncio.run(sender.send(message("m2")))
    assert len(path.read_text().splitlines()) == 2


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("buy milk\n")
    with pytest.raises(InputError, match="line 1 is not an SMS"):
        FileSender(tmp_path / "notes")
