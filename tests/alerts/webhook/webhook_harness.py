"""A webhook in one process: a record of sent messages, a Kafka that can be down, Twilio's pen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from alert_harness import NOW, PHONE, FakeClock, FakeDirectory, message
from services.asgi import Reply, call, form
from services.twilio_server import ACCOUNT, TOKEN
from twilio.request_validator import RequestValidator

from alerts.answers.inbox import Inbox
from alerts.answers.intake import Intake
from alerts.answers.links import Links
from alerts.answers.sent import Sent
from alerts.delivery.receipts import Attempt, FileReceipts
from alerts.delivery.refused_numbers import RefusedNumbers
from infra.webhook.answer_page import AnswerPage
from infra.webhook.http import web_app
from infra.webhook.twilio import TwilioEndpoints
from schemas.answers import Answer
from schemas.errors import BrokerDown
from schemas.messages import Message, MessageRecord

ADDRESS = "https://sms.example.com/zs"
ZONE = ZoneInfo("Asia/Shanghai")
KEY = "a key of the tests, long enough"


class FakeKafka:
    """Keeps what it is given; down, it keeps nothing."""

    def __init__(self) -> None:
        self.rows: list[Answer] = []
        self.down = False

    async def publish(self, rows: Sequence[Answer]) -> None:
        if self.down:
            raise BrokerDown("Kafka is away")
        self.rows += rows

    @property
    def told(self) -> list[tuple[str, str]]:
        """(kind, message) of each row, a row told twice once, in the order of the first telling."""
        return [
            (row.kind, row.message_id) for row in {row.answer_id: row for row in self.rows}.values()
        ]


class Webhook:
    """One life of a webhook over a folder; another one over the same folder is the next life."""

    def __init__(self, folder: Path, kafka: FakeKafka | None = None) -> None:
        self.folder = folder
        self.kafka = kafka or FakeKafka()
        self.clock = FakeClock()
        self.receipts = FileReceipts(folder / "receipts.db")
        self.numbers = RefusedNumbers(folder / "refused-numbers.log")
        self.inbox = Inbox(folder / "answers.log")
        self.links = Links(KEY, ADDRESS, 48 * 3_600_000)
        self.intake = Intake(
            Sent(self.receipts),
            self.inbox,
            self.numbers,
            self.kafka.publish,
            zone=ZONE,
            owners={"+8613700137000": "v"},
            clock=self.clock,
        )
        twilio = TwilioEndpoints(
            self.intake, auth_token=TOKEN, account_sid=ACCOUNT, address=ADDRESS
        )
        page = AnswerPage(self.intake, self.links, FakeDirectory(), address=ADDRESS, zone=ZONE)
        self.app = web_app([*twilio.routes(), *page.routes()])

    def sent(
        self, name: str = "m1", *, to: str = PHONE, provider_id: str = "", **more: Any
    ) -> Message:
        """A message goes out, and is accepted if `provider_id` is given."""
        one = message(name, to=to, **more)
        self.receipts.keep_attempt(Attempt(one, NOW))
        if provider_id:
            ids = [incident.incident_id for incident in one.incidents]
            self.receipts.keep(
                MessageRecord(name, "w", ids, one.body, 1, NOW, "sent", 1, provider_id, "", NOW)
            )
        return one

    def status(
        self, sid: str, status: str, code: int | None = None, query: str = "", **more: str
    ) -> Reply:
        fields = {"MessageSid": sid, "MessageStatus": status, "To": PHONE, "AccountSid": ACCOUNT}
        if code is not None:
            fields["ErrorCode"] = str(code)
        return self.post("/twilio/status" + query, fields | more)

    def says(self, text: str, sid: str, sender: str = PHONE, **more: str) -> Reply:
        fields = {"MessageSid": sid, "From": sender, "Body": text, "AccountSid": ACCOUNT}
        return self.post("/twilio/inbound", fields | more)

    def post(
        self, target: str, fields: dict[str, str], signature: str | None = None, **headers: str
    ) -> Reply:
        """A form, signed as Twilio does unless told otherwise."""
        if signature is None:
            signature = sign(target, fields)
        signed = {"X-Twilio-Signature": signature} if signature else {}
        return asyncio.run(form(self.app, target, fields, signed | headers))

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(call(self.app, method, target, body, named))

    def page(self, name: str = "m1", owner: str = "w", at: int = NOW) -> str:
        """The path of a message's page."""
        return "/a/" + self.links.token(name, owner, at)


def sign(target: str, fields: dict[str, str]) -> str:
    return RequestValidator(TOKEN).compute_signature(ADDRESS + target, fields)
