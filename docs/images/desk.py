"""Takes the pictures of the desk, over whatever it serves (`make run`, `zerostock serve`).

python docs/images/desk.py http://127.0.0.1:8080 docs/images
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

#: What is looked at: the picture, the view, and the link in it to follow first.
_PICTURES = (
    ("desk-now", "/", ""),
    ("desk-outlet", "/ranking?status=ok", "main td a"),
    ("desk-diversion", "/diversion?level=alarm", "main td a"),
    ("desk-arrears", "/arrears", ""),
    ("desk-loss", "/loss", ""),
)
_SCREEN = {"width": 1280, "height": 1080}
_PHONE = {"width": 390, "height": 844}


def main(address: str, out: str) -> None:
    """Write the pictures of the desk at `address` into the folder `out`."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        screen = browser.new_page(base_url=address, locale="en", viewport=_SCREEN)
        for name, path, link in _PICTURES:
            _take(screen, path, link, Path(out) / f"{name}.png")
        phone = browser.new_page(
            base_url=address, locale="zh-CN", viewport=_PHONE, color_scheme="dark"
        )
        _take(phone, "/", "", Path(out) / "desk-phone.png")
        browser.close()


def _take(page: Page, path: str, link: str, to: Path) -> None:
    page.goto(path)
    if link:
        page.goto(page.locator(link).first.get_attribute("href") or path)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=to)


if __name__ == "__main__":
    main(*sys.argv[1:])
