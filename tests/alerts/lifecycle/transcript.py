"""Plays a wholesaler's day through the alerts, and writes down what people see.

`python tests/alerts/transcript.py` puts it into docs/alerts.md; a test compares.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

ROOT = Path(__file__).parents[3]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]

import msgspec  # noqa: E402
import pyarrow as pa  # noqa: E402

from alerts.answers.reading import read  # noqa: E402
from alerts.delivery.delivery import MessageDelivery  # noqa: E402
from alerts.delivery.dispatcher import Dispatcher  # noqa: E402
from alerts.delivery.receipts import FileReceipts  # noqa: E402
from alerts.lifecycle.stage import WholesalerStage  # noqa: E402
from alerts.message.compose import EmptyShelf, compose, title  # noqa: E402
from alerts.message.directory import ReferenceDirectory  # noqa: E402
from alerts.policy.policy import parse_policy  # noqa: E402
from alerts.policy.rules import AlertRules  # noqa: E402
from schemas.answers import Answer, pack_answers  # noqa: E402
from schemas.envelope import INCIDENTS, Header, unpack  # noqa: E402
from schemas.masking import masked  # noqa: E402
from schemas.messages import Message, Receipt  # noqa: E402
from schemas.reference import Outlet, Reference, Territory, Wholesaler  # noqa: E402

PAGE = ROOT / "docs" / "alerts.md"
MARKED = re.compile(r"(<!-- transcript -->\n).*?(<!-- /transcript -->)", re.DOTALL)
ZONE = ZoneInfo("Asia/Shanghai")
SKU = "4G-50"
FIRST, SECOND = "+8613800138000", "+8613900139000"

TABLES = Reference(
    territories={
        "T-WEST": Territory(territory_id="T-WEST", name="Xihu"),
        "T-NORTH": Territory(territory_id="T-NORTH", name="Gongshu"),
    },
    wholesalers={
        "W001": Wholesaler(
            wholesaler_id="W001", name="Wang", phone=FIRST, backup_phone=SECOND, language="en"
        )
    },
    outlets={
        outlet_id: Outlet(outlet_id=outlet_id, name=name, kind="shop", territory_id=territory)
        for outlet_id, name, territory in (
            ("O-1", "Lake Shop", "T-WEST"),
            ("O-2", "Corner Store", "T-WEST"),
            ("O-3", "Canal Mobile", "T-NORTH"),
            ("O-17", "Bridge Kiosk", "T-NORTH"),
        )
    },
)
TO_BRING = {"O-1": 110, "O-2": 62, "O-3": 74}

#: When, and what: a shelf that ran empty (-) or was refilled (+), or a text from a phone.
DAY = [
    ("06:10", "-", "O-1"),
    ("06:40", "-", "O-3"),
    ("06:45", "-", "O-2"),
    ("06:55", "+", "O-2"),
    ("07:04", FIRST, "1"),
    ("08:10", "+", "O-3"),
    ("08:31", "+", "O-1"),
    ("09:20", "-", "O-17"),
    ("10:12", "-", "O-2"),
    ("10:12", "-", "O-3"),
    ("10:15", FIRST, "on the way by 12:00"),
    ("11:30", "+", "O-3"),
    ("12:20", SECOND, "12:45"),
    ("12:41", "+", "O-2"),
    ("15:00", "-", "O-1"),
    ("15:20", FIRST, "no stock"),
    ("17:40", "+", "O-1"),
    ("21:40", "-", "O-2"),
    ("23:00", "", ""),
]


def _ms(clock: str) -> int:
    return round(datetime.fromisoformat(f"2026-03-02T{clock}:00+08:00").timestamp() * 1_000)


class Screen:
    """A sender and all channels: what comes by is written down."""

    remote = True
    finds = True

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.now = 0
        self.latest: dict[str, str] = {}

    def say(self, at: int, who: str, text: str) -> None:
        local = datetime.fromtimestamp(at / 1_000, ZONE)
        self.lines.append((at, f"{local:%H:%M}  {who:<21} {text}"))

    async def send(self, message: Message) -> Receipt:
        whose = "Wang" if message.to == FIRST else "second phone"
        self.say(message.at, f"SMS to {whose}", message.body)
        self.latest[message.to] = message.message_id
        return Receipt("", message.segments)

    async def find(self, message: Message, since: int) -> Receipt | None:
        return None

    async def close(self) -> None:
        pass

    async def tell(self, name: str, title: str, body: str) -> None:
        # What falls due goes out once the watermark has passed it.
        self.say(self.now - 60_000, f"channel {name}", f"{title}. {body}")


class Day:
    """The wholesaler stage and the dispatcher of one partition, on the day's clock."""

    def __init__(self, folder: Path) -> None:
        (policy,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
        directory = ReferenceDirectory(TABLES)
        rules = AlertRules(60_000, parse_policy(policy), zone=ZONE, places=directory)
        self.stage = WholesalerStage(0, 1, rules)
        self.screen = Screen()
        self.dispatcher = Dispatcher(
            MessageDelivery(self.screen, FileReceipts(folder / "receipts")),
            directory,
            timezone=ZONE,
            channels=self.screen,
            fill_levels=lambda outlet_id, sku: TO_BRING.get(outlet_id),
        )
        self.opened: dict[str, int] = {}

    async def until(self, moment: int) -> None:
        """Minute by minute, as a live feed moves on."""
        while self.screen.now < moment:
            self.screen.now += 60_000
            self.update(self.screen.now)
            steps, _ = self.stage.advance(0)
            for row in steps.events:
                self.explain(row.incident_id, row.kind, row.at, msgspec.json.decode(row.detail))
            for group in steps.groups:
                sent = await self.dispatcher.send(group)
                self.stage.settle(group, sent.records, self.screen.now)

    def update(self, mark: int, kind: str = "none", rows: pa.RecordBatch | None = None) -> None:
        self.stage.process(Header(kind, "outlets/0", mark, False, ("outlets/0",)), rows)

    def explain(self, incident_id: str, kind: str, at: int, detail: dict) -> None:
        name = TABLES.outlets[incident_id.partition("/")[0]].name if incident_id else ""
        if kind == "waiting":
            until = datetime.fromtimestamp(detail["until"] / 1_000, ZONE)
            why = detail["why"].replace("_", " ")
            self.screen.say(at, "(not told)", f"{name}: {why} until {until:%d %b %H:%M}")
        elif kind in ("refilled_in_time", "overdue"):
            what = {"overdue": "no delivery came"}.get(kind, "refilled before anybody was told")
            self.screen.say(at, "(noted)", f"{name}: {what}")

    def shelf(self, at: int, sign: str, outlet_id: str) -> None:
        began = at if sign == "-" else self.opened[outlet_id]
        self.opened[outlet_id] = began
        row = {
            "incident_id": f"{outlet_id}/{SKU}/{began}", "outlet_id": outlet_id, "sku": SKU,
            "wholesaler_id": "W001", "opened_at": began,
            "closed_at": None if sign == "-" else at, "at": at,
        }  # fmt: skip
        rows = pa.RecordBatch.from_pylist([row], schema=INCIDENTS)
        self.update(at, "incidents", rows)
        outlet = TABLES.outlets[outlet_id]
        self.screen.say(at, outlet.name, "ran empty" if sign == "-" else "is refilled")

    def reply(self, at: int, phone: str, text: str) -> None:
        answer = read(text, now=at, zone=ZONE)
        detail = {"by": answer.by} if answer.by is not None else {}
        news = Answer(
            f"SM{at}", at, "W001", answer.kind, self.screen.latest[phone], "",
            msgspec.json.encode(detail).decode(), "sms",
        )  # fmt: skip
        self.stage.process(*unpack(pack_answers([news])))
        whose = "Wang" if phone == FIRST else "second phone"
        self.screen.say(at, f"{whose} answers", f"“{text}” ({answer.kind})")


async def _play(folder: Path) -> list[str]:
    day = Day(folder)
    day.screen.now = _ms("06:00")
    for clock, what, detail in DAY:
        await day.until(_ms(clock))
        if what in ("-", "+"):
            day.shelf(_ms(clock), what, detail)
        elif what:
            day.reply(_ms(clock), what, detail)
    await day.until(_ms("23:59") + 8 * 3_600_000)
    day.dispatcher.delivery.receipts.close()  # type: ignore[attr-defined]
    return [line for _, line in sorted(day.screen.lines, key=lambda found: found[0])]


def transcript() -> str:
    """The day as it stands in the page."""
    with tempfile.TemporaryDirectory() as folder:
        lines = asyncio.run(_play(Path(folder)))
    phones = f"Wang has {masked(FIRST)} and, as a second phone, {masked(SECOND)}."
    chinese = ["What the texts say in Chinese:", "", "```", *_in_chinese(), "```", ""]
    return "\n".join([phones, "", "```", *lines, "```", "", *chinese])


def _in_chinese() -> Iterator[str]:
    shelves = [
        EmptyShelf("O-1", "湖边便利店", "西湖区", SKU, _ms("10:12"), 110),
        EmptyShelf("O-3", "运河手机店", "拱墅区", SKU, _ms("10:12"), 74),
    ]
    for kind in ("stock_out", "digest", "reminder", "escalation", "resolved"):
        known = [s._replace(bring=None) for s in shelves] if kind == "resolved" else shelves
        text = compose(known, language="zh", timezone=ZONE, kind=kind, at=_ms("12:15"))
        yield f"{kind:<12} {text.body}"
    for kind in ("escalation", "lost", "unreached"):
        yield f"{'channel':<12} {title(kind, 'zh', '王记批发', 2)}"


if __name__ == "__main__":
    PAGE.write_text(MARKED.sub(lambda m: m[1] + transcript() + m[2], PAGE.read_text()))
