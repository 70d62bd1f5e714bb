"""Templates of the requests to a gateway: Jinja with a message's fields and a few hashes. Pure.

What a request is, and what its answer means, is `alerts.senders.http`'s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import SandboxedEnvironment

#: What a template may name; `secrets` has the route's secrets by name, `now` is Unix time in
#: seconds, `nonce` differs from request to request.
FIELDS: Final = (
    "to",
    "text",
    "message_id",
    "wholesaler_id",
    "language",
    "segments",
    "sender",
    "secrets",
    "now",
    "nonce",
    "provider_id",
)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _hash(value: str | bytes, name: str = "sha256") -> bytes:
    return hashlib.new(name, _bytes(value)).digest()


def _hmac(value: str | bytes, key: str | bytes, name: str = "sha256") -> bytes:
    return hmac.new(_bytes(key), _bytes(value), name).digest()


def _environment() -> SandboxedEnvironment:
    # No escaping: what is written is JSON, a form or an address, and its author says which.
    environment = SandboxedEnvironment(undefined=StrictUndefined)
    environment.filters |= {
        "hash": _hash,
        "hmac": _hmac,
        "hex": lambda value: _bytes(value).hex(),
        "base64": lambda value: base64.b64encode(_bytes(value)).decode(),
    }
    return environment


_ENVIRONMENT: Final = _environment()


def checked_template(text: str, known: tuple[str, ...] = FIELDS) -> str:
    """The text, if it is a template that names nothing unknown. Raises ValueError."""
    try:
        named = meta.find_undeclared_variables(_ENVIRONMENT.parse(text))
    except TemplateError as error:
        raise ValueError(f"not a template: {error.message}") from None
    if unknown := sorted(named - set(known)):
        raise ValueError(f"{unknown[0]!r} is no placeholder; there are {', '.join(known)}")
    return text


def fill_in(text: str, values: dict[str, Any]) -> str:
    """A template with its values. Raises ValueError for a name that has none."""
    try:
        return _ENVIRONMENT.from_string(text).render(values)
    except (TemplateError, TypeError) as error:
        raise ValueError(str(error)) from None
