"""The senders and routes that a setting or a table names, opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from alerts.delivery.routes import CHOSEN, Route, Routes
from alerts.senders import table
from alerts.senders.channel import ChannelSender
from alerts.senders.console import ConsoleSender
from alerts.senders.file import FileSender
from alerts.senders.port import Sender
from schemas.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from alerts.delivery.channels import AppriseChannels
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


def open_routes(
    entries: table.RouteTable,
    folder: Path,
    *,
    signature: str = "",
    twilio: TwilioOptions | None = None,
    channels: AppriseChannels | None = None,
    claimed: Callable[[str], bool] = lambda _: False,
) -> Routes:
    """The routes of a table that is in a folder.

    `signature` is that of routes which name none; `twilio` has what a Twilio route leaves out.
    Raises `SettingsError` for what cannot be used.
    """
    chosen: dict[str, str] = {}
    routes = []
    for entry in entries.routes:
        prefixes = entry.prefixes
        if isinstance(entry, table.ChannelEntry):
            known = channels.names if channels is not None else []
            if missing := sorted(set(entry.wholesalers.values()).difference(known)):
                raise SettingsError(
                    f"route {entry.name} names {', '.join(missing)}: there is no such channel in "
                    "ZEROSTOCK_CHANNELS"
                )
            chosen |= entry.wholesalers
            prefixes = tuple(CHOSEN + name for name in set(entry.wholesalers.values()))
        theirs = partial(_claimed, claimed, entry.name)
        try:
            sender = _open(entry, folder, twilio, channels, theirs)
        except SettingsError as error:
            raise SettingsError(f"route {entry.name}: {error}") from None
        own = entry.signature if entry.signature is not None else signature
        routes.append(Route(sender, entry.name, prefixes, entry.languages, own, entry.rate))
    return Routes(routes, chosen)


def _claimed(claimed: Callable[[str], bool], name: str, provider_id: str) -> bool:
    return claimed(f"{name}/{provider_id}")


def _open(
    entry: table.RouteEntry,
    folder: Path,
    twilio: TwilioOptions | None,
    channels: AppriseChannels | None,
    claimed: Callable[[str], bool],
) -> Sender:
    match entry:
        case table.ConsoleEntry():
            return ConsoleSender()
        case table.FileEntry():
            return FileSender(folder / entry.path)
        case table.ChannelEntry():
            assert channels is not None
            return ChannelSender(channels)
        case table.TwilioEntry():
            return open_sender("twilio", twilio=_twilio(entry, twilio), claimed=claimed)
        case table.HttpEntry():
            from alerts.senders.http import HttpSender

            return HttpSender(entry)
        case table.SmppEntry():
            from alerts.senders.smpp import SmppSender

            return SmppSender(entry)
        case _:
            return _own(entry)


def _own(entry: table.RouteEntry) -> Sender:
    """A sender of another package."""
    (point,) = entry_points(group=table.OWN_SENDERS, name=entry.kind)
    options = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in (entry.model_extra or {}).items()
    }
    try:
        sender = cast(Sender, point.load()(**options))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SettingsError(f"{point.value} cannot be used: {error}") from None
    return sender


def _twilio(entry: table.TwilioEntry, otherwise: TwilioOptions | None) -> TwilioOptions:
    from alerts.senders.twilio import TwilioOptions

    given: dict[str, object] = {
        "account_sid": entry.account_sid,
        "auth_token": entry.auth_token.get_secret_value() if entry.auth_token else None,
        "base_url": entry.base_url,
        "validity_period": entry.validity // 1_000 if entry.validity is not None else None,
    }
    if entry.from_ or entry.messaging_service_sid:
        given |= {
            "from_number": entry.from_ or "",
            "messaging_service_sid": entry.messaging_service_sid or "",
        }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(otherwise or TwilioOptions("", ""), **changes)  # type: ignore[arg-type]
