"""SMS through Twilio: one request a message, and the search for one whose answer was lost.

Twilio has no key that makes a request safe to repeat, and a text must not carry an id. So a message
is known by its number, its sender, its text and the time: a text to a wholesaler names outlets and
the minute. Should two messages be alike in all of these, each of Twilio's messages still proves
only one of ours: those that prove another are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.rest import Client

from alerts.senders.twilio_errors import failed, meaning
from alerts.senders.twilio_http import TwilioHttp
from schemas.errors import SendError, SendUncertain, SettingsError
from schemas.messages import Message, Receipt

#: How far Twilio's clock may be from ours, and how many messages a look-up reads at most.
_SKEW = timedelta(minutes=5)
_MOST_READ = 1_000

#: Where Twilio tells, under our public address, what became of messages; and, as a fragment of
#: such an address, that it shall try again when we do not answer or cannot take it now
#: (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides).
STATUS_PATH: Final = "/twilio/status"
RETRIES: Final = "#rc=5&rp=5xx,ct,rt"


@dataclass(frozen=True)
class TwilioOptions:
    """An account and how to use it; durations in seconds.

    Either `from_number` or `messaging_service_sid` sends. After `validity_period` Twilio drops a
    message that it could not deliver: a late "out of stock" is a false one. `webhook_url` is the
    public address at which Twilio tells what became of messages; '' when nobody listens.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    from_number: str = ""
    messaging_service_sid: str = ""
    base_url: str = ""
    validity_period: int = 4 * 3_600
    webhook_url: str = ""
    connect_timeout: float = 5.0
    answer_timeout: float = 15.0


class TwilioSender:
    """Sends through one account; `claimed` says which of Twilio's messages prove another of ours.

    Raises `SettingsError` when something to sign in or to send with is missing.
    """

    remote = True
    finds = True

    def __init__(self, options: TwilioOptions, *, claimed: Callable[[str], bool]) -> None:
        for setting, value in [
            ("ZEROSTOCK_TWILIO_ACCOUNT_SID", options.account_sid),
            ("ZEROSTOCK_TWILIO_AUTH_TOKEN", options.auth_token),
            (
                "ZEROSTOCK_TWILIO_FROM or ZEROSTOCK_TWILIO_MESSAGING_SERVICE_SID",
                options.from_number or options.messaging_service_sid,
            ),
        ]:
            if not value:
                raise SettingsError(f"to send through Twilio set {setting}")
        self._claimed = claimed
        self._http = TwilioHttp(
            base_url=options.base_url,
            connect_timeout=options.connect_timeout,
            answer_timeout=options.answer_timeout,
        )
        client = Client(options.account_sid, options.auth_token, http_client=self._http)
        self._messages: Any = client.messages
        self._service = options.messaging_service_sid
        self._from = options.from_number
        self._webhook = options.webhook_url.rstrip("/")
        self._how: dict[str, object] = {"validity_period": options.validity_period}
        if self._service:
            self._how["messaging_service_sid"] = self._service
        else:
            self._how["from_"] = self._from

    async def send(self, message: Message) -> Receipt:
        """See `Sender`."""
        sent = await self._ask(
            self._messages.create_async,
            to=message.to,
            body=message.body,
            **self._how,
            **self._callback(message),
        )
        if not getattr(sent, "sid", None):
            raise SendUncertain("an answer that is not Twilio's")
        failure = failed(sent.error_code) if sent.status in ("failed", "undelivered") else None
        if failure is not None:
            raise failure
        return _receipt(sent, message)

    def _callback(self, message: Message) -> dict[str, str]:
        """Statuses come with our id: they may come before the answer that tells us Twilio's."""
        if not self._webhook:
            return {}
        name = quote(message.message_id, safe="")
        return {"status_callback": f"{self._webhook}{STATUS_PATH}?message={name}{RETRIES}"}

    async def find(self, message: Message, since: int) -> Receipt | None:
        """See `Sender`."""
        after = datetime.fromtimestamp(since / 1_000, UTC) - _SKEW
        # What still waits in Twilio's queue has no date of sending to be filtered by, so the
        # newest are read without.
        for how in ({"date_sent_after": after, "limit": _MOST_READ}, {"limit": 50}):
            found = await self._ask(self._messages.list_async, to=message.to, **how)
            ours = [m for m in found if self._is(m, message, after)]
            if ours:
                return _receipt(min(ours, key=lambda m: (m.date_created, m.sid)), message)
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def _is(self, sent: Any, message: Message, after: datetime) -> bool:
        sender = (
            (sent.messaging_service_sid, self._service)
            if self._service
            else (
                sent.from_,
                self._from,
            )
        )
        return (
            sent.to == message.to
            and sender[0] == sender[1]
            # A trial account's texts begin with words of Twilio's.
            and (sent.body or "").endswith(message.body)
            and str(sent.direction).startswith("outbound")
            and sent.status != "canceled"
            and isinstance(sent.date_created, datetime)
            and sent.date_created >= after
            and not self._claimed(sent.sid)
        )

    async def _ask(self, method: Callable[..., Any], **arguments: object) -> Any:
        """Call the client; its errors and ours come out as ours."""
        try:
            return await method(**arguments)
        except (SendError, SettingsError):
            raise
        except (TwilioRestException, TwilioServiceException) as error:
            raise _meaning(error) from None
        except (TwilioException, ValueError, TypeError, LookupError, AttributeError):
            # Twilio's client met an answer that it cannot read.
            raise SendUncertain("an answer that is not Twilio's") from None


def _meaning(error: Any) -> Exception:
    """Where an answer has no code of Twilio's its client puts the HTTP status, or what it found."""
    status = error.status if isinstance(error.status, int) else 0
    code = error.code if isinstance(error.code, int) and error.code != status else None
    return meaning(status, code)


def _receipt(sent: Any, message: Message) -> Receipt:
    """Twilio counts segments once it has chosen a sender; until then our own count stands."""
    counted = str(sent.num_segments or "")
    return Receipt(sent.sid, (int(counted) if counted.isdigit() else 0) or message.segments)
