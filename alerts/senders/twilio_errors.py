"""What Twilio's answers mean for a message: the one table of its error codes. Pure.

Codes: https://www.twilio.com/docs/api/errors. Twilio's own words are not passed on, as they repeat
the number; those here say what to do.
"""

from __future__ import annotations

from typing import Final

from alerts.senders.port import NumberRefused, SendLater, SendThrottled
from schemas.errors import SendError, SendRefused, SendUncertain, SettingsError

#: The number takes no messages, whatever they say.
NUMBER: Final = {
    21211: "not a valid number",
    21217: "not a valid number",
    21610: "its owner has opted out by STOP",
    21612: "cannot be reached from the sender's number",
    21614: "not a mobile number",
    21635: "a landline",
    30004: "blocked by the phone or its carrier",
    30005: "unknown to its carrier or switched off for good",
    30006: "a landline, or its carrier cannot be reached",
}

#: This message will not pass; another one to this number may.
REFUSED: Final = {
    21408: "the account may not send to this country: allow it in Twilio's geo permissions",
    21602: "the text is empty",
    21617: "the text is too long",
    30007: "filtered by the carrier: register the sender, or change signature or wording",
    30036: "not delivered within its time: see ZEROSTOCK_TWILIO_VALIDITY",
}

#: The phone may come back.
LATER: Final = {30003: "the phone is out of reach", 30008: "not delivered for an unknown reason"}

#: Nothing was accepted because there was too much.
BUSY: Final = {
    14107: "too many messages at a time",
    20429: "too many requests at a time",
    30001: "the sender's queue is full",
    63038: "the account's messages for today are used up",
}

#: No message can pass until somebody corrects this.
SETTINGS: Final = {
    20003: "the credentials are wrong: check ZEROSTOCK_TWILIO_ACCOUNT_SID and _AUTH_TOKEN",
    20005: "the account is not active",
    20008: "test credentials cannot do this: use the live ones",
    20404: "no such account: check ZEROSTOCK_TWILIO_ACCOUNT_SID and _BASE_URL",
    21212: "the sender's number is not valid: check ZEROSTOCK_TWILIO_FROM",
    21609: "no valid address for statuses: check ZEROSTOCK_WEBHOOK_URL",
    21624: "no valid time to live: check ZEROSTOCK_TWILIO_VALIDITY",
    21603: "no sender: give ZEROSTOCK_TWILIO_FROM or _MESSAGING_SERVICE_SID",
    21606: "the sender's number cannot send SMS: check ZEROSTOCK_TWILIO_FROM",
    21659: "the sender's number is not this account's: check ZEROSTOCK_TWILIO_FROM",
    21660: "the sender's number is not this account's: check ZEROSTOCK_TWILIO_FROM",
    21701: "no such Messaging Service: check ZEROSTOCK_TWILIO_MESSAGING_SERVICE_SID",
    21703: "the Messaging Service has no numbers: add one",
    30002: "the account is suspended",
}

#: What to wait when told to wait, but not how long; and the most to wait at a time, in seconds.
_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 900.0


def meaning(status: int, code: int | None, retry_after: str = "") -> Exception:
    """The error to raise for an HTTP answer of 400 and above, or a message's `error_code`."""
    if code in BUSY or status == 429:
        words = BUSY.get(code or 20429, BUSY[20429])
        return SendThrottled(f"Twilio: {words} ({code or status})", _seconds(retry_after))
    if code in NUMBER:
        return NumberRefused(f"{NUMBER[code]} ({code})", str(code))
    if code in REFUSED:
        return SendRefused(f"{REFUSED[code]} ({code})")
    if code in LATER:
        return SendLater(f"{LATER[code]} ({code})")
    if code in SETTINGS:
        return SettingsError(f"Twilio: {SETTINGS[code]} ({code})")
    if status in (401, 403, 404):
        return SettingsError(
            f"Twilio answers HTTP {status}: check ZEROSTOCK_TWILIO_ACCOUNT_SID, _AUTH_TOKEN and "
            "_BASE_URL"
        )
    if code is not None and 400 <= status < 500:
        return SendRefused(f"Twilio's error {code}: see https://www.twilio.com/docs/errors/{code}")
    # It may have been accepted before this went wrong, or the answer may not be Twilio's.
    return SendUncertain(f"Twilio answers HTTP {status}" + (f" ({code})" if code else ""))


def failed(code: int | None) -> SendError | None:
    """The error of a message whose final status is that it failed, where the code tells one."""
    error = meaning(0, code)
    return error if isinstance(error, SendError) and not isinstance(error, SendUncertain) else None


def _seconds(retry_after: str) -> float:
    """`Retry-After` in seconds; its other form, a date, is not worth trusting two clocks for."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return _PAUSE
    return min(seconds, _LONGEST_PAUSE) if seconds >= 0 else _PAUSE
