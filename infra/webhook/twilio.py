"""What Twilio calls: delivery statuses and inbound SMS, taken by signature only.

The signature covers the public address, which behind a proxy is not the one that arrives here; so
it is checked against the address that Twilio was given. Both endpoints say 200 only once what they
took is safe; anything else makes Twilio ask again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from twilio.request_validator import RequestValidator
from twilio.twiml.messaging_response import MessagingResponse

from alerts.answers.intake import Intake
from alerts.senders.twilio import RETRIES, STATUS_PATH
from infra.webhook.http import form_of

log = logging.getLogger(__name__)

INBOUND_PATH: Final = "/twilio/inbound"

_SIGNATURE: Final = "X-Twilio-Signature"


class _Fields(dict[str, list[str]]):
    """A form as Twilio's validator likes to read it: a name may come several times."""

    def getlist(self, name: str) -> list[str]:
        return self[name]

    def first(self, name: str) -> str:
        return self.get(name, [""])[0]


class TwilioEndpoints:
    """The endpoints of one account under one public address.

    `address` is the scheme, host and path under which Twilio reaches this server.
    """

    def __init__(self, intake: Intake, *, auth_token: str, account_sid: str, address: str) -> None:
        self._intake = intake
        self._validator = RequestValidator(auth_token)
        self._account = account_sid
        self._address = address.rstrip("/")

    def routes(self) -> list[Route]:
        """What to serve."""
        return [
            Route(STATUS_PATH, self.status, methods=["POST"]),
            Route(INBOUND_PATH, self.inbound, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        """A message has come further, or to its end."""
        form = await self._signed(request)
        sid, status = form.first("MessageSid"), form.first("MessageStatus").lower()
        if not sid or not status:
            raise HTTPException(400, "not a status")
        code = form.first("ErrorCode")
        await self._intake.status(
            sid,
            status,
            int(code) if code.isascii() and code.isdigit() and len(code) < 10 else None,
            form.first("To"),
            request.query_params.get("message", ""),
        )
        return Response(status_code=204)

    async def inbound(self, request: Request) -> Response:
        """Somebody has written to our number."""
        form = await self._signed(request)
        sid, sender = form.first("MessageSid"), form.first("From")
        if not sid or not sender:
            raise HTTPException(400, "not a message")
        opted = form.first("OptOutType").upper()
        said = await self._intake.reply(sid, sender, form.first("Body"), opted)
        answer = MessagingResponse()
        if said:
            answer.message(said)
        return Response(str(answer), media_type="application/xml")

    async def _signed(self, request: Request) -> _Fields:
        """The form of a request that Twilio has signed. Raises `HTTPException`."""
        pairs = await form_of(request)
        form = _Fields()
        for name, value in pairs:
            form.setdefault(name, []).append(value)
        path = request.scope.get("raw_path") or request.scope["path"].encode()
        query = request.scope["query_string"]
        address = self._address + path.decode("latin-1")
        if query:
            address += "?" + query.decode("latin-1")
        # Twilio's documents do not say whether the fragment that tells it how to try again is
        # signed as well.
        if not self._valid((address, address + RETRIES), form, request.headers.get(_SIGNATURE, "")):
            log.warning("a request to %s that Twilio has not signed", request.scope["shown"])
            raise HTTPException(403, "not signed by Twilio")
        if self._account and form.first("AccountSid") not in ("", self._account):
            raise HTTPException(403, "another account")
        return form

    def _valid(self, addresses: Sequence[str], form: _Fields, signature: str) -> bool:
        return any(self._validator.validate(a, form, signature) for a in addresses)
