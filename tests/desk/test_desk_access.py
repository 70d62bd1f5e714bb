"""Logins: what is kept, what ends a session, what each role may do, who is let in by the door."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.asgi import Reply, call, form
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from infra.desk.access import store as store_module
from infra.desk.access.guard import Guard, local
from infra.desk.access.pages import AccessPages
from infra.desk.access.passwords import check_password
from infra.desk.access.store import SESSION_IDLE, SESSION_LASTS, AccessStore
from infra.desk.render import renderer
from infra.desk.views import MENU
from infra.desk.visitor import ANONYMOUS, ROLES, STRANGER, Visitor
from infra.webhook.http import form_of, web_app
from schemas.errors import InputError, UsageError

PASSWORD = "korrekt pferd batterie"
HOST = {"Host": "127.0.0.1"}


class Clock:
    ms = 1_775_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desk.sqlite"


@pytest.fixture
def store(path: Path, clock: Clock) -> AccessStore:
    return AccessStore(path, clock)


@pytest.fixture
def mei(store: AccessStore) -> str:
    """A manager's session."""
    store.add("mei", "manager", PASSWORD)
    token = store.log_in("mei", PASSWORD)
    assert token is not None
    return token


# users and sessions


def test_a_file_that_only_its_owner_reads_and_that_holds_no_secret(
    path: Path, store: AccessStore, mei: str
) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    kept = b"".join(one.read_bytes() for one in path.parent.iterdir())
    assert PASSWORD.encode() not in kept
    assert mei.encode() not in kept


def test_logging_in(store: AccessStore, mei: str) -> None:
    visitor = store.visitor(mei)
    assert visitor is not None
    assert (visitor.name, visitor.role) == ("mei", "manager")
    assert store.log_in("mei", PASSWORD + "!") is None
    assert store.log_in("nobody", PASSWORD) is None
    assert store.log_in("mei", "x" * 5_000) is None
    assert store.visitor("guessed") is None
    assert store.visitor("") is None


def test_names_are_the_same_whatever_their_case(store: AccessStore, mei: str) -> None:
    assert store.log_in("MEI", PASSWORD) is not None
    with pytest.raises(UsageError, match="already"):
        store.add("Mei", "viewer", PASSWORD)


def test_a_session_ends_when_it_is_idle_or_old(store: AccessStore, clock: Clock, mei: str) -> None:
    began = clock.ms
    while clock.ms < began + (SESSION_LASTS - SESSION_IDLE) * 1_000:
        clock.ms += (SESSION_IDLE - 1) * 1_000
        assert store.visitor(mei) is not None  # used in time, it goes on
    clock.ms = began + SESSION_LASTS * 1_000
    assert store.visitor(mei) is None
    other = store.log_in("mei", PASSWORD)
    assert other is not None
    clock.ms += SESSION_IDLE * 1_000
    assert store.visitor(other) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.set_password("mei", "another pferd batterie"),
        lambda store: store.set_role("mei", "admin"),
        lambda store: store.set_disabled("mei", True),
        lambda store: store.remove("mei"),
    ],
    ids=["password", "role", "disabled", "removed"],
)
def test_changes_end_sessions(store: AccessStore, mei: str, change: Any) -> None:
    change(store)
    assert store.visitor(mei) is None


def test_a_disabled_user_is_let_in_again_only_when_enabled(store: AccessStore, mei: str) -> None:
    store.set_disabled("mei", True)
    assert store.log_in("mei", PASSWORD) is None
    store.set_disabled("mei", False)
    assert store.log_in("mei", PASSWORD) is not None


@pytest.mark.parametrize(
    "password",
    ["short", "mei's long password", "aaaaaaaaaaaaaaaa", "", "password1234", "Passw0rd!2026",
     "qwertyuiop12", "123456789012", "zerostock1234", "iloveyou1234", "letmein12345"],
)  # fmt: skip
def test_passwords_that_will_not_do(password: str) -> None:
    with pytest.raises(UsageError):
        check_password("mei", password)


