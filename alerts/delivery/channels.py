"""Managers' channels, by name, through Apprise: mail, DingTalk, WeCom, Feishu, Telegram and others.

What to send to whom is `alerts.delivery.managers`'. A URL holds its channel's secrets, so none is
ever shown: errors name the channel.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import Final

import apprise

from schemas.errors import SendError, SettingsError

#: Seconds a channel may take, all its addresses together; Apprise's own limits are below it.
PATIENCE: Final = 30.0

_LINE: Final = re.compile(r"([\w-]+)\s*=\s*(\S+)")


class AppriseChannels:
    """Channels written as lines `name = URL`; several URLs of one name are all notified.

    The URLs are Apprise's: https://github.com/caronc/apprise/wiki. Raises `SettingsError` for a
    line that is none or a URL that Apprise does not know.
    """

    def __init__(self, written: str) -> None:
        addresses: defaultdict[str, list[str]] = defaultdict(list)
        for number, line in enumerate(written.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise SettingsError(
                    f"ZEROSTOCK_CHANNELS, line {number}: write a line like `fallback = mailto://…`"
                )
            addresses[found[1]].append(found[2])
        self._channels = {name: _channel(name, urls) for name, urls in addresses.items()}

    @property
    def names(self) -> list[str]:
        """The channels there are."""
        return list(self._channels)

    async def tell(self, name: str, title: str, body: str) -> None:
        """Return once every address of a channel has taken it.

        Raises `SendError` when one has not within half a minute, or there is no such channel.
        """
        channel = self._channels.get(name)
        if channel is None:
            known = ", ".join(self._channels) or "none"
            raise SendError(f"there is no channel of this name in ZEROSTOCK_CHANNELS ({known})")
        try:
            async with asyncio.timeout(PATIENCE):
                taken = await channel.async_notify(title=title, body=body)
        except TimeoutError as error:
            raise SendError(f"it took longer than {PATIENCE:.0f} s") from error
        if not taken:
            raise SendError("it was not taken; the log of `apprise` says why")


def _channel(name: str, urls: list[str]) -> apprise.Apprise:
    channel = apprise.Apprise()
    for url in urls:
        if not channel.add(url):
            raise SettingsError(
                f"ZEROSTOCK_CHANNELS: a URL of {name!r} is none that Apprise knows; see "
                "https://github.com/caronc/apprise/wiki"
            )
    return channel
