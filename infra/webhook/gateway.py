"""What an HTTP gateway of the table of routes calls: statuses and replies, as its entry says.

A call is taken by its signature or token only, and answered once what it says is safe; anything
else makes the gateway call again.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from alerts.answers.intake import Intake
from alerts.senders.http import value_at
from alerts.senders.table import Callback, HttpEntry
from infra.webhook.http import body_of

log = logging.getLogger(__name__)

GATEWAY_PATH: Final = "/gateway"


class GatewayEndpoint:
    """The endpoint of one gateway."""

    def __init__(self, intake: Intake, entry: HttpEntry, callback: Callback) -> None:
        self._intake = intake
        self._name = entry.name
        self._callback = callback

    def route(self) -> Route:
        """What to serve."""
        return Route(f"{GATEWAY_PATH}/{self._name}", self.called, methods=["POST"])

    async def called(self, request: Request) -> Response:
        """A message has come further, or somebody has answered."""
        body = await body_of(request)
        if not self._is_theirs(request, body):
            log.warning("a call for route %s that is not signed as agreed", self._name)
            raise HTTPException(403, "not signed")
        calls = list(_calls(body))
        if not [call for call in calls if await self._take(call)]:
            raise HTTPException(400, "neither a status nor a reply")
        return PlainTextResponse(self._callback.answer)

    def _is_theirs(self, request: Request, body: bytes) -> bool:
        agreed = self._callback
        if agreed.hmac is not None:
            key = agreed.hmac.get_secret_value().encode()
            digest = hmac.new(key, body, agreed.algorithm).digest()
            right = digest.hex() if agreed.encoding == "hex" else base64.b64encode(digest).decode()
            given = request.headers.get(agreed.header, "").removeprefix(f"{agreed.algorithm}=")
            given = given.lower() if agreed.encoding == "hex" else given
            return hmac.compare_digest(given.encode(), right.encode())
        if agreed.token is not None:
            given = request.query_params.get("token", "")
            return hmac.compare_digest(given.encode(), agreed.token.get_secret_value().encode())
        return agreed.unsigned

    async def _take(self, call: Any) -> bool:
        """Whether a call says something that is known."""
        status, reply = self._callback.status, self._callback.reply
        if reply is not None:
            key, sender, text = (
                value_at(call, place) for place in (reply.id, reply.from_, reply.text)
            )
            if key and sender and text is not None:
                number = sender if sender.startswith("+") else f"+{sender}"
                await self._intake.reply(f"{self._name}/{key}", number, text)
                return True
        if status is not None:
            provider_id = value_at(call, status.id) if status.id else None
            ours = value_at(call, status.message_id) if status.message_id else None
            state = value_at(call, status.state)
            if state is not None and (provider_id or ours):
                if (told := status.states.get(state)) is None:
                    log.info("route %s: a state %r that the table does not name", self._name, state)
                else:
                    name = f"{self._name}/{provider_id or ours}"
                    await self._intake.status(name, told, None, "", ours or "")
                return True
        return False


def _calls(body: bytes) -> Iterable[Any]:
    """What is called: JSON, of which a list is several, or a form."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        try:
            found = dict(parse_qsl(body.decode(), max_num_fields=200))
        except ValueError:
            return []
    return found if isinstance(found, list) else [found]