def test_the_trail_is_only_added_to(path: Path, store: AccessStore) -> None:
    store.note(Visitor("mei", "manager"), "decide", "a case", "seen")
    file = sqlite3.connect(path)
    for sql in ("DELETE FROM trail", "UPDATE trail SET who = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            file.execute(sql)
    file.close()
    [(_, note)] = store.trail(10)
    assert (note.who, note.action, note.about, note.why) == ("mei", "decide", "a case", "seen")


def test_a_file_from_a_newer_version_is_left_alone(path: Path, store: AccessStore) -> None:
    store.add("mei", "viewer", PASSWORD)
    file = sqlite3.connect(path)
    file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(InputError, match="newer"):
        store.any_user()


def test_a_file_that_is_none_is_said(path: Path, store: AccessStore) -> None:
    path.write_text("not a database, but long enough to be looked at" * 10)
    with pytest.raises(InputError, match=re.escape(str(path))):
        store.any_user()


def test_many_processes_make_the_file_at_once(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from infra.desk.access.store import AccessStore\n"
        "from infra.desk.visitor import Visitor\n"
        "store = AccessStore(Path(sys.argv[1]))\n"
        "for n in range(20): store.note(Visitor('x', 'viewer'), 'look', str(n))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [one.wait(120) for one in running] == [0] * 4
    assert len(AccessStore(path).trail(1_000)) == 80


def test_a_death_in_the_middle_of_a_change_leaves_the_old(path: Path, mei: str) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from infra.desk.access.store import AccessStore\n"
        "store = AccessStore(Path(sys.argv[1]))\n"
        "with store._file.writing() as file:\n"
        "    file.execute(\"UPDATE users SET role = 'admin'\")\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert [user.role for user in AccessStore(path).users()] == ["manager"]


# roles


@given(st.sampled_from(["look", "see_numbers", "decide", "replay", "administer", "unheard of"]))
def test_each_role_may_what_the_one_below_may(action: str) -> None:
    may = [Visitor("x", role).may(action) for role in ("", *ROLES)]  # type: ignore[arg-type]
    assert may == sorted(may)


def test_nobody_and_strangers() -> None:
    assert not STRANGER.may("look")
    assert ANONYMOUS.may("look")
    assert not any(ANONYMOUS.may(one) for one in ("see_numbers", "decide", "replay", "administer"))


# the door


def page(request: Any) -> PlainTextResponse:
    return PlainTextResponse(request.scope["visitor"].name or "anonymous")


async def sent(request: Any) -> PlainTextResponse:
    return PlainTextResponse(dict(await form_of(request)).get("text", ""))


def guarded(store: AccessStore, *, anonymous: bool = True, secure: bool = False) -> Any:
    pages = AccessPages(store, renderer(MENU, UTC), secure=secure)
    routes = [Route("/", page), Route("/sent", sent, methods=["POST"]), *pages.routes()]
    url = "https://desk.example" if secure else None
    return Guard(web_app(routes), store, anonymous=anonymous, url=url)


def get(app: Any, target: str, headers: dict[str, str] | None = None) -> Reply:
    return asyncio.run(call(app, "GET", target, b"", HOST | (headers or {})))


def post(app: Any, target: str, fields: dict[str, str], headers: dict[str, str]) -> Reply:
    return asyncio.run(form(app, target, fields, HOST | headers))


def log_in(
    app: Any,
    name: str = "mei",
    password: str = PASSWORD,
    then: str = "/",
    client: str = "127.0.0.1",
) -> Reply:
    asked = get(app, "/login?next=" + quote(then, safe=""))
    token = re.search(r'name="token" value="([^"]+)"', asked.text)
    planted = re.search(r"desk-form=([^;]+)", asked.headers["set-cookie"])
    going = re.search(r'name="next" value="([^"]+)"', asked.text)
    assert token is not None
    assert planted is not None
    assert going is not None
    fields = {"name": name, "password": password, "token": token[1], "next": going[1]}
    cookie = {"Cookie": f"desk-form={planted[1]}"}
    return asyncio.run(form(app, "/login", fields, HOST | cookie, client))


def test_without_any_user_this_machine_may_look_by_its_own_name(store: AccessStore) -> None:
    app = guarded(store)
    assert get(app, "/").text == "anonymous"
    # Another site's name that leads to this address is somebody else's page asking.
    assert get(app, "/", {"Host": "evil.example"}).status == 303
    assert get(guarded(store, anonymous=False), "/").status == 303
    assert post(app, "/sent", {"text": "x"}, {}).status == 403


def test_with_a_user_everybody_logs_in(store: AccessStore, mei: str) -> None:
    app = guarded(store)
    reply = get(app, "/?a=b")
    assert (reply.status, reply.headers["location"]) == (303, "/login?next=%2F%3Fa%3Db")
    assert get(app, "/", {"Cookie": f"desk={mei}"}).text == "mei"
    live = get(app, "/", {"HX-Request": "true"})
    assert (live.status, live.headers["hx-redirect"]) == (401, "/login")
    assert post(app, "/sent", {}, {}).status == 401


def test_logging_in_by_the_form(store: AccessStore, mei: str) -> None:
    reply = log_in(guarded(store), then="/ranking?q=x")
    assert (reply.status, reply.headers["location"]) == (303, "/ranking?q=x")
    assert [note.action for _, note in store.trail(9)] == ["log in"]


def test_by_https_the_cookie_is_bound_to_it(store: AccessStore, mei: str) -> None:
    app = guarded(store, secure=True)
    assert get(app, "/", {"Cookie": f"desk={mei}"}).status == 303
    assert get(app, "/", {"Cookie": f"__Host-desk={mei}"}).text == "mei"
    visitor = store.visitor(mei)
    assert visitor is not None
    ours = {"Cookie": f"__Host-desk={mei}", "Origin": "https://desk.example"}
    assert post(app, "/sent", {"csrf": visitor.csrf}, ours).status == 200


def test_wrong_tries_are_slowed_down_and_noted_without_the_password(
    store: AccessStore, mei: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = guarded(store)
    tries = [log_in(app, password=f"guess number {n}") for n in range(6)]
    assert [one.status for one in tries] == [403] * 5 + [429]
    assert int(tries[-1].headers["retry-after"]) > 0
    assert log_in(app).status == 429  # also with the right one
    assert log_in(app, name="other").status == 403  # others are not held up
    assert "guess" not in caplog.text
    assert "guess" not in str(store.trail(100))


@pytest.mark.parametrize(
    "address",
    [lambda n: f"198.51.100.{n}", lambda n: f"2001:db8:0:{n:x}::1"],
    ids=["IPv4", "IPv6"],
)
def test_wrong_tries_from_elsewhere_lock_nobody_out(
    store: AccessStore, mei: str, address: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = guarded(store)
    monkeypatch.setattr(AccessStore, "log_in", lambda *_: None)  # spares the hashes
    for n in range(110):
        assert log_in(app, password="a wrong guess", client=address(n)).status == 403
    monkeypatch.undo()
    assert log_in(app).status == 303


def test_one_network_of_ipv6_is_one_who_tries(store: AccessStore, mei: str) -> None:
    app = guarded(store)
    tries = [
        log_in(app, password="a wrong guess", client=f"2001:db8::{n:x}").status for n in range(6)
    ]
    assert tries == [403] * 5 + [429]


def test_a_password_in_the_field_of_the_name_is_not_kept(store: AccessStore, mei: str) -> None:
    app = guarded(store)
    assert log_in(app, name=PASSWORD, password="x").status == 403
    assert log_in(app, name="Mei", password="x").status == 403
    assert [note.who for _, note in store.trail(2)] == ["mei", "(unknown)"]
    assert PASSWORD not in str(store.trail(100))


def test_many_logins_at_once_are_looked_at_a_few_at_a_time(
    store: AccessStore, mei: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = guarded(store)
    inside, crowded = threading.Semaphore(2), threading.Event()

    def log_in(self: AccessStore, name: str, password: str) -> None:
        if not inside.acquire(blocking=False):
            crowded.set()
            return
        crowded.wait(0.02)  # for a third to come in, were it let
        inside.release()

    monkeypatch.setattr(AccessStore, "log_in", log_in)
    fields = {"name": "mei", "password": "a wrong guess", "token": "t"}
    cookie = HOST | {"Cookie": "desk-form=t"}

    async def all_at_once() -> list[Reply]:
        return await asyncio.gather(
            *(form(app, "/login", fields, cookie, f"198.51.100.{n}") for n in range(60))
        )

    assert {reply.status for reply in asyncio.run(all_at_once())} == {403}
    assert not crowded.is_set()


def test_a_wrong_try_forgets_not_where_one_was_going(store: AccessStore, mei: str) -> None:
    app = guarded(store)
    reply = log_in(app, password="wrong of course", then="/stock-outs")
    assert 'value="/stock-outs"' in reply.text


def test_a_login_forgets_the_wrong_tries_before_it(store: AccessStore, mei: str) -> None:
    app = guarded(store)
    for _ in range(3):
        for n in range(4):
            assert log_in(app, password=f"guess number {n}").status == 403
        assert log_in(app).status == 303


def test_a_login_form_of_another_site_is_refused(store: AccessStore, mei: str) -> None:
    app = guarded(store)
    fields = {"name": "mei", "password": PASSWORD, "token": "w", "next": "/"}
    assert post(app, "/login", fields, {}).status == 403
    assert post(app, "/login", fields, {"Cookie": "desk-form=other"}).status == 403
    assert post(app, "/login", fields, {"Cookie": "desk-form=w", "Origin": "http://evil.example"}
                ).status == 403  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"csrf": "right"}, {}, 200),
        ({"csrf": "right"}, {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}, 200),
        ({}, {}, 403),
        ({"csrf": ""}, {}, 403),
        ({"csrf": "wrong"}, {}, 403),
        ({"csrf": "right"}, {"Origin": "http://evil.example"}, 403),
        ({"csrf": "right"}, {"Origin": "null"}, 403),
        ({"csrf": "right"}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({"csrf": "right"}, {"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_only_our_own_forms_are_taken(
    store: AccessStore, mei: str, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    visitor = store.visitor(mei)
    assert visitor is not None
    if fields.get("csrf") == "right":
        fields = {"csrf": visitor.csrf}
    app = guarded(store)
    reply = post(app, "/sent", {**fields, "text": "hi"}, {"Cookie": f"desk={mei}", **headers})
    assert reply.status == status
    assert reply.text == ("hi" if status == 200 else "this form is not from our own page\n")


def test_what_is_no_form_is_refused(store: AccessStore, mei: str) -> None:
    app, cookie = guarded(store), {"Cookie": f"desk={mei}"}
    for body in (b"\xff\xfe", b"csrf", b"a=b&" * 10_000, b"x" * 200_000):
        reply = asyncio.run(call(app, "POST", "/sent", [body], HOST | cookie))
        assert reply.status == 403


def test_logging_out_ends_the_session(store: AccessStore, mei: str) -> None:
    app, visitor = guarded(store), store.visitor(mei)
    assert visitor is not None
    assert post(app, "/logout", {"csrf": visitor.csrf}, {"Cookie": f"desk={mei}"}).status == 303
    assert store.visitor(mei) is None


@given(st.text(max_size=60))
def test_after_a_login_one_stays_on_this_site(text: str) -> None:
    address = local(text)
    assert address.startswith("/")
    assert not address.startswith(("//", "/\\"))


@pytest.mark.parametrize(
    "text",
    ["https://evil.example/", "//evil.example", "\\\\evil.example", "/\\evil.example", "evil", "",
     "javascript:alert(1)", "/%0d%0aSet-Cookie:x", "///evil.example/x"],
)  # fmt: skip
def test_places_that_one_is_not_sent_to(text: str) -> None:
    assert "evil.example" not in local(text).partition("/")[0]
    assert not local(text).startswith("//")


# users by an admin


def admin(store: AccessStore) -> dict[str, str]:
    store.add("ada", "admin", PASSWORD)
    token = store.log_in("ada", PASSWORD)
    assert token is not None
    visitor = store.visitor(token)
    assert visitor is not None
    return {"csrf": visitor.csrf, "cookie": f"desk={token}"}


def test_an_admin_makes_and_ends_logins(store: AccessStore, mei: str) -> None:
    app, ada = guarded(store), admin(store)

    def do(**fields: str) -> Reply:
        return post(app, "/users", {"csrf": ada["csrf"], **fields}, {"Cookie": ada["cookie"]})

    assert do(do="add", name="vera", role="viewer", password=PASSWORD).status == 303
    assert do(do="role", name="vera", role="manager").status == 303
    assert do(do="disable", name="mei").status == 303
    assert {user.name: (user.role, user.disabled) for user in store.users()} == {
        "ada": ("admin", False), "mei": ("manager", True), "vera": ("manager", False),
    }  # fmt: skip
    assert do(do="remove", name="ada").status == 422  # not oneself: somebody has to be left
    assert do(do="add", name="x", role="king", password=PASSWORD).status == 422
    assert do(do="nothing", name="mei").status == 422
    assert [(note.action, note.about) for _, note in reversed(store.trail(9))] == [
        ("add", "vera: viewer"), ("role", "vera: manager"), ("disable", "mei"),
    ]  # fmt: skip


def test_others_make_none(store: AccessStore, mei: str) -> None:
    app, visitor = guarded(store), store.visitor(mei)
    assert visitor is not None
    fields = {"csrf": visitor.csrf, "do": "role", "name": "mei", "role": "admin"}
    assert post(app, "/users", fields, {"Cookie": f"desk={mei}"}).status == 403
    for target in ("/users", "/trail"):
        assert get(app, target, {"Cookie": f"desk={mei}"}).status == 403
    assert [user.role for user in store.users()] == ["manager"]


def test_ones_own_password(store: AccessStore, mei: str) -> None:
    app, visitor = guarded(store), store.visitor(mei)
    assert visitor is not None
    change = {"csrf": visitor.csrf, "old": "wrong", "new": "quite another battery"}
    cookie = {"Cookie": f"desk={mei}"}
    assert post(app, "/account", change, cookie).status == 403
    assert post(app, "/account", change | {"old": PASSWORD, "new": "short"}, cookie).status == 422
    assert post(app, "/account", change | {"old": PASSWORD}, cookie).status == 303
    assert store.log_in("mei", "quite another battery") is not None


def test_an_old_hash_is_made_anew_at_login(
    path: Path, store: AccessStore, mei: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module.Passwords, "outdated", lambda self, kept: True)
    before = sqlite3.connect(path).execute("SELECT hash FROM users").fetchone()
    assert store.log_in("mei", PASSWORD) is not None
    assert sqlite3.connect(path).execute("SELECT hash FROM users").fetchone() != before
    assert store.log_in("mei", PASSWORD) is not None


# the command


def command(*arguments: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", "users", *map(str, arguments)],
        input=typed, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_logins_by_the_command_line(tmp_path: Path) -> None:
    data = ("--data", tmp_path)
    made = command("add", "mei", "--role", "manager", *data, "--password-file", "-", typed=PASSWORD)
    assert made.returncode == 0, made.stderr
    assert PASSWORD not in made.stdout + made.stderr
    assert command("list", *data).stdout == "mei\tmanager\tenabled\n"
    command("role", "mei", "admin", *data)
    command("disable", "mei", *data)
    assert command("list", *data).stdout == "mei\tadmin\tdisabled\n"
    again = command("add", "mei", *data, "--password-file", "-", typed=PASSWORD)
    assert again.returncode == 2
    assert "already" in again.stderr
    assert command("add", "vera", *data).returncode == 2  # nobody to ask for a password
    command("remove", "mei", *data)
    assert command("list", *data).stdout == ""
    notes = [note for _, note in reversed(AccessStore(tmp_path / "desk.sqlite").trail(9))]
    assert [(note.action, note.about) for note in notes] == [
        ("add", "mei: manager"), ("role", "mei: admin"), ("disable", "mei"), ("remove", "mei"),
    ]  # fmt: skip
    assert {(note.who, note.address) for note in notes} == {(getpass.getuser(), "zerostock users")}


@pytest.mark.parametrize("text", ["//[", "http://[::1", "/\x00", "/a?b=[", "//]/x"])
def test_addresses_that_are_none_lead_home_or_stay_here(text: str) -> None:
    assert local(text).startswith("/")
    assert not local(text).startswith("//")


@pytest.mark.parametrize("host", ["[", "[::1", "", "a b", "evil.example:x"])
def test_hosts_that_are_none_are_strangers(store: AccessStore, host: str) -> None:
    assert get(guarded(store), "/", {"Host": host}).status == 303


def test_refusals_carry_the_headers_that_pages_do(store: AccessStore, mei: str) -> None:
    refused = post(guarded(store), "/sent", {}, {})
    assert refused.status == 401
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in refused.headers["content-security-policy"]
