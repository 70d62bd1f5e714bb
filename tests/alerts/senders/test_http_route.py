"""A gateway described by templates: what its answers mean, and what a table may not say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from alert_harness import PHONE, message
from services.gateway_server import KEY, Gateway

from alerts.senders.http import HttpSender
from alerts.senders.port import NumberRefused, SendLater, SendThrottled
from alerts.senders.table import HttpEntry, load_table
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError
from schemas.messages import Receipt

TABLE = """
[[routes]]
name = "gateway"
kind = "http"
timeout = "300ms"
secrets = { key = { env = "GATEWAY_KEY" } }
id = { json = "data.0.id" }

[routes.request]
url = "URL/send"
headers = { Authorization = "Bearer {{ secrets.key }}", Content-Type = "application/json" }
body = '{"to": {{ to | tojson }}, "text": {{ text | tojson }}, "ref": {{ message_id | tojson }}}'

[[routes.answers]]
means = "accepted"
status = 200
json = { code = 0 }

[[routes.answers]]
means = "bad_number"
json = { code = ["no_such_number", 17] }

[[routes.answers]]
means = "unreachable"
json = { code = "off" }

[[routes.answers]]
means = "refused"
status = 422

[[routes.answers]]
means = "settings"
status = [401, 403]

[[routes.answers]]
means = "later"
status = [429, 503]

[routes.lookup]
url = "URL/messages/{{ message_id | urlencode }}"
id = { json = "id" }

[[routes.lookup.answers]]
means = "accepted"
status = "2xx"

[[routes.lookup.answers]]
means = "absent"
status = 404
"""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def entry_of(folder: Path, text: str) -> HttpEntry:
    path = folder / "routes.toml"
    path.write_text(text)
    (entry,) = load_table(path).routes
    assert isinstance(entry, HttpEntry)
    return entry


def ask(
    folder: Path,
    gateway: Gateway,
    work: Callable[[HttpSender], Coroutine[Any, Any, Any]],
    text: str = TABLE,
) -> Any:
    async def run() -> Any:
        async with gateway:
            sender = HttpSender(entry_of(folder, text.replace("URL", gateway.url)))
            try:
                return await work(sender)
            finally:
                await sender.close()

    return asyncio.run(run())


def test_a_message_goes_out_and_has_the_gateways_id(tmp_path: Path) -> None:
    gateway = Gateway()
    assert ask(tmp_path, gateway, lambda s: s.send(message())) == Receipt("G0", 1)
    assert gateway.sends == [{"to": PHONE, "text": message().body, "ref": "m1"}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, {"code": "no_such_number"}), NumberRefused),
        ((200, {"code": 17}), NumberRefused),
        ((200, {"code": "off"}), SendLater),
        ((422, {"code": 9}), SendRefused),
        ((403, {}), SettingsError),
        ((429, {}), SendThrottled),
        ((503, {}), SendThrottled),
        ((200, {"code": 99}), SendUncertain),
        ((302, {}), SendUncertain),
        ("garbage", SendUncertain),
        ("cut", SendUncertain),
        ("silent", SendUncertain),
    ],
)
def test_what_an_answer_means(tmp_path: Path, answer: Any, error: type[Exception]) -> None:
    gateway = Gateway(script=[answer])
    with pytest.raises(error) as raised:
        ask(tmp_path, gateway, lambda s: s.send(message()))
    assert type(raised.value) is error
    assert "13800138000" not in str(raised.value)


def test_nobody_listens(tmp_path: Path) -> None:
    async def work(sender: HttpSender) -> None:
        with pytest.raises(SendError) as raised:
            await sender.send(message())
        assert type(raised.value) is SendError

    ask(tmp_path, Gateway(), work, TABLE.replace("URL", "http://127.0.0.1:9"))


def test_what_is_in_doubt_is_looked_up(tmp_path: Path) -> None:
    gateway = Gateway(script=["cut"], lookups=[(500, {})])

    async def work(sender: HttpSender) -> tuple[Any, Any]:
        with pytest.raises(SendUncertain):
            await sender.send(message())
        with pytest.raises(SendError, match="HTTP 500"):
            await sender.find(message(), 0)
        return await sender.find(message(), 0), await sender.find(message("m2"), 0)

    assert ask(tmp_path, gateway, work) == (Receipt("G0", 1), None)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "http"', 'kind = "smoke"', "line 4: routes[1].kind: 'smoke' is no kind of route"),
        ("{{ to | tojson }}", "{{ phone }}", "'phone' is no placeholder"),
        ("{{ secrets.key }}", "{{ secrets.other }}", "'other'"),
        ("{{ to | tojson }}", "{{ to", "line 12: routes[1].request.body: not a template"),
        ("status = 422", "status = 42", "line 29: routes[1].answers[4].status"),
        ('means = "later"', 'means = "maybe"', "line 36: routes[1].answers[6].means"),
        ('{ env = "GATEWAY_KEY" }', '{ env = "NOT_SET" }', "NOT_SET is not set"),
        ('{ env = "GATEWAY_KEY" }', '{ file = "/nowhere" }', "/nowhere cannot be read"),
        ('{ env = "GATEWAY_KEY" }', '"abc"', "say where the secret is"),
        ('url = "URL/send"', 'url = "ftp://x/send"', "line 10: routes[1].request.url"),
        ('means = "accepted"\nstatus = 200', 'means = "later"\nstatus = 200', "no rule means"),
        ('timeout = "300ms"', "rate = 0", "line 5: routes[1].rate"),
        ('timeout = "300ms"', "prefixes = ['86']", "line 5: routes[1].prefixes[1]"),
        ('timeout = "300ms"', "colour = 'red'", "line 5: routes[1].colour: there is no such key"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TABLE
    text = TABLE.replace(old, new, 1).replace("URL", "http://127.0.0.1:9")
    with pytest.raises(SettingsError) as raised:
        HttpSender(entry_of(tmp_path, text))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value)
