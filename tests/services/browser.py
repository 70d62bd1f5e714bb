"""A real browser without a screen: Debian's or the machine's own Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.need import ServiceMissing


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser to open pages in. Raises `ServiceMissing` where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise ServiceMissing("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # No sandbox: tests run as root in containers, and open nothing but our own pages.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
