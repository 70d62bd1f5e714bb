"""Who and where: what dispatch has to know of the reference tables. Reading them is elsewhere."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from alerts.message import Shelf
from schemas.messages import ListedIncident


class Wholesaler(NamedTuple):
    """A wholesaler's row: numbers as they were entered, '' where there is none."""

    wholesaler_id: str
    name: str
    phone: str
    backup_phone: str
    language: str


class Directory(Protocol):
    """The reference tables as they are now."""

    def wholesaler(self, wholesaler_id: str) -> Wholesaler | None:
        """The wholesaler, or None when no table knows the id."""

    def shelf(self, incident: ListedIncident) -> Shelf:
        """The outlet as people call it; names are '' where there is none."""
