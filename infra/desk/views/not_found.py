"""What is said where there is nothing under an address."""

from __future__ import annotations

from infra.desk.page import Page
from infra.desk.parts import CustomSection
from infra.desk.translation import N_


def missing(title: str, where: str, link: str) -> Page:
    """404, and where to look instead."""
    text = N_("There is nothing under this address.")
    return Page(
        title,
        [CustomSection("notice.html.j2", {"text": text, "where": where, "link": link})],
        status=404,
    )
