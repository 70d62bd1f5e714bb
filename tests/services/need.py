"""What happens when a service cannot be had: a skip that says how to get it, or a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


class ServiceMissing(Exception):
    """A service cannot be had on this machine; the text names what is missing and how to get it."""


def services_required() -> bool:
    """Whether a missing service is a failure (set in CI) and not a skip."""
    return os.environ.get("ZEROSTOCK_REQUIRE_SERVICES", "") not in ("", "0")


def missing(error: ServiceMissing) -> NoReturn:
    """End the running test: skipped for a person at a desk, failed where nothing may be skipped."""
    if services_required():
        pytest.fail(f"a required service is missing: {error}", pytrace=False)
    pytest.skip(str(error))
