"""How requests to Twilio travel: with time-outs, without logs, and knowing whether they left.

Twilio's own HTTP clients log numbers and account at INFO, cannot tell a refused connection from a
lost answer, hide the headers of an error and (the asynchronous one) ignore their time-out.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit, urlunsplit

import aiohttp
from twilio.http import AsyncHttpClient
from twilio.http.response import Response

from alerts.senders.twilio_errors import meaning
from schemas.errors import SendError, SendUncertain, SettingsError

_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class TwilioHttp(AsyncHttpClient):  # type: ignore[misc]  # twilio's types are not checked
    """Twilio's HTTP port over one aiohttp session.

    `base_url` replaces scheme and host of every request; time-outs are in seconds. Raises
    `SendError` when a request surely did not leave and `SendUncertain` when it may have arrived.
    """

    is_async = True

    def __init__(self, *, base_url: str, connect_timeout: float, answer_timeout: float) -> None:
        self._base = _checked(base_url)
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout + answer_timeout,
            sock_connect=connect_timeout,
            sock_read=answer_timeout,
        )
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # Twilio's signature
        allow_redirects: bool = False,
    ) -> Response:
        """See `AsyncHttpClient`; answers of 429 and from 500 on are raised here."""
        if self._session is None:
            # Not earlier: a session belongs to the event loop it was made in.
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=True)
        query = {k: str(v) for k, v in (params or {}).items() if v is not None}
        try:
            async with self._session.request(
                method.upper(),
                self._address(url),
                params=query or None,
                data=data,
                headers={**(headers or {}), **_sign_in(auth)},
                allow_redirects=allow_redirects,
            ) as answer:
                status, text = answer.status, await answer.text(errors="replace")
                retry_after = answer.headers.get("Retry-After", "")
        except _NOT_SENT as error:
            raise SendError(f"Twilio cannot be reached: {_name(error)}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SendUncertain(f"Twilio did not answer: {_name(error)}") from None
        if status == 429 or status >= 500:
            raise meaning(status, None, retry_after)
        return Response(status, text, {})

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _address(self, url: str) -> str:
        if not self._base.netloc:
            return url
        path = self._base.path.rstrip("/") + urlsplit(url).path
        return urlunsplit((self._base.scheme, self._base.netloc, path, urlsplit(url).query, ""))


def _checked(base_url: str) -> SplitResult:
    """A wrong address must not end up as the real Twilio."""
    with suppress(ValueError):
        base = urlsplit(base_url)
        if not base_url or (base.scheme in ("http", "https") and base.hostname):
            return base
    raise SettingsError("ZEROSTOCK_TWILIO_BASE_URL is not of the form https://host")


def _sign_in(auth: tuple[str, str] | None) -> dict[str, str]:
    if auth is None:
        return {}
    return {"Authorization": "Basic " + b64encode(":".join(auth).encode()).decode()}


def _name(error: BaseException) -> str:
    """An error without its text, which may quote the request."""
    return type(error).__name__.removesuffix("Error") or type(error).__name__
