"""The SMPP route against an SMSC that behaves, and misbehaves, as SMPP 3.4 says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from alert_harness import PHONE, message
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from services.smpp_server import BIND_TRANSMITTER, PASSWORD, SYSTEM_ID, Smsc

from alerts.message.segments import segments, split
from alerts.senders.port import NumberRefused, SendThrottled
from alerts.senders.smpp import SmppSender
from alerts.senders.table import SmppEntry
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError
from schemas.messages import Message, Receipt

LONG = "缺货" * 60


def entry_of(smsc: Smsc, **changes: Any) -> SmppEntry:
    values = {
        "name": "smsc",
        "kind": "smpp",
        "host": "127.0.0.1",
        "port": smsc.port,
        "system_id": SYSTEM_ID,
        "password": SecretStr(PASSWORD),
        "source": "10690000",
        "timeout": 300,
        "enquire_every": 30_000,
        "window": 10,
        "validity": 14_400_000,
        "gsm7": True,
        "tls": False,
        "system_type": "",
        "prefixes": (),
        "languages": (),
        "rate": None,
        "signature": None,
        "receive": True,
    }
    return SmppEntry.model_construct(**(values | changes))


def ask(smsc: Smsc, work: Callable[[SmppSender], Coroutine[Any, Any, Any]], **changes: Any) -> Any:
    async def run() -> Any:
        async with smsc:
            sender = SmppSender(entry_of(smsc, **changes))
            try:
                return await work(sender)
            finally:
                await sender.close()

    return asyncio.run(run())


def saying(body: str, name: str = "m1") -> Message:
    return msgspec.structs.replace(message(name), body=body)


def test_a_message_goes_out(caplog: pytest.LogCaptureFixture) -> None:
    smsc = Smsc()
    assert ask(smsc, lambda s: s.send(message())) == Receipt("M0", 1)
    (sent,) = smsc.messages
    assert (sent.source, sent.to, sent.coding) == ("10690000", PHONE[1:], 0)
    assert (sent.text, sent.receipt, sent.validity) == (message().body, 1, "000000040000000R")
    assert smsc.binds == [BIND_TRANSMITTER]
    assert PHONE[1:] not in caplog.text


def test_a_long_text_goes_in_parts_that_belong_together() -> None:
    smsc = Smsc()
    assert ask(smsc, lambda s: s.send(saying(LONG))) == Receipt("M1", 2)
    one, other = smsc.messages
    assert one.text + other.text == LONG
    assert [m.data[:6] for m in (one, other)] == [
        bytes((5, 0, 3, one.data[3], 2, 1)),
        bytes((5, 0, 3, one.data[3], 2, 2)),
    ]
    assert (one.receipt, other.receipt) == (0, 1)
    assert {one.coding, other.coding} == {8}


@given(st.text(st.sampled_from("ab{€^缺🏪é\n"), max_size=400))
def test_no_character_is_cut(text: str) -> None:
    for gsm7 in (False, *([True] if all(c in "ab{€^é\n" for c in text) else [])):
        parts = split(text, gsm7=gsm7)
        assert "".join(parts) == text
        widths = [len(p.encode("utf-16-be")) // 2 for p in parts]
        if gsm7:
            widths = [len(p) + sum(c in "{€^" for c in p) for p in parts]
        alone, each = (160, 153) if gsm7 else (70, 67)
        assert max(widths) <= (alone if len(parts) == 1 else each)
        if len(parts) > 1:
            assert sum(widths) > alone
    assert segments(text) >= 1


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (0x58, SendThrottled),
        (0x14, SendThrottled),
        (0x0B, NumberRefused),
        (0x08, SendError),
        (0x45, SendError),
        (0x0A, SettingsError),
        (0x65, SendRefused),
        (0x411, SendRefused),
        ("silent", SendUncertain),
        ("cut", SendUncertain),
        ("cut before", SendUncertain),
        ("garbage", SendUncertain),
    ],
)
def test_what_an_answer_means(step: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        ask(Smsc(script=[step]), lambda s: s.send(message()))
    assert type(raised.value) is error


def test_a_wrong_password_is_the_operators_to_mend() -> None:
    with pytest.raises(SettingsError, match="login"):
        ask(Smsc(), lambda s: s.send(message()), password=SecretStr("other"))


def test_an_smsc_that_is_not_there_surely_took_nothing() -> None:
    for changes in ({"port": 9}, {}):
        with pytest.raises(SendError) as raised:
            ask(Smsc(deaf=True), lambda s: s.send(message()), **changes)
        assert type(raised.value) is SendError


def test_it_connects_again_after_a_cut() -> None:
    smsc = Smsc()

    async def work(sender: SmppSender) -> list[Receipt]:
        first = await sender.send(message())
        smsc.cut()
        assert sender._session is not None
        async with asyncio.timeout(10):
            await sender._session.ended.wait()
        return [first, await sender.send(message("m2"))]

    assert len(ask(smsc, work)) == 2
    assert len(smsc.binds) == 2


def test_an_answer_that_came_late_is_found_and_asked_about() -> None:
    smsc = Smsc(script=["late", "late"])

    async def work(sender: SmppSender) -> tuple[Any, Any, Any]:
        for name in ("m1", "m2"):
            with pytest.raises(SendUncertain):
                await sender.send(message(name))
        before = await sender.find(message(), 0)
        smsc.release()
        smsc.states["M1"] = 8  # rejected after all
        await sender.send(message("m3"))  # what comes after the answers
        return before, await sender.find(message(), 0), await sender.find(message("m2"), 0)

    assert ask(smsc, work) == (None, Receipt("M0", 1), None)
    assert smsc.queries == ["M0", "M1"]


def test_only_the_parts_that_were_not_accepted_are_sent_again() -> None:
    smsc = Smsc(script=[0, "cut before"])

    async def work(sender: SmppSender) -> Receipt:
        with pytest.raises(SendUncertain):
            await sender.send(saying(LONG))
        assert await sender.find(saying(LONG), 0) is None
        return await sender.send(saying(LONG))

    assert ask(smsc, work) == Receipt("M1", 2)
    assert "".join(m.text for m in smsc.messages) == LONG


def test_no_more_requests_wait_than_the_window_holds() -> None:
    smsc = Smsc(script=["late"] * 3)

    async def work(sender: SmppSender) -> int:
        tries = [asyncio.create_task(sender.send(message(f"m{n}"))) for n in range(9)]
        while len(smsc.messages) < 3:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0)
        waiting = len(smsc.messages)
        smsc.release()
        await asyncio.gather(*tries)
        return waiting

    assert ask(smsc, work, window=3, timeout=5_000) == 3
    assert len(smsc.messages) == 9


def test_a_connection_that_is_dead_is_noticed_without_a_message() -> None:
    smsc = Smsc()

    async def work(sender: SmppSender) -> None:
        await sender.send(message())
        smsc.deaf = True
        assert sender._session is not None
        async with asyncio.timeout(10):
            await sender._session.ended.wait()

    ask(smsc, work, enquire_every=100, timeout=200)
