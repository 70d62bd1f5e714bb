"""Ways to send an SMS, behind one port (`alerts.senders.port`), and the choice among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alerts.senders.console import ConsoleSender
from alerts.senders.file import FileSender
from alerts.senders.port import Sender
from schemas.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from alerts.senders.twilio import TwilioOptions


def open_sender(
    way: str,
    *,
    twilio: TwilioOptions | None = None,
    claimed: Callable[[str], bool] = lambda _: False,
) -> Sender:
    """The sender for `console`, `file:PATH` or `twilio`.

    `claimed` is `Receipts.claimed`. Raises `UsageError` for any other way, `SettingsError` or
    `InputError` when the way named cannot be used.
    """
    kind, _, rest = way.partition(":")
    if way == "console":
        return ConsoleSender()
    if kind == "file" and rest:
        return FileSender(Path(rest))
    if way == "twilio":
        if twilio is None:
            raise SettingsError("to send through Twilio set ZEROSTOCK_TWILIO_ACCOUNT_SID")
        # Not at the top: the client is worth loading only for those who use it.
        from alerts.senders.twilio import TwilioSender

        return TwilioSender(twilio, claimed=claimed)
    raise UsageError(f"--sms {way!r}: give console, file:PATH or twilio")
